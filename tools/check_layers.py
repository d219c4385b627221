#!/usr/bin/env python3
"""Fails on any #include that runs up or across the layers of the house (docs/ARCHITECTURE.md).

A folder of src/ may include itself and the folders listed for it below; apps/, tests/, fuzz/ and bench/ may include
everything. The data-only headers of include/ruvltra are free for all, the API headers only for those above api/.
"""
import pathlib
import re
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
BASE = ["base"]
QUANT = ["quant"] + BASE
GGUF = ["gguf"] + QUANT
OPS = ["ops", "kernels"] + GGUF
TEXT = ["text"] + GGUF
MODEL = ["model", "ops", "kernels"] + TEXT
GRAMMAR = ["grammar"] + TEXT
ALLOWED = {
    "base": BASE,
    "quant": QUANT,
    "gguf": GGUF,
    "kernels": ["kernels"] + QUANT,
    "ops": OPS,
    "text": TEXT,
    "store": ["store"] + BASE,
    "index": ["index", "kernels"] + QUANT,
    "model": MODEL,
    "grammar": GRAMMAR,
    "engine": ["engine", "grammar"] + MODEL,
    "sona": ["sona", "store", "index"] + MODEL,
    "api": ["api", "engine", "grammar", "sona", "store", "index"] + MODEL,
    "server": ["server"] + BASE,
}
DATA_HEADERS = {"error.h", "config.h", "types.h", "hooks.h", "learning.h", "routing.h"}
ABOVE_API = {"api", "server"}
INCLUDE = re.compile(r'^\s*#\s*include\s*"([^"]+)"', re.M)


def violations():
    for path in sorted(ROOT.glob("src/**/*")):
        if path.suffix not in (".h", ".cpp"):
            continue
        layer = path.relative_to(ROOT / "src").parts[0]
        if layer not in ALLOWED:
            yield f"{path.relative_to(ROOT)}: src/{layer}/ is not a layer of the house"
            continue
        for target in INCLUDE.findall(path.read_text()):
            folder, _, rest = target.partition("/")
            if folder == "ruvltra":
                if rest not in DATA_HEADERS and layer not in ABOVE_API:
                    yield f"{path.relative_to(ROOT)}: {layer}/ may not include the API header {target}"
            elif not rest:
                yield f"{path.relative_to(ROOT)}: include {target} by its folder"
            elif folder not in ALLOWED[layer]:
                yield f"{path.relative_to(ROOT)}: {layer}/ may not include {target}"
    for path in sorted(ROOT.glob("include/ruvltra/*.h")):
        for target in INCLUDE.findall(path.read_text()):
            if not target.startswith("ruvltra/"):
                yield f"{path.relative_to(ROOT)}: a public header may not include {target}"


def main():
    found = list(violations())
    for line in found:
        print(f"layers: {line}", file=sys.stderr)
    print(f"layers: {len(found)} violations")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
