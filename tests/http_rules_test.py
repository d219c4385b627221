#!/usr/bin/python3
"""What holds for every route of `ruvltra serve`: methods, hosts, keys, tenants, limits, and that an answer is the same
bytes whatever else is asked.

usage: http_rules_test.py RUVLTRA [UNITTEST ARGUMENTS]
"""
import json
import os
import sys
import threading
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import http_case
from cli_harness import MODEL, SCRATCH, main
from http_case import ASKED, NAME, HttpCase, concrete, keyed_server, keys_file, table
from serve_harness import Answer, Server, encoded, events

tearDownModule = http_case.tearDownModule


class Rules(HttpCase):
    """What holds for all routes: methods, hosts, origins, ids, names of models."""

    def test_head_is_get_without_a_body(self):
        for method, pattern, *_ in table():
            if method != "GET" or pattern in ("/v1/stats/stream",):
                continue
            path = concrete(pattern).replace("/v1/models/none", f"/v1/models/{NAME}")
            connection = self.server.connection()
            connection.request("HEAD", path)
            head = Answer(connection.getresponse())
            connection.request("GET", path)  # on the same connection: a stray body would be taken for its head
            full = Answer(connection.getresponse())
            connection.close()
            self.assertEqual((head.status, head.body), (full.status, b""), path)
            self.assertEqual(head.headers["Content-Type"], full.headers["Content-Type"], path)
            self.assertTrue(head.headers["Content-Length"].isdigit(), path)

    def test_options_and_other_methods_tell_what_is_allowed(self):
        methods = {}
        for method, pattern, *_ in table():
            methods.setdefault(concrete(pattern), set()).update({method, "OPTIONS"} | ({"HEAD"} if method == "GET" else set()))
        for path, allowed in methods.items():
            options = self.server.call("OPTIONS", path)
            self.assertEqual((options.status, options.body), (204, b""))
            self.assertEqual(set(options.headers["Allow"].split(", ")), allowed, path)
            other = self.server.call("PATCH", path)
            self.assertEqual(other.status, 405, path)
            self.assertEqual(set(other.headers["Allow"].split(", ")), allowed, path)

    def test_unknown_routes(self):
        for path in ("/nope", "/v1", "/v1/chat/completions/", "/v1/models/a/b", "/mcp/x"):
            self.error(self.server.call("GET", path), 404, "not_found")
        self.assertEqual(self.server.call("POST", "/v1/messages/nope", {}).json["type"], "error")
        self.assertIsInstance(self.server.call("POST", "/api/nope", {}).json["error"], str)

    def test_bodies(self):
        for path, _ in [(concrete(p), s) for m, p, _, _, s in table() if m == "POST" and s == "OpenAi" and p != "/mcp"]:
            if path.startswith("/v1/sona/") or path.startswith("/v1/trajectories/"):
                continue
            for body in (b"", b"{", b"[]", b'"x"', b'{"a": 1, "a": 2}', b"\xff", b"[" * 100000):
                answer = self.server.call("POST", path, body)
                self.assertEqual(answer.status, 400, f"{path} {body[:20]} {answer.body}")
                self.error(answer, 400)

    def test_request_ids(self):
        echoed = self.server.call("GET", "/health", headers={"X-Request-Id": "abc-123"})
        self.assertEqual(echoed.headers["X-Request-Id"], "abc-123")
        made = [self.server.call("GET", "/health").headers["X-Request-Id"] for _ in range(2)]
        self.assertTrue(all(made) and made[0] != made[1])
        replaced = self.server.call("GET", "/health", headers={"X-Request-Id": "a b"})
        self.assertNotEqual(replaced.headers["X-Request-Id"], "a b")
        self.assertEqual(self.server.call("GET", "/nope", headers={"X-Request-Id": "abc"}).headers["X-Request-Id"], "abc")

    def test_hosts(self):
        port = self.server.port
        for host in ("localhost", f"localhost:{port}", "127.0.0.1", "127.1.2.3:80", "[::1]:80", "LOCALHOST",
                     "chat.example.org", "chat.example.org:443"):
            self.assertEqual(self.server.call("GET", "/v1/models", headers={"Host": host}).status, 200, host)
        for host in ("evil.example", "127.evil.example", "localhost.evil.example", "chat.example.org.evil", "", "[::1",
                     "localhost:x", "192.168.0.1"):
            for path in ("/v1/models", "/", "/nope"):
                answer = self.server.call("GET", path, headers={"Host": host})
                self.error(answer, 403, "host_not_allowed")
            for path in ("/health", "/ready"):
                self.assertEqual(self.server.call("GET", path, headers={"Host": host}).status, 200, host)

    def test_origins(self):
        own = f"http://127.0.0.1:{self.server.port}"
        listed = "https://page.example.org"
        for origin, told in ((own, None), (listed, listed)):
            answer = self.server.call("GET", "/v1/models", headers={"Origin": origin})
            self.assertEqual(answer.status, 200, origin)
            self.assertEqual(answer.headers["Access-Control-Allow-Origin"], told)
            self.assertIsNone(answer.headers["Access-Control-Allow-Credentials"])
        for origin in ("https://evil.example", "null", "http://page.example.org", f"{listed}.evil", "http://localhost:1"):
            for method, path in (("GET", "/v1/models"), ("POST", "/v1/chat/completions"), ("POST", "/mcp"), ("OPTIONS", "/mcp")):
                answer = self.server.call(method, path, headers={"Origin": origin})
                self.error(answer, 403, "origin_not_allowed")
                self.assertIsNone(answer.headers["Access-Control-Allow-Origin"])
        asked = {"Origin": listed, "Access-Control-Request-Method": "POST",
                 "Access-Control-Request-Headers": "authorization,x-stainless-lang"}
        preflight = self.server.call("OPTIONS", "/v1/chat/completions", headers=asked)
        self.assertEqual(preflight.status, 204)
        self.assertEqual(preflight.headers["Access-Control-Allow-Origin"], listed)
        self.assertIn("POST", preflight.headers["Access-Control-Allow-Methods"])
        self.assertIn("authorization,x-stainless-lang", preflight.headers["Access-Control-Allow-Headers"])
        self.assertIn("Origin", preflight.headers["Vary"])
        connection = self.server.connection()
        connection.request("POST", "/v1/chat/completions", encoded(self.drawn(stream=True)), {"Origin": listed})
        self.assertEqual(connection.getresponse().headers["Access-Control-Allow-Origin"], listed)
        connection.close()
        refusal = self.server.call("GET", "/nope", headers={"Origin": listed})
        self.assertEqual(refusal.headers["Access-Control-Allow-Origin"], listed, "a page can read why")
        self.assertIsNone(self.server.call("GET", "/v1/models").headers["Access-Control-Allow-Origin"])

    def test_profiles_and_aliases(self):
        def ask(**more):
            return self.server.post("/v1/chat/completions", {"messages": ASKED, "max_tokens": 20, **more})
        for model, profile in (("ruvltra-base", "base"), ("ruvltra-coder", "coder"), ("ruvltra-agent", "agent"),
                               (NAME, "base"), ("foxes", "base"), ("", "base")):
            answer = ask(model=model)
            self.assertEqual((answer["ruvltra"]["profile"], answer["model"]), (profile, model or NAME))
        self.assertEqual(ask(profile="agent")["ruvltra"]["profile"], "agent")
        coder = [ask(model="ruvltra-coder") for _ in range(2)]
        self.assertEqual(coder[0]["ruvltra"]["seed"], 0)
        self.assertEqual(coder[0]["choices"][0]["message"], coder[1]["choices"][0]["message"])
        seeds = {ask()["ruvltra"]["seed"] for _ in range(3)}
        self.assertEqual(len(seeds), 3, "a seed is drawn where none is given")
        for model in ("gpt-4o", "ruvltra-king", "FOXES"):
            answer = self.server.call("POST", "/v1/chat/completions", {"model": model, "messages": ASKED})
            self.error(answer, 404, "model_not_found", "model")
        self.error(self.server.call("POST", "/v1/chat/completions", {"profile": "king", "messages": ASKED}), 400, param="profile")


class Text(HttpCase):
    """What is answered does not depend on who else asks, nor on how it is cut."""

    def test_the_same_bytes_alone_and_beside_others(self):
        orders = [self.drawn(max_tokens=200), self.drawn(max_tokens=200, seed=8, temperature=1.2, top_k=40),
                  self.drawn(max_tokens=100, n=3), self.drawn(max_tokens=60, frequency_penalty=0.5)]
        alone = [self.server.post("/v1/chat/completions", order)["choices"] for order in orders]
        stop = threading.Event()

        def busy(i):
            while not stop.is_set():
                response = self.long_stream(n=1, text=f"Tell me story number {i}.", max_tokens=400)
                events(response)
        others = [threading.Thread(target=busy, args=(i,)) for i in range(8)]
        for one in others:
            one.start()
        try:
            deadline = time.monotonic() + 20
            while len(self.server.get("/v1/requests")["data"]) < 4:
                self.assertLess(time.monotonic(), deadline)
            beside = [self.server.post("/v1/chat/completions", order)["choices"] for order in orders]
        finally:
            stop.set()
            for one in others:
                one.join()
        self.assertEqual(beside, alone)
        for i in range(3):
            self.assertNotEqual(alone[2][i], alone[2][(i + 1) % 3])

    def test_an_answer_that_begins_before_all_of_it_is_asked(self):
        # 64 prompts: the first are being answered while the others are on their way to the engine.
        order = {"prompt": [f"Fox {i}" for i in range(64)], "max_tokens": 2, "seed": 1, "logit_bias": self.endless()}
        first = self.server.post("/v1/completions", order)["choices"]
        self.assertEqual([one["index"] for one in first], list(range(64)))
        for _ in range(10):
            self.assertEqual(self.server.post("/v1/completions", order)["choices"], first)
            chunks = self.server.events("/v1/completions", {**order, "stream": True})[:-1]
            texts = [""] * 64
            for chunk in chunks:
                texts[chunk["choices"][0]["index"]] += chunk["choices"][0]["text"]
            self.assertEqual(texts, [one["text"] for one in first])

    def test_a_prompt_is_scored_the_same_beside_others(self):
        # How many rows a step of it has changes when the other answer ends.
        order = {"prompt": "Once a fox met a crow with a cheese. " * 60, "max_tokens": 0, "echo": True, "logprobs": 1}
        alone = self.server.post("/v1/completions", order)["choices"]
        for _ in range(5):
            other = self.long_stream(n=1, max_tokens=60)
            self.assertEqual(self.server.post("/v1/completions", order)["choices"], alone)
            events(other)

    def test_a_stop_string_is_never_told_in_part(self):
        whole = self.text(self.drawn(max_tokens=80))
        pieces = [one["piece"] for one in self.server.post("/tokenize", {"content": whole, "with_pieces": True})["tokens"]]
        self.assertGreater(len(whole), 60)
        for at, length in ((20, 12), (31, 7), (5, 20), (40, 1)):
            stop = whole[at:at + length]
            cut = whole[:whole.index(stop)]
            for stops in (stop, ["\x01never", stop]):
                answer = self.server.post("/v1/chat/completions", self.drawn(max_tokens=80, stop=stops))["choices"][0]
                self.assertEqual((answer["message"]["content"], answer["finish_reason"]), (cut, "stop"))
                told = self.pieces(self.drawn(max_tokens=80, stop=stops, stream=True))
                self.assertEqual("".join(told), cut)
        # What only began like a stop string is told after all.
        almost = [whole[at:at + 9] + "\x01" for at in (10, 30, 50)]
        told = self.pieces(self.drawn(max_tokens=80, stop=almost, stream=True))
        self.assertEqual("".join(told), whole)
        self.assertGreater(len(pieces), 20)

    def test_a_prompt_is_found_in_the_cache(self):
        story = "Once a fox met a crow with a cheese. " * 12
        order = self.drawn(messages=[{"role": "user", "content": story}])
        first, second, third = (self.server.post("/v1/chat/completions", {**order, "cache_salt": salt})
                                for salt in ("a", "a", "b"))
        self.assertEqual(first["usage"]["prompt_tokens_details"]["cached_tokens"], 0)
        self.assertGreater(second["usage"]["prompt_tokens_details"]["cached_tokens"], 63)
        self.assertEqual(third["usage"]["prompt_tokens_details"]["cached_tokens"], 0)
        self.assertEqual(first["choices"], second["choices"])

    def test_wrong_fields_are_named(self):
        for field, value in (("temperature", 2.1), ("temperature", "hot"), ("top_p", 0), ("top_p", 1.1), ("min_p", -1),
                             ("top_k", -1), ("repeat_penalty", 0), ("presence_penalty", 3), ("frequency_penalty", -3),
                             ("n", 0), ("n", 17), ("seed", 1.5), ("max_tokens", 0), ("stop", ["x"] * 17), ("stop", "y" * 257),
                             ("logit_bias", {"-1": 1}), ("logit_bias", [1]), ("top_logprobs", 3), ("stream", 1),
                             ("messages", []), ("tools", {}), ("tool_choice", "maybe"), ("adapter", "old"),
                             ("session_id", "x" * 129), ("cache_salt", 5), ("model", 5), ("stream_options", "x")):
            answer = self.server.call("POST", "/v1/chat/completions", {"messages": ASKED, "max_tokens": 4, field: value})
            self.error(answer, 400, param=field)
        self.error(self.server.call("POST", "/v1/chat/completions",
                                    {"messages": ASKED, "response_format": {"type": "xml"}}), 400, param="response_format.type")
        # What nobody knows is left alone.
        self.server.post("/v1/chat/completions", self.drawn(max_tokens=1, no_such_field={"a": [1]}))


class Keys(HttpCase):
    """A server with keys: alice, bob, and root who is an administrator."""

    @classmethod
    def setUpClass(cls):
        cls.server = keyed_server()
        cls.endless_ = None

    def status(self, method, path, **headers):
        """Of the head of the answer: streams are not read to their end."""
        connection = self.server.connection()
        connection.request(method, path, b"{}" if method in ("POST", "PUT") else None, headers)
        response = connection.getresponse()
        connection.close()
        return response.status

    def test_every_route_wants_its_key(self):
        for method, pattern, guard, _, _ in table():
            path = concrete(pattern)
            if (method, pattern) == ("DELETE", "/v1/sona/tenant"):
                right = "Bearer bob-key"  # whose data no other test needs
            else:
                right = "Bearer alice-key"
            wrong = ({}, {"Authorization": "Bearer wrong"}, {"x-api-key": "wrong"}, {"Authorization": "Bearer "},
                     {"Authorization": "Basic alice-key"}, {"x-api-key": "alice-key "[:-2]})
            for headers in wrong:
                status = self.status(method, path, **headers)
                self.assertEqual(status, 401 if guard != "Open" else 200, f"{method} {path} {headers} {guard}")
            status = self.status(method, path, Authorization=right)
            self.assertEqual(status == 403, guard == "Admin", f"{method} {path}")
            self.assertNotIn(status, (401, 404 if "{" not in pattern else 401, 405, 500), f"{method} {path}")
        for method, path in (("GET", "/v1/models"), ("POST", "/tokenize")):
            self.assertNotEqual(self.status(method, path, **{"x-api-key": "alice-key"}), 401)
        self.assertEqual(self.status("GET", "/nope"), 401, "what there is, is told to those with a key")

    def test_refusals_are_of_each_face(self):
        self.error(self.server.call("POST", "/v1/chat/completions", {}), 401, "invalid_api_key")
        answer = self.server.call("POST", "/v1/messages", {})
        self.assertEqual(answer.json["error"]["type"], "authentication_error")
        self.assertIsInstance(self.server.call("POST", "/api/chat", {}).json["error"], str)
        self.assertEqual(answer.headers["WWW-Authenticate"], "Bearer")

    def test_requests_of_others_are_only_counted(self):
        response = self.long_stream("alice-key", text="The secret of the fox")
        own = self.server.get("/v1/requests", "alice-key")["data"][0]
        self.assertEqual((own["own"], own["prompt"]), (True, "The secret of the fox"))
        seen = self.server.call("GET", "/v1/requests", key="bob-key")
        self.assertEqual([(one["own"], one["id"], one["prompt"]) for one in seen.json["data"]], [(False, None, None)])
        for path in ("/v1/requests", "/v1/kv/pages", "/metrics", "/v1/sona/status", "/stats"):
            body = self.server.call("GET", path, key="bob-key").body
            self.assertNotIn(b"secret", body)
            self.assertNotIn(b"alice", body)
            self.assertNotIn(own["id"].encode(), body)
        self.error(self.server.call("DELETE", f"/v1/requests/{own['id']}", key="bob-key"), 404)
        admin = self.server.get("/v1/requests", "root-key")["data"][0]
        self.assertEqual((admin["id"], admin["prompt"]), (own["id"], None))
        self.assertEqual(self.server.call("DELETE", f"/v1/requests/{own['id']}", key="root-key").status, 200)
        self.assertEqual(events(response)[-1], "[DONE]")
        self.becomes_idle("alice-key")

    def test_what_one_learned_others_do_not_find(self):
        pattern = "The silver key opens the north gate"

        def tool(name, arguments, key, **headers):
            answer = self.server.post("/mcp", {"jsonrpc": "2.0", "id": 1, "method": "tools/call",
                                               "params": {"name": name, "arguments": arguments}}, key, headers)
            return json.loads(answer["result"]["content"][0]["text"])
        kept = tool("pattern_store", {"pattern": pattern}, "alice-key")

        def found(key, **headers):
            hits = self.server.post("/v1/hnsw/search", {"query": pattern, "limit": 20}, key, headers)
            return kept["id"] in [hit["id"] for hit in hits]
        self.assertTrue(found("alice-key"))
        self.assertFalse(found("bob-key"))
        self.assertFalse(found("root-key"))
        self.assertTrue(found("root-key", **{"x-ruvltra-tenant": "alice"}))
        self.assertFalse(found("bob-key", **{"x-ruvltra-tenant": "alice"}), "only administrators act for others")
        begun = self.server.post("/v1/trajectories", {"task": "Open the gate"}, "alice-key")
        step = f"/v1/trajectories/{begun['id']}"
        for path in (f"{step}/steps", f"{step}/end"):
            self.error(self.server.call("POST", path, {"action": "look"}, "bob-key"), 404)
        self.server.post(f"{step}/steps", {"action": "look"}, "alice-key")
        self.assertTrue(self.server.post(f"{step}/end", {"success": True}, "alice-key")["durable"])
        decision = self.server.post("/v1/route", {"task": "Open the gate"}, "alice-key")["decision_id"]
        told = {"decision_id": decision, "agent": "coder", "success": True}
        self.error(self.server.call("POST", "/v1/feedback", told, "bob-key"), 404)
        self.server.post("/v1/feedback", told, "alice-key")
        answer = self.server.post("/v1/chat/completions", self.drawn(), "alice-key")
        self.error(self.server.call("POST", "/v1/feedback", {"request_id": answer["id"], "quality": 1}, "bob-key"), 404)
        self.server.post("/v1/feedback", {"request_id": answer["id"], "quality": 1}, "alice-key")

    def test_the_cache_is_each_tenants_own(self):
        order = self.drawn(messages=[{"role": "user", "content": "A crow met a fox with a grape. " * 15}])
        cached = [self.server.post("/v1/chat/completions", order, key)["usage"]["prompt_tokens_details"]["cached_tokens"]
                  for key in ("alice-key", "alice-key", "bob-key")]
        self.assertEqual(cached[0], 0)
        self.assertGreater(cached[1], 0)
        self.assertEqual(cached[2], 0)

    def test_a_tenant_can_be_deleted(self):
        headers = {"x-ruvltra-tenant": "carol"}
        for _ in range(2):
            self.server.post("/feedback", {"query": "Where?", "response": "There.", "quality": 1}, "root-key", headers)
        gone = self.server.call("DELETE", "/v1/sona/tenant", key="root-key", headers=headers).json
        self.assertEqual((gone["tenant"], gone["trajectories"]), ("carol", 2))
        again = self.server.call("DELETE", "/v1/sona/tenant", key="root-key", headers=headers).json
        self.assertEqual(again["trajectories"], 0)

    def test_only_administrators_change_agents(self):
        agents = self.server.call("GET", "/v1/agents", key="alice-key").body
        self.error(self.server.call("PUT", "/v1/agents", agents, "alice-key"), 403)
        self.assertEqual(self.server.call("PUT", "/v1/agents", agents, "root-key").status, 200)


class Limits(HttpCase):
    """Small servers of their own."""

    def start(self, name, *words):
        server = Server(name, *words)
        self.addCleanup(server.stop)
        self.server = server
        return server

    def test_a_stopped_server_ends_what_it_began(self):
        server = self.start("graceful")
        response = self.long_stream(n=2, max_tokens=800)
        idle = server.connection()
        idle.request("GET", "/health")
        idle.getresponse().read()
        server.process.terminate()
        data = events(response)
        self.assertEqual(data[-1], "[DONE]")
        reasons = [c["choices"][0]["finish_reason"] for c in data[:-1] if c["choices"][0]["finish_reason"]]
        self.assertEqual(reasons, ["length", "length"])
        idle.close()
        self.assertEqual(server.process.wait(30), 0)
        with self.assertRaises(OSError):
            server.call("GET", "/health")

    def test_what_does_not_end_in_time_is_cancelled(self):
        server = self.start("drained", "--drain", "0")
        response = self.long_stream()
        server.process.terminate()
        data = events(response)
        self.assertEqual(data[-1], "[DONE]")
        self.assertIn("error", data[-2])
        self.assertEqual(server.process.wait(30), 0)
        self.assertIn("cancelled 1 requests", server.log())

    def test_a_full_queue(self):
        server = self.start("queue", "--parallel", "1", "--queue", "1")
        order = self.drawn(max_tokens=1900)
        stop, answers = threading.Event(), []

        def crowd():
            while not stop.is_set():
                answers.append(server.call("POST", "/v1/chat/completions", order))
                time.sleep(0.02)
        several = [threading.Thread(target=crowd) for _ in range(4)]
        for one in several:
            one.start()
        try:
            deadline = time.monotonic() + 60
            ready = other = server.call("GET", "/health")
            while ready.status == 200 or other.status == 200:
                self.assertLess(time.monotonic(), deadline, f"{ready.status} {other.status}")
                if ready.status == 200:
                    ready = server.call("GET", "/ready")
                if other.status == 200:
                    other = server.call("POST", "/v1/messages", self.drawn(max_tokens=1))
        finally:
            stop.set()
            for one in several:
                one.join()
        self.error(ready, 503, "queue_full")
        self.assertEqual((other.status, other.json["error"]["type"]), (529, "overloaded_error"))
        refused = [answer for answer in answers if answer.status != 200]
        self.assertTrue(0 < len(refused) < len(answers))
        for answer in refused:
            self.error(answer, 503, "queue_full")
            self.assertGreaterEqual(int(answer.headers["Retry-After"]), 1)
        text = server.call("GET", "/metrics").body.decode()
        self.assertIn(f'ruvltra_rejected_total{{reason="engine.queue_full"}} {len(refused) + 1}\n', text)
        self.assertEqual(server.call("GET", "/ready").status, 200)

    def test_one_tenant_does_not_take_all(self):
        path = keys_file()
        server = self.start("limited", "--api-key-file", path, "--per-tenant", "1")
        first = self.long_stream(key="alice-key", n=4)
        refusal = server.call("POST", "/v1/chat/completions", self.drawn(), "alice-key")
        self.error(refusal, 429, "rate_limit")
        self.assertGreaterEqual(int(refusal.headers["Retry-After"]), 1)
        self.assertEqual(server.call("POST", "/v1/chat/completions", self.drawn(), "bob-key").status, 200)
        first.connection.close()
        self.becomes_idle("alice-key")
        self.assertEqual(server.call("POST", "/v1/chat/completions", self.drawn(), "alice-key").status, 200)

    def test_no_page_and_any_model_name(self):
        server = self.start("bare", "--no-ui", "--alias", "*")
        self.error(server.call("GET", "/"), 404)
        self.error(server.call("GET", "/ui/app.js"), 404)
        self.assertEqual(server.post("/v1/chat/completions", self.drawn(model="gpt-4o"))["model"], "gpt-4o")
        self.assertNotIn("*", [one["id"] for one in server.get("/v1/models")["data"]])

    def test_usage(self):
        self.refused(2, "api-key-file", "serve", "-m", MODEL, "--host", "0.0.0.0", "--port", "0")
        path = os.path.join(SCRATCH, "bad-keys")
        for text in ("alice\n", "alice key king\n", "alice sha256:00\n", "# none\n"):
            with open(path, "w") as file:
                file.write(text)
            self.refused(2, "bad-keys", "serve", "-m", MODEL, "--port", "0", "--api-key-file", path)


if __name__ == "__main__":
    main()
