"""Hostile HTTP: some 1,800 requests of hostile_http_cases.py against the server, beside a healthy stream.

Each gets its 4xx (or what else is right), soon; the stream's bytes are those it has alone; afterwards the server's pages
are free and its memory is what it was. RUVLTRA_ANSWER_SECONDS: how long an answer may take (default 20, so that a busy
machine fails no test; docs/server-load.md tells what was measured).
"""
import http.client
import json
import os
import re
import select
import signal
import socket
import subprocess
import threading
import time
import unittest

import hostile_http_cases as cases
from cli_harness import MODEL, PROGRAM, SCRATCH, environment, main

SECONDS = float(os.environ.get("RUVLTRA_ANSWER_SECONDS", "20"))


class Server:
    """`ruvltra serve` in a data folder of its own."""

    def __init__(self, name, *words):
        self.data = os.path.join(SCRATCH, name)
        self.log = open(self.data + ".log", "w+b")
        self.process = subprocess.Popen([PROGRAM, "serve", "-m", MODEL, "--port", "0", "--data-dir", self.data, *words],
                                        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=self.log,
                                        env=environment())
        deadline = time.monotonic() + 60
        while not (found := re.search(r"serving \S+ at http://127\.0\.0\.1:(\d+)", self.said())):
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise AssertionError("the server did not start: " + self.said())
            time.sleep(0.02)
        self.port = int(found[1])

    def said(self):
        with open(self.log.name, "rb") as log:
            return log.read().decode(errors="replace")

    def get(self, path, **headers):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=SECONDS)
        connection.request("GET", path, headers=headers)
        answer = connection.getresponse()
        body = answer.read()
        connection.close()
        return answer.status, json.loads(body)

    def wait_for_learning(self):
        deadline = time.monotonic() + 120
        while not self.get("/health")[1]["sona"]:
            if time.monotonic() > deadline:
                raise AssertionError("the learning system did not start: " + self.said())
            time.sleep(0.05)

    def resident(self):
        with open(f"/proc/{self.process.pid}/statm") as file:
            return 4096 * int(file.read().split()[1])

    def descriptors(self):
        return len(os.listdir(f"/proc/{self.process.pid}/fd"))

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(30)
        finally:
            self.process.kill()
            self.process.wait()
            self.log.close()


class Closed(Exception):
    """The connection ended before an answer was whole."""


class Answers:
    """Reads the answers of a connection, one after another."""

    def __init__(self, connection):
        self.connection, self.held = connection, b""
        self.deadline = time.monotonic() + SECONDS

    def more(self):
        left = self.deadline - time.monotonic()
        if left <= 0 or not select.select([self.connection], [], [], left)[0]:
            raise AssertionError(f"no answer within {SECONDS} s, after {self.held[:200]!r}")
        try:
            data = self.connection.recv(65536)
        except ConnectionError:
            data = b""
        if not data:
            raise Closed()
        self.held += data

    def take(self, mark):
        while mark not in self.held:
            self.more()
        part, self.held = self.held.split(mark, 1)
        return part

    def take_bytes(self, n):
        while len(self.held) < n:
            self.more()
        part, self.held = self.held[:n], self.held[n:]
        return part

    def next(self, without_body=False):
        """(status, headers, body)"""
        head = self.take(b"\r\n\r\n").decode("latin-1").split("\r\n")
        line = re.fullmatch(r"HTTP/1\.1 (\d{3}) [A-Za-z ?'-]+", head[0])
        if not line:
            raise AssertionError(f"not a status line: {head[0]!r}")
        fields = {name.lower(): value.strip() for name, value in (one.split(":", 1) for one in head[1:])}
        body = b""
        if without_body or line[1] in ("100", "204", "304"):
            pass
        elif "content-length" in fields:
            body = self.take_bytes(int(fields["content-length"]))
        else:
            while size := int(self.take(b"\r\n"), 16):
                body += self.take_bytes(size)
                self.take_bytes(2)
            self.take(b"\r\n")
        return int(line[1]), fields, body


def wrong_answer(status, fields, body):
    """What an error lacks of the form that is promised, or None."""
    if status < 400 or fields.get("content-length") == "0" or not body:
        return None
    error = json.loads(body).get("error")
    message = error if isinstance(error, str) else (error or {}).get("message")
    if not isinstance(message, str) or not message:
        return "no message"
    if status == 405 and "allow" not in fields:
        return "no Allow"
    for secret in (SCRATCH, cases.SECRET, "/root", "/tmp"):
        if secret in body.decode():
            return f"tells {secret!r}"
    return None


def play(port, case):
    """Sends a case; returns what is wrong with what came back, or None, and the seconds it took."""
    begin = time.monotonic()
    connection = socket.create_connection(("127.0.0.1", port), timeout=SECONDS)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    answers = Answers(connection)
    seen = []
    try:
        pieces = [case.data] if isinstance(case.data, bytes) else case.data
        try:
            for piece in pieces:
                if piece is None:
                    connection.shutdown(socket.SHUT_WR)
                else:
                    connection.sendall(piece)
        except (BrokenPipeError, ConnectionResetError):
            pass  # refused before all of it was sent
        for statuses in case.statuses:
            try:
                status, fields, body = answers.next(b"HEAD " in case.data[:5] if pieces[0] is case.data else False)
            except Closed:
                return (None if None in statuses else f"closed after {seen}"), time.monotonic() - begin
            seen.append(status)
            if status not in statuses:
                return f"{seen}, expected {statuses}: {body[:300].decode(errors='replace')}", time.monotonic() - begin
            if problem := wrong_answer(status, fields, body):
                return f"{status}: {problem}: {body[:300]!r}", time.monotonic() - begin
        seconds = time.monotonic() - begin
        if seen and seen[-1] >= 400 and fields.get("connection") == "close":
            # A refused connection says no more: what follows is not taken for a request.
            try:
                answers.take(b"\0nothing")
            except Closed:
                pass
            if answers.held:
                return f"{seen}, then {answers.held[:100]!r}", seconds
        return None, seconds
    except (AssertionError, ValueError) as error:
        return f"after {seen}: {error}", time.monotonic() - begin
    finally:
        connection.close()


STORY = {"messages": [{"role": "user", "content": "Tell me a story about a fox and a crow."}], "stream": True,
         "max_tokens": 120, "temperature": 0.8, "seed": 11}


def stream(port, body):
    """The text of a streamed chat."""
    data = json.dumps(body).encode()
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    connection.request("POST", cases.CHAT, body=data)
    answer = connection.getresponse()
    text, ended = "", False
    for event in answer.read().decode().split("\n\n"):
        if event == "data: [DONE]":
            ended = True
        elif event.startswith("data: "):
            text += "".join(choice["delta"].get("content", "") for choice in json.loads(event[6:])["choices"])
    connection.close()
    if not ended:
        raise AssertionError("the stream ended early")
    return text


class Companion(threading.Thread):
    """Streams the same answer again and again, beside whatever else happens."""

    def __init__(self, port, alone):
        super().__init__(daemon=True)
        self.port, self.alone = port, alone
        self.over = threading.Event()
        self.count, self.problems = 0, []

    def run(self):
        while not self.over.is_set():
            try:
                if (text := stream(self.port, STORY)) != self.alone:
                    self.problems.append(f"other bytes: {text!r}")
            except Exception as error:  # pylint: disable=broad-except
                self.problems.append(repr(error))
            self.count += 1

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *_):
        self.over.set()
        self.join()


class HostileHttp(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.server = Server("hostile")
        cls.server.wait_for_learning()
        cls.alone = stream(cls.server.port, STORY)
        for _ in range(20):  # memory that is kept for the next ones
            stream(cls.server.port, STORY)
        cls.pages = cls.server.get("/v1/kv/pages")[1]

    @classmethod
    def tearDownClass(cls):
        assert cls.server.stop() == 0, cls.server.said()

    def play_all(self, server, table):
        problems, slowest = [], (0, "")
        for case in table:
            problem, seconds = play(server.port, case)
            slowest = max(slowest, (seconds, case.name))
            if problem:
                problems.append(f"{case.name}: {problem}")
            if server.process.poll() is not None:
                self.fail(f"the server ended at {case.name}: {server.said()}")
        print(f"{len(table)} cases, slowest {slowest[0]:.2f} s: {slowest[1]}", flush=True)
        self.assertEqual(problems, [], "\n" + "\n".join(problems))

    def healthy(self, server):
        self.assertEqual(server.get("/health")[1]["status"], "ok")
        deadline = time.monotonic() + 10
        while server.get("/v1/requests")[1]["data"] and time.monotonic() < deadline:
            time.sleep(0.05)
        pages = server.get("/v1/kv/pages")[1]
        self.assertEqual(pages["private"], 0)
        self.assertEqual(pages["sequences"], [])
        self.assertEqual(pages["free"] + pages["published"], pages["total"])

    def test_table(self):
        server = self.server
        table = cases.all_cases()
        self.assertGreaterEqual(len(table), 300)
        resident, descriptors = None, server.descriptors()
        with Companion(server.port, self.alone) as companion:
            # The first time fills caches and the allocator; the second one must need no more.
            self.play_all(server, table)
            resident = server.resident()
            self.play_all(server, [case for case in table if len(case.data) < 100_000][::3])
        self.assertEqual(companion.problems, [])
        self.assertGreater(companion.count, 3)
        self.healthy(server)
        self.assertLess(server.resident(), resident + (16 << 20))
        self.assertLessEqual(server.descriptors(), descriptors + 4)

    def test_heads_and_bodies_that_do_not_come(self):
        head = socket.create_connection(("127.0.0.1", self.server.port))
        head.sendall(b"GET /health HTTP/1.1\r\nHo")
        silent = socket.create_connection(("127.0.0.1", self.server.port))
        begin = time.monotonic()
        answers = Answers(head)
        answers.deadline = begin + 10 + SECONDS
        status, fields, _ = answers.next()
        self.assertEqual((status, fields["connection"]), (408, "close"))
        self.assertGreater(time.monotonic() - begin, 9)
        silent.settimeout(SECONDS)
        self.assertEqual(silent.recv(10), b"")
        head.close()
        silent.close()
        self.healthy(self.server)

    def test_many_dribbling_connections(self):
        """300 connections that never end their heads: others are served."""
        slow = [socket.create_connection(("127.0.0.1", self.server.port)) for _ in range(300)]
        for connection in slow:
            connection.sendall(b"POST /tokenize HTTP/1.1\r\nHost: localhost\r\nContent-Length: 50\r\n")
        for _ in range(3):
            for connection in slow:
                connection.sendall(b"x")
            self.assertEqual(stream(self.server.port, STORY), self.alone)
        for connection in slow:
            connection.close()
        self.healthy(self.server)

    def test_work_that_takes_long(self):
        """Prompts that are only scored or embedded, many at once: what costs nothing is answered all the same."""
        text = "once upon a time " * 100
        bodies = [("/v1/completions", {"prompt": [text] * 64, "echo": True, "logprobs": 1, "max_tokens": 0}),
                  ("/v1/embeddings", {"input": [text] * 64})] * 12
        open_ = []
        for target, body in bodies:
            open_.append(connection := socket.create_connection(("127.0.0.1", self.server.port)))
            self.addCleanup(connection.close)
            connection.sendall(cases.post(target, body))
        begin = time.monotonic()
        for _ in range(20):
            self.assertEqual(self.server.get("/health")[0], 200)
        print(f"20 probes beside {len(bodies)} long requests: {time.monotonic() - begin:.2f} s", flush=True)
        answered = select.select(open_, [], [], 0)[0]
        self.assertLess(len(answered), len(open_), "the long requests were over before")
        for connection in open_:
            connection.close()

    def test_keys(self):
        path = os.path.join(SCRATCH, "keys")
        with open(path, "w") as file:
            file.write(f"alice {cases.SECRET}\n")
        os.chmod(path, 0o600)
        server = Server("keys-data", "--api-key-file", path, "--no-ui")
        try:
            self.play_all(server, cases.key_cases())
            self.assertNotIn(cases.SECRET, server.said())
        finally:
            self.assertEqual(server.stop(), 0)


if __name__ == "__main__":
    main()
