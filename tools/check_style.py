#!/usr/bin/env python3
"""Limits that keep the code readable and safe: file and function length, no input parsing outside base/bytes.h,
nothing printed by the library, no banned constructs. Generated tables are exempt from the lengths."""
import pathlib
import re
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
MAX_FILE, MAX_FUNCTION = 800, 120
GENERATED = {"unicode_tables.cpp", "unicode_tables.h"}
SOURCE_FOLDERS = ("include", "src", "apps", "tests", "fuzz", "bench")
LIBRARY_RULES = [
    (re.compile(r"\bstd::(cout|cerr|clog)\b|\bprintf\s*\(|\bfprintf\s*\(|\bputs\s*\(|\bfmt::print"), "the library never prints",
     {"src/base/check.cpp"}),
    (re.compile(r"\bstd::regex\b|#include <regex>"), "std::regex recurses on its input", set()),
    (re.compile(r"\bgetenv\s*\("), "the environment is read in apps/ only", set()),
    (re.compile(r"\bassert\s*\(|\babort\s*\("), "use CHECK for bugs and Error for input",
     {"src/base/check.cpp"}),
    (re.compile(r"\.at\("), "throws on bad input", set()),
    (re.compile(r"__attribute__\(\(optimize|-ffast-math"), "changes arithmetic", set()),
]
WORDS = re.compile(r"\b(TODO|FIXME|XXX|HACK)\b")
OPENS_FUNCTION = re.compile(r"^[A-Za-z_~].*\)[^;]*\{\s*$|^ {0,2}[A-Za-z_~][^=;]*\)\s*(const|noexcept|override|\s)*\{\s*$")


def function_lengths(lines):
    """Yields (first line, length) of blocks at namespace or class depth that look like functions."""
    start = None
    indent = ""
    for number, line in enumerate(lines, 1):
        if start is None:
            if OPENS_FUNCTION.match(line) and not re.match(r"^\s*(namespace|struct|class|enum|extern|if|for|while|switch)\b", line):
                start, indent = number, re.match(r"\s*", line).group()
        elif line.rstrip() in (indent + "}", indent + "};"):
            yield start, number - start + 1
            start = None


def violations():
    for folder in SOURCE_FOLDERS:
        for path in sorted((ROOT / folder).glob("**/*")):
            if path.suffix not in (".h", ".cpp", ".hpp") or "node_modules" in path.parts:
                continue
            name = str(path.relative_to(ROOT))
            text = path.read_text()
            lines = text.splitlines()
            if path.name not in GENERATED:
                if len(lines) > MAX_FILE:
                    yield f"{name}: {len(lines)} lines, at most {MAX_FILE}"
                for start, length in function_lengths(lines):
                    if length > MAX_FUNCTION:
                        yield f"{name}:{start}: function of {length} lines, at most {MAX_FUNCTION}"
            if path.suffix in (".h", ".hpp") and "#pragma once" not in text and name != "include/ruvltra/c.h":
                yield f"{name}: #pragma once is missing"
            for number, line in enumerate(lines, 1):
                if WORDS.search(line):
                    yield f"{name}:{number}: unfinished work: {line.strip()}"
                if folder != "src" or path.stem.endswith("_test"):
                    continue
                code = line.split("//")[0]
                for pattern, reason, exempt in LIBRARY_RULES:
                    if name not in exempt and pattern.search(code):
                        yield f"{name}:{number}: {reason}: {line.strip()}"


def main():
    found = list(violations())
    for line in found:
        print(f"style: {line}", file=sys.stderr)
    print(f"style: {len(found)} violations")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
