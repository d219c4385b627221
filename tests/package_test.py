#!/usr/bin/env python3
"""What the Debian package carries (contrib/): the service, the settings, the man page, the completions. Builds nothing;
`tools/dev package-check` builds the package and installs it."""
import functools
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import unittest
import urllib.request

from cli_harness import PROGRAM, ROOT, SCRATCH, Case, environment, main

CONTRIB = os.path.join(ROOT, "contrib")
UNIT = os.path.join(CONTRIB, "ruvltra.service")
CONFIG = os.path.join(CONTRIB, "config.toml")


def read(path):
    with open(path) as file:
        return file.read()


@functools.lru_cache
def help_of(*words):
    return subprocess.run([PROGRAM, *words, "--help"], capture_output=True, text=True, check=True, env=environment()).stdout


def verbs():
    return re.findall(r"(?m)^  ([a-z]+) ", help_of().split("Verbs:")[1])


def options_of(verb):
    """Long options as its help lists them: the names before the first blank of a line that begins with a dash."""
    named = re.findall(r"(?m)^  ((?:-\w,)?--[a-z-]+)", help_of(verb))
    named += re.findall(r"(?m)^  FILE,-m,(--model)", help_of(verb))  # show
    return {name.split(",")[-1] for name in named}


class Completions(Case):
    @functools.lru_cache
    def script(self, shell):
        return self.ok("completions", shell).decode()

    def complete(self, *words):
        """What bash offers for the last of the words."""
        script = self.script("bash") + (
            f'COMP_WORDS=("$@"); COMP_CWORD={len(words) - 1}; _ruvltra; printf "%s\\n" "${{COMPREPLY[@]}}"\n')
        done = subprocess.run(["bash", "--norc", "-c", script, "bash", *words], capture_output=True, text=True, cwd=CONTRIB)
        self.assertEqual(done.stderr, "")
        return set(done.stdout.split())

    def test_verbs(self):
        self.assertEqual(self.complete("ruvltra", ""), set(verbs()) | {"--help", "--version"})
        self.assertEqual(self.complete("ruvltra", "se"), {"serve"})

    def test_options_of_every_verb(self):
        for verb in verbs():
            offered = self.complete("ruvltra", verb, "--")
            self.assertEqual(offered, options_of(verb), verb)
            self.assertGreaterEqual(len(offered), 3, verb)

    def test_values(self):
        self.assertEqual(self.complete("ruvltra", "serve", "--profile", ""), {"base", "coder", "agent"})
        self.assertEqual(self.complete("ruvltra", "serve", "--profile", "=", "co"), {"coder"})
        self.assertEqual(self.complete("ruvltra", "run", "--kv-type", "q"), {"q8_0"})
        self.assertEqual(self.complete("ruvltra", "completions", ""), {"bash", "zsh", "fish"})
        self.assertIn("rollback", self.complete("ruvltra", "sona", ""))
        self.assertEqual(self.complete("ruvltra", "serve", "--data-dir", "deb"), {"debian"})
        self.assertEqual(self.complete("ruvltra", "serve", "--port", ""), set())

    def test_other_shells_name_the_same(self):
        for shell, form in (("zsh", "{name}"), ("fish", "-l {bare} ")):
            script = self.script(shell)
            for verb in verbs():
                part = (script.split(f"    {verb})\n")[1].split(";;")[0] if shell == "zsh" else
                        "\n".join(line for line in script.split("\n") if f"__ruvltra_verb {verb}'" in line))
                for name in options_of(verb):
                    self.assertIn(form.format(name=name, bare=name[2:]), part + " ", (shell, verb))
            if shutil.which(shell):
                check = subprocess.run([shell, "-n"], input=script, capture_output=True, text=True)
                self.assertEqual((check.returncode, check.stderr), (0, ""), shell)
        self.refused(2, "expected one of bash, zsh, fish", "completions", "tcsh")


class ManPage(Case):
    def test_says_what_the_program_says(self):
        made = subprocess.run([sys.executable, os.path.join(ROOT, "tools/make_man.py"), PROGRAM], capture_output=True,
                              text=True, check=True, env=environment()).stdout
        page = read(os.path.join(CONTRIB, "ruvltra.1"))
        self.assertEqual(made, page, "run: tools/make_man.py build/ruvltra > contrib/ruvltra.1")
        for verb in verbs():
            section = page.split(f".SH RUVLTRA {verb.upper()}\n")[1].split("\n.SH ")[0]
            for name in options_of(verb) - {"--help", "--config", "--print-config"}:
                self.assertIn(name.replace("-", "\\-"), section, verb)

    def test_is_well_formed(self):
        if not shutil.which("man"):
            self.skipTest("man is not installed")
        done = subprocess.run(["man", "--warnings", "-l", os.path.join(CONTRIB, "ruvltra.1")], capture_output=True, text=True,
                              env=dict(environment(), MANWIDTH="100", LC_ALL="C.UTF-8", PAGER="cat"))
        self.assertEqual(done.stderr, "")
        self.assertIn("RUVLTRA SERVE", done.stdout)


class Settings(Case):
    def test_default_file(self):
        shown = self.ok("serve", "--config", CONFIG, "--print-config").decode()
        self.assertIn(f"queue_timeout = 60  # {CONFIG} [serve]", shown)
        for verb in verbs():
            if verb != "completions":
                self.ok(verb, "--config", CONFIG, "--print-config")

    def test_what_is_commented_out_would_do(self):
        path = os.path.join(SCRATCH, "uncommented.toml")
        text, n = re.subn(r"(?m)^# (\w+ = )", r"\1", read(CONFIG))
        self.assertGreater(n, 8)
        with open(path, "w") as file:
            file.write(text)
        shown = self.ok("serve", "--config", path, "--print-config").decode()
        self.assertIn('alias = ["gpt-4o-mini", "*"]', shown)
        self.assertIn('api_key_file = "/etc/ruvltra/keys"', shown)
        self.assertIn("threads = 8", shown)


class Service(Case):
    def test_unit_is_valid(self):
        if not shutil.which("systemd-analyze"):
            self.skipTest("systemd-analyze is not installed")
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "ruvltra.service")
            with open(path, "w") as file:
                file.write(read(UNIT).replace("/usr/bin/ruvltra", PROGRAM))
            done = subprocess.run(["systemd-analyze", "verify", "--man=no", path], capture_output=True, text=True)
            self.assertEqual((done.returncode, done.stderr), (0, ""))
            done = subprocess.run(["systemd-analyze", "security", "--offline=yes", "--threshold=20", "--no-pager", path],
                                  capture_output=True, text=True)
            self.assertEqual(done.returncode, 0, done.stdout[-300:])  # exposure 2.0 of 10 at most

    def test_unit_calls_what_exists(self):
        words = re.search(r"(?m)^ExecStart=/usr/bin/ruvltra (\w+) (.*)$", read(UNIT))
        named = set(re.findall(r"--[a-z-]+", words.group(2)))
        self.assertGreaterEqual(len(named), 1)
        self.assertLessEqual(named, options_of(words.group(1)))

    def notified(self, address):
        """Starts the server as systemd would; gives its messages in order, its exit code and what /ready said."""
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        listener.bind("\0" + address[1:] if address.startswith("@") else address)
        listener.settimeout(60)
        log = os.path.join(SCRATCH, "notify.log")
        with open(log, "w") as out:
            server = subprocess.Popen(
                [PROGRAM, "serve", "--port", "0", "--no-progress", "--data-dir", os.path.join(SCRATCH, "notify")],
                stdin=subprocess.DEVNULL, stderr=out, env=environment(NOTIFY_SOCKET=address, WATCHDOG_USEC="400000"))
        try:
            messages = [listener.recv(4096).decode()]
            url = re.search(r"http://[\d.:]+", read(log)).group(0)
            ready = urllib.request.urlopen(url + "/ready", timeout=20).status
            begin = time.monotonic()
            messages += [listener.recv(4096).decode() for _ in range(3)]
            waited = time.monotonic() - begin
            server.send_signal(signal.SIGTERM)
            while not messages[-1].startswith("STOPPING"):
                messages.append(listener.recv(4096).decode())
            messages.append(listener.recv(4096).decode())
            return messages, server.wait(timeout=60), ready, waited
        finally:
            server.kill()
            server.wait()
            listener.close()

    def test_tells_systemd(self):
        for address in (os.path.join(SCRATCH, "notify.socket"), f"@ruvltra-test-{os.getpid()}"):
            messages, code, ready, waited = self.notified(address)
            self.assertIn("READY=1", messages[0].split("\n"))
            self.assertEqual(ready, 200)  # what was announced was true
            self.assertEqual(messages[1:4], ["WATCHDOG=1"] * 3)
            self.assertGreater(waited, 0.3)  # signs of life come by the clock, not at once
            self.assertEqual(messages[-2:], ["STOPPING=1", "WATCHDOG=1"])  # a slow end is no hang
            self.assertEqual(code, 0)


if __name__ == "__main__":
    main()
