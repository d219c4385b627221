#!/usr/bin/env python3
"""The command line as its users meet it (docs/cli.md): exit codes, streams, settings, documents, tokens."""
import json
import os
import re
import subprocess

from cli_harness import MODEL, SCRATCH, STORY, Case, call, main, start

VERBS = ["run", "quantize", "synth", "show", "tokenize", "eval", "bench", "version", "doctor"]


class Usage(Case):
    def test_help_and_version(self):
        text = self.ok("--help").decode()
        for verb in VERBS:
            self.assertRegex(text, rf"(?m)^  {verb} ")
            self.assertRegex(self.ok(verb, "--help").decode(), rf"(?s)\nExamples:\n.*ruvltra {verb}")
        self.assertRegex(self.ok("--version").decode(), r"\Aruvltra \d+\.\d+\.\d+")

    def test_wrong_usage_ends_with_2(self):
        self.refused(2, "expected a verb")
        self.refused(2, 'unknown verb "rnu"; did you mean run', "rnu")
        self.refused(2, 'unknown option "--tmep"; did you mean --temp', "run", "--tmep", "1", "hello")
        self.refused(2, "--temp: expected a number in 0..2, found \"warm\"", "run", "--temp", "warm", "hello")
        self.refused(2, "--temp: expected a number in 0..2, found \"3\"", "run", "--temp", "3", "hello")
        self.refused(2, "--threads: expected an integer", "run", "-t", "1.5", "hello")
        self.refused(2, "expected one of base, coder, agent", "run", "--profile", "codr", "hello")
        self.refused(2, "isa", "run", "--isa", "quantum", "hello")
        self.refused(2, "--ctx: expected at most", "run", "-c", "4096", "hello")
        self.refused(2, "unexpected argument", "version", "now")
        self.refused(2, "size: expected", "run", "--memory-limit", "much", "hello")
        self.refused(2, "expected a prompt", "run")
        self.refused(2, "--raw", "run", "--parse-special", "hello")

    def test_options_that_would_do_nothing(self):
        for words in (["ppl", "--last"], ["ppl", "--tokens", "1"], ["ppl", "--base", "x"], ["mc", "--full"]):
            self.refused(2, "which belongs to eval", "eval", *words)
        self.refused(2, "excludes", "eval", "logits", "--tokens", "1", "--tokens-file", "x", "-o", "x.npy")
        self.refused(2, "found both", "eval", "logits", "--tokens", "1", "-o", "-", "--json")
        self.refused(2, "excludes", "tokenize", "--decode", "--ids")
        self.refused(2, "excludes", "tokenize", "--decode", "--no-special")

    def test_gguf_output_needs_a_name(self):
        self.refused(2, "expected a file name, found -", "quantize", MODEL, "-", "F16")
        self.refused(2, "expected a file name, found -", "synth", "-")

    def test_token_ids_of_logits(self):
        words = ["eval", "logits", "-o", os.path.join(SCRATCH, "refused.npy"), "--tokens"]
        self.refused(2, "token ids below 4096, found 4096", *words, "4096")
        self.refused(2, "expected at most 2 ids, found 3", *words, "1,2,3", "-c", "2")
        self.refused(2, "expected at most 2048 ids, found 2049", *words, ",".join(["1"] * 2049))
        # Memory is counted for the ids given: 8 MB would not do for the whole context.
        need = self.document("show", MODEL, "--json")["memory"]["total"]
        self.assertGreater(need, 8_000_000)
        self.ok("eval", "logits", "--tokens", "1,2", "-o", "-", "--memory-limit", "8M")

    def test_failures_end_with_1(self):
        missing = os.path.join(SCRATCH, "missing.gguf")
        for verb in (["run", "hello"], ["bench"], ["tokenize"], ["show"]):
            self.refused(1, "missing.gguf: cannot open", *verb, "-m", missing)
        broken = os.path.join(SCRATCH, "broken.gguf")
        with open(broken, "wb") as file:
            file.write(b"GGUF\x03\x00\x00\x00")
        for verb in (["run", "hello"], ["bench"], ["tokenize"], ["show"]):
            self.refused(1, "broken.gguf", *verb, "-m", broken)
        self.refused(1, "expected a regular file, found a directory", "show", SCRATCH)
        self.refused(1, "needs .* have", "run", "--memory-limit", "1M", "hello")


class Settings(Case):
    def setUp(self):
        self.config = os.path.join(SCRATCH, "settings.toml")

    def write(self, text):
        with open(self.config, "w") as file:
            file.write(text)

    def effective(self, *words, **extra):
        text = self.ok("run", "--config", self.config, "--print-config", *words, **extra).decode()
        return dict(re.findall(r"(?m)^(\w+) = (.*)  # ", text)), dict(re.findall(r"(?m)^(\w+) = .*  # (.*)$", text))

    def test_precedence(self):
        self.write('profile = "coder"\n')
        values, sources = self.effective()
        self.assertEqual((values["temp"], sources["temp"]), ("0.2", "profile coder"))
        self.assertEqual((values["seed"], sources["seed"]), ("0", "profile coder"))
        self.assertEqual((values["top_k"], sources["top_k"]), ("0", "default"))
        self.write('profile = "coder"\ntemp = 0.3\n')
        values, sources = self.effective()
        self.assertEqual((values["temp"], sources["temp"]), ("0.3", self.config))
        self.write('profile = "coder"\ntemp = 0.3\n[run]\ntemp = 0.4\n')
        values, sources = self.effective()
        self.assertEqual((values["temp"], sources["temp"]), ("0.4", self.config + " [run]"))
        values, sources = self.effective(RUVLTRA_TEMP="0.5")
        self.assertEqual((values["temp"], sources["temp"]), ("0.5", "environment RUVLTRA_TEMP"))
        values, sources = self.effective("--temp", "0.6", RUVLTRA_TEMP="0.5")
        self.assertEqual((values["temp"], sources["temp"]), ("0.6", "flag"))

    def test_settings_act(self):
        """What --print-config says is what the run does."""
        self.write("[run]\nmax_tokens = 3\ntemp = 0\n")
        answer = self.document("run", "--config", self.config, "--json", STORY)
        self.assertEqual(answer["usage"]["completion_tokens"], 3)
        answer = self.document("run", "--config", self.config, "--json", STORY, RUVLTRA_MAX_TOKENS="4")
        self.assertEqual(answer["usage"]["completion_tokens"], 4)

    def test_printed_settings_read_back(self):
        self.write("")
        text = self.ok("run", "--config", self.config, "--print-config", "--stop", "a\"b\\", "--stop", "[x]", "--seed",
                       "18446744073709551615", "-s", "line\nline").decode()
        self.write(text)
        values, sources = self.effective()
        self.assertEqual(values["stop"], r'["a\"b\\", "[x]"]')
        self.assertEqual(values["seed"], '"18446744073709551615"')
        self.assertEqual(sources["system"], self.config + " [run]")

    def test_printed_defaults_read_back(self):
        def settings(*words):
            return re.findall(r"(?m)^(\w+ = .*)  # (.*)$", self.ok(*words).decode())
        for verb in VERBS:
            text = self.ok(verb, "--print-config").decode()
            self.assertIn(f"\n[{verb}]\n", text)
            self.write(text)
            printed = settings(verb, "--print-config")
            read = settings(verb, "--print-config", "--config", self.config)
            self.assertEqual([value for value, _ in printed], [value for value, _ in read])
            self.assertEqual({source for _, source in read} - {f"{self.config} [{verb}]"}, set())
        self.assertIn("\nn_prompt = [512]  #", self.ok("bench", "--print-config").decode())
        self.assertIn("\n# stop: not set\n", self.ok("run", "--print-config").decode())
        self.refused(2, "unknown option", "quantize", "--print-config", "--bogus")

    def test_settings_do_not_decide_what_eval_measures(self):
        text = os.path.join(SCRATCH, "story.txt")
        with open(text, "w") as file:
            file.write(STORY * 8)
        words = ["eval", "ppl", "-f", text, "-c", "16", "--json"]
        self.write("max_tokens = 17\n")
        whole = self.document(*words)["tokens"]
        self.assertGreater(whole, 16)
        self.assertEqual(self.document(*words, "--config", self.config)["tokens"], whole)
        self.assertEqual(self.document(*words, RUVLTRA_MAX_TOKENS="17")["tokens"], whole)
        out = os.path.join(SCRATCH, "logits.npy")
        self.refused(2, "expected -o", "eval", "logits", "--tokens", "1", RUVLTRA_OUTPUT=out)
        self.ok("eval", "logits", "--tokens", "1", "-o", out)
        self.refused(2, "exists", "eval", "logits", "--tokens", "1", "-o", out, RUVLTRA_FORCE="1")

    def test_no_progress_variable(self):
        self.write("")
        for value, effect in (("1", "true"), ("yes please", "true"), ("0", "false"), ("false", "false")):
            values, _ = self.effective(RUVLTRA_NO_PROGRESS=value)
            self.assertEqual(values["no_progress"], effect, value)

    def test_where_the_file_is_found(self):
        self.write("threads = 7\n")
        shown = self.ok("run", "--print-config", RUVLTRA_CONFIG=self.config).decode()
        self.assertIn("threads = 7  # " + self.config, shown)
        home = os.path.join(SCRATCH, "xdg")
        os.makedirs(os.path.join(home, "ruvltra"), exist_ok=True)
        with open(os.path.join(home, "ruvltra", "config.toml"), "w") as file:
            file.write("threads = 6\n")
        self.assertIn("threads = 6  #", self.ok("run", "--print-config", XDG_CONFIG_HOME=home).decode())
        self.refused(2, "cannot open", "version", "--config", os.path.join(SCRATCH, "none.toml"))

    def test_strict_keys(self):
        for text, pattern in (("thread = 2\n", r'unknown key "thread"; did you mean threads'),
                              ("[rnu]\ntemp = 1\n", r'unknown table "rnu"; did you mean run'),
                              ("[run]\ntmep = 1\n", r'key in \[run\]: "tmep"; did you mean temp'),
                              ("temp = 9\n", r"settings.toml: --temp: expected a number in 0..2"),
                              ("temp = {a = 1}\n", r"unknown table|expected"),
                              ("temp = \n", r"settings.toml"),
                              ("temp = 1\ntemp = 2\n", r"settings.toml"),
                              ("stop = " + "[" * 40 + "]" * 40 + "\n", r"nested"),
                              ("a." * 17 + "a = 1\n", r"dots in a key"),
                              ("[" + "a . " * 17 + "a]\n", r"dots in a key"),
                              ("#" * (1 << 16) + "\n", r"settings.toml")):
            self.write(text)
            self.refused(2, pattern, "run", "--config", self.config, "hello")
        self.write('system = "' + "." * 40 + "[" * 40 + '\\""  # ' + "." * 40 + "\n")
        self.assertIn("system", self.effective()[0])
        self.write("")
        self.refused(2, "environment RUVLTRA_TEMP: --temp: expected a number", "run", "hello", RUVLTRA_TEMP="hot")


class Documents(Case):
    def test_version(self):
        self.assertEqual(set(self.document("version", "--json")),
                         {"version", "commit", "compiler", "isa", "formats", "libraries"})

    def test_show(self):
        keys = {"file", "sha256", "architecture", "name", "parameters", "n_layers", "d_model", "n_heads", "n_kv_heads",
                "d_head", "d_ff", "n_vocab", "context", "rope_base", "tied", "quant", "kv_bytes_per_token", "memory"}
        shown = self.document("show", MODEL, "--json")
        self.assertLessEqual(keys, set(shown))
        self.assertIsNone(shown["sha256"])
        self.assertEqual((shown["n_layers"], shown["d_model"], shown["n_vocab"], shown["tied"]), (4, 256, 4096, True))
        self.assertEqual(shown["kv_bytes_per_token"], 2 * 4 * 128 * 2)  # K and V, layers, one head of 128, f16
        self.assertEqual(set(shown["memory"]), {"weights", "kv", "scratch", "total"})
        total = sum(entry["bytes"] for entry in shown["quant"].values())
        self.assertLess(total, os.path.getsize(MODEL))
        verified = self.document("show", MODEL, "--json", "--verify", "--tensors", "--metadata")
        digest = subprocess.run(["sha256sum", MODEL], capture_output=True, text=True).stdout.split()[0]
        self.assertEqual(verified["sha256"], digest)
        self.assertEqual(sum(t["bytes"] for t in verified["tensors"]), total)
        self.assertEqual(verified["metadata"]["general.architecture"], "qwen2")
        self.assertIn("<|im_start|>", self.ok("show", "--template").decode())
        self.assertIn("<|im_start|>", self.document("show", "--template", "--json")["template"])
        self.assertIn("token_embd.weight", self.ok("show", "--tensors").decode())

    def test_doctor(self):
        report = self.document("doctor", "--json", "-m", MODEL)
        self.assertEqual(set(report), {"ok", "checks"})
        self.assertTrue(report["ok"])
        for check in report["checks"]:
            self.assertEqual(set(check), {"id", "status", "detail", "remedy"})
            self.assertIn(check["status"], ("ok", "warn", "fail"))
            self.assertEqual(check["remedy"] is None, check["status"] == "ok")
        self.assertLessEqual({"cpu", "threads", "memory", "model"}, {check["id"] for check in report["checks"]})
        code, out, err = call("doctor", "--json", "-m", os.path.join(SCRATCH, "missing.gguf"))
        self.assertEqual((code, json.loads(out)["ok"], err), (1, False, b""))


class Tokens(Case):
    TEXT = "Once upon a time, in the na\u00efve village of \u732b \U0001f98a, 1234 <|im_end|> \t\n\n  the end.\n"

    def test_round_trip(self):
        ids = self.ok("tokenize", "--ids", stdin=self.TEXT.encode())
        self.assertRegex(ids, rb"\A\d+( \d+)*\n\Z")
        self.assertEqual(self.ok("tokenize", "--decode", stdin=ids), self.TEXT.encode())
        lines = self.ok("tokenize", stdin=self.TEXT.encode()).decode().splitlines()
        self.assertEqual([line.split("\t")[0] for line in lines], ids.decode().split())

    def test_control_strings(self):
        special = self.ok("tokenize", "--ids", stdin=b"<|im_end|>").split()
        plain = self.ok("tokenize", "--ids", "--no-special", stdin=b"<|im_end|>").split()
        self.assertEqual(len(special), 1)
        self.assertGreater(len(plain), 1)

    def test_wrong_input(self):
        self.refused(1, "UTF-8", "tokenize", stdin=b"ab\xff")
        self.refused(1, "token ids below 4096", "tokenize", "--decode", stdin=b"12 4096")
        self.refused(1, "token ids", "tokenize", "--decode", stdin=b"twelve")


class Streams(Case):
    def test_closed_stdout_ends_quietly(self):
        for words in (["run", "--raw", "-n", "400", "Once"], ["show", "--tensors"], ["--help"]):
            reader, writer = os.pipe()
            os.close(reader)
            child = start(*words, stdout=writer, stderr=subprocess.PIPE)
            os.close(writer)
            _, err = child.communicate(timeout=60)
            self.assertEqual((child.returncode, err), (0, b""), words)

    def test_full_disk_is_an_error(self):
        with open("/dev/full", "wb") as full:
            child = start("show", stdout=full, stderr=subprocess.PIPE)
            _, err = child.communicate(timeout=60)
        self.assertEqual(child.returncode, 1)
        self.assertRegex(err.decode(), r"\Aruvltra: error: stdout: write failed: [^\n]+\n\Z")


if __name__ == "__main__":
    main()
