#!/usr/bin/env python3
"""Installs the Debian packages in a fresh Debian 12 root and uses them there without a network:

    tools/package_check.py BUILD_FOLDER [--boot] [--keep] [--root FOLDER]

Needs root and debootstrap; packages come from where this machine's own apt gets them. --root uses (and keeps) an existing
root. --boot starts systemd in it, too, and the service with it (needs systemd-container, and port 8080 free). Prints what was
done and what came of it; the exit code is 0 if all of it held."""
import argparse
import fcntl
import glob
import http.client
import json
import os
import re
import shutil
import socket
import struct
import subprocess
import sys
import tempfile
import time


def say(text):
    print(text, flush=True)


def run(*words, **named):
    done = subprocess.run(words, capture_output=True, text=True, **named)
    if done.returncode != 0:
        sys.exit(f"{' '.join(words)}: exit code {done.returncode}\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
    return done.stdout


def expect(condition, what):
    say(("ok    " if condition else "FAIL  ") + what)
    if not condition:
        sys.exit(1)


def mirror():
    """Where this machine's apt has bookworm's main from."""
    targets = run("apt-get", "indextargets", "--format", "$(REPO_URI) $(RELEASE) $(COMPONENT)", "Created-By: Packages")
    for line in targets.splitlines():
        uri, release, component = line.split(" ")
        if release == "bookworm" and component == "main":
            return uri
    sys.exit("apt-get indextargets: expected a source of bookworm main, found none")


def in_root(root, *words, user=None):
    """The words of a command in the root, as a user of it."""
    return ["chroot", *(["--userspec=" + user] if user else []), root, "env", "-i", "PATH=/usr/sbin:/usr/bin:/sbin:/bin",
            "HOME=/tmp", "LC_ALL=C.UTF-8", "DEBIAN_FRONTEND=noninteractive", *words]


def loopback_up():
    """A new network namespace has its loopback device down."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        fcntl.ioctl(control, 0x8914, struct.pack("16sh", b"lo", 0x1 | 0x40))  # SIOCSIFFLAGS: IFF_UP, IFF_RUNNING


def ask(port, method, path, body=None):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    connection.request(method, path, None if body is None else json.dumps(body))
    answer = connection.getresponse()
    return answer.status, answer.read()


def offline(root):
    """In a namespace without any network but its own loopback."""
    devices = [line.split(":")[0].strip() for line in open("/proc/self/net/dev").readlines()[2:]]
    expect(devices == ["lo"], f"no network: the only device is {', '.join(devices)}")
    prompt = "Tell me a story about a fox and a crow."
    begin = time.monotonic()
    text = run(*in_root(root, "ruvltra", "run", "-n", "32", "--seed", "1", prompt, user="nobody:nogroup"), stdin=subprocess.DEVNULL)
    say(f'      ruvltra run -n 32 --seed 1 "{prompt}"   ({time.monotonic() - begin:.2f} s)\n      {text.strip()!r}')
    expect(len(text.split()) >= 10, "ruvltra run answers, as nobody")
    again = run(*in_root(root, "ruvltra", "run", "-n", "32", "--seed", "1", prompt, user="nobody:nogroup"), stdin=subprocess.DEVNULL)
    expect(again == text, "and says the same again")
    doctor = json.loads(run(*in_root(root, "ruvltra", "doctor", "--json", user="nobody:nogroup")))
    expect(doctor["ok"], "ruvltra doctor finds nothing that blocks")

    loopback_up()
    # As the unit calls it, but for systemd.
    server = subprocess.Popen(in_root(root, "ruvltra", "serve", "--data-dir", "/tmp/ruvltra-data", "--no-progress", user="nobody:nogroup"),
                              stderr=subprocess.PIPE, text=True)
    try:
        first = server.stderr.readline().strip()
        say(f"      {first}")
        port = int(re.search(r":(\d+)", first).group(1))
        status, body = ask(port, "POST", "/v1/chat/completions", {"messages": [{"role": "user", "content": prompt}], "max_tokens": 24})
        answer = json.loads(body)
        say(f"      POST /v1/chat/completions: {status} {answer['choices'][0]['message']['content']!r}")
        expect(status == 200 and len(answer["choices"][0]["message"]["content"]) > 20, "ruvltra serve answers a chat")
        status, body = ask(port, "GET", "/")
        expect(status == 200 and b"<html" in body, "and has its web page")
        end = time.monotonic() + 120
        while not json.loads(ask(port, "GET", "/health")[1])["sona"] and time.monotonic() < end:
            time.sleep(0.2)
        status, body = ask(port, "POST", "/v1/route", {"task": "Fix the SQL injection in the login form"})
        expect(status == 200, f"and routes a task: {json.loads(body).get('primaryAgent', {}).get('type')}")
        server.terminate()
        expect(server.wait(timeout=60) == 0, "and ends with 0 after SIGTERM")
    finally:
        server.kill()


class Booted:
    """systemd of the root in a container that shares this machine's network."""

    def __init__(self, root):
        self.log = tempfile.TemporaryFile()
        self.container = subprocess.Popen(["systemd-nspawn", "-q", "--register=no", "--keep-unit", "--boot", "-D", root],
                                          stdin=subprocess.DEVNULL, stdout=self.log, stderr=subprocess.STDOUT)

    def do(self, *words, may_fail=False):
        pids = open(f"/proc/{self.container.pid}/task/{self.container.pid}/children").read().split()
        done = subprocess.run(["nsenter", "-t", pids[0], "-m", "-u", "-i", "-p", *words], capture_output=True, text=True)
        if done.returncode != 0 and not may_fail:
            sys.exit(f"{' '.join(words)}: {done.stderr}")
        return done.stdout.strip()

    def show(self, name):
        return self.do("systemctl", "show", "ruvltra", "-p", name, "--value", may_fail=True)

    @staticmethod
    def wait(condition, seconds=120):
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            try:
                if condition():
                    return True
            except OSError:
                pass
            time.sleep(0.5)
        return False

    def end(self):
        self.container.terminate()
        self.container.wait(timeout=60)


def boot(root):
    """The service as systemd runs it."""
    run(*in_root(root, "apt-get", "install", "-q", "-y", "--no-install-recommends", "systemd", "systemd-sysv"))
    run(*in_root(root, "systemctl", "enable", "ruvltra"))
    folder = os.path.join(root, "etc/systemd/system/ruvltra.service.d")
    os.makedirs(folder, exist_ok=True)
    with open(os.path.join(folder, "try.conf"), "w") as file:
        file.write("[Service]\nLoadCredential=keys:/etc/ruvltra/keys\nEnvironment=RUVLTRA_API_KEY_FILE=%d/keys\n"
                   "Environment=RUVLTRA_LEARN=on\nWatchdogSec=6\n")
    keys = os.path.join(root, "etc/ruvltra/keys")
    with open(keys, "w") as file:
        file.write("ana secret-ana admin\n")
    os.chmod(keys, 0o600)
    settings = os.path.join(root, "etc/ruvltra/config.toml")
    kept = open(settings).read()
    machine = Booted(root)
    try:
        expect(machine.wait(lambda: ask(8080, "GET", "/ready")[0] == 200), "booted; the service answers")
        expect(machine.show("ActiveState") == "active", f"systemd was told: {machine.show('StatusText')}")
        expect(ask(8080, "GET", "/v1/models")[0] == 401, "with the keys that systemd handed over")
        expect(machine.wait(lambda: json.loads(ask(8080, "GET", "/health")[1])["sona"]), "the learning system has its folder")
        pid = machine.show("MainPID")
        status = machine.do("cat", f"/proc/{pid}/status")
        expect("Seccomp:\t2" in status and "NoNewPrivs:\t1" in status and "CapEff:\t0000000000000000" in status,
               "system calls are filtered, there are no capabilities and no way to new ones")
        machine.do("sh", "-c", f"kill -STOP {pid}")
        expect(machine.wait(lambda: machine.show("NRestarts") == "1" and ask(8080, "GET", "/ready")[0] == 200),
               "stopped (SIGSTOP), it is started again by the watchdog")
        machine.do("systemctl", "stop", "ruvltra")
        ended = machine.show("Result"), machine.show("ExecMainStatus")
        expect(ended == ("success", "0"), f"systemctl stop: ends with {' '.join(ended)}")
        with open(settings, "a") as file:
            file.write("prot = 1\n")
        machine.do("systemctl", "start", "ruvltra", may_fail=True)
        expect((machine.show("ActiveState"), machine.show("ExecMainStatus")) == ("failed", "2"),
               "wrong settings: fails with 2 and is not started again")
        say("      " + machine.do("journalctl", "-u", "ruvltra", "-g", "error", "-o", "cat", "--no-pager"))
    finally:
        machine.end()
        with open(settings, "w") as file:
            file.write(kept)
        os.remove(keys)
        shutil.rmtree(folder)


def check(root, packages, boots):
    deb = next(p for p in packages if os.path.basename(p).startswith("ruvltra_"))
    dev = next(p for p in packages if os.path.basename(p).startswith("ruvltra-dev_"))
    for package in (deb, dev):
        shutil.copy(package, os.path.join(root, "tmp"))
    say(run("dpkg-deb", "--info", deb).rstrip())
    say(f"\n{os.path.getsize(deb):,} bytes, {os.path.getsize(dev):,} of ruvltra-dev")
    run(*in_root(root, "apt-get", "update", "-q"))
    say(f"\napt install ./{os.path.basename(deb)}")
    out = run(*in_root(root, "apt-get", "install", "-q", "-y", "--no-install-recommends", "/tmp/" + os.path.basename(deb)))
    say("      " + next(line for line in out.splitlines() if "newly installed" in line))
    listed = run(*in_root(root, "dpkg", "-L", "ruvltra")).split()
    for path in ("/usr/bin/ruvltra", "/usr/share/ruvltra/models/nano-q8_0.gguf", "/usr/share/man/man1/ruvltra.1.gz",
                 "/usr/share/bash-completion/completions/ruvltra", "/usr/share/zsh/vendor-completions/_ruvltra",
                 "/usr/share/fish/vendor_completions.d/ruvltra.fish", "/usr/lib/systemd/system/ruvltra.service",
                 "/etc/ruvltra/config.toml", "/usr/share/doc/ruvltra/copyright", "/usr/share/doc/ruvltra/docs/server.md"):
        # minbase leaves out nothing; some images tell dpkg to.
        expect(path in listed and os.path.exists(root + path), path)
    conffiles = run(*in_root(root, "dpkg-query", "-W", "-f", "${Conffiles}", "ruvltra"))
    expect("/etc/ruvltra/config.toml" in conffiles, "/etc/ruvltra/config.toml is kept on upgrades")
    shown = run(*in_root(root, "ruvltra", "serve", "--print-config"))
    expect("port = 8080  # /etc/ruvltra/config.toml [serve]" in shown, "and is what ruvltra reads")
    owners = {os.lstat(root + path).st_uid for path in listed if os.path.lexists(root + path)}
    expect(owners == {0}, "every file belongs to root")

    say("\nwithout a network (unshare --net)")
    sys.stdout.flush()
    if subprocess.run(["unshare", "--net", sys.executable, os.path.abspath(__file__), "--offline", root]).returncode != 0:
        sys.exit(1)

    if boots:
        say("\nwith systemd")
        boot(root)

    say("\nruvltra-dev")
    run(*in_root(root, "apt-get", "install", "-q", "-y", "--no-install-recommends", "/tmp/" + os.path.basename(dev), "g++", "pkg-config"))
    with open(os.path.join(root, "tmp/program.c"), "w") as file:
        file.write(open(os.path.join(os.path.dirname(__file__), "../examples/generate.c")).read())
    run(*in_root(root, "sh", "-c", "cd /tmp && cc program.c -o program $(pkg-config --static --cflags --libs ruvltra)"))
    text = run(*in_root(root, "/tmp/program", "/usr/share/ruvltra/models/nano-q8_0.gguf", "Tell me a story."))
    expect(len(text.split()) > 10, "a program in C is built against it and answers")

    say("\nremoval")
    with open(os.path.join(root, "etc/ruvltra/config.toml"), "a") as file:
        file.write("# changed\n")
    os.makedirs(os.path.join(root, "var/lib/private/ruvltra"), exist_ok=True)
    run(*in_root(root, "apt-get", "remove", "-q", "-y", "ruvltra"))
    expect(not os.path.exists(root + "/usr/bin/ruvltra"), "apt remove takes the program")
    expect(os.path.exists(root + "/etc/ruvltra/config.toml") and os.path.exists(root + "/var/lib/private/ruvltra"),
           "and keeps settings and what was learned")
    run(*in_root(root, "apt-get", "purge", "-q", "-y", "ruvltra", "ruvltra-dev"))
    left = [path for path in listed if "ruvltra" in path and os.path.lexists(root + path)]
    expect(left == [] and not os.path.exists(root + "/var/lib/private/ruvltra"), f"apt purge leaves nothing: {left}")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("build", nargs="?")
    parser.add_argument("--root")
    parser.add_argument("--keep", action="store_true")
    parser.add_argument("--boot", action="store_true")
    parser.add_argument("--offline", metavar="ROOT", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.offline:
        return offline(arguments.offline)
    if os.geteuid() != 0 or not shutil.which("debootstrap"):
        sys.exit("needs root and the package debootstrap")
    packages = glob.glob(os.path.join(arguments.build, "ruvltra*_*.deb"))
    if len(packages) != 2:
        sys.exit(f"expected two packages in {arguments.build} (make package), found {packages}")
    root = arguments.root or tempfile.mkdtemp(prefix="ruvltra-root-")
    os.makedirs(root, exist_ok=True)
    os.chmod(root, 0o755)  # it becomes the / of everybody
    try:
        if not os.path.exists(os.path.join(root, "usr/bin/dpkg")):
            say("debootstrap --variant=minbase bookworm")
            run("debootstrap", "--variant=minbase", "bookworm", root, mirror())
        check(root, packages, arguments.boot)
    finally:
        if not (arguments.root or arguments.keep):
            shutil.rmtree(root)
    say("\nall of it held")


if __name__ == "__main__":
    main()
