#!/usr/bin/env python3
"""Files written by `quantize` and `synth` load in llama.cpp and mean the same there.

For each type: quantise the bundled nano model, evaluate held-out tokens (4,096 for the main types, 1,024 for the rest)
teacher-forced in both engines, and compare the top token at every position. At least 97 % must agree, and wherever they differ our own distribution must
hold the two candidates within NEAR_TIE nat of each other. Without Node >= 20 or the peer's package the test is SKIPPED.
"""
import json
import pathlib
import shutil
import subprocess
import sys
import tempfile

SKIP = 77
NEAR_TIE = 0.25  # nat; int8 activations differ by about 0.03 nat per logit between engines
MIN_AGREEMENT = 0.97
N_TOKENS = {"Q8_0": 4096, "Q5_K_M": 4096, "Q4_K_M": 4096,
            "F16": 1024, "Mixed": 1024, "Q6_K": 1024, "Q4_0": 1024, "Q5_0": 1024, "Q5_1": 1024}
ROOT = pathlib.Path(__file__).resolve().parent.parent
PEERS = ROOT / "bench" / "peers"
IDS = ROOT / "tests" / "golden" / "ids4096.txt"
WINDOW = 256


def skip(reason):
    print(f"SKIP: {reason}")
    sys.exit(SKIP)


def peer_ready():
    if shutil.which("node") is None:
        skip("node is not installed")
    version = subprocess.run(["node", "--version"], capture_output=True, text=True).stdout.strip()
    if int(version.lstrip("v").split(".")[0]) < 20:
        skip(f"Node >= 20 is needed, found {version}")
    if not (PEERS / "node_modules" / "node-llama-cpp").is_dir():
        skip("node-llama-cpp is not installed (npm install in bench/peers)")


def heldout(n_tokens):
    return [int(t) for t in IDS.read_text().replace(",", " ").split()][:n_tokens]


def peer_choices(model, ids, folder):
    listed = folder / "ids.txt"
    listed.write_text(" ".join(map(str, ids)))
    out = folder / "peer.json"
    run = subprocess.run(["node", "teacher_forced.mjs", str(model), str(listed), str(out), str(WINDOW)], cwd=PEERS,
                         capture_output=True, text=True, timeout=300)
    if run.returncode != 0:
        raise SystemExit(f"FAIL: llama.cpp could not evaluate {model.name}: {run.stderr[-2000:]}")
    return json.loads(out.read_text())["positions"]


def our_logits(program, model, ids, folder):
    import numpy
    listed = folder / "window.txt"
    out = folder / "window.npy"
    rows = []
    for begin in range(0, len(ids), WINDOW):
        listed.write_text(" ".join(map(str, ids[begin:begin + WINDOW])))
        subprocess.run([program, "eval", "logits", "-m", str(model), "--tokens-file", str(listed), "-o", str(out), "--force"],
                       check=True, capture_output=True)
        rows.append(numpy.load(out))
    return numpy.concatenate(rows)


def compare(program, model, n_tokens, folder):
    import numpy
    ids = heldout(n_tokens)
    logits = our_logits(program, model, ids, folder).astype(numpy.float64)
    peer = peer_choices(model, ids, folder)
    assert len(peer) == len(logits), (len(peer), len(logits))
    ours = logits.argmax(1)
    theirs = numpy.array([int(p[0]) for p in peer])
    differ = numpy.flatnonzero(ours != theirs)
    gaps = logits[differ, ours[differ]] - logits[differ, theirs[differ]]
    return 1 - len(differ) / len(ours), float(gaps.max()) if len(gaps) else 0.0


def main():
    program = str(pathlib.Path(sys.argv[1]).resolve())
    peer_ready()
    failed = 0
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        for kind, n_tokens in N_TOKENS.items():
            model = folder / f"nano-{kind}.gguf"
            subprocess.run([program, "quantize", str(ROOT / "models" / "nano-f16.gguf"), str(model), kind], check=True,
                           capture_output=True)
            agreement, widest = compare(program, model, n_tokens, folder)
            ok = agreement >= MIN_AGREEMENT and widest <= NEAR_TIE
            failed += not ok
            print(f"{kind:7s} {n_tokens} tokens: same top token {100 * agreement:6.2f} %, widest difference {widest:.3f} nat: "
                  f"{'ok' if ok else 'FAIL'}")
        model = folder / "synth.gguf"
        subprocess.run([program, "synth", str(model), "--arch", "tiny", "--type", "Q4_K_M"], check=True, capture_output=True)
        info = subprocess.run(["node", "load_only.mjs", str(model)], cwd=PEERS, capture_output=True, text=True, timeout=120)
        ok = info.returncode == 0
        failed += not ok
        print(f"synth tiny Q4_K_M loads in llama.cpp: {'ok' if ok else 'FAIL ' + info.stderr[-500:]}")
    print(f"{len(N_TOKENS) + 1 - failed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
