#!/usr/bin/env python3
"""Speculative decoding as users of `ruvltra run` and `ruvltra bench --spec` meet it (docs/speculation.md)."""
import json
import os
import re
import struct

from cli_harness import DRAFT, MODEL, SCRATCH, STORY, Case, Terminal, call, main

# At temperature 0 the model goes on repeating itself, so that earlier text says what comes next.
LOOP = "one two three one two three one two three one"


def with_bytes_changed(name, old, new):
    """A copy of the draft in which the first `old` became `new`, of the same length."""
    with open(DRAFT, "rb") as file:
        data = bytearray(file.read())
    at = data.index(old)
    data[at:at + len(old)] = new
    return written(name, data)


def written(name, data):
    path = os.path.join(SCRATCH, name)
    with open(path, "wb") as file:
        file.write(data)
    return path


def with_context(name, n_context):
    """A copy of the draft whose context length is another one."""
    with open(DRAFT, "rb") as file:
        data = bytearray(file.read())
    key = b"qwen2.context_length"
    at = data.index(key) + len(key)
    struct.pack_into("<I", data, at + 4, n_context)
    return written(name, data)


class Run(Case):
    def answer(self, *words):
        return self.document("run", "--json", "--raw", "-n", "40", "--seed", "11", *words, LOOP)

    def test_the_text_is_the_same(self):
        for temperature in ("0", "0.9"):
            words = ("--temp", temperature, "--logprobs", "2")
            plain = self.answer(*words)
            self.assertEqual((plain["timings"]["draft_n"], plain["timings"]["draft_n_accepted"]), (0, 0))
            self.assertEqual(self.answer(*words, "--spec", "off", "--lookahead", "4")["timings"]["draft_n"], 0)
            for sources in (["--spec", "ngram"], ["--draft", DRAFT], ["--spec", "draft"], ["--spec", "auto", "--draft", DRAFT]):
                for length in ([], ["--lookahead", "3", "--draft-stop", "0"]):
                    found = self.answer(*words, *sources, *length)
                    self.assertEqual((found["text"], found["logprobs"]), (plain["text"], plain["logprobs"]), (sources, length))
                    timings = found["timings"]
                    self.assertLessEqual(timings["draft_n_accepted"], timings["draft_n"])
                    self.assertEqual(found["usage"]["completion_tokens_details"],
                                     {"accepted_prediction_tokens": timings["draft_n_accepted"]})
                    if length and (temperature == "0" or "ngram" not in sources):
                        self.assertGreater(timings["draft_n"], 0, sources)
                        self.assertGreater(timings["draft_n_accepted"], 0, sources)

    def test_a_stop_that_nothing_reaches(self):
        """The draft's confidence decides how far it goes: of nothing that certain there is no proposal."""
        self.assertEqual(self.answer("--temp", "0", "--spec", "draft", "--lookahead", "4", "--draft-stop", "1")["timings"]["draft_n"], 0)

    def test_stats_say_what_came_true(self):
        code, out, err = call("run", "--raw", "--temp", "0", "-n", "24", "--stats", "--spec", "ngram", "--lookahead", "4", LOOP)
        self.assertEqual(code, 0)
        drafted, accepted = map(int, re.search(rb"drafted (\d+), accepted (\d+)\n\Z", err).groups())
        self.assertTrue(0 < accepted <= drafted)
        self.assertEqual(out, self.ok("run", "--raw", "--temp", "0", "-n", "24", LOOP))
        self.assertNotIn(b"drafted", call("run", "--raw", "--temp", "0", "-n", "24", "--stats", LOOP)[2])

    def test_usage(self):
        self.refused(2, "--lookahead", "run", "--spec", "ngram", "--lookahead", "9", "hi")
        self.refused(2, "--draft-stop", "run", "--spec", "ngram", "--draft-stop", "1.5", "hi")
        self.refused(2, "--spec", "run", "--spec", "always", "hi")
        self.refused(2, "draft_model_path: expected a draft model", "run", "-m", MODEL, "--spec", "draft", "hi")
        self.refused(2, "draft_model_path: expected none", "run", "--spec", "ngram", "--draft", DRAFT, "hi")
        self.refused(2, "draft_model_path: expected use_speculative_decoding", "run", "--spec", "off", "--draft", DRAFT, "hi")


class Colour(Case):
    WORDS = ["run", "--raw", "--temp", "0", "-n", "24", "--no-progress", "--spec", "ngram", "--lookahead", "4"]
    SHADE = "\x1b[36m"

    def shown(self, *words, **extra):
        terminal = Terminal(*self.WORDS, *words, LOOP, **extra)
        text = terminal.expect(r"\r\n\Z")
        self.assertEqual(terminal.close(), 0)
        return text

    def test_accepted_tokens_on_a_terminal(self):
        plain = self.shown()
        self.assertNotIn(self.SHADE, plain)
        shaded = self.shown("--color-accepted")
        self.assertIn(self.SHADE, shaded)
        self.assertEqual(re.sub(r"\x1b\[\d+m", "", shaded), plain)
        self.assertEqual(self.shown("--color-accepted", NO_COLOR="1"), plain)

    def test_never_in_a_pipe(self):
        self.assertNotIn(b"\x1b", self.ok(*self.WORDS, "--color-accepted", LOOP))


class DraftFiles(Case):
    def words(self, path):
        return ["run", "--draft", path, "--spec", "draft", "--lookahead", "4", "--draft-stop", "0", "--temp", "0", "-n", "12", "--raw", LOOP]

    def test_another_vocabulary(self):
        path = with_bytes_changed("vocabulary.gguf", b"<|im_start|>", b"<|im_stopt|>")
        self.refused(2, r"vocabulary\.gguf: expected the vocabulary .* token 4094: expected \S+im_start\S+, found \S+im_stopt", *self.words(path))
        self.refused(2, "token 4094", "bench", "--spec", "--draft", path)

    def test_damaged_files(self):
        with open(DRAFT, "rb") as file:
            data = file.read()
        self.refused(1, "missing.gguf", *self.words(os.path.join(SCRATCH, "missing.gguf")))
        damaged = {
            "empty": b"", "text": b"no model at all", "cut_in_header": data[:100_000], "cut_in_weights": data[:-4096],
            "many_tensors": data[:8] + struct.pack("<Q", 1 << 60) + data[16:],
        }
        for name, content in damaged.items():
            path = written(name + ".gguf", content)
            code, out, err = call(*self.words(path))
            self.assertIn(code, (1, 2), name)
            self.assertEqual(out, b"")
            self.assertRegex(err.decode(errors="replace"), rf"\Aruvltra: error: [^\n]*{name}[^\n]*\n\Z")
        for name, n_context in (("context_0", 0), ("context_huge", 0xffffffff)):
            self.refused(1, "context_length: expected 1 to", *self.words(with_context(name + ".gguf", n_context)))

    def test_a_draft_with_next_to_no_context(self):
        plain = self.ok("run", "--temp", "0", "-n", "12", "--raw", LOOP)
        for n_context in (1, 2, 10, 20):
            self.assertEqual(self.ok(*self.words(with_context(f"context_{n_context}.gguf", n_context))), plain)

    def test_weights_of_noise(self):
        """A draft that is wrong about everything changes nothing."""
        with open(DRAFT, "rb") as file:
            data = bytearray(file.read())
        # Signs of quantized numbers: 34-byte blocks of Q8_0, of which the first two bytes are a scale.
        for at in range(len(data) - 34 * 20_000, len(data) - 34, 2):
            data[at] ^= 0x80 if at % 3 == 0 else 0
        path = written("noise.gguf", data)
        code, out, _ = call(*self.words(path))
        if code == 0:
            self.assertEqual(out, self.ok("run", "--temp", "0", "-n", "12", "--raw", LOOP))
        else:
            self.assertIn(code, (1, 2))

    def test_memory_counts_both(self):
        words = ["run", "--memory-limit", "9MiB", "-c", "256", "-n", "1", "hi"]
        self.assertEqual(call(*words)[0], 0)
        self.refused(1, "needs .* have 9 MiB", *words, "--draft", DRAFT)


class Bench(Case):
    FIELDS = ("task replayed temperature source lookahead cut_off same_tokens plain_ts speculative_ts speedup speedup_samples "
              "acceptance tokens_per_step plain_step_ms draft_cost verify_cost gain_at_cost best_by_formula n_tokens n_steps "
              "n_drafts n_drafted n_accepted n_by_lookup n_unused drafted_at accepted_at draft_seconds").split()

    def test_document(self):
        rows = self.document("bench", "--spec", "--draft", DRAFT, "-n", "12", "-r", "1", "--spec-task", "story,noise",
                             "--spec-source", "ngram,draft,auto", "--lookahead", "0,3", "--spec-temp", "0,1", "--draft-stop", "0",
                             "-o", "json")
        wanted = [("story", t, s, l) for t in (0, 1) for s in ("ngram", "draft", "auto") for l in ("adaptive", 3)]
        wanted += [("noise", 0, s, l) for s in ("ngram", "draft", "auto") for l in ("adaptive", 3)]
        self.assertEqual([(r["task"], r["temperature"], r["source"], r["lookahead"]) for r in rows], wanted)
        for row in rows:
            self.assertEqual(list(row), self.FIELDS)
            self.assertIs(row["same_tokens"], True)
            self.assertEqual(row["replayed"], row["task"] == "noise")
            self.assertEqual((len(row["drafted_at"]), len(row["verify_cost"])), (8, 9))
            self.assertEqual(sum(row["drafted_at"]), row["n_drafted"])
            self.assertEqual(sum(row["accepted_at"]), row["n_accepted"])
            self.assertEqual(row["n_drafts"], row["drafted_at"][0])
            self.assertEqual(row["n_tokens"], row["n_steps"] + row["n_accepted"])
            self.assertAlmostEqual(row["tokens_per_step"], row["n_tokens"] / row["n_steps"])
            self.assertTrue(all(a <= d for a, d in zip(row["accepted_at"], row["drafted_at"])))
            self.assertTrue(0 <= row["acceptance"] <= 1)
            if row["source"] == "ngram":
                self.assertEqual(row["n_by_lookup"], row["n_drafted"])
            if row["source"] == "draft":
                self.assertEqual(row["n_by_lookup"], 0)
                self.assertGreater(row["n_drafted"] if row["lookahead"] == 3 else 1, 0)
        self.assertGreater(sum(row["n_accepted"] for row in rows), 0)

    def test_tables(self):
        words = ["bench", "--spec", "-n", "6", "-r", "1", "--spec-task", "edit", "--spec-source", "ngram", "--lookahead", "4"]
        self.assertRegex(self.ok(*words).decode(), r"(?m)^\| edit \| .* \| ngram \| 4 \|")
        lines = self.ok(*words, "-o", "csv").decode().splitlines()
        self.assertEqual(len(lines), 2)
        self.assertEqual(len(lines[0].split(",")), len(lines[1].split(",")))
        self.assertIs(json.loads(self.ok(*words, "-o", "jsonl"))["same_tokens"], True)

    def test_usage(self):
        self.refused(2, "--spec-source draft: expected --draft", "bench", "--spec", "--spec-source", "draft")
        self.refused(2, "--sim, --spec", "bench", "--spec", "--sim")
        self.refused(2, "--spec-task: expected with --spec", "bench", "--spec-task", "edit")
        self.refused(2, "-p: expected without --spec", "bench", "--spec", "-p", "8")
        self.refused(2, "expected one number with --spec", "bench", "--spec", "-n", "8,9")
        self.refused(2, "--lookahead", "bench", "--spec", "--lookahead", "9")
        self.refused(2, "--spec-task", "bench", "--spec", "--spec-task", "song")
        self.refused(2, "--spec-temp", "bench", "--spec", "--spec-temp", "3")


if __name__ == "__main__":
    main()
