#!/usr/bin/env python3
"""`ruvltra eval route`, reduced: no model (words alone), 10 tasks instead of 50 for the single failure, latency over 50
tasks instead of 500, no mistakes counted for feedback that says only right or wrong. The tasks are all of
tests/data/routing, and the gates are those of a full run."""
import json
import subprocess
import sys

PROGRAM = sys.argv[1]


def run(*arguments):
    return subprocess.run([PROGRAM, *arguments], capture_output=True, text=True, timeout=600)


def main():
    done = run("eval", "route", "--words-only", "--reduced", "--json")
    document = json.loads(done.stdout)
    failed = [gate for gate in document["gates"] if not gate["holds"]]
    assert done.returncode == 0 and document["passed"] and not failed, (done.returncode, failed, done.stderr)
    assert document["reduced"] and document["tasks"] == {"train": 315, "test": 360}
    assert [row["feedbacks"] for row in document["curve"]] == [0, 50, 200, 315]
    assert document["paraphrase_auc"] is None and document["complexity_spearman"] is None

    # What cannot be read is said, with file and line, and is no result.
    missing = run("eval", "route", "--words-only", "--tasks", "/nowhere")
    assert missing.returncode == 1 and missing.stdout == "" and "/nowhere" in missing.stderr, missing
    other = run("eval", "mc", "--words-only", "x.jsonl")
    assert other.returncode == 2, other
    print(f"reduced run: {document['curve'][0]['accuracy']:.3f} by words alone, keywords "
          f"{document['keywords']['accuracy']:.3f}")


if __name__ == "__main__":
    main()
