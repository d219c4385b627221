#!/usr/bin/python3
"""Runs every experiment on learned weights and writes what they found: report.md, report.json and plots.

    bench/sona/report.py build/ruvltra --out sona-report --jobs 2     # the full figures: an hour or two
    bench/sona/report.py build/ruvltra --out sona-report --reduced    # minutes; the report says "reduced"

Exit code 0 only if all experiments passed; with reduced counts sona-quality has too few answers for that. The plots are SVG files that need nothing else.
"""
import argparse
import concurrent.futures
import html
import json
import math
import os
import platform
import subprocess
import sys
import time

# Name, full arguments, reduced arguments.
EXPERIMENTS = [
    ("sona-grad", ["--text", "tests/golden/heldout.txt"], ["--seeds", "1"]),
    ("sona-teacher", [], ["--seeds", "1"]),
    ("sona-style", [], ["--trials", "2", "--taught", "10000"]),
    ("sona-forget", [], ["--trials", "1", "--lambdas", "0,1000"]),
    ("sona-boundary", [], ["--trials", "1", "--attempts", "64"]),
    ("sona-quality", ["--taught", "28800"], ["--trials", "2"]),
    ("sona-null", [], ["--attempts", "10"]),
    ("sona-poison", ["--attempts", "10000"], ["--attempts", "200"]),
    ("sona-rollback", ["--attempts", "500"], ["--attempts", "20"]),
]
TIMED = ["sona-rollback"]  # whose gates count seconds: alone, like the bench
LONGEST = ["sona-poison", "sona-forget", "sona-quality", "sona-style"]
COLOURS = ["#3b6ea5", "#c0504d", "#6a994e", "#8064a2", "#d08c2f", "#4bacc6", "#7f7f7f", "#b0457b", "#2f4858", "#a3b18a"]


def run(program, words):
    begun = time.monotonic()
    done = subprocess.run([program, *words], capture_output=True, text=True)
    seconds = time.monotonic() - begun
    try:
        document = json.loads(done.stdout)
    except ValueError:
        document = None
    return {"command": "ruvltra " + " ".join(words), "exit": done.returncode, "seconds": seconds, "document": document,
            "error": done.stderr.strip()[-2000:] if document is None else ""}


class Plot:
    """A small SVG with two axes."""
    WIDTH, HEIGHT, LEFT, BOTTOM, TOP, RIGHT = 710, 360, 70, 50, 40, 220

    def __init__(self, title, x_name, y_name, xs, ys):
        self.title, self.x_name, self.y_name = title, x_name, y_name
        self.x0, self.x1 = self.span(xs)
        self.y0, self.y1 = self.span([*ys, 0])
        self.parts, self.names = [], []

    @staticmethod
    def span(values):
        """From one round number to another."""
        low, high = min(values), max(values)
        step = Plot.step(low, high)
        return math.floor(low / step) * step, math.ceil(high / step) * step

    @staticmethod
    def step(low, high):
        rough = (high - low or 1) / 5
        unit = 10 ** math.floor(math.log10(rough))
        return next(unit * times for times in (1, 2, 5, 10) if unit * times >= rough)

    @staticmethod
    def ticks(low, high):
        step = Plot.step(low, high)
        return [round(low / step + i) * step for i in range(round((high - low) / step) + 1)]

    def x(self, value):
        return self.LEFT + (value - self.x0) / (self.x1 - self.x0) * (self.WIDTH - self.LEFT - self.RIGHT)

    def y(self, value):
        return self.HEIGHT - self.BOTTOM - (value - self.y0) / (self.y1 - self.y0) * (self.HEIGHT - self.BOTTOM - self.TOP)

    def colour(self, name):
        if name not in self.names:
            self.names.append(name)
        return COLOURS[self.names.index(name) % len(COLOURS)]

    def line(self, name, xs, ys):
        points = " ".join(f"{self.x(x):.1f},{self.y(y):.1f}" for x, y in zip(xs, ys))
        self.parts.append(f'<polyline points="{points}" fill="none" stroke="{self.colour(name)}" stroke-width="2"/>')

    def dots(self, name, xs, ys):
        for x, y in zip(xs, ys):
            self.parts.append(f'<circle cx="{self.x(x):.1f}" cy="{self.y(y):.1f}" r="4" fill="{self.colour(name)}"/>')

    def bar(self, name, x, y, width=0.35):
        left, right = self.x(x - width), self.x(x + width)
        top, bottom = sorted((self.y(y), self.y(0)))
        self.parts.append(f'<rect x="{left:.1f}" y="{top:.1f}" width="{right - left:.1f}" height="{bottom - top:.1f}" '
                          f'fill="{self.colour(name)}"/>')

    def svg(self, ticks=None):
        def text(x, y, words, extra=""):
            return f'<text x="{x:.1f}" y="{y:.1f}" font-size="12" {extra}>{html.escape(str(words))}</text>'
        out = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {self.WIDTH} {self.HEIGHT}" font-family="sans-serif">',
               '<rect width="100%" height="100%" fill="#ffffff"/>', text(self.LEFT, 22, self.title, 'font-weight="bold"')]
        for value in self.ticks(self.y0, self.y1):
            at = self.y(value)
            out.append(f'<line x1="{self.LEFT}" y1="{at:.1f}" x2="{self.WIDTH - self.RIGHT}" y2="{at:.1f}" stroke="#e0e0e0"/>')
            out.append(text(self.LEFT - 8, at + 4, f"{value:.6g}", 'text-anchor="end"'))
        if ticks is None:
            ticks = [(value, None) for value in self.ticks(self.x0, self.x1)]
        for value, name in ticks:
            out.append(text(self.x(value), self.HEIGHT - self.BOTTOM + 18, f"{value:.6g}" if name is None else name,
                            'text-anchor="middle"'))
        if self.y0 < 0 < self.y1:
            out.append(f'<line x1="{self.LEFT}" y1="{self.y(0):.1f}" x2="{self.WIDTH - self.RIGHT}" y2="{self.y(0):.1f}" '
                       'stroke="#606060"/>')
        out += self.parts
        out.append(text((self.LEFT + self.WIDTH - self.RIGHT) / 2, self.HEIGHT - 12, self.x_name, 'text-anchor="middle"'))
        out.append(text(16, self.HEIGHT / 2, self.y_name, f'text-anchor="middle" transform="rotate(-90 16 {self.HEIGHT / 2})"'))
        for i, name in enumerate(self.names):
            at = self.TOP + 10 + 18 * i
            out.append(f'<rect x="{self.WIDTH - self.RIGHT + 10}" y="{at - 9}" width="10" height="10" '
                       f'fill="{COLOURS[i % len(COLOURS)]}"/>')
            out.append(text(self.WIDTH - self.RIGHT + 26, at, name))
        return "\n".join([*out, "</svg>"]) + "\n"


def style_plot(document):
    trials = document["raw"]
    xs = [n for trial in trials for n in trial["tokens"]]
    plot = Plot("A new author: change of held-out NLL", "tokens taught", "%", [0, *xs],
                [y for trial in trials for y in trial["curve_percent"]])
    for trial in trials:
        plot.line(f"seed {trial['seed']}", [0, *trial["tokens"]], [0, *trial["curve_percent"]])
    return plot.svg()


def gates_plot(document):
    reports = [report for trial in document["raw"] for report in trial["reports"]]
    plot = Plot("Decisions of the gates", "canary KL, nat", "|delta| / |h|, 99.9th percentile, %",
                [0, 0.02, *(r["canary_kl"] for r in reports)], [5, *(100 * r["delta_p999"] for r in reports)])
    for report in reports:
        name = "published" if report["accepted"] else report["reason"]
        plot.dots(name, [report["canary_kl"]], [100 * report["delta_p999"]])
    return plot.svg()


def forget_plot(document):
    lambdas = sorted({row["lambda"] for row in document["raw"]})
    rows = {value: [row for row in document["raw"] if row["lambda"] == value] for value in lambdas}

    def mean(value, f):
        return sum(map(f, rows[value])) / len(rows[value])
    forgotten = [mean(v, lambda r: r["first_left"] - r["first_learned"]) for v in lambdas]
    gained = [mean(v, lambda r: r["second_before"] - r["second_learned"]) for v in lambdas]
    plot = Plot("One author after another", "lambda", "nat per token", [-0.5, len(lambdas) - 0.5], forgotten + gained)
    for i in range(len(lambdas)):
        plot.bar("first one forgotten", i - 0.2, forgotten[i], 0.18)
        plot.bar("second one gained", i + 0.2, gained[i], 0.18)
    return plot.svg([(i, f"{value:g}") for i, value in enumerate(lambdas)])


def matrix_plot(document):
    """What each lesson did to each author: change of held-out NLL, mean over the seeds."""
    cell, left, top, block = (130, 44), 150, 90, 150
    lambdas = sorted({row["lambda"] for row in document["raw"]})
    width, height = left + 2 * cell[0] + 30, top + block * len(lambdas)
    out = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" font-family="sans-serif" font-size="12">',
           '<rect width="100%" height="100%" fill="#ffffff"/>',
           f'<text x="20" y="22" font-weight="bold">Forgetting matrix: change of held-out NLL, nat per token</text>']
    for column, name in enumerate(["on the first", "on the second"]):
        out.append(f'<text x="{left + (column + 0.5) * cell[0]}" y="{top - 34}" text-anchor="middle">{name}</text>')
    for i, value in enumerate(lambdas):
        rows = [row for row in document["raw"] if row["lambda"] == value]

        def mean(f):
            return sum(map(f, rows)) / len(rows)
        # The second author is measured from where the first lesson left it.
        matrix = [("after the first", mean(lambda r: r["first_learned"] - r["first_base"]), 0.0),
                  ("after the second", mean(lambda r: r["first_left"] - r["first_base"]),
                   mean(lambda r: r["second_learned"] - r["second_before"]))]
        at = top + block * i
        out.append(f'<text x="20" y="{at - 10}">lambda {value:g}</text>')
        for row, (name, *changes) in enumerate(matrix):
            y = at + row * cell[1]
            out.append(f'<text x="20" y="{y + cell[1] / 2 + 4}">{name}</text>')
            for column, change in enumerate(changes):
                is_reference = row == 0 and column == 1
                depth = min(1, abs(change) / 0.3)
                colour = "#7f7f7f" if is_reference else "#6a994e" if change < 0 else "#c0504d"
                x = left + column * cell[0]
                out.append(f'<rect x="{x}" y="{y}" width="{cell[0] - 4}" height="{cell[1] - 4}" fill="{colour}" '
                           f'fill-opacity="{0.1 + 0.7 * depth:.2f}"/>')
                out.append(f'<text x="{x + cell[0] / 2 - 2}" y="{y + cell[1] / 2 + 2}" text-anchor="middle">{"reference" if is_reference else f"{change:+.4f}"}</text>')
    return "\n".join([*out, "</svg>"]) + "\n"


def cost_plot(document):
    """Bars to the median, lines to the lower 95 % bound."""
    kinds = [("step", document.get("steps", [])), ("answer", document["states"])]
    states = [(f"{kind}: {state['name']}", 100 * state["median"] - 100, 100 * state["low"] - 100)
              for kind, rows in kinds for state in rows]
    plot = Plot("Cost: single steps, then whole answers", "", "change of speed, %", [-0.5, len(states) - 0.5],
                [value for _, median, low in states for value in (median, low)] + [1, -5])
    for i, (name, median, low) in enumerate(states):
        plot.bar(name, i, median)
        plot.line(name, [i, i], [min(median, 0), low])
    return plot.svg([(i, "") for i in range(len(states))])


PLOTS = {"sona-style": [("nll.svg", style_plot), ("gates.svg", gates_plot)], "sona-forget": [("forgetting.svg", forget_plot), ("matrix.svg", matrix_plot)],
         "bench": [("cost.svg", cost_plot)]}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("program")
    parser.add_argument("--out", required=True)
    parser.add_argument("--reduced", action="store_true")
    parser.add_argument("--jobs", type=int, default=1, help="experiments at a time (what is timed is always alone)")
    parser.add_argument("--only", nargs="*", help="names of experiments, or bench")
    parser.add_argument("-m", "--model", help="instead of the bundled one")
    options = parser.parse_args()
    os.makedirs(options.out, exist_ok=True)
    model = ["-m", options.model] if options.model else []

    def experiment(name, arguments):
        result = run(options.program, ["eval", name, *model, *arguments, "--json", "--no-progress"])
        print(f"{name}: exit {result['exit']} after {result['seconds']:.0f} s {result['error']}", flush=True)
        return result
    chosen = [(name, reduced if options.reduced else full) for name, full, reduced in EXPERIMENTS
              if not options.only or name in options.only]
    results = dict.fromkeys(name for name, _ in chosen)
    pool = concurrent.futures.ThreadPoolExecutor(options.jobs)
    try:
        # The longest first, so that none is left alone at the end.
        started = {name: pool.submit(experiment, name, arguments)
                   for name, arguments in sorted(chosen, key=lambda one: LONGEST.index(one[0]) if one[0] in LONGEST else len(LONGEST))
                   if name not in TIMED}
        results.update((name, future.result()) for name, future in started.items())
    finally:
        pool.shutdown(cancel_futures=True)
    results.update((name, experiment(name, arguments)) for name, arguments in chosen if name in TIMED)
    if not options.only or "bench" in options.only:
        words = ["--pairs", "6", "--steps", "40", "-n", "256", "--requests", "200"] if options.reduced else ["--pairs", "40", "--steps", "400", "-n", "256", "--requests", "10000"]
        results["bench"] = run(options.program, ["bench", "--sona", *model, *words, "--json", "--no-progress"])
        print(f"bench: exit {results['bench']['exit']} after {results['bench']['seconds']:.0f} s", flush=True)
    lines = ["# Learned weights" + (" (reduced counts)" if options.reduced else ""), "",
             f"{platform.machine()}, {os.cpu_count()} CPUs, {options.jobs} experiments at a time, {time.strftime('%Y-%m-%d')}", "",
             "| experiment | passed | seconds | command |", "|---|---|---:|---|"]
    for name, result in results.items():
        lines.append(f"| {name} | {'yes' if result['exit'] == 0 else 'no'} | {result['seconds']:.0f} | `{result['command']}` |")
    for name, result in results.items():
        document = result["document"]
        lines += ["", f"## {name}", ""]
        if document is None:
            lines.append(f"No document: {result['error']}")
            continue
        for row in document.get("rows", []):  # sona-teacher
            lines.append(f"* {'ok' if row['passed'] else '**FAIL**'}: seed {row['seed']}, {row['teacher']} teacher, {row['tokens']} "
                         f"tokens: {row['share']:.3f} of {row['gap']:.3f} nat recovered")
        for row in document.get("seeds", []):  # sona-grad
            lines.append(f"* seed {row['seed']}: against differences, gradient {row['gradient_vs_differences']:.1e} (of a batch against the whole softmax {row['gradient_batch']:.1e}), Fisher "
                         f"{row['fisher_vs_differences']:.1e}; {row['nll_outside_bound']} and {row['gradient_outside_bound']} of "
                         f"{row['draws']} draws outside the bounds")
        for gate in document.get("gates", []):
            lines.append(f"* {'ok' if gate['passed'] else '**FAIL**'}: {gate['name']}: {gate['found']}")
        for kind, key in [("step", "steps"), ("answer", "states")]:
            for state in document.get(key, []):
                lines.append(f"* {kind}: {state['name']}: {100 * state['median']:.2f} % of the speed, at least {100 * state['low']:.2f} %")
        for file, draw in PLOTS.get(name, []):
            with open(os.path.join(options.out, file), "w") as out:
                out.write(draw(document))
            lines += ["", f"![{file}]({file})"]
    with open(os.path.join(options.out, "report.md"), "w") as out:
        out.write("\n".join(lines) + "\n")
    with open(os.path.join(options.out, "report.json"), "w") as out:
        json.dump(results, out, indent=1)
    return 0 if all(result["exit"] == 0 for result in results.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
