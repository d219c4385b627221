"""What the tests of the command line share: the program in a clean environment, on pipes or on a terminal."""
import json
import os
import pty
import re
import select
import signal
import subprocess
import sys
import tempfile
import time
import unittest

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
PROGRAM = os.path.abspath(sys.argv[1]) if len(sys.argv) > 1 else ""
MODEL = os.path.join(ROOT, "models", "nano-q8_0.gguf")
DRAFT = os.path.join(ROOT, "models", "pico-q8_0.gguf")
# Three proposals a step whatever they gain, which is not the same on every machine.
SPECULATING = ("--draft", DRAFT, "--spec", "draft", "--lookahead", "3", "--draft-stop", "0")
STORY = "Tell me a story about a fox and a crow."
# A folder of this test program's own, gone at its end.
scratch = tempfile.TemporaryDirectory()
SCRATCH = scratch.name


def environment(**extra):
    """A clean one: no settings of the person who runs the tests."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith("RUVLTRA_") and k != "NO_COLOR"}
    kept["XDG_CONFIG_HOME"] = kept["XDG_DATA_HOME"] = SCRATCH
    kept.update(extra)
    return kept


def call(*words, stdin=b"", timeout=120, **extra):
    """Runs the program; stdin is bytes. Returns exit code, stdout and stderr as bytes."""
    done = subprocess.run([PROGRAM, *words], input=stdin, capture_output=True, timeout=timeout, env=environment(**extra))
    return done.returncode, done.stdout, done.stderr


def start(*words, extra=None, **named):
    """The program in the background, without input; extra: of its environment."""
    return subprocess.Popen([PROGRAM, *words], stdin=subprocess.DEVNULL, env=environment(**(extra or {})), **named)


class Case(unittest.TestCase):
    def ok(self, *words, **named):
        code, out, err = call(*words, **named)
        self.assertEqual(code, 0, err.decode(errors="replace"))
        return out

    def document(self, *words, **named):
        return json.loads(self.ok(*words, **named))

    def refused(self, code, pattern, *words, **named):
        """Exit code, nothing on stdout, exactly one line of the agreed shape on stderr."""
        found, out, err = call(*words, **named)
        text = err.decode(errors="replace")
        self.assertEqual(found, code, text)
        self.assertEqual(out, b"")
        self.assertRegex(text, r"\Aruvltra: error: [^\n]+\n\Z")
        self.assertRegex(text, pattern)


class Terminal:
    """The program on a pseudo-terminal of its own."""

    def __init__(self, *words, **extra):
        self.process, self.master = pty.fork()
        if self.process == 0:
            os.execve(PROGRAM, [PROGRAM, *words], environment(TERM="xterm", LC_ALL="C.UTF-8", **extra))
        self.seen = ""

    def expect(self, pattern, timeout=60):
        """Reads until the pattern appears in what came since the last match; returns that part."""
        deadline = time.monotonic() + timeout
        while True:
            match = re.search(pattern, self.seen)
            if match:
                part, self.seen = self.seen[:match.end()], self.seen[match.end():]
                return part
            ready, _, _ = select.select([self.master], [], [], max(0, deadline - time.monotonic()))
            if not ready:
                raise AssertionError(f"no {pattern!r} in {self.seen!r}")
            try:
                data = os.read(self.master, 4096)
            except OSError:
                data = b""
            if not data:
                raise AssertionError(f"ended before {pattern!r}: {self.seen!r}")
            self.seen += data.decode(errors="replace")

    def send(self, text):
        os.write(self.master, text.encode())

    def close(self, timeout=20):
        deadline = time.monotonic() + timeout
        while time.monotonic() < deadline:
            if select.select([self.master], [], [], 0)[0]:
                try:
                    os.read(self.master, 4096)
                except OSError:
                    pass
            process, status = os.waitpid(self.process, os.WNOHANG)
            if process:
                os.close(self.master)
                return os.waitstatus_to_exitcode(status)
            time.sleep(0.02)
        os.kill(self.process, signal.SIGKILL)
        raise AssertionError("did not end")


def main():
    """Runs the test cases of the program that was started. Its first argument is the ruvltra to test."""
    if not os.access(PROGRAM, os.X_OK):
        print("SKIP: the program is not built")
        sys.exit(77)
    unittest.main(argv=[sys.argv[0], *sys.argv[2:]], verbosity=1)
