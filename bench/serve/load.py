#!/usr/bin/env python3
"""Load on `ruvltra serve`: many streams with clients that go away or read slowly, idle connections, cost per token.

    python3 bench/serve/load.py PROGRAM --minutes 10            200 streams, 30 % disconnect, 10 % read slowly
    python3 bench/serve/load.py PROGRAM --idle 500              memory of connections that only wait
    python3 bench/serve/load.py PROGRAM --overhead -m MODEL     one stream through HTTP against `ruvltra run`

Prints one JSON document. Exit code 1 if an answer had other bytes than alone, or something was not given back.
"""
import argparse
import asyncio
import http.client
import json
import multiprocessing
import os
import random
import re
import resource
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time

CHAT = "/v1/chat/completions"
SUBJECTS = ("a fox and a crow", "a king and his daughter", "a wolf at the door", "the sea at night", "an old mill",
            "three brothers", "a golden bird", "the tailor and the giant")


class Server:
    def __init__(self, program, model, *words):
        self.folder = tempfile.TemporaryDirectory()
        self.log = open(os.path.join(self.folder.name, "log"), "w+b")
        kept = {k: v for k, v in os.environ.items() if not k.startswith("RUVLTRA_")}
        self.process = subprocess.Popen(
            [program, "serve", "-m", model, "--port", "0", "--data-dir", os.path.join(self.folder.name, "data"), *words],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=self.log, env=kept)
        deadline = time.monotonic() + 120
        while not (found := re.search(r"serving \S+ at http://127\.0\.0\.1:(\d+)", self.said())):
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise SystemExit("the server did not start: " + self.said())
            time.sleep(0.05)
        self.port = int(found[1])
        while not self.get("/health")["sona"]:
            time.sleep(0.1)

    def said(self):
        with open(self.log.name, "rb") as log:
            return log.read().decode(errors="replace")

    def get(self, path):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        connection.request("GET", path)
        document = json.loads(connection.getresponse().read())
        connection.close()
        return document

    def resident(self):
        with open(f"/proc/{self.process.pid}/statm") as file:
            return 4096 * int(file.read().split()[1])

    def cpu_seconds(self):
        with open(f"/proc/{self.process.pid}/stat") as file:
            fields = file.read().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def thread_seconds(self):
        """CPU seconds of every thread, to the nanosecond."""
        out = {}
        for task in os.listdir(f"/proc/{self.process.pid}/task"):
            with open(f"/proc/{self.process.pid}/task/{task}/schedstat") as file:
                out[task] = int(file.read().split()[0]) / 1e9
        return out

    def descriptors(self):
        return len(os.listdir(f"/proc/{self.process.pid}/fd"))

    def pages(self):
        pages = self.get("/v1/kv/pages")
        return {name: pages[name] for name in ("total", "free", "private", "published")}

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(60)
        finally:
            self.process.kill()
            self.log.close()
            self.folder.cleanup()


def bodies(n, seed):
    """Different requests: prompts, lengths, temperatures, some with a long prompt in common."""
    drawn = random.Random(seed)
    common = " ".join(drawn.choice(("once", "upon", "a", "time", "there", "was", "king", "wood", "gold")) for _ in range(150))
    out = []
    for i in range(n):
        text = f"Tell me about {drawn.choice(SUBJECTS)}, number {i}."
        if i % 4 == 0:
            text = common + " " + text
        out.append({"messages": [{"role": "user", "content": text}], "stream": True, "seed": i,
                    "max_tokens": drawn.choice((24, 48, 96)), "temperature": drawn.choice((0, 0.7, 1.2))})
    return out


def as_request(body):
    data = json.dumps(body).encode()
    return (f"POST {CHAT} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(data)}\r\n\r\n").encode() + data


class Ended(Exception):
    pass


async def events(reader):
    """The events of a streamed answer, as bytes; on its own reading of chunks."""
    head = await reader.readuntil(b"\r\n\r\n")
    if not head.startswith(b"HTTP/1.1 200"):
        raise Ended(head.split(b"\r\n", 1)[0].decode())
    held = b""
    while size := int(await reader.readuntil(b"\r\n"), 16):
        held += await reader.readexactly(size)
        await reader.readexactly(2)
        *whole, held = held.split(b"\n\n")
        for event in whole:
            yield event
    await reader.readexactly(2)


def text_of(event):
    if not event.startswith(b"data: {"):
        return ""
    document = json.loads(event[6:])
    if "error" in document:
        raise Ended(document["error"]["message"])
    return "".join(choice["delta"].get("content") or "" for choice in document["choices"])


async def connect(port, slow=False):
    connection = socket.socket()
    if slow:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
    connection.setblocking(False)
    await asyncio.get_running_loop().sock_connect(connection, ("127.0.0.1", port))
    return await asyncio.open_connection(sock=connection, limit=2**16 if not slow else 512)


async def alone(port, body):
    reader, writer = await connect(port)
    writer.write(as_request(body))
    text = ""
    async for event in events(reader):
        text += text_of(event)
    writer.close()
    return text


def watch_cancels(port, pipe):
    """Looks at GET /v1/requests until those that were left are gone from it; a process of its own, as the one that reads
    200 streams is late by itself. Sends back (seconds since an answer was left, seconds the deciding look took)."""
    waiting, seconds, over = {}, [], False
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    while not over or waiting:
        while pipe.poll(0.002 if waiting else 0.02):
            one = pipe.recv()
            if one is None:
                over = True
                break
            waiting[one[0]] = one[1]
        if not waiting:
            continue
        asked = time.monotonic()
        connection.request("GET", "/v1/requests")
        body = connection.getresponse().read()
        now = time.monotonic()
        for id, since in list(waiting.items()):
            if since < asked and id.encode() not in body:
                seconds.append((since, now - since, now - asked))
                del waiting[id]
    pipe.send(seconds)


class Load:
    def __init__(self, options, server):
        self.options, self.server = options, server
        self.bodies = bodies(options.bodies, options.seed)
        self.solo = []
        self.drawn = random.Random(options.seed + 1)
        self.pipe, other = multiprocessing.Pipe()
        self.watch = multiprocessing.Process(target=watch_cancels, args=(server.port, other), daemon=True)
        self.watch.start()
        self.counts = {"whole": 0, "disconnected": 0, "slow": 0, "before_first_byte": 0, "refused": 0}
        self.wrong, self.failed = [], []
        self.tokens = 0
        self.end = 0

    async def one(self):
        i = self.drawn.randrange(len(self.bodies))
        kind = self.drawn.random()
        leaves, slow = kind < 0.3, 0.3 <= kind < 0.4
        reader, writer = await connect(self.server.port, slow)
        try:
            writer.write(as_request(self.bodies[i]))
            await writer.drain()
            if leaves and self.drawn.random() < 0.2:
                await asyncio.sleep(self.drawn.random() * 0.5)
                self.counts["before_first_byte"] += 1
                return
            stays_for = self.drawn.randrange(1, 40) if leaves else None
            text, id, n = "", None, 0
            async for event in events(reader):
                if id is None and event.startswith(b"data: {"):
                    id = json.loads(event[6:]).get("id")
                text += text_of(event)
                n += 1
                self.tokens += 1
                if slow:
                    await asyncio.sleep(0.05)
                if stays_for is not None and n >= stays_for and id:
                    if not self.solo[i].startswith(text):
                        self.wrong.append((i, text))
                    writer.transport.abort()
                    await asyncio.sleep(0)  # the transport closes in the loop's next turn
                    await asyncio.sleep(0)
                    self.pipe.send((id, time.monotonic()))
                    self.counts["disconnected"] += 1
                    return
            if text != self.solo[i]:
                self.wrong.append((i, text))
            self.counts["slow" if slow else "whole"] += 1
        except Ended as ended:
            if "503" in str(ended):
                self.counts["refused"] += 1
            else:
                self.failed.append(str(ended))
        except (OSError, asyncio.IncompleteReadError) as error:
            self.failed.append(repr(error))
        finally:
            writer.transport.abort()

    async def stream(self):
        while time.monotonic() < self.end:
            await self.one()

    async def run(self):
        for body in self.bodies:
            self.solo.append(await alone(self.server.port, body))
        for i, body in enumerate(self.bodies):  # and again, now that their beginnings are known
            if await alone(self.server.port, body) != self.solo[i]:
                self.wrong.append((i, "alone, for the second time"))
        # Memory that the first minute's peak leaves with the allocator is no leak.
        self.end = time.monotonic() + self.options.warm_up
        await asyncio.gather(*[self.stream() for _ in range(self.options.streams)])
        await self.idle()
        before = self.state()
        begin, tokens = time.monotonic(), self.tokens
        self.end = begin + 60 * self.options.minutes
        await asyncio.gather(*[self.stream() for _ in range(self.options.streams)])
        seconds = time.monotonic() - begin
        await self.idle()
        self.pipe.send(None)
        watched = [one for one in self.pipe.recv() if one[0] >= begin]
        self.watch.join()
        after = self.state()
        ordered, looks = sorted(one[1] for one in watched), sorted(one[2] for one in watched)
        at = lambda share: round(1000 * ordered[min(len(ordered) - 1, int(share * len(ordered)))], 1) if ordered else None
        return {"streams": self.options.streams, "seconds": round(seconds, 1), "answers": self.counts,
                "events_per_second": round((self.tokens - tokens) / seconds), "wrong_bytes": len(self.wrong),
                "failed": len(self.failed), "cancel_ms": {"n": len(ordered), "p50": at(0.5), "p99": at(0.99), "max": at(1),
                                                      "look_p99": round(1000 * looks[int(0.99 * len(looks))], 1)
                                                      if looks else None},
                "before": before, "after": after, "examples": [str(one)[:300] for one in (self.wrong + self.failed)[:5]]}

    async def idle(self):
        for _ in range(600):
            if not self.server.get("/v1/requests")["data"] and self.server.pages()["private"] == 0:
                return
            await asyncio.sleep(0.05)

    def state(self):
        return {"pages": self.server.pages(), "rss_mb": round(self.server.resident() / 1e6, 1),
                "descriptors": self.server.descriptors()}


def load(options):
    server = Server(options.program, options.model, "--queue-timeout", "600")
    try:
        result = asyncio.run(Load(options, server).run())
    except (OSError, asyncio.IncompleteReadError) as error:
        raise SystemExit(f"{error!r}; the server {server.process.poll()}: {server.said()}") from error
    finally:
        code = server.stop()
    pages = result["after"]["pages"]
    given_back = pages["private"] == 0 and pages["free"] + pages["published"] == pages["total"]
    result["pages_given_back"] = given_back
    return result, 0 if code == 0 and given_back and result["wrong_bytes"] == 0 and result["failed"] == 0 else 1


def idle(options):
    """Connections that wait for the next second of the dashboard's stream, and ones that wait for nothing."""
    server = Server(options.program, options.model)
    n = options.idle
    try:
        asyncio.run(alone(server.port, bodies(1, 1)[0]))
        result = {"connections": n}
        for name, request in (("sse", b"GET /v1/stats/stream HTTP/1.1\r\nHost: localhost\r\n\r\n"),
                              ("keep_alive", b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n")):
            before = server.resident()
            open_ = []
            for _ in range(n):
                open_.append(connection := socket.create_connection(("127.0.0.1", server.port)))
                connection.sendall(request)
            for connection in open_:
                connection.recv(65536)
            cpu, begin = server.cpu_seconds(), time.monotonic()
            while time.monotonic() < begin + 5:
                for connection in open_:
                    try:
                        connection.recv(65536, socket.MSG_DONTWAIT)
                    except BlockingIOError:
                        pass
                time.sleep(0.05)
            seconds = time.monotonic() - begin
            grown = server.resident() - before
            asked = time.monotonic()
            server.get("/health")
            result[name] = {"rss_mb": round(grown / 1e6, 2), "kb_per_connection": round(grown / n / 1e3, 2),
                            "cpu_percent": round(100 * (server.cpu_seconds() - cpu) / seconds, 1),
                            "health_ms": round(1000 * (time.monotonic() - asked), 1)}
            for connection in open_:
                connection.close()
            time.sleep(1)
        return result, 0
    finally:
        server.stop()


def overhead(options):
    """Seconds from an answer's first token to its last, in turn through HTTP and in `ruvltra run`, same seed.

    A client on the server's own cores takes time of theirs that it would not take from elsewhere, and Python takes as much
    for a token as the small model: it reads what has come every few milliseconds (--nap), by which it sees the end late."""
    prompt, n = "Once upon a time there was a", options.tokens
    body = json.dumps({"prompt": prompt, "max_tokens": n, "temperature": 1, "top_p": 1, "top_k": 0, "repeat_penalty": 1, "seed": 5, "stream": True}).encode()
    server = Server(options.program, options.model)
    http_, inside, run, threads = [], [], [], []
    try:
        for _ in range(options.rounds + 1):
            cpu = server.thread_seconds()
            connection = socket.create_connection(("127.0.0.1", server.port))
            connection.sendall(b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n"
                               b"Connection: close\r\n\r\n%s" % (len(body), body))
            first, last, held = None, None, []
            while data := connection.recv(65536):
                last = time.perf_counter()
                if first is None and b'"text"' in data:
                    first = last
                held.append(data)
                time.sleep(options.nap)
            connection.close()
            timings = json.loads(re.search(rb'"timings":(\{[^}]*\})', b"".join(held))[1])
            got = timings["predicted_n"]
            http_.append((last - first) / (got - 1))
            used = [1e6 * (after - cpu.get(task, 0)) / got for task, after in server.thread_seconds().items()]
            threads.append(sorted(used, reverse=True)[:5])
            inside.append(timings["predicted_ms"] / 1000 / (got - 1))
            done = subprocess.run([options.program, "run", "-m", options.model, "--raw", "--json", "-n", str(n), "--temp", "1",
                                   "--top-p", "1", "--top-k", "0", "--repeat-penalty", "1", "--seed", "5", prompt], capture_output=True, check=True, stdin=subprocess.DEVNULL)
            document = json.loads(done.stdout)
            if document["usage"]["completion_tokens"] != got:
                raise SystemExit("the answers differ")
            run.append(document["timings"]["predicted_ms"] / 1000 / (got - 1))
    finally:
        server.stop()
    http_, inside, run = http_[1:], inside[1:], run[1:]
    us = lambda values: round(1e6 * statistics.median(values), 1)
    ratios = [100 * (a / b - 1) for a, b in zip(http_, run)]
    return {"model": os.path.basename(options.model), "tokens": got, "rounds": options.rounds,
            "us_per_token": {"http": us(http_), "engine_behind_http": us(inside), "in_process": us(run)},
            "cpu_us_per_token_of_busiest_threads": [round(statistics.median(one), 1) for one in zip(*threads[1:])],
            "us_per_token_min": {"http": round(1e6 * min(http_), 1), "in_process": round(1e6 * min(run), 1)},
            "overhead_percent_median_of_pairs": round(statistics.median(ratios), 2),
            "overhead_percent_of_medians": round(100 * (us(http_) / us(run) - 1), 2)}, 0


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("program")
    parser.add_argument("-m", "--model", default="models/nano-q8_0.gguf")
    parser.add_argument("--minutes", type=float, default=1)
    parser.add_argument("--warm-up", type=float, default=15, help="seconds of the same load before it counts")
    parser.add_argument("--streams", type=int, default=200)
    parser.add_argument("--bodies", type=int, default=48)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--idle", type=int, default=0)
    parser.add_argument("--overhead", action="store_true")
    parser.add_argument("--tokens", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--nap", type=float, default=0.002, help="--overhead: seconds between two reads of the client")
    options = parser.parse_args()
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 8192) if soft < 8192 else soft, hard))
    result, code = (idle if options.idle else overhead if options.overhead else load)(options)
    print(json.dumps(result, indent=1))
    sys.exit(code)


if __name__ == "__main__":
    main()
