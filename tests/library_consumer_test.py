#!/usr/bin/env python3
"""Installs the library and its headers, then builds and runs small programs against them: with CMake's find_package, and
with pkg-config. Exit code 77 (skipped) where a tool is missing."""
import pathlib
import shutil
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parent.parent
MODEL = ROOT / "models" / "nano-q8_0.gguf"
CMAKE_PROJECT = """cmake_minimum_required(VERSION 3.25)
project(consumer LANGUAGES C CXX)
find_package(ruvltra {version} REQUIRED)
add_executable(in_c {examples}/generate.c)
target_link_libraries(in_c PRIVATE ruvltra::ruvltra)
add_executable(in_cpp {examples}/serve_many.cpp)
target_link_libraries(in_cpp PRIVATE ruvltra::ruvltra)
"""


def run(*command, **options):
    result = subprocess.run([str(part) for part in command], capture_output=True, text=True, **options)
    if result.returncode != 0:
        print(*command, result.stdout, result.stderr, sep="\n")
        raise SystemExit(1)
    return result.stdout.strip()


def check_answer(text):
    if len(text.split()) < 10:
        raise SystemExit(f"expected an answer of some words, found {text!r}")


def main():
    build = pathlib.Path(sys.argv[1]).resolve().parent
    compiler = shutil.which("g++") or shutil.which("clang++")
    if not (shutil.which("cmake") and shutil.which("pkg-config") and compiler):
        print("cmake, pkg-config or a compiler is missing")
        return 77
    if not (build / "libruvltra.a").exists():
        print("libruvltra.a was not built")
        return 77
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        prefix = folder / "prefix"
        run("cmake", "--install", build, "--prefix", prefix, "--component", "library")
        version = run("pkg-config", "--modversion", prefix / "lib/pkgconfig/ruvltra.pc")

        project = folder / "project"
        project.mkdir()
        (project / "CMakeLists.txt").write_text(CMAKE_PROJECT.format(version=version, examples=ROOT / "examples"))
        run("cmake", "-S", project, "-B", folder / "built", f"-DCMAKE_PREFIX_PATH={prefix}")
        run("cmake", "--build", folder / "built")
        check_answer(run(folder / "built/in_c", MODEL, "Tell me a story about a fox."))
        check_answer(run(folder / "built/in_cpp", MODEL, "Tell me a story about a fox.", "Who was the king?"))

        flags = run("pkg-config", "--static", "--cflags", "--libs", prefix / "lib/pkgconfig/ruvltra.pc").split()
        run("cc", ROOT / "examples/generate.c", "-o", folder / "by_hand", *flags)
        check_answer(run(folder / "by_hand", MODEL, "Tell me a story about a fox."))
    print("built with find_package and with pkg-config")
    return 0


if __name__ == "__main__":
    sys.exit(main())
