#!/usr/bin/env python3
"""docs/http-api.md, docs/openapi.json, docs/mcp.md and docs/server.md against the server: its table of routes, its options, its
metrics, its tools, and real answers, each of which must be as its schema says and hold no field that the schema lacks."""
import os
import re
import sys
import time
import unittest

from cli_harness import ROOT, SPECULATING, Case, main
from serve_harness import Server

try:
    import jsonschema
except ImportError:
    print("SKIP: python3-jsonschema is not installed")
    sys.exit(77)

import json

with open(os.path.join(ROOT, "docs/openapi.json")) as file:
    OPENAPI = json.load(file)


def read(*path):
    with open(os.path.join(ROOT, *path)) as file:
        return file.read()


def routes():
    """{(method, path): (guard, shape, summary)} of the server's table."""
    row = re.compile(r'\{"(\w+)", "([^"]+)", Guard::k(\w+), Needs::k\w+, Shape::k(\w+),\s*\w+,\s*((?:"[^"]*"\s*)+)(?:,\s*Takes::k\w+)?\}')
    text = read("src/server/routes.cpp").split("kRoutes[] = {")[1].split("\n};")[0]
    found = {(m, p): (g, s, "".join(re.findall(r'"([^"]*)"', words))) for m, p, g, s, words in row.findall(text)}
    assert len(found) == len(re.findall(r"Guard::k", text)), "a row that this test cannot read"
    return found


def operations():
    return {(method.upper(), path): operation for path, item in OPENAPI["paths"].items() for method, operation in item.items()}


class Tables(Case):
    def test_page_names_every_route(self):
        named = [pair for line in re.findall(r"(?m)^### (.*)$", read("docs/http-api.md"))
                 for pair in re.findall(r"(GET|POST|PUT|DELETE) (\S+?)(?:,|$)", line)]
        self.assertEqual(len(named), len(set(named)), "a route named twice")
        self.assertEqual(set(named), set(routes()))

    def test_page_names_the_guard(self):
        for section in re.split(r"(?m)^### ", read("docs/http-api.md"))[1:]:
            title, text = section.split("\n\n", 1)
            for pair in re.findall(r"(GET|POST|PUT|DELETE) (\S+?)(?:,|$)", title):
                guard = routes()[pair][0].lower()
                self.assertRegex(text, rf"\AGuard: [^.;:]*\b{guard}\b" if guard == "admin" else
                                 r"\AGuard: " + ("open" if guard == "open" else "key"))

    def test_openapi_names_every_route(self):
        self.assertEqual(set(operations()), set(routes()))
        for key, (guard, shape, summary) in routes().items():
            operation = operations()[key]
            self.assertEqual(operation["summary"], summary, key)
            self.assertEqual(operation.get("security") == [], guard == "Open", key)
            self.assertEqual("401" in operation["responses"], guard != "Open", key)
            wanted = {"OpenAi": "Error", "Anthropic": "AnthropicError", "Text": "TextError"}[shape]
            for status, answer in operation["responses"].items():
                if not status.startswith("2"):
                    self.assertEqual(answer["content"]["application/json"]["schema"]["$ref"].split("/")[-1], wanted, key)
            self.assertEqual({p["name"] for p in operation.get("parameters", [])}, set(re.findall(r"\{(\w+)\}", key[1])))

    def test_openapi_is_whole(self):
        """Every reference leads somewhere, every schema is used and is a schema, every id is one."""
        text = json.dumps(OPENAPI)
        schemas = OPENAPI["components"]["schemas"]
        named = set(re.findall(r'"\$ref": "#/components/schemas/(\w+)"', text))
        self.assertEqual(named | {"ChatChunk", "StatsEvent"}, set(schemas))  # those two are the data of event streams
        self.assertEqual(text.count('"$ref"'), len(re.findall(r'"\$ref": "#/components/schemas/\w+"', text)))
        for name, schema in schemas.items():
            checker = getattr(jsonschema, "Draft202012Validator", None)
            if checker is not None:
                checker.check_schema(schema)
        ids = [operation["operationId"] for operation in operations().values()]
        self.assertEqual(len(ids), len(set(ids)))
        self.assertEqual(OPENAPI["openapi"], "3.1.0")
        self.assertEqual(OPENAPI["info"]["version"], re.search(r"project\(ruvltra VERSION (\S+)", read("CMakeLists.txt")).group(1))

    def test_pages_name_options(self):
        """docs/server.md has every option of serve that is not one of the models' (docs/cli.md), and no other."""
        help_text = self.ok("serve", "--help").decode()
        own = set()
        for group in re.split(r"\n(?=\S[^\n]*:\n)", help_text):
            if re.match(r"(Learning|Network|Limits):", group):
                own |= set(re.findall(r"(?m)^  (--[a-z-]+)", group))
        own |= {"--profile", "--no-ui"}
        tabled = set(re.findall(r"(?m)^\| `(--[a-z-]+)", read("docs/server.md")))
        self.assertEqual(tabled, own)


def resolved(schema):
    while "$ref" in schema:
        schema = OPENAPI["components"]["schemas"][schema["$ref"].split("/")[-1]]
    return schema


def unknown_fields(value, schema, where=""):
    """Fields of a document that its schema does not name."""
    schema = resolved(schema)
    if "oneOf" in schema:
        kinds = [unknown_fields(value, one, where) for one in schema["oneOf"] if fits(value, one)]
        return min(kinds, key=len) if kinds else [where]
    out = []
    if isinstance(value, dict) and "properties" in schema:
        for key, inner in value.items():
            if key in schema["properties"]:
                out += unknown_fields(inner, schema["properties"][key], f"{where}.{key}")
            else:
                out.append(f"{where}.{key}")
    if isinstance(value, list) and "items" in schema:
        for inner in value:
            out += unknown_fields(inner, schema["items"], where + "[]")
    return out


def fits(value, schema):
    return not list(validator(schema).iter_errors(value))


def validator(schema):
    kind = getattr(jsonschema, "Draft202012Validator", None) or jsonschema.Draft7Validator
    return kind({**schema, "components": OPENAPI["components"]})


CHAT = {"messages": [{"role": "user", "content": "Tell me a story about a fox."}], "max_tokens": 6, "seed": 1}
TOOLS = [{"type": "function", "function": {"name": "look", "description": "Looks.", "parameters": {
    "type": "object", "properties": {"where": {"enum": ["up", "down"]}}, "required": ["where"]}}}]
# Everything that answers without what another request made. (method, path, body, status)
REQUESTS = [
    ("GET", "/health", None, 200), ("GET", "/ready", None, 200), ("GET", "/v1/models", None, 200),
    ("GET", "/v1/models/ruvltra-coder", None, 200), ("GET", "/v1/models/other", None, 404),
    ("POST", "/v1/chat/completions", {**CHAT, "logprobs": True, "top_logprobs": 2, "n": 2, "stop": ["zebra"]}, 200),
    ("POST", "/v1/chat/completions", {**CHAT, "tools": TOOLS, "tool_choice": "required", "max_tokens": 200,
                                      "parallel_tool_calls": False}, 200),
    ("POST", "/v1/chat/completions", {**CHAT, "response_format": {"type": "json_object"}, "bank": True}, 200),
    ("POST", "/v1/chat/completions", {**CHAT, "temperature": 3}, 400),
    ("POST", "/v1/completions", {"prompt": ["Once", "Twice"], "max_tokens": 3, "echo": True, "logprobs": 2}, 200),
    ("POST", "/v1/completions", {"prompt": "Once upon", "max_tokens": 0, "echo": True, "logprobs": 1}, 200),
    ("POST", "/v1/embeddings", {"input": ["a fox", "a crow"], "dimensions": 8}, 200),
    ("POST", "/v1/embeddings", {"input": "a fox", "encoding_format": "base64"}, 200),
    ("POST", "/tokenize", {"content": "a fox \u00e9\ud83e\udd8a", "with_pieces": True}, 200),
    ("POST", "/detokenize", {"tokens": [64, 65]}, 200), ("POST", "/apply-template", {"messages": CHAT["messages"]}, 200),
    ("POST", "/v1/messages", {"max_tokens": 6, "messages": CHAT["messages"], "system": [{"type": "text", "text": "Be kind."}]}, 200),
    ("POST", "/v1/messages", {"messages": CHAT["messages"]}, 400),
    ("POST", "/v1/messages/count_tokens", {"messages": CHAT["messages"]}, 200),
    ("POST", "/api/chat", {"model": "nano-q8_0:latest", "stream": False, "messages": CHAT["messages"], "options": {"num_predict": 4},
                         "logprobs": True, "top_logprobs": 2}, 200),
    ("POST", "/api/chat", {"model": "nano-q8_0", "messages": []}, 200),
    ("POST", "/api/generate", {"prompt": "A fox", "stream": False, "options": {"num_predict": 4}}, 200),
    ("POST", "/api/embed", {"model": "nano-q8_0", "input": "a fox", "dimensions": 8}, 200),
    ("POST", "/api/embeddings", {"model": "nano-q8_0", "prompt": "a fox"}, 200),
    ("POST", "/api/embeddings", {"model": "nano-q8_0"}, 400),
    ("GET", "/api/tags", None, 200), ("GET", "/api/ps", None, 200), ("GET", "/api/version", None, 200),
    ("POST", "/api/show", {"model": "nano-q8_0"}, 200),
    ("POST", "/v1/route", {"task": "Fix the SQL injection in the login form", "k": 4}, 200), ("POST", "/v1/route", {}, 400),
    ("GET", "/v1/agents", None, 200),
    ("GET", "/v1/sona/status", None, 200), ("GET", "/v1/sona/metrics", None, 200), ("GET", "/v1/sona/adapters", None, 200),
    ("POST", "/v1/sona/learn", {}, 202), ("POST", "/v1/sona/rollback", {"to_generation": 77}, 404),
    ("POST", "/v1/sona/reset", None, 200), ("POST", "/v1/sona/freeze", {"frozen": True}, 200),
    ("POST", "/v1/sona/freeze", {"frozen": False}, 200), ("POST", "/v1/sona/export", {"session_id": "a"}, 404),
    ("POST", "/v1/sona/import", b"no weights", 400), ("POST", "/v1/sona/tasks", {"name": "release"}, 200),
    ("POST", "/query", {"query": "[System]: Be kind.\n\nTell me a story.", "max_tokens": 4, "session_id": "s"}, 200),
    ("POST", "/query", {"query": ""}, 400), ("GET", "/stats", None, 200),
    ("POST", "/feedback", {"query": "q", "response": "r", "quality": 0.8}, 200),
    ("GET", "/v1/requests", None, 200), ("DELETE", "/v1/requests/none", None, 404), ("GET", "/v1/kv/pages", None, 200),
    ("POST", "/mcp", {"jsonrpc": "2.0", "id": 1, "method": "tools/list"}, 200),
    ("POST", "/mcp", {"jsonrpc": "2.0", "id": "x", "method": "nope"}, 200),
]


class Answers(Case):
    @classmethod
    def setUpClass(cls):
        cls.server = Server("docs", "--learn", "on", *SPECULATING)
        cls.server.wait_until_it_learns()
        cls.asked = set()

    @classmethod
    def tearDownClass(cls):
        cls.server.stop()

    def check(self, method, path, pattern, body, status):
        """The answer, after it was compared with the schemas of the OpenAPI file. What the file says of requests is compared,
        too: what the server takes must fit, and what it refuses for its fields must not."""
        operation = operations()[method, pattern]
        answer = self.server.call(method, path, body)
        document = answer.document
        where = f"{method} {path}: {answer.status} {document}"
        self.assertEqual(answer.status, status, where)
        self.assertIn(str(status), operation["responses"], where)
        schema = operation["responses"][str(status)]["content"]["application/json"]["schema"]
        errors = [f"{'.'.join(map(str, e.absolute_path))}: {e.message[:200]}" for e in validator(schema).iter_errors(document)]
        self.assertEqual(errors, [], where)
        self.assertEqual(unknown_fields(document, schema), [], where)
        if body is not None and not isinstance(body, bytes) and status in (200, 202, 400):
            request = operation["requestBody"]["content"]["application/json"]["schema"]
            self.assertEqual(fits(body, request), status != 400, (where, list(validator(request).iter_errors(body))))
        type(self).asked.add((method, pattern))
        return document

    @staticmethod
    def pattern_of(method, path):
        for known in routes():
            if known[0] == method and re.fullmatch(re.sub(r"\{\w+\}", "[^/]+", known[1]), path):
                return known[1]
        raise AssertionError((method, path))

    def test_answers_are_as_the_schemas_say(self):
        for method, path, body, status in REQUESTS:
            with self.subTest(method=method, path=path, body=body):
                self.check(method, path, self.pattern_of(method, path), body, status)
        # What needs the id of something: an answer, a decision, trajectories.
        answer = self.check("POST", "/v1/chat/completions", "/v1/chat/completions", CHAT, 200)
        decision = self.check("POST", "/v1/route", "/v1/route", {"task": "Write unit tests"}, 200)
        for told in ({"request_id": answer["id"], "quality": 1.0, "correction": "Once there was a fox."},
                     {"decision_id": decision["decision_id"], "agent": "tester", "success": True, "feedback_id": "f1"}):
            self.check("POST", "/v1/feedback", "/v1/feedback", told, 200)
        self.check("POST", "/v1/feedback", "/v1/feedback", {"quality": 1}, 400)
        self.check("POST", "/v1/feedback", "/v1/feedback", {"request_id": "chatcmpl-00000000", "quality": 1}, 404)
        stored = self.check("POST", "/v1/trajectories", "/v1/trajectories", {
            "task": "Make the build faster", "agent": "coder", "steps": [{"action": "use ccache", "result": "done", "quality": 0.9}],
            "verdict": {"type": "partial", "completion": 0.8}}, 200)
        self.assertTrue(stored["durable"])
        begun = self.check("POST", "/v1/trajectories", "/v1/trajectories", {"task": "Write docs"}, 200)
        self.assertFalse(begun["durable"])
        base, pattern = f"/v1/trajectories/{begun['id']}", "/v1/trajectories/{id}"
        self.check("POST", base + "/steps", pattern + "/steps", {"steps": [{"name": "outline"}]}, 200)
        self.check("POST", base + "/end", pattern + "/end", {"success": True, "feedback": "Outline first."}, 200)
        self.check("POST", base + "/end", pattern + "/end", {}, 404)
        hits = self.check("POST", "/v1/hnsw/search", "/v1/hnsw/search", {"query": "build speed", "limit": 2}, 200)
        self.assertGreater(len(hits), 0)
        agents = self.check("GET", "/v1/agents", "/v1/agents", None, 200)
        self.check("PUT", "/v1/agents", "/v1/agents", agents, 200)
        self.check("POST", "/v1/sona/reset", "/v1/sona/reset", None, 200)
        self.assertTrue(self.check("GET", "/v1/sona/adapters", "/v1/sona/adapters", None, 200)["data"][0]["live"])
        self.check("POST", "/v1/sona/learn", "/v1/sona/learn", {}, 202)
        while not (status := self.check("GET", "/v1/sona/status", "/v1/sona/status", None, 200))["reports"]:
            time.sleep(0.05)
        self.assertFalse(status["reports"][0]["accepted"])
        self.check("DELETE", "/v1/sona/tenant", "/v1/sona/tenant", None, 200)

        # Nothing was left out but what is no JSON, and a request that runs.
        left = set(routes()) - type(self).asked
        self.assertEqual(left, {("GET", "/"), ("GET", "/ui/{file}"), ("GET", "/metrics"), ("GET", "/v1/stats/stream"), })

    def test_streams(self):
        answer = self.server.call("POST", "/v1/chat/completions", {
            **CHAT, "stream": True, "stream_options": {"include_usage": True}, "logprobs": True, "sona_options": {},
            "return_drafted": True, "max_tokens": 60})
        self.assertTrue(answer.headers["Content-Type"].startswith("text/event-stream"))
        events = [line[6:] for line in answer.body.decode().split("\n") if line.startswith("data: ")]
        self.assertEqual(events[-1], "[DONE]")
        self.assertGreater(len(events), 8)
        self.assertTrue(any('"drafted":' in event for event in events))
        schema = OPENAPI["components"]["schemas"]["ChatChunk"]
        for event in events[:-1]:
            document = json.loads(event)
            self.assertEqual([e.message for e in validator(schema).iter_errors(document)], [], event)
            self.assertEqual(unknown_fields(document, schema), [], event)
        answer = self.server.call("POST", "/api/generate", {"prompt": "A fox", "options": {"num_predict": 4}})
        lines = [json.loads(line) for line in answer.body.decode().split("\n") if line]
        self.assertTrue(lines[-1]["done"])
        for line in lines:
            self.assertTrue(fits(line, {"$ref": "#/components/schemas/OllamaGenerateResponse"}), line)

    def test_metrics_table(self):
        """docs/server.md names every metric the server has after it worked, and its kind."""
        text = self.server.call("GET", "/metrics").body
        kinds = dict(re.findall(r"(?m)^# TYPE (ruvltra_\w+) (\w+)$", text.decode()))
        rows = re.findall(r"(?m)^\| (gauge|counter|histogram) \| (.*?) \|", read("docs/server.md"))
        named = {"ruvltra_" + name: kind for kind, names in rows for name in re.findall(r"`(\w+)", names)}
        self.assertEqual({name: named.get(name) for name in kinds}, kinds)

    def test_mcp_page_names_every_tool(self):
        document = self.server.post("/mcp", {"jsonrpc": "2.0", "id": 1, "method": "tools/list"})
        tools = {tool["name"]: tool["inputSchema"] for tool in document["result"]["tools"]}
        rows = dict(re.findall(r"(?m)^\| `(\w+)` \| (.*?) \|", read("docs/mcp.md")))
        self.assertEqual(set(rows), set(tools))
        for name, schema in tools.items():
            arguments = {word.rstrip("?"): not word.endswith("?") for word in re.findall(r"`(\w+\??)`", rows[name])}
            self.assertEqual(set(arguments), set(schema["properties"]), name)
            self.assertEqual({word for word, needed in arguments.items() if needed}, set(schema.get("required", [])), name)


if __name__ == "__main__":
    main()
