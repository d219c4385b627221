#!/usr/bin/env python3
"""A grown model against its source, both in double by the NumPy reference: do they give the same logits?

Usage: check_growth.py SOURCE.gguf GROWN.gguf [N_TOKENS]     (of tests/golden/ids.txt; default 64)
Prints the largest difference of a logit, how far the best padding token lies below the best token, and whether the best
tokens agree. Files in F32 or F16 show the construction itself; quantized ones what their blocks add.
"""
import os
import sys

import numpy as np

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path.insert(0, os.path.join(ROOT, "tests", "reference"))
import qwen2_reference as reference  # noqa: E402


def main():
    n_tokens = int(sys.argv[3]) if len(sys.argv) > 3 else 64
    with open(os.path.join(ROOT, "tests", "golden", "ids.txt"), encoding="ascii") as f:
        ids = [int(t) for t in f.read().replace(",", " ").split()][:n_tokens]
    source, grown = (reference.forward(reference.Gguf(path), ids, result=np.float64) for path in sys.argv[1:3])
    n_real = source.shape[1]
    best = source.max(-1)
    print(f"{len(ids)} tokens, {n_real} of {grown.shape[1]} logits are real")
    print(f"max |dlogit|       {np.abs(source - grown[:, :n_real]).max():.2e}  (logits up to {np.abs(source).max():.1f})")
    if grown.shape[1] > n_real:
        print(f"padding below best {(best - grown[:, n_real:].max(-1)).min():.1f}")
    print(f"same best token    {(source.argmax(-1) == grown.argmax(-1)).sum()} of {len(ids)}")


if __name__ == "__main__":
    main()
