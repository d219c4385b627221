"""A `ruvltra serve` for tests, and requests to it without an HTTP library's help."""
import glob
import http.client
import json
import os
import re
import shutil
import signal
import subprocess
import tempfile
import time

from cli_harness import MODEL, SCRATCH, call, start


def data_folder(name):
    """A new data folder that begins with the basis of embeddings: fitting it takes longer than most tests."""
    first = os.path.join(SCRATCH, "basis")
    if not os.path.isdir(first):
        code, _, err = call("mcp", "-m", MODEL, "--profile", "base", "--data-dir", first)
        assert code == 0, err.decode(errors="replace")
    folder = os.path.join(SCRATCH, name)
    os.mkdir(folder, 0o700)
    for path in glob.glob(os.path.join(first, "basis-*")):
        shutil.copy(path, folder)
    return folder


class Answer:
    def __init__(self, response):
        self.status = response.status
        self.headers = response.headers
        self.body = response.read()

    @property
    def json(self):
        return json.loads(self.body)

    @property
    def document(self):
        """What JSON says, or the bytes of anything else."""
        return self.json if (self.headers["Content-Type"] or "").startswith("application/json") else self.body


class Server:
    """On the nano model, a free port and a data folder of its own name; stderr goes to a file."""

    def __init__(self, name, *words, **extra):
        self.told = ""
        self.stderr = tempfile.TemporaryFile("w+")
        self.process = start("serve", "-m", MODEL, "--port", "0", "--data-dir", data_folder(name), *words,
                             extra=extra, stdout=subprocess.DEVNULL, stderr=self.stderr)
        self.url = self.wait(lambda: re.search(r"serving \S+ at (http://\S+)", self.log())).group(1)
        self.port = int(self.url.rsplit(":", 1)[1])
        self.wait(lambda: self.call("GET", "/ready").status == 200)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()

    def log(self):
        # Reading through the descriptor the program writes with would move its place: pread does not.
        if self.stderr.closed:
            return self.told
        return os.pread(self.stderr.fileno(), 1 << 20, 0).decode(errors="replace")

    def wait(self, condition, seconds=60):
        end = time.monotonic() + seconds
        while True:
            found = condition()
            if found:
                return found
            if self.process.poll() is not None or time.monotonic() > end:
                self.process.kill()
                raise AssertionError(f"the server did not come up, exit code {self.process.poll()}: {self.log()}")
            time.sleep(0.02)

    def wait_until_it_learns(self, key=None):
        self.wait(lambda: self.call("GET", "/v1/sona/status", key=key).status == 200)

    def connection(self, timeout=60):
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout)

    def call(self, method, path, body=None, key=None, headers=None):
        """One request on a connection of its own; a body that is not bytes goes as JSON."""
        connection = self.connection()
        try:
            connection.request(method, path, encoded(body), with_key(headers, key))
            return Answer(connection.getresponse())
        finally:
            connection.close()

    def get(self, path, key=None):
        answer = self.call("GET", path, key=key)
        assert answer.status == 200, f"{path}: {answer.status} {answer.body[:300]!r}"
        return answer.json

    def post(self, path, body, key=None, headers=None):
        answer = self.call("POST", path, body, key, headers)
        assert answer.status == 200, f"{path}: {answer.status} {answer.body[:300]!r}"
        return answer.json

    def stream(self, path, body, key=None):
        """An open stream, to be read by the caller and closed with its .connection."""
        connection = self.connection()
        connection.request("POST", path, encoded(body), with_key({}, key))
        response = connection.getresponse()
        response.connection = connection
        return response

    def events(self, path, body, key=None):
        """The data of a stream's events, read to its end."""
        return events(self.stream(path, body, key))

    def stop(self, how=signal.SIGTERM):
        """Its exit code, None if it had to be killed."""
        if self.process.poll() is None:
            self.process.send_signal(how)
        try:
            code = self.process.wait(30)
        except subprocess.TimeoutExpired:
            self.process.kill()
            code = None
        self.told = self.log()
        self.stderr.close()
        return code


def encoded(body):
    return body if body is None or isinstance(body, bytes) else json.dumps(body).encode()


def with_key(headers, key):
    return {**(headers or {}), **({"Authorization": f"Bearer {key}"} if key else {})}


def events(response):
    """The data of an open stream's events, [DONE] as a string; closes it."""
    data = []
    for line in response.read().decode().split("\n\n"):
        if line.startswith("data: "):
            text = line[len("data: "):]
            data.append(text if text == "[DONE]" else json.loads(text))
    response.connection.close()
    return data
