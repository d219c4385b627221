#!/usr/bin/env python3
"""ruvltra beside other engines on the same files, threads and sizes, interleaved A B A B in the same minutes.

  bench/peers/compare.py build/ruvltra MODEL.gguf... [--tests pp512,tg32,k5,b8] [--threads 2] [--rounds 5]
      [--peer 'NAME=PATH/llama-bench ARGS']...           any llama-bench binary with the arguments it is best with
      [--batched 'NAME=PATH/llama-batched-bench ARGS']   the same peer's program for tests bN
      [--no-node] [--ours 'ARGS']

Tests: ppN = a prompt of N tokens, tgN = N tokens generated, kN = one step of N tokens of one sequence, bN = N sequences
that generate at once (tokens per second of all). llama-bench measures kN as a prompt of N tokens, for which it computes
the logits of the last token only; we compute all N. A peer without --batched gets that figure for bN too, marked *.

Several settings of one peer are NAME/SETTING, such as 'ik/repack=... -rtr 1' and 'ik/plain=...': its best median counts.
Peers: node-llama-cpp (llama.cpp as npm delivers it, flash attention on) unless --no-node, then those of --peer.
Prints Markdown: medians of the rounds with their range, and the median and range of the ratios round by round.
"""
import argparse
import json
import pathlib
import re
import shlex
import shutil
import statistics
import subprocess
import sys

HERE = pathlib.Path(__file__).resolve().parent
N_BATCH_STEPS = 16
N_STEP_REPETITIONS = 10
OURS = "ruvltra"


class Test:
    def __init__(self, name):
        match = re.fullmatch(r"(pp|tg|k|b)([1-9]\d*)", name)
        if match is None:
            raise argparse.ArgumentTypeError(f"expected tests such as pp512,tg32,k5,b8, found {name!r}")
        self.name, self.kind, self.n = name, match[1], int(match[2])


def output_of(command, folder=None):
    run = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    if run.returncode != 0:
        sys.exit(f"{shlex.join(map(str, command))} ended with {run.returncode}:\n{run.stderr[-2000:]}")
    return run.stdout


def numbers(tests, *kinds):
    return ",".join(str(test.n) for test in tests if test.kind in kinds)


class Ours:
    def __init__(self, program, arguments):
        self.command = [program, "bench", "--no-progress", "-o", "json", *shlex.split(arguments)]
        self.shares = []  # of the read bandwidth, per round of the model: {test: (percent, GB/s)}

    def measure(self, model, tests, threads):
        figures = {}
        common = ["-m", model, "-t", str(threads)]
        if whole := [test for test in tests if test.kind in ("pp", "tg")]:
            rows = json.loads(output_of([*self.command, *common, "-r", "1", "-p", numbers(whole, "pp") or "0",
                                         "-n", numbers(whole, "tg") or "0"]))
            figures |= {f"pp{row['n_prompt']}" if row["n_prompt"] else f"tg{row['n_gen']}": row["avg_ts"] for row in rows}
            self.shares.append({f"tg{row['n_gen']}": (row["pct_roofline"], row["read_bw_gbs"]) for row in rows if row["n_gen"]})
        if steps := [test for test in tests if test.kind in ("k", "b")]:
            rows = json.loads(output_of([*self.command, *common, "-r", "3", "-p", "0", "-n", str(N_BATCH_STEPS),
                                         "--step-tokens", numbers(steps, "k") or "1", "-b", numbers(steps, "b") or "1"]))
            for row in rows:
                figures[f"k{row['n_per_step']}" if row["n_per_step"] > 1 else f"b{row['n_seqs']}"] = row["avg_ts"]
        return figures


class NodeLlamaCpp:
    def measure(self, model, tests, threads):
        return json.loads(output_of(["node", "speed.mjs", str(pathlib.Path(model).resolve()), str(threads),
                                     *(test.name for test in tests)], HERE))


class LlamaBench:
    def __init__(self, command, batched):
        self.command = shlex.split(command)
        self.batched = shlex.split(batched) if batched else None

    def rows(self, model, threads, n_prompt, n_generate, repetitions):
        text = output_of([*self.command, "-m", model, "-t", str(threads), "-p", n_prompt or "0", "-n", n_generate or "0",
                          "-r", str(repetitions), "-o", "json"])
        return json.loads(text[text.index("["):])

    def measure(self, model, tests, threads):
        figures = {}
        if whole := [test for test in tests if test.kind in ("pp", "tg")]:
            for row in self.rows(model, threads, numbers(whole, "pp"), numbers(whole, "tg"), 1):
                figures[f"pp{row['n_prompt']}" if row["n_prompt"] else f"tg{row['n_gen']}"] = row["avg_ts"]
        prompts = [test for test in tests if test.kind == "k" or test.kind == "b" and not self.batched]
        if prompts:
            sizes = ",".join(sorted({str(test.n) for test in prompts}, key=int))
            rates = {row["n_prompt"]: row["avg_ts"] for row in self.rows(model, threads, sizes, "", N_STEP_REPETITIONS)}
            figures |= {test.name: rates[test.n] for test in prompts}
        if self.batched and (sizes := numbers(tests, "b")):
            text = output_of([*self.batched, "-m", model, "-t", str(threads), "-c", "4096", "-npp", str(N_BATCH_STEPS),
                              "-ntg", str(N_BATCH_STEPS), "-npl", sizes])
            for line in text.splitlines():  # | PP | TG | B | N_KV | T_PP s | S_PP t/s | T_TG s | S_TG t/s | ...
                cells = [cell.strip() for cell in line.split("|")]
                if len(cells) > 8 and cells[3].isdigit():
                    figures[f"b{cells[3]}"] = float(cells[8])
        return figures


def named(text):
    name, equals, command = text.partition("=")
    if not equals or not command:
        raise argparse.ArgumentTypeError(f"expected NAME=COMMAND, found {text!r}")
    return name, command


def spread(values, digits):
    text = f"{statistics.median(values):.{digits}f}"
    return text if len(values) == 1 else f"{text} ({min(values):.{digits}f}-{max(values):.{digits}f})"


def row(*cells):
    print(f"| {' | '.join(cells)} |")


def best_settings(figures, test):
    """The setting with the highest median of each peer, as {peer: setting}."""
    best = {}
    for name in figures:
        if name == OURS or test not in figures[name][0]:
            continue
        peer = name.split("/")[0]
        rate = statistics.median(r[test] for r in figures[name])
        if peer not in best or rate > statistics.median(r[test] for r in figures[best[peer]]):
            best[peer] = name
    return best


def report(model, ours, tests, figures, proxies, options):
    rounds = len(figures[OURS])
    print(f"\n{pathlib.Path(model).name}, {options.threads} threads, tokens/s, median of {rounds} rounds (range)\n")
    row("test", *figures)
    row("---", *("---:" for _ in figures))
    for test in tests:
        row(test.name, *(spread([r[test.name] for r in rounds_of], 1) + ("*" if test.kind == "b" and name in proxies else "")
                         for name, rounds_of in figures.items()))
    for test in tests:
        if test.kind == "tg":
            percent, bandwidth = zip(*(shares[test.name] for shares in ours.shares[-rounds:]))
            print(f"\n{OURS} {test.name}: {spread(percent, 0)} % of the read bandwidth beside it, {spread(bandwidth, 1)} GB/s")
    peers = sorted({name.split("/")[0] for name in figures if name != OURS})
    if peers:
        print(f"\n{OURS} / best setting of the peer, round by round\n")
        row("test", *peers)
        row("---", *("---:" for _ in peers))
        for test in tests:
            best = best_settings(figures, test.name)
            row(test.name, *(spread([a[test.name] / b[test.name] for a, b in zip(figures[OURS], figures[best[peer]])], 2)
                             for peer in peers))
    decode = next((test.name for test in tests if test.kind == "tg"), None)
    steps = [test for test in tests if test.kind == "k"]
    if decode and steps:
        print(f"\ntime of a step of k tokens / time of a token of {decode}\n")
        row("test", *figures)
        row("---", *("---:" for _ in figures))
        for test in steps:
            row(test.name, *(spread([test.n * r[decode] / r[test.name] for r in rounds_of], 2)
                             for rounds_of in figures.values()))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("program")
    parser.add_argument("models", nargs="+", metavar="MODEL")
    parser.add_argument("--tests", default="pp512,tg32", type=lambda text: [Test(name) for name in text.split(",")])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--peer", action="append", type=named, default=[], metavar="NAME=COMMAND")
    parser.add_argument("--batched", action="append", type=named, default=[], metavar="NAME=COMMAND")
    parser.add_argument("--ours", default="", metavar="ARGS", help="more arguments for ruvltra bench")
    parser.add_argument("--no-node", action="store_true")
    options = parser.parse_args()
    if options.rounds < 1:
        parser.error("--rounds: expected at least 1")
    batched = dict(options.batched)
    if unknown := set(batched) - {name for name, _ in options.peer}:
        parser.error(f"--batched {unknown.pop()}: expected the name of a --peer")
    programs = {OURS: Ours(options.program, options.ours)}
    if not options.no_node:
        if shutil.which("node") is None or not (HERE / "node_modules" / "node-llama-cpp").is_dir():
            parser.error("node-llama-cpp is not installed (npm install in bench/peers); --no-node leaves it out")
        programs["node-llama-cpp"] = NodeLlamaCpp()
    for name, command in options.peer:
        programs[name] = LlamaBench(command, batched.get(name))
    proxies = {name for name, _ in options.peer if name not in batched}
    for model in options.models:
        figures = {name: [] for name in programs}
        for _ in range(options.rounds):
            for name, program in programs.items():
                figures[name].append(program.measure(model, options.tests, options.threads))
        report(model, programs[OURS], options.tests, figures, proxies, options)


if __name__ == "__main__":
    main()
