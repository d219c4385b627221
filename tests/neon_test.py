#!/usr/bin/env python3
"""The NEON rung gives the bits of the scalar rung: kernel_check for 64-bit ARM, run under qemu.

Builds kernel_check with g++-aarch64-linux-gnu beside the program given as argument and checks the formats that have
NEON kernels. The hash of the scalar results must be that of this machine's kernel_check. Without the cross compiler or
qemu-user the test is SKIPPED. `tools/dev arm` checks all formats.
"""
import pathlib
import re
import shutil
import subprocess
import sys

SKIP = 77
FORMATS = "Q4_K,Q8_0"
ROOT = pathlib.Path(__file__).resolve().parent.parent


def skip(reason):
    print(f"SKIP: {reason}")
    sys.exit(SKIP)


def run(*command):
    done = subprocess.run([str(word) for word in command], cwd=ROOT, capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"FAIL: {command[0]} ended with {done.returncode}\n{done.stdout[-4000:]}{done.stderr[-4000:]}")
    return done.stdout


def results(output):
    return re.search(r"^results ([0-9a-f]{16})$", output, re.MULTILINE).group(1)


def main():
    build = pathlib.Path(sys.argv[1]).resolve().parent
    for program, package in (("aarch64-linux-gnu-g++", "g++-aarch64-linux-gnu"), ("qemu-aarch64", "qemu-user"),
                             ("cmake", "cmake"), ("ninja", "ninja-build")):
        if shutil.which(program) is None:
            skip(f"{program} is not installed (package {package})")
    if not (build / "kernel_check").exists():
        skip("kernel_check of this machine is not built")
    cross = build / "aarch64"
    run("cmake", "-S", ROOT, "-B", cross, "-G", "Ninja", "--toolchain", ROOT / "cmake" / "aarch64.cmake",
        "-DCMAKE_BUILD_TYPE=Release", "-DRUVLTRA_WERROR=ON", "-DRUVLTRA_KERNELS_ONLY=ON")
    run("cmake", "--build", cross, "--target", "kernel_check", "-j2")
    run(sys.executable, "tools/check_symbols.py", cross)
    foreign = run("qemu-aarch64", "-L", "/usr/aarch64-linux-gnu", cross / "kernel_check", "--formats", FORMATS)
    print(foreign, end="")
    if not re.search(r"^neon: [1-9]\d* checks, 0 failures", foreign, re.MULTILINE):
        sys.exit("FAIL: expected checks of the NEON rung, found none")
    here = results(run(build / "kernel_check", "--formats", FORMATS))
    if results(foreign) != here:
        sys.exit(f"FAIL: expected the results {here} of this machine, found {results(foreign)}")


if __name__ == "__main__":
    main()
