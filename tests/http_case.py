"""What http_test.py and http_rules_test.py have in common: the servers they ask, started once, and what they ask for."""
import os
import re
import time

from cli_harness import ROOT, SCRATCH, Case
from serve_harness import Server

NAME = "nano-q8_0"
KEYS = "# one tenant a line\nalice alice-key\nbob bob-key\nroot root-key admin\n"
ASKED = [{"role": "user", "content": "Tell me a story about a fox and a crow."}]
WEATHER = {"type": "object", "properties": {"place": {"enum": ["Aachen", "Berlin"]}}, "required": ["place"],
           "additionalProperties": False}
TOOL = {"type": "function", "function": {"name": "get_weather", "parameters": WEATHER}}
ROUTE = re.compile(r'\{"(GET|POST|PUT|DELETE)", "([^"]+)", Guard::k(\w+), Needs::k(\w+), Shape::k(\w+)')


def table():
    """(method, pattern, guard, needs, shape) of all routes, as the source says."""
    with open(os.path.join(ROOT, "src", "server", "routes.cpp")) as file:
        return ROUTE.findall(file.read())


def concrete(pattern):
    return pattern.replace("{file}", "app.js").replace("{id}", "none")


class Shared:
    """The servers of all classes: started once, stopped at the end of the program."""
    servers = {}

    @classmethod
    def get(cls, name, *words):
        if name not in cls.servers:
            cls.servers[name] = Server(name, *words)
        return cls.servers[name]


def open_server():
    server = Shared.get("open", "--learn", "record", "--alias", "foxes", "--allowed-host", "chat.example.org",
                        "--cors-origin", "https://page.example.org")
    server.wait_until_it_learns()
    return server


def keys_file():
    path = os.path.join(SCRATCH, "keys")
    if not os.path.exists(path):
        with open(os.open(path, os.O_CREAT | os.O_WRONLY, 0o600), "w") as file:
            file.write(KEYS)
    return path


def keyed_server():
    server = Shared.get("keyed", "--learn", "record", "--api-key-file", keys_file())
    server.wait_until_it_learns("alice-key")
    return server


def tearDownModule():
    codes = {name: server.stop() for name, server in Shared.servers.items()}
    if any(codes.values()):
        logs = "\n".join(server.log() for server in Shared.servers.values())
        raise AssertionError(f"after SIGTERM the servers ended with {codes}: {logs}")


class HttpCase(Case):
    @classmethod
    def setUpClass(cls):
        cls.server = open_server()
        cls.endless_ = None

    def endless(self):
        """Bias against what ends an answer: only max_tokens does."""
        if self.endless_ is None:
            type(self).endless_ = {
                str(open_server().post("/tokenize", {"content": text})["tokens"][0]): -100
                for text in ("<|im_end|>", "<|endoftext|>")}
        return self.endless_

    def drawn(self, **more):
        return {"messages": ASKED, "seed": 7, "max_tokens": 30, "logit_bias": self.endless(), **more}

    def text(self, body, key=None):
        answer = self.server.post("/v1/chat/completions", body, key)
        return answer["choices"][0]["message"]["content"]

    def pieces(self, body):
        """The pieces of a streamed answer."""
        chunks = self.server.events("/v1/chat/completions", body)[:-1]
        return [chunk["choices"][0]["delta"].get("content", "") for chunk in chunks]

    def error(self, answer, status, code=None, param=None):
        """Of the form that OpenAI's clients read."""
        self.assertEqual(answer.status, status, answer.body)
        self.assertEqual(answer.headers["Content-Type"], "application/json")
        error = answer.json["error"]
        self.assertEqual(set(error), {"message", "type", "param", "code"})
        if code:
            self.assertEqual(error["code"], code)
        if param:
            self.assertEqual(error["param"], param)
        return error["message"]

    def becomes_idle(self, key=None):
        deadline = time.monotonic() + 1
        while True:
            running, pages = self.server.get("/v1/requests", key)["data"], self.server.get("/v1/kv/pages", key)
            if not running and pages["private"] == 0 and pages["free"] + pages["published"] == pages["total"]:
                return
            self.assertLess(time.monotonic(), deadline, f"{running} {pages}")
            time.sleep(0.01)

    def long_stream(self, key=None, n=8, text="Tell me a long story.", **more):
        """A stream of n answers that only max_tokens ends; its first event has been read."""
        body = {"messages": [{"role": "user", "content": text}], "n": n, "max_tokens": 1900, "stream": True, "seed": 1,
                "logit_bias": self.endless(), **more}
        response = self.server.stream("/v1/chat/completions", body, key)
        self.assertEqual(response.status, 200)
        self.assertTrue(response.readline().startswith(b"data: "))
        return response
