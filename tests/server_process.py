"""A running server for tests of its documents, settings and clients."""
import http.client
import json
import os
import re
import subprocess
import time

from cli_harness import PROGRAM, SCRATCH, environment


class Server:
    """A running `ruvltra serve` on a free port."""

    def __init__(self, *words, **extra):
        data = os.path.join(SCRATCH, f"data{id(self)}")
        self.process = subprocess.Popen([PROGRAM, "serve", "--port", "0", "--no-progress", "--data-dir", data, *words],
                                        stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, env=environment(**extra))
        for line in self.process.stderr:
            match = re.search(r"at http://127\.0\.0\.1:(\d+)", line)
            if match:
                self.port = int(match.group(1))
                self.url = f"http://127.0.0.1:{self.port}"
                return
        raise AssertionError(f"the server did not start: exit code {self.process.wait()}")

    def ask(self, method, path, body=None, headers=None):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        connection.request(method, path, None if body is None else json.dumps(body), headers or {})
        answer = connection.getresponse()
        text = answer.read()
        connection.close()
        return answer, json.loads(text) if (answer.getheader("Content-Type") or "").startswith("application/json") else text

    def wait_until_it_learns(self):
        """The learning system starts behind the model."""
        end = time.monotonic() + 120
        while not self.ask("GET", "/health")[1]["sona"]:
            if time.monotonic() > end:
                raise AssertionError("the learning system did not start")
            time.sleep(0.1)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.stderr.close()
        self.process.wait()
