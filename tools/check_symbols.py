#!/usr/bin/env python3
"""Checks what the objects of src/kernels/<isa> export: only their fill functions, and no weak symbol.

A weak symbol (an inline function or template) compiled with AVX2 flags could be the copy the linker keeps for
everyone, and then a plain machine meets an instruction it does not know. Objects of the scalar rung have the
flags of the rest of the program, so weak symbols do no harm there.

Usage: check_symbols.py BUILD_FOLDER
"""
import pathlib
import re
import subprocess
import sys

FILL = re.compile(r"^ruvltra::fill_(\w+)\(")


def symbols(path):
    """Yields (letter of nm, demangled name) of the global and weak definitions of an object file."""
    text = subprocess.run(["nm", "--defined-only", "--extern-only", "-C", path], check=True, capture_output=True,
                          text=True).stdout
    for line in text.splitlines():
        parts = line.split(maxsplit=2)
        if len(parts) == 3:
            yield parts[1], parts[2]


def faults(path, isa):
    for letter, name in symbols(path):
        if letter in "WwVvu":
            if isa != "scalar":
                yield f"weak symbol {name}"
            continue
        fill = FILL.match(name)
        if fill is None or not (fill.group(1) + "_").startswith(isa + "_"):
            yield f"exports {name}"


def main():
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    build = pathlib.Path(sys.argv[1])
    objects = sorted(build.glob("CMakeFiles/ruvltra_kernels_*.dir/src/kernels/*/*.o"))
    if not objects:
        sys.exit(f"check_symbols: expected kernel objects under {build}, found none")
    n_faults = 0
    for path in objects:
        for fault in faults(path, path.parent.name):
            print(f"{path.parent.name}/{path.name}: {fault}")
            n_faults += 1
    print(f"check_symbols: {len(objects)} objects, {n_faults} faults")
    sys.exit(1 if n_faults else 0)


if __name__ == "__main__":
    main()
