#!/usr/bin/python3
"""The web page in a real browser against a real server: usage: ui_test.py RUVLTRA

Needs Debian's chromium, Node >= 20 and the packages of ui/package-lock.json (`tools/dev test` installs them); without one
the test is SKIPPED. Screenshots go to ui-screenshots/ beside the program. RUVLTRA_UI_DIST=FOLDER tests the page of that
folder in place of the one compiled into the program.
"""
import json
import os
import pathlib
import shutil
import socket
import subprocess
import sys
import time
import urllib.request

from cli_harness import MODEL, PROGRAM, ROOT, SCRATCH, SPECULATING, environment

CHROMIUM = "/usr/bin/chromium"
UI = pathlib.Path(ROOT) / "ui"
KEY = "correct-horse-battery"


def skip(reason):
    print(f"SKIP: {reason}")
    sys.exit(77)


def need_tools():
    if not os.access(PROGRAM, os.X_OK):
        skip("the program is not built")
    if not os.access(CHROMIUM, os.X_OK):
        skip("the Debian package chromium is not installed")
    if shutil.which("node") is None:
        skip("node is not installed")
    version = subprocess.run(["node", "--version"], capture_output=True, text=True, check=True).stdout.strip()
    if int(version.lstrip("v").split(".")[0]) < 20:
        skip(f"needs Node 20 or newer, found {version}")
    if not (UI / "node_modules/playwright-core/package.json").exists():
        skip("playwright-core is not installed in ui/ (tools/dev test installs it)")


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Server:
    """`ruvltra serve` on the nano model with a data directory of its own."""

    def __init__(self, name, *flags):
        self.url = f"http://127.0.0.1:{(port := free_port())}"
        self.log = open(os.path.join(SCRATCH, f"{name}.log"), "w+")
        self.process = subprocess.Popen(
            [PROGRAM, "serve", "-m", MODEL, "--port", str(port), "--data-dir", os.path.join(SCRATCH, name), "--no-progress", *flags],
            stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log, env=environment())

    def wait(self):
        deadline = time.monotonic() + 60
        while True:
            try:
                urllib.request.urlopen(f"{self.url}/ready", timeout=5).close()
                return
            except OSError:
                if self.process.poll() is not None or time.monotonic() > deadline:
                    self.log.seek(0)
                    raise AssertionError(f"the server did not become ready:\n{self.log.read()}") from None
                time.sleep(0.05)

    def stop(self):
        """Ends it; returns its exit code and what it wrote."""
        self.process.terminate()
        code = self.process.wait(30)
        self.log.seek(0)
        with self.log:
            return code, self.log.read()


def main():
    need_tools()
    keys = os.path.join(SCRATCH, "keys")
    with open(keys, "w") as file:
        file.write(f"tester {KEY} admin\n")
    os.chmod(keys, 0o600)
    servers = [Server("open", "--learn", "on", *SPECULATING), Server("keyed", "--api-key-file", keys)]
    try:
        for server in servers:
            server.wait()
        order = {
            "open": servers[0].url, "keyed": servers[1].url, "key": KEY, "keyedPid": servers[1].process.pid, "chromium": CHROMIUM, "scratch": SCRATCH,
            "screenshots": os.path.join(os.path.dirname(PROGRAM), "ui-screenshots"), "dist": os.environ.get("RUVLTRA_UI_DIST", ""),
        }
        done = subprocess.run(["node", os.path.join(ROOT, "tests", "ui", "main.mjs"), json.dumps(order)], timeout=600, env=environment(HOME=SCRATCH))
    finally:
        ends = [server.stop() for server in servers]
    for code, log in ends:
        if code != 0:
            print(f"FAILED  a server ended with {code}:\n{log}")
            return 1
    return done.returncode


if __name__ == "__main__":
    sys.exit(main())
