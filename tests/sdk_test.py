#!/usr/bin/python3
"""The public clients of the server's faces, unchanged, against `ruvltra serve` and `ruvltra mcp`.

usage: sdk_test.py RUVLTRA
Exit 0: all passed; 1: failures; 77: skipped, with the reason.

openai, @anthropic-ai/sdk, ollama and @modelcontextprotocol/sdk at the versions of tests/node/package-lock.json
(installed with `npm install --ignore-scripts` in tests/node), on the nano model.
"""
import json
import os
import shutil
import signal
import subprocess
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from cli_harness import MODEL, PROGRAM, SCRATCH, Case, environment, main
from serve_harness import Server, data_folder

NODE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "node")
NAME = "nano-q8_0"
PACKAGES = ("openai", "@anthropic-ai/sdk", "ollama", "@modelcontextprotocol/sdk", "zod")


def reason_to_skip():
    if shutil.which("node") is None:
        return "node is not installed"
    version = subprocess.run(["node", "--version"], capture_output=True, text=True, check=True).stdout.strip()
    if int(version.lstrip("v").split(".")[0]) < 20:
        return f"needs Node 20 or newer, found {version}"
    with open(os.path.join(NODE, "package.json")) as file:
        wanted = json.load(file)["devDependencies"]
    for package in PACKAGES:
        try:
            with open(os.path.join(NODE, "node_modules", package, "package.json")) as file:
                found = json.load(file)["version"]
        except OSError:
            return f"{package} is not installed: npm install --no-save --ignore-scripts in tests/node"
        if found != wanted[package]:
            return f"{package}: expected {wanted[package]}, found {found}"
    return None


class Sdk(Case):
    @classmethod
    def setUpClass(cls):
        cls.server = Server("open", "--learn", "record")
        keys = os.path.join(SCRATCH, "keys")
        with open(os.open(keys, os.O_CREAT | os.O_WRONLY, 0o600), "w") as file:
            file.write("# tenants\nalice alice-key\nroot root-key admin\n")
        cls.keyed = Server("keyed", "--api-key-file", keys)
        cls.server.wait_until_it_learns()
        cls.keyed.wait_until_it_learns("alice-key")

    @classmethod
    def tearDownClass(cls):
        codes = cls.server.stop(signal.SIGTERM), cls.keyed.stop(signal.SIGINT)
        if codes != (0, 130):
            raise AssertionError(f"the servers ended with {codes}, expected 0 after SIGTERM and 130 after SIGINT: "
                                 f"{cls.server.log()}\n{cls.keyed.log()}")

    def script(self, name, *arguments):
        done = subprocess.run(["node", name, *arguments], cwd=NODE, capture_output=True, text=True, timeout=120,
                              stdin=subprocess.DEVNULL, env=environment())
        lines = done.stdout.splitlines()
        self.assertEqual(done.returncode, 0, f"{name}\n{done.stdout}\n{done.stderr}\n{self.server.log()}")
        # A script that checks nothing must not pass.
        self.assertGreater(sum(line.startswith("ok ") for line in lines), 1, done.stdout)

    def test_openai(self):
        self.script("sdk_openai.mjs", self.server.url, NAME)

    def test_anthropic(self):
        self.script("sdk_anthropic.mjs", self.server.url, NAME)

    def test_ollama(self):
        self.script("sdk_ollama.mjs", self.server.url, NAME)

    def test_providers(self):
        self.script("sdk_providers.mjs", self.server.url, NAME)

    def test_mcp_http(self):
        self.script("sdk_mcp.mjs", "http", self.server.url)

    def test_mcp_stdio(self):
        self.script("sdk_mcp.mjs", "stdio", PROGRAM, MODEL, data_folder("mcp"))

    def test_mcp_stdio_handing_on(self):
        self.script("sdk_mcp.mjs", "handing-on", PROGRAM, self.server.url)

    def test_keys(self):
        for name in ("sdk_openai.mjs", "sdk_anthropic.mjs", "sdk_ollama.mjs"):
            self.script(name, self.keyed.url, NAME, "alice-key")
        self.script("sdk_mcp.mjs", "http", self.keyed.url, "alice-key")


if __name__ == "__main__":
    reason = reason_to_skip()
    if reason:
        print(f"SKIP: {reason}")
        sys.exit(77)
    main()
