#!/usr/bin/python3
"""The committed ui/dist is what `npm run build` makes of ui/src, small, and refers to no other host.

Without Node >= 20 or the packages of ui/package-lock.json (`tools/dev test` installs them) the comparison is SKIPPED.
"""
import gzip
import json
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

UI = pathlib.Path(__file__).resolve().parent.parent / "ui"
FILES = ["dist/app.js", "dist/app.css", "dist/index.html", "LICENSES.md"]
MAX_GZIP = 300_000
# What would load something, or the policy would refuse. Links and texts of messages may say http.
REFUSED = {
    "dist/app.css": [r"url\(\s*['\"]?(?!data:)", r"@import"],
    "dist/app.js": [r"sourceMappingURL", r"\bimportScripts\b", r"\bnew Worker\b", r"\beval\(", r"\bnew Function\b", r"\bimport\("],
    "dist/index.html": [r"\ssrc=\"(?!/ui/)", r"\shref=\"(?!/ui/|data:)", r"\sstyle=", r"\son\w+=", r"<style", r"<script(?! src=)"],
}


def skip(reason):
    print(f"SKIP: {reason}")
    sys.exit(77)


def check_committed():
    size = sum(len(gzip.compress((UI / name).read_bytes(), 9)) for name in FILES[:3])
    assert size < MAX_GZIP, f"dist: at most {MAX_GZIP} bytes with gzip, found {size}"
    for name, patterns in REFUSED.items():
        text = (UI / name).read_text()
        for pattern in patterns:
            found = re.search(pattern, text)
            assert not found, f"{name}: {pattern} at {found.start()}: {text[max(0, found.start() - 40):found.end() + 40]!r}"
    lock = json.loads((UI / "package-lock.json").read_text())
    assert not any("resolved" in package for package in lock["packages"].values()), "package-lock.json names a registry"
    return size


def check_rebuilt():
    if shutil.which("node") is None:
        skip("node is not installed")
    version = subprocess.run(["node", "--version"], capture_output=True, text=True, check=True).stdout.strip()
    if int(version.lstrip("v").split(".")[0]) < 20:
        skip(f"needs Node 20 or newer, found {version}")
    wanted = json.loads((UI / "package.json").read_text())["devDependencies"]
    for name, exact in wanted.items():
        manifest = UI / "node_modules" / name / "package.json"
        if not manifest.exists():
            skip(f"{name} is not installed in ui/ (tools/dev test installs it)")
        found = json.loads(manifest.read_text())["version"]
        if found != exact:
            skip(f"{name}: ui/package.json wants {exact}, {found} is installed")
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run(["node", "build.mjs", "--out", folder], cwd=UI, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stderr
        for name in FILES:
            assert (pathlib.Path(folder) / name).read_bytes() == (UI / name).read_bytes(), \
                f"ui/{name} is not what ui/src makes: run `npm run build` in ui/ and commit"


if __name__ == "__main__":
    compressed = check_committed()
    check_rebuilt()
    print(f"ui/dist is reproduced byte for byte; {compressed} bytes with gzip")
