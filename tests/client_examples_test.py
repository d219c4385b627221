#!/usr/bin/env python3
"""examples/clients/ against a real server: those without dependencies always, the Node ones where their packages are."""
import json
import os
import re
import shutil
import subprocess
import sys
import unittest

from cli_harness import ROOT, SCRATCH, Case, environment, main
from serve_harness import Server

CLIENTS = os.path.join(ROOT, "examples/clients")


class Clients(Case):
    @classmethod
    def setUpClass(cls):
        keys = os.path.join(SCRATCH, "keys")
        with open(keys, "w") as file:
            file.write("ana secret-ana\n")
        os.chmod(keys, 0o600)
        cls.server = Server("examples", "--learn", "record", "--api-key-file", keys)
        cls.server.wait_until_it_learns("secret-ana")

    @classmethod
    def tearDownClass(cls):
        cls.server.stop()

    def run_client(self, *words, key="secret-ana", cwd=None):
        kept = {**environment(), "RUVLTRA_URL": self.server.url, "RUVLTRA_KEY": key}
        return subprocess.run(words, capture_output=True, text=True, timeout=120, env=kept, cwd=cwd)

    def well(self, *words, **named):
        done = self.run_client(*words, **named)
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        return done.stdout

    def test_curl(self):
        if not shutil.which("curl"):
            self.skipTest("curl is not installed")
        parts = re.split(r"(?m)^--- ", self.well("sh", os.path.join(CLIENTS, "curl.sh")))[1:]
        self.assertEqual([part.split("\n")[0] for part in parts],
                         ["/health", "/v1/models"] + ["/v1/chat/completions"] * 3 +
                         ["/v1/embeddings", "/v1/messages", "/api/chat", "/mcp", "/metrics"])
        self.assertGreater(len(json.loads(parts[2].split("\n", 1)[1])["choices"][0]["message"]["content"]), 20)
        self.assertGreater(len(re.findall('"delta":{"content":"[^"]', parts[3])), 5)
        self.assertTrue(parts[3].rstrip().endswith("data: [DONE]"))
        answer = json.loads(parts[4].split("\n", 1)[1])["choices"][0]["message"]["content"]
        self.assertIn(json.loads(answer)["yes"], (True, False))
        self.assertIn("ruvltra_prompt_tokens_total", parts[9])
        refused = self.run_client("sh", os.path.join(CLIENTS, "curl.sh"), key="wrong")
        self.assertNotEqual(refused.returncode, 0)
        self.assertIn("invalid_api_key", refused.stdout)

    def test_chat(self):
        out = self.well(sys.executable, os.path.join(CLIENTS, "chat.py"), "Tell me a story about a fox.", "good")
        answer, told = out.rstrip().rsplit("\n", 1)
        self.assertGreater(len(answer.split()), 5)
        self.assertEqual(told, "{'ok': True, 'durable': True}")
        refused = self.run_client(sys.executable, os.path.join(CLIENTS, "chat.py"), "Hello", key="wrong")
        self.assertEqual((refused.returncode, refused.stderr.strip()), (1, "/v1/chat/completions: 401 the key is not known"))

    def test_route(self):
        out = self.well(sys.executable, os.path.join(CLIENTS, "route.py"), "Fix the SQL injection in the login form", "success")
        lines = out.rstrip().split("\n")
        self.assertEqual(len(lines), 4)
        self.assertRegex(lines[0], r"^security-\w+ +0\.\d\d  ")
        self.assertEqual(lines[3], "{'ok': True, 'durable': True}")

    def node(self, name, package, expected):
        modules = os.path.join(ROOT, "tests/node/node_modules")
        if not shutil.which("node") or not os.path.isdir(os.path.join(modules, package)):
            self.skipTest(f"{package} is not installed in tests/node")
        folder = os.path.join(SCRATCH, "node")
        os.makedirs(folder, exist_ok=True)
        if not os.path.exists(os.path.join(folder, "node_modules")):
            os.symlink(modules, os.path.join(folder, "node_modules"))
        shutil.copy(os.path.join(CLIENTS, name), folder)
        self.assertRegex(self.well("node", os.path.join(folder, name)), expected)

    def test_openai_library(self):
        self.node("openai.mjs", "openai", r"(?s)\w+ \w+.*\ncosine of a fox and a crow: -?[01]\.\d{3}\n\Z")

    def test_anthropic_library(self):
        self.node("anthropic.mjs", "@anthropic-ai/sdk", r"(?s)\w+ \w+.*\n(end_turn|max_tokens), \d+ tokens\n\Z")


if __name__ == "__main__":
    main()
