#!/usr/bin/env python3
"""`ruvltra run` as its users meet it (docs/cli.md): answers, documents, Ctrl+C, the dialogue on a terminal."""
import json
import os
import re
import signal
import subprocess
import time

from cli_harness import SCRATCH, STORY, Case, Terminal, call, main, start

# With this seed the model writes 1900 tokens without ending its tale; scalar kernels take seconds for it.
LONG_ANSWER = ["run", "--raw", "--temp", "1", "--seed", "1", "-n", "1900", "-t", "1", "--isa", "scalar", "Once upon a time"]


class Prompts(Case):
    def test_prompts_reach_the_model_unchanged(self):
        """Brackets and braces mean something to the option parser; words after -- are never options."""
        def n_tokens(*words, **named):
            return self.document("run", "--json", "--raw", "-n", "1", *words, **named)["usage"]["prompt_tokens"]
        plain = n_tokens(stdin=b"[a,b] {}")
        self.assertEqual(n_tokens("[a,b] {}"), plain)
        self.assertEqual(n_tokens("[a,b]", "{}"), plain)
        self.assertEqual(n_tokens("--", "--temp 9"), n_tokens(stdin=b"--temp 9"))
        self.assertEqual(n_tokens("words", stdin=b"input\n"), n_tokens(stdin=b"words\n\ninput"))
        self.assertEqual(n_tokens("C", "++", "or", "++"), n_tokens(stdin=b"C ++ or ++"))
        self.assertEqual(n_tokens("C", "-s", "++"), n_tokens("C"))  # a raw prompt has no system message

    def test_model_given_as_prompt(self):
        self.refused(2, r"-m nano\.gguf", "run", "nano.gguf")
        self.refused(2, r"-m nano\.gguf", "run", "nano.gguf", "hello")

    def test_an_answer_has_a_token(self):
        self.refused(2, "--max-tokens: expected -1 or at least 1, found 0", "run", "-n", "0", "hello")

    def test_large_top_k_keeps_all(self):
        words = ["run", "--seed", "5", "-n", "12", STORY]
        self.assertEqual(self.ok(*words, "--top-k", "1000000"), self.ok(*words))


class Answers(Case):
    def test_same_seed_same_text(self):
        words = ["run", "--seed", "7", "-n", "48", STORY]
        first = self.ok(*words, "-t", "1")
        self.assertGreater(len(first), 80)
        self.assertEqual(first, self.ok(*words, "-t", "1"))
        self.assertEqual(first, self.ok(*words, "-t", "2"))
        self.assertEqual(first, self.ok(*words, "-t", "3", "--isa", "scalar"))
        self.assertNotEqual(first, self.ok("run", "--seed", "8", "-n", "48", STORY))

    def test_streams_are_separate(self):
        code, out, err = call("run", "--temp", "0", "-n", "8", "--stats", STORY)
        self.assertEqual(code, 0)
        self.assertRegex(err.decode(), r"first token [\d.]+ s .* seed \d+\n\Z")
        self.assertEqual(self.ok("run", "--temp", "0", "-n", "8", STORY), out)
        self.assertEqual(call("run", "--temp", "0", "-n", "8", STORY)[2], b"")

    def test_stop_string_and_raw(self):
        words = ["run", "--json", "--raw", "--temp", "0", "-n", "64", "Once upon a time"]
        text = self.document(*words)["text"]
        stop = text.split()[5]
        cut = self.document(*words, "--stop", stop)
        self.assertEqual((cut["text"], cut["finish_reason"]), (text[:text.index(stop)], "stop"))

    def test_first_token_comes_soon(self):
        """A hang bound, not a measurement: the promise is one second, checked where the machine is quiet."""
        begin = time.monotonic()
        answer = self.document("run", "--json", "-n", "1", STORY)
        self.assertLess(time.monotonic() - begin, 10)
        self.assertLess(answer["timings"]["ttft_ms"], 10_000)

    def test_output_is_valid_utf8(self):
        out = self.ok("run", "--raw", "--temp", "2", "--seed", "3", "-n", "200", "\u732b \U0001f98a")
        out.decode("utf-8")

    def test_document(self):
        answer = self.document("run", "--json", "--seed", "7", "-n", "5", "--logprobs", "3", STORY)
        self.assertLessEqual({"text", "finish_reason", "model", "seed", "adapter_generation", "usage", "timings"},
                             set(answer))
        self.assertEqual((answer["finish_reason"], answer["seed"]), ("length", 7))
        self.assertEqual(answer["usage"]["completion_tokens"], 5)
        entries = answer["logprobs"]["content"]
        self.assertEqual(len(entries), 5)
        self.assertEqual("".join(e["token"] for e in entries), answer["text"])
        for entry in entries:
            tops = [top["logprob"] for top in entry["top_logprobs"]]
            self.assertEqual(len(tops), 3)
            self.assertEqual(tops, sorted(tops, reverse=True))
            self.assertLessEqual(entry["logprob"], tops[0])
            self.assertLessEqual(tops[0], 0)
        drawn = self.document("run", "--json", "-n", "1", STORY)["seed"]
        self.assertIsInstance(drawn, int)
        self.assertNotEqual(drawn, self.document("run", "--json", "-n", "1", STORY)["seed"])


class CacheMemory(Case):
    PAGE = 64 * 2 * 4 * 128 * 2  # 64 tokens, K and V, layers, one head of 128, f16

    def completion(self, *words):
        return self.document("run", "--json", "--raw", "--temp", "1", "--seed", "1", *words, "Once upon a time")["usage"]

    def test_size_of_the_cache(self):
        """It limits the context that was not asked for, and must hold the one that was."""
        short = self.completion("--kv-mem", f"{2 * self.PAGE + 5}")
        self.assertEqual(short["total_tokens"], 128)
        self.assertEqual(self.completion("--kv-mem", f"{2 * self.PAGE}", "-c", "128"), short)
        self.assertEqual(self.completion("--kv-mem", "64M", "-c", "128"), short)
        self.assertEqual(self.completion("-c", "64")["total_tokens"], 64)
        q8_0 = self.completion("--kv-mem", f"{2 * self.PAGE}", "--kv-type", "q8_0")
        self.assertGreater(q8_0["total_tokens"], 128)

    def test_too_small_or_too_big(self):
        self.refused(2, f"--kv-mem: expected at least {self.PAGE} bytes for 64 tokens, found 1K", "run", "--kv-mem", "1K", "hi")
        self.refused(2, f"--kv-mem: expected at least {3 * self.PAGE} bytes for 129 tokens", "run", "-c", "129", "--kv-mem",
                     f"{3 * self.PAGE - 1}", "hi")
        self.refused(2, "size: expected a number", "run", "--kv-mem", "lots", "hi")
        self.refused(1, "needs .* have", "run", "--kv-mem", "64G", "--memory-limit", "1G", "hi")
        self.refused(2, "engine.kv_bytes: expected", "run", "--kv-mem", "4000000T", "--memory-limit", "4000000T", "hi")


class Signals(Case):
    def test_interrupt_keeps_what_was_written(self):
        child = start(*LONG_ANSWER, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        first = os.read(child.stdout.fileno(), 1)
        child.send_signal(signal.SIGINT)
        rest, err = child.communicate(timeout=20)
        self.assertEqual(child.returncode, 130)
        self.assertEqual(err, b"")
        self.assertTrue((first + rest).endswith(b"\n"))
        (first + rest).decode("utf-8")

    def test_interrupted_document_is_whole(self):
        child = start(*LONG_ANSWER, "--json", stdout=subprocess.PIPE)
        time.sleep(0.3)
        child.send_signal(signal.SIGTERM)
        out, _ = child.communicate(timeout=20)
        self.assertEqual(child.returncode, 130)
        if out:
            self.assertEqual(json.loads(out)["finish_reason"], "cancelled")


class Dialogue(Case):
    def test_conversation(self):
        saved = os.path.join(SCRATCH, "talk.json")
        terminal = Terminal("run", "--seed", "7", "-n", "24")
        terminal.expect(r"nano-q8_0.gguf.*/help")
        terminal.expect(">>> ")
        terminal.send(STORY + "\n")
        terminal.expect(r"(?s)\w+ \w+ \w+.*>>> ")
        terminal.send("/stats\n")
        terminal.expect(r"answer \d+ tokens")
        terminal.expect(">>> ")
        terminal.send("/set temp 3\n")
        terminal.expect("error: /set: --temp: expected a number in 0..2")
        terminal.send("/set temp 0\n/show\n")
        terminal.expect(r"temp 0 ")
        terminal.send("/sav x\n")
        terminal.expect("unknown command.*/save")
        terminal.send("/profile coder\n/show\n")
        terminal.expect(r"(?s)temp 0\.2 .*seed 0\D")
        terminal.send("/profile base\n/show\n")
        terminal.expect(r"(?s)temp 0\.7 .*seed drawn")
        terminal.send("/profile none\n")
        terminal.expect("expected base, coder or agent")
        with open(saved + ".old", "w"):
            pass
        terminal.send(f"/save {saved}.old\n")
        self.assertNotIn("force", terminal.expect("expected a new file name.*\n"))
        terminal.send(f"/save {saved}\n")
        terminal.expect("saved ")
        self.assertEqual(os.stat(saved).st_mode & 0o777, 0o600)
        terminal.expect(">>> ")
        terminal.send('"""first\nsecond"""\n')
        terminal.expect(r"\.\.\. ")
        terminal.expect(">>> ")
        terminal.send(f"/clear\n/load {saved}\n")
        terminal.expect("loaded 2 messages")
        terminal.send("/retry\n")
        terminal.expect(r"(?s)\w+ \w+.*>>> ")
        terminal.send("/bye\n")
        self.assertEqual(terminal.close(), 0)
        with open(saved) as file:
            messages = json.load(file)["messages"]
        self.assertEqual([m["role"] for m in messages], ["user", "assistant"])
        self.assertEqual(messages[0]["content"], STORY)
        history = os.path.join(SCRATCH, "ruvltra", "history")
        self.assertEqual(os.stat(history).st_mode & 0o777, 0o600)
        with open(history) as file:
            self.assertIn("fox", file.read())

    def test_interrupt_stops_the_answer_only(self):
        terminal = Terminal("run", "--no-history", "--temp", "1", "--seed", "1", "-t", "1", "--isa", "scalar", "--raw",
                            "-n", "1900")
        terminal.expect(">>> ")
        terminal.send("half a li\x03")
        terminal.expect(">>> ")
        terminal.send("Once upon a time\n")
        terminal.expect(r"time\r\n(?!>>>).*\w")
        terminal.send("\x03")
        terminal.expect(r"\(stopped\)")
        terminal.expect(">>> ")
        terminal.send("/show\n")
        terminal.expect(r"context [1-9]\d* of")
        terminal.expect(">>> ")
        terminal.send("\x04")
        self.assertEqual(terminal.close(), 0)

    def test_interrupt_before_the_answer_drops_the_turn(self):
        long, saved = os.path.join(SCRATCH, "long.json"), os.path.join(SCRATCH, "dropped.json")
        messages = [{"role": "user", "content": STORY * 150}, {"role": "assistant", "content": "No."}]
        with open(long, "w") as file:
            json.dump({"messages": messages}, file)
        terminal = Terminal("run", "--no-history", "-t", "1", "--isa", "scalar")
        terminal.expect(">>> ")
        terminal.send(f"/load {long}\n")
        terminal.expect("loaded 2 messages")
        terminal.expect(">>> ")
        terminal.send("And then?\n")
        terminal.expect(r"then\?\r\n")
        time.sleep(0.1)
        terminal.send("\x03")
        terminal.expect(r"\(stopped\)")
        terminal.expect(">>> ")
        terminal.send(f"/save {saved}\n/bye\n")
        terminal.expect("saved ")
        self.assertEqual(terminal.close(), 0)
        with open(saved) as file:
            self.assertEqual(json.load(file)["messages"], messages)

    def test_second_turn_finds_the_first_in_the_cache(self):
        """All full pages of the first turn, prompt and answer, are there when the second begins."""
        talk = f"{STORY * 12}\nAnd then?\n/stats\n/retry\n/stats\n/clear\n{STORY}\n/stats\n/bye\n"
        code, _, err = call("run", "-i", "--stats", "--temp", "0", "-n", "40", stdin=talk.encode())
        self.assertEqual(code, 0)
        turns = re.findall(r"prompt (\d+) tokens(?: \((\d+) cached\))?", err.decode())
        first, second, _, retry, _, fresh, _ = [(int(prompt), int(cached or 0)) for prompt, cached in turns]
        self.assertEqual(first[1], 0)
        self.assertGreaterEqual(first[0], 128)
        self.assertEqual(second[1], (first[0] + 40) // 64 * 64)
        self.assertEqual(retry, (second[0], second[0] // 64 * 64))
        self.assertEqual(fresh[1], 0)

    def test_cached_tokens_of_a_document(self):
        self.assertEqual(self.document("run", "--json", "-n", "1", STORY)["usage"]["prompt_tokens_details"],
                         {"cached_tokens": 0})

    def test_progress_of_a_long_prompt(self):
        """Each step of 512 tokens is reported; the line is gone before the answer begins."""
        prompt = ("Once upon a time there was a fox. " * 60).strip()
        words = ["run", "-t", "1", "--isa", "scalar", "--temp", "1", "--seed", "1", "-n", "8", "--raw", prompt]
        answer = self.document(*words, "--json")["text"].strip().split()[0]
        terminal = Terminal(*words)
        shown = terminal.expect(rf"\r\x1b\[K\s*{re.escape(answer)}")
        self.assertRegex(shown, r"reading the prompt +[1-9]\d %")
        self.assertEqual(terminal.close(), 0)
        terminal = Terminal(*words, "--no-progress")
        self.assertNotIn("reading", terminal.expect(re.escape(answer)))
        self.assertEqual(terminal.close(), 0)

    def test_interactive_without_a_terminal(self):
        out = self.ok("run", "-i", "--seed", "7", "-n", "8", stdin=(STORY + "\n/bye\n").encode())
        self.assertGreater(len(out), 10)

    def test_no_colour_or_bar_off_a_terminal(self):
        code, out, err = call("run", "-n", "8", STORY)
        self.assertEqual((code, err), (0, b""))
        self.assertNotIn(b"\x1b", out)


if __name__ == "__main__":
    main()
