#!/usr/bin/python3
"""Learned weights over HTTP: taught by corrections, shown in what comes next, taken to another tenant, taken back.

usage: http_sona_test.py RUVLTRA [UNITTEST ARGUMENTS]
"""
import os
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import http_case
from cli_harness import main
from fables import NEVER_TAUGHT, PAIRS, corrected, question
from http_case import HttpCase, Shared, keys_file

tearDownModule = http_case.tearDownModule


def finished(server, queued, key=None):
    """The job, once it is over."""
    def ended():
        return [job for job in server.get("/v1/sona/status", key)["jobs"]
                if job["id"] == queued["job"] and job["status"] in ("done", "failed")]
    return server.wait(ended)[0]


class Learning(HttpCase):
    @classmethod
    def setUpClass(cls):
        pass  # each test has its own server

    def test_routes(self):
        server = Shared.get("learning", "--learn", "on")
        server.wait_until_it_learns()
        self.assertEqual(server.get("/v1/sona/status")["mode"], "on")
        for frozen in (True, False):
            self.assertEqual(server.post("/v1/sona/freeze", {"frozen": frozen}), {"frozen": frozen})
            self.assertEqual(server.get("/v1/sona/status")["frozen"], frozen)
        self.assertEqual(server.post("/v1/sona/tasks", {"name": "letters"}), {"task": "letters"})
        self.error(server.call("POST", "/v1/sona/tasks", {}), 400, param="name")
        now = server.post("/v1/sona/reset", {})["generation"]
        adapters = server.get("/v1/sona/adapters")
        self.assertEqual(adapters["live"]["generation"], now)
        self.assertEqual([one["generation"] for one in adapters["data"]][:1], [now])
        wanted = {"to_generation": 0, "expected_generation": now + 7}
        self.error(server.call("POST", "/v1/sona/rollback", wanted), 409)
        back = server.post("/v1/sona/rollback", {**wanted, "expected_generation": now})["generation"]
        self.assertEqual(server.get("/v1/sona/status")["generation"], back)
        queued = server.call("POST", "/v1/sona/learn", {})
        self.assertEqual((queued.status, queued.json["status"]), (202, "queued"))
        job = finished(server, queued.json)
        # Nobody told it anything: there is nothing to publish.
        self.assertFalse((job["result"] or {}).get("accepted", False), job)
        self.assertEqual(server.get("/v1/sona/adapters")["live"]["generation"], back)

    def test_corrections_change_what_comes_next(self):
        server = Shared.get("taught", "--learn", "on", "--api-key-file", keys_file())
        server.wait_until_it_learns("alice-key")

        def told(text, key="alice-key", **more):
            body = {"messages": [{"role": "user", "content": text}], "temperature": 0, "max_tokens": 40, **more}
            return server.post("/v1/chat/completions", body, key)

        def text(key="alice-key", **more):
            return told(NEVER_TAUGHT, key, **more)["choices"][0]["message"]["content"]

        asked = server.post("/apply-template", {"messages": [{"role": "user", "content": NEVER_TAUGHT}]}, "alice-key")["prompt"]
        wanted = corrected("queen", "dog")

        def nll(**more):
            """Of an answer that was never told, in the style of those that were."""
            body = {"prompt": asked + wanted, "echo": True, "max_tokens": 0, "logprobs": 0, **more}
            scores = server.post("/v1/completions", body, "alice-key")["choices"][0]["logprobs"]
            of_answer = [value for value, at in zip(scores["token_logprobs"], scores["text_offset"]) if at >= len(asked)]
            return -sum(of_answer) / len(of_answer)

        plain, expected = text(), nll()
        self.error(server.call("POST", "/v1/sona/export", {}, "alice-key"), 404, "learning.not_found")
        letters = {"session_id": "letters"}
        for a, b in PAIRS:
            answer = told(question(a, b), **letters)
            server.post("/v1/feedback", {"request_id": answer["id"], "correction": corrected(a, b), **letters}, "alice-key")
        queued = server.call("POST", "/v1/sona/learn", letters, "alice-key")
        self.assertEqual(queued.status, 202, queued.body)
        # Corrections may have been learned from before they all were told: then this had nothing to add.
        job = finished(server, queued.json, "alice-key")
        self.assertEqual(job["status"], "done", job)
        mine = [one for one in server.get("/v1/sona/adapters", "alice-key")["data"] if one.get("session_id") == "letters"]
        self.assertGreater(len(mine), 0, job)
        self.assertTrue(mine[0]["live"])

        learned = text(**letters)
        self.assertNotEqual(learned, plain)
        self.assertLess(nll(**letters), expected - 0.03)
        self.assertEqual([nll(), nll(**letters, adapter="none")], [expected] * 2)
        self.assertEqual(text(**letters, adapter="none"), plain)
        # Of this conversation alone: not her others, not another tenant's, whatever he calls his.
        self.assertEqual([text(), text("bob-key"), text("bob-key", **letters)], [plain] * 3)

        # As a file to another tenant, where it gives the same bytes; a damaged one changes nothing.
        file = server.call("POST", "/v1/sona/export", letters, "alice-key")
        self.assertEqual((file.status, file.headers["Content-Type"]), (200, "application/octet-stream"))
        for damaged in (b"", file.body[:-1], file.body[:200] + bytes([file.body[200] ^ 1]) + file.body[201:], b"x" * 5000):
            self.error(server.call("POST", "/v1/sona/import", damaged, "bob-key"), 400)
        self.assertEqual(text("bob-key"), plain)
        taken = server.post("/v1/sona/import", file.body, "bob-key")
        self.assertEqual(taken, {"generation": 1, "hash": mine[0]["hash"]})
        self.assertEqual(text("bob-key"), learned)
        self.assertEqual(text(), plain)

        # And back.
        server.post("/v1/sona/rollback", {"to_generation": 0, **letters}, "alice-key")
        self.assertEqual(text(**letters), plain)
        self.assertEqual(text("bob-key"), learned)


if __name__ == "__main__":
    main()
