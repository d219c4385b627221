#!/usr/bin/env python3
"""ruvltra beside llama.cpp on the same file, threads and sizes, interleaved A B A B in the same minutes.

  bench/peers/compare.py build/ruvltra MODEL.gguf [--prompt 512] [--gen 32] [--threads 2] [--rounds 5]
                         [--llama-bench PATH ...]     more peers: any llama-bench binary, such as ik_llama.cpp's

Prints the median of each figure with its range, and the median of the ratios round by round.
"""
import argparse
import json
import pathlib
import statistics
import subprocess

HERE = pathlib.Path(__file__).resolve().parent


def ours(options):
    run = subprocess.run([options.program, "bench", "-m", options.model, "-p", str(options.prompt), "-n", str(options.gen),
                          "-t", str(options.threads), "-r", "1", "-o", "json", "--no-progress"],
                         check=True, capture_output=True, text=True)
    return by_test(json.loads(run.stdout))


def llama_bench(path, options):
    run = subprocess.run([path, "-m", options.model, "-p", str(options.prompt), "-n", str(options.gen), "-t",
                          str(options.threads), "-r", "1", "-o", "json"], check=True, capture_output=True, text=True)
    return by_test(json.loads(run.stdout[run.stdout.index("["):]))


def by_test(rows):
    return {"pp" if row["n_prompt"] else "tg": row["avg_ts"] for row in rows}


def node_llama_cpp(options):
    run = subprocess.run(["node", "speed.mjs", str(pathlib.Path(options.model).resolve()), str(options.prompt),
                          str(options.gen), str(options.threads)], cwd=HERE, check=True, capture_output=True, text=True)
    return json.loads(run.stdout)


def line(values):
    return f"{statistics.median(values):8.2f}  ({min(values):.2f} .. {max(values):.2f})"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("program")
    parser.add_argument("model")
    parser.add_argument("--prompt", type=int, default=512)
    parser.add_argument("--gen", type=int, default=32)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--llama-bench", action="append", default=[])
    options = parser.parse_args()
    peers = {"node-llama-cpp": node_llama_cpp}
    for path in options.llama_bench:
        peers[path] = lambda o, path=path: llama_bench(path, o)
    figures = {"ruvltra": [], **{name: [] for name in peers}}
    for _ in range(options.rounds):
        figures["ruvltra"].append(ours(options))
        for name, measure in peers.items():
            figures[name].append(measure(options))
    for test, label in (("pp", f"prefill of {options.prompt} tokens"), ("tg", f"decode of {options.gen} tokens")):
        print(f"{label}, {options.threads} threads, tok/s: median of {options.rounds} (range)")
        for name, rounds in figures.items():
            print(f"  {name:32s} {line([r[test] for r in rounds])}")
        for name in peers:
            ratios = [a[test] / b[test] for a, b in zip(figures["ruvltra"], figures[name])]
            print(f"  ruvltra / {name:22s} {line(ratios)}")


if __name__ == "__main__":
    main()
