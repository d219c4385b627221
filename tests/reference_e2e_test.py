#!/usr/bin/env python3
"""The program's logits against the independent NumPy reference (tests/reference/qwen2_reference.py).

1. The gate of tests/golden/README.md: mean KL on 16 windows of 256 held-out tokens, F16 KV cache.
2. Small random models of other shapes and of every tensor type: NMSE of the exact and of the int8 path, equal bits
   from every instruction set.

Usage: reference_e2e_test.py PROGRAM
"""
import functools
import os
import struct
import subprocess
import sys
import tempfile

try:
    import numpy as np
except ImportError:
    print("SKIP: python3-numpy is not installed")
    sys.exit(77)

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path.insert(0, os.path.join(ROOT, "tests", "reference"))
import qwen2_reference as reference  # noqa: E402

PROGRAM = sys.argv[1]
failures = []


def check(ok, what):
    if not ok:
        failures.append(what)
        print(f"FAIL: {what}")


def engine_logits(model, ids, folder, *flags, isa=None):
    tokens = os.path.join(folder, "tokens.txt")
    out = os.path.join(folder, "logits.npy")
    with open(tokens, "w", encoding="ascii") as f:
        f.write("\n".join(str(i) for i in ids))
    env = dict(os.environ)
    if isa:
        env["RUVLTRA_ISA"] = isa
    subprocess.run([PROGRAM, "eval", "logits", "-m", model, "--tokens-file", tokens, "-o", out, "--force",
                    "--no-progress", *flags], check=True, env=env)
    return np.load(out)


def log_softmax(x):
    x = x.astype(np.float64)
    x = x - x.max(-1, keepdims=True)
    return x - np.log(np.exp(x).sum(-1, keepdims=True))


def nmse(a, b):
    a, b = a.astype(np.float64), b.astype(np.float64)
    return ((a - b) ** 2).sum() / (b ** 2).sum()


# --- 1. The gate

GATE = [("models/nano-f16.gguf", 1e-6), ("tests/golden/nano-Q8_0.gguf", 1.15 * 1.67e-4),
        ("tests/golden/nano-Q5_K_M.gguf", 1.15 * 4.86e-4), ("tests/golden/nano-Q4_K_M.gguf", 1.15 * 4.81e-4)]


def gate(folder):
    with open(os.path.join(ROOT, "tests/golden/ids4096.txt"), encoding="ascii") as f:
        windows = np.array([int(i) for i in f.read().replace(",", " ").split()]).reshape(16, 256)
    print(f"{'file':34}{'mean KL':>10}{'limit':>10}{'same top-1':>12}{'NLL':>9}{'reference NLL':>15}")
    for path, limit in GATE:
        model = os.path.join(ROOT, path)
        g = reference.Gguf(model)
        g.get = functools.lru_cache(maxsize=None)(g.get)  # decode each tensor once, not once per window
        kl, same, nll, reference_nll = [], [], [], []
        for ids in windows:
            p = log_softmax(reference.forward(g, ids))
            q = log_softmax(engine_logits(model, ids, folder))
            kl.append((np.exp(p) * (p - q)).sum(-1))
            same.append(p.argmax(-1) == q.argmax(-1))
            nll.append(-q[np.arange(255), ids[1:]])
            reference_nll.append(-p[np.arange(255), ids[1:]])
        mean_kl = np.mean(kl)
        print(f"{path:34}{mean_kl:10.2e}{limit:10.2e}{np.mean(same):12.4f}{np.mean(nll):9.4f}"
              f"{np.mean(reference_nll):15.4f}")
        check(mean_kl <= limit, f"{path}: mean KL {mean_kl:.3e} > {limit:.3e}")


# --- 2. Other shapes. Quantised tensors are random blocks, scaled to the spread of trained weights.

IDS = {name: i for i, (name, _, _) in reference.GT.items()}


def quantised(rng, kind, n_rows, k, spread):
    """Bytes of an (n_rows, k) tensor of random weights with about this standard deviation."""
    name, block, n_bytes = reference.GT[IDS[kind]]
    if block == 1:
        values = (rng.standard_normal((n_rows, k)) * spread).astype(np.float32)
        if kind == "F32":
            return values.tobytes()
        if kind == "F16":
            return values.astype("<f2").tobytes()
        return (values.view(np.uint32) >> 16).astype("<u2").tobytes()
    raw = rng.integers(0, 256, (n_rows * k // block, n_bytes), dtype=np.uint8)
    # Offsets of the f16 scale and of the f16 minimum, and the minimum that centres the weights.
    d_at = {"Q6_K": 208}.get(kind, 0)
    centre = {"Q5_1": -15.5, "Q4_K": 7.5, "Q5_K": 15.5}.get(kind)

    def set_scale(d):
        raw[:, d_at:d_at + 2] = np.asarray(d, "<f2").reshape(-1, 1).view(np.uint8).reshape(-1, 2)
        if centre is not None:
            raw[:, 2:4] = (np.asarray(d, "<f4") * centre).astype("<f2").reshape(-1, 1).view(np.uint8).reshape(-1, 2)

    set_scale(np.full(len(raw), 0.01))
    d = 0.01 * spread / reference.dequant(raw.reshape(-1), IDS[kind], n_rows * k).std()
    set_scale(d * rng.uniform(0.7, 1.3, len(raw)))
    return raw.tobytes()


def text(s):
    return struct.pack("<Q", len(s)) + s.encode()


def write_gguf(path, metadata, tensors):
    """tensors: name -> (kind, dims fastest first, bytes)."""
    head = b"GGUF" + struct.pack("<IQQ", 3, len(tensors), len(metadata))
    for key, value in metadata.items():
        if isinstance(value, str):
            head += text(key) + struct.pack("<I", reference.T_STR) + text(value)
        elif isinstance(value, float):
            head += text(key) + struct.pack("<If", reference.T_F32, value)
        else:
            head += text(key) + struct.pack("<II", reference.T_U32, value)
    offset, body = 0, b""
    for name, (kind, dims, data) in tensors.items():
        head += text(name) + struct.pack("<I", len(dims)) + struct.pack(f"<{len(dims)}Q", *dims)
        head += struct.pack("<IQ", IDS[kind], offset)
        body += data + bytes(-len(data) % 32)
        offset = len(body)
    with open(path, "wb") as f:
        f.write(head + bytes(-len(head) % 32) + body)


def random_model(path, rng, s):
    """s: the shape, and the types of the tensors in "types" (default "F32")."""
    types = s.get("types", {})
    kind_of = lambda name: types.get(name, types.get("*", "F32"))
    tensors = {}

    def matrix(name, n_rows, k, layer=""):
        tensors[layer + name + ".weight"] = (
            kind_of(name), (k, n_rows), quantised(rng, kind_of(name), n_rows, k, k ** -0.5))

    def vector(name, values):
        tensors[name] = ("F32", (len(values),), values.astype("<f4").tobytes())

    d, q, kv, f = s["d_model"], s["n_heads"] * s["d_head"], s["n_kv_heads"] * s["d_head"], s["d_ff"]
    matrix("token_embd", s["n_vocab"], d)
    for i in range(s["n_layers"]):
        b = f"blk.{i}."
        vector(b + "attn_norm.weight", rng.uniform(0.5, 1.5, d))
        matrix("attn_q", q, d, b)
        matrix("attn_k", kv, d, b)
        matrix("attn_v", kv, d, b)
        for name, n in (("q", q), ("k", kv), ("v", kv)):
            vector(b + f"attn_{name}.bias", rng.standard_normal(n) * 0.3)
        matrix("attn_output", d, q, b)
        vector(b + "ffn_norm.weight", rng.uniform(0.5, 1.5, d))
        matrix("ffn_gate", f, d, b)
        matrix("ffn_up", f, d, b)
        matrix("ffn_down", d, f, b)
    vector("output_norm.weight", rng.uniform(0.5, 1.5, d))
    if not s["tied"]:
        matrix("output", s["n_vocab"], d)
    metadata = {
        "general.architecture": "qwen2", "qwen2.block_count": s["n_layers"], "qwen2.context_length": 2048,
        "qwen2.embedding_length": d, "qwen2.feed_forward_length": f, "qwen2.attention.head_count": s["n_heads"],
        "qwen2.attention.head_count_kv": s["n_kv_heads"], "qwen2.attention.layer_norm_rms_epsilon": 1e-6,
        "qwen2.rope.freq_base": s["theta"]}
    if s["d_head"] * s["n_heads"] != d:
        metadata["qwen2.attention.key_length"] = s["d_head"]
        metadata["qwen2.attention.value_length"] = s["d_head"]
    write_gguf(path, metadata, tensors)


def shape(n_layers, d_model, n_heads, n_kv_heads, d_head, d_ff, n_vocab, tied, theta, n_tokens, **types):
    return dict(n_layers=n_layers, d_model=d_model, n_heads=n_heads, n_kv_heads=n_kv_heads, d_head=d_head, d_ff=d_ff,
                n_vocab=n_vocab, tied=tied, theta=theta, n_tokens=n_tokens,
                types={key.replace("any", "*"): kind for key, kind in types.items()})


SHAPES = {
    "7 heads of 64, 448 wide, Q5_0/Q8_0/F16": shape(
        2, 448, 7, 1, 64, 608, 515, False, 1e4, 150, any="Q5_0", output="Q8_0", token_embd="F16", ffn_up="Q8_0"),
    "14/2 heads of 64, 896 wide, as a 0.5B Q4_K_M": shape(
        2, 896, 14, 2, 64, 1280, 1003, True, 1e6, 90, any="Q5_0", attn_v="Q8_0", token_embd="Q8_0", ffn_down="Q6_K"),
    "K-quants, 4/4 heads of 128 in 256": shape(
        2, 256, 4, 4, 128, 768, 1001, False, 1e6, 130, any="Q4_K", attn_v="Q6_K", ffn_down="Q6_K", ffn_gate="Q5_K",
        output="Q6_K", token_embd="Q5_K"),
    "8 query heads per KV head, 650 tokens, F16": shape(2, 256, 16, 2, 32, 512, 301, True, 1e4, 650, any="F16"),
    "BF16, odd rows": shape(3, 96, 6, 3, 16, 203, 777, False, 1e5, 70, any="BF16"),
    "F32, heads of 6": shape(2, 60, 10, 5, 6, 77, 131, True, 1e6, 129, any="F32"),
    "Q4_0 and Q5_1": shape(2, 320, 5, 5, 64, 416, 130, False, 1e6, 66, any="Q4_0", ffn_down="Q5_1", attn_q="Q5_1",
                          output="Q5_1"),
    "one head, one layer": shape(1, 64, 1, 1, 64, 96, 33, True, 1e6, 65, any="Q8_0"),
}


def other_shapes(folder):
    print(f"\n{'shape':46}{'exact NMSE':>12}{'int8 NMSE':>12}")
    for index, (name, s) in enumerate(SHAPES.items()):
        rng = np.random.default_rng(index)
        model = os.path.join(folder, "model.gguf")
        random_model(model, rng, s)
        ids = rng.integers(0, s["n_vocab"], s["n_tokens"])
        expected = reference.forward(reference.Gguf(model), ids)
        exact = engine_logits(model, ids, folder, "--exact")
        fast = engine_logits(model, ids, folder)
        print(f"{name:46}{nmse(exact, expected):12.2e}{nmse(fast, expected):12.2e}")
        check(nmse(exact, expected) <= 1e-8, f"{name}: exact NMSE {nmse(exact, expected):.2e}")
        check(nmse(fast, expected) <= 1e-3, f"{name}: int8 NMSE {nmse(fast, expected):.2e}")
        scalar = engine_logits(model, ids, folder, isa="scalar")
        check(scalar.tobytes() == fast.tobytes(), f"{name}: scalar kernels give other bits")
        last = engine_logits(model, ids, folder, "--last")
        check(last.shape == (1, s["n_vocab"]) and last.tobytes() == fast[-1:].tobytes(), f"{name}: --last differs")


with tempfile.TemporaryDirectory() as temporary:
    gate(temporary)
    other_shapes(temporary)
print(f"\n{len(failures)} failures")
sys.exit(1 if failures else 0)
