#!/usr/bin/env python3
"""`ruvltra bench --sim` as its users meet it (docs/engine.md): counts are exact, time is not asserted."""
import os
import signal
import subprocess
import time

from cli_harness import SCRATCH, Case, main, start

SIM = ["bench", "--sim", "-t", "2", "--no-progress", "-o", "json"]
LATENCIES = [f"{kind}_ms_{q}" for kind in ("ttft", "itl") for q in ("p50", "p95", "p99")]


class Simulation(Case):
    def rows(self, *words):
        return self.document(*SIM, *words)

    def test_closed_loop_counts(self):
        sizes = ["--requests", "6", "--prompt-tokens", "20", "--output-tokens", "50"]
        rows = self.rows("--clients", "1,3", *sizes)
        self.assertEqual([row["clients"] for row in rows], [1, 3])
        for row in rows:
            self.assertEqual((row["requests"], row["answers"]), (6, 6))
            self.assertEqual((row["tokens_in"], row["tokens_out"]), (6 * 20, 6 * 50))
            self.assertEqual((row["cached_tokens"], row["preemptions"], row["pages_shared_peak"]), (0, 0, 0))
            self.assertEqual(row["pages"], 3 * 2)
            self.assertTrue(all(row[name] > 0 for name in LATENCIES), row)
            self.assertLess(row["waste_per_sequence"], 64)
            self.assertAlmostEqual(row["output_ts"], 300 / row["seconds"], delta=1e-6 * row["output_ts"])
        # Never more than one at a time, so no sequence beyond it is allocated.
        self.assertEqual((rows[0]["pages_peak"], rows[0]["preallocated_pages_peak"]), (2, 2))
        self.assertGreater(rows[1]["preallocated_pages_peak"], 2)
        self.assertEqual(rows[0]["speedup"], 1)
        # The engine's promise: the same bits in any batch.
        self.assertEqual(rows[0]["answers_sha256"], rows[1]["answers_sha256"])

    def test_the_seed_is_the_workload(self):
        sizes = ["--clients", "2", "--requests", "5", "--prompt-tokens", "4,60", "--output-tokens", "2,30", "--temp", "1"]
        counts = [[self.rows(*sizes, "--seed", seed)[0][name] for name in ("tokens_in", "tokens_out", "answers_sha256")]
                  for seed in ("3", "3", "4")]
        self.assertEqual(counts[0], counts[1])
        self.assertNotEqual(counts[0], counts[2])
        self.assertTrue(5 * 4 <= counts[0][0] <= 5 * 60 and 5 * 2 <= counts[0][1] <= 5 * 30)

    def test_shared_prefix(self):
        sizes = ["--requests", "3", "--shared-prefix", "256", "--prompt-tokens", "16", "--output-tokens", "4"]
        row, = self.rows("--clients", "1", *sizes)
        self.assertEqual((row["tokens_in"], row["cached_tokens"], row["cached_requests"]), (3 * 272, 2 * 256, 2))
        self.assertAlmostEqual(row["hit_rate"], 512 / 816)
        self.assertGreater(row["ttft_hit_ms_p50"], 0)
        self.assertEqual(row["pages_shared_peak"], 0)  # found by one after the other
        for without in (["--shared-share", "0"], ["--no-prefix-cache"]):
            row, = self.rows("--clients", "1", *sizes, *without)
            self.assertEqual((row["cached_tokens"], row["ttft_hit_ms_p50"]), (0, None))
        # A row begins with an empty cache, whatever the one before has left.
        self.assertEqual([row["cached_tokens"] for row in self.rows("--clients", "1,1", *sizes)], [512, 512])

    def test_forks_share_their_prompt(self):
        row, = self.rows("--clients", "1", "--requests", "1", "--samples", "8", "--temp", "1", "--prompt-tokens", "300",
                         "--output-tokens", "60")
        self.assertEqual((row["answers"], row["tokens_in"], row["tokens_out"]), (8, 300, 8 * 60))
        self.assertIn(row["pages_shared_peak"], (4, 5))  # the begun page too, until the first copy
        # 300 + 59 positions: 6 pages each, of which the 4 full ones of the prompt are common.
        self.assertEqual((row["pages_unshared_peak"], row["pages_at_unshared_peak"]), (8 * 6, 4 + 8 * 2))

    def test_small_pools_preempt(self):
        sizes = ["--clients", "4", "--requests", "8", "--prompt-tokens", "30", "--output-tokens", "200"]
        free, = self.rows(*sizes)
        page = free["page_bytes"]
        tight, = self.rows(*sizes, "--kv-mem", str(8 * page))
        self.assertEqual(tight["pages"], 8)
        self.assertLessEqual(tight["pages_peak"], 8)
        self.assertGreater(tight["preemptions"], 0)
        self.assertEqual(tight["tokens_out"], 8 * 200)
        self.assertEqual(tight["answers_sha256"], free["answers_sha256"])

    def test_open_loop(self):
        rows = self.rows("--rate", "20,1000", "--requests", "10", "--output-tokens", "8")
        self.assertEqual([(row["clients"], row["rate"], row["requests"]) for row in rows], [(None, 20, 10), (None, 1000, 10)])
        self.assertGreater(rows[0]["seconds"], 0.2)  # the last one does not arrive before

    def test_long_prompt(self):
        row, = self.rows("--clients", "2", "--long-prompt", "1000", "--output-tokens", "20")
        self.assertEqual((row["clients"], row["long_prompt_tokens"]), (2, 1000))
        self.assertGreaterEqual(row["idle_gaps"], 2 * 20)
        self.assertGreater(row["gaps"], 2)
        self.assertAlmostEqual(row["ratio_p99"], row["itl_ms_p99"] / row["itl_idle_ms_p99"])

    def test_forms(self):
        sizes = ["--clients", "1,2", "--requests", "2", "--output-tokens", "4"]
        table = self.ok("bench", "--sim", *sizes).decode()
        self.assertIn("| clients | requests |", table)
        self.assertIn("Answers of all rows: the same bits", table)
        lines = self.ok("bench", "--sim", *sizes, "-o", "csv").decode().splitlines()
        self.assertEqual(len(lines), 3)
        self.assertEqual(lines[0].split(","), list(self.rows(*sizes)[0]))

    def test_refusals(self):
        for words, pattern in ((["--clients", "2"], "--clients: expected with --sim"),
                               (["--sim", "-n", "3"], "-n: expected without --sim"),
                               (["--sim", "--fa"], "--fa: expected without --sim"),
                               (["--sim", "--clients", "2", "--rate", "1"], "expected one of them"),
                               (["--sim", "-t", "1,2"], "expected one number"),
                               (["--sim", "--prompt-tokens", "9,3"], "expected N or MIN,MAX"),
                               (["--sim", "--long-prompt", "9", "--samples", "2"], "expected one answer"),
                               (["--sim", "--long-prompt", "9", "--rate", "2"], "expected clients"),
                               (["--sim", "--ctx", "95"], "expected at least 96"),
                               (["--sim", "--prompt-tokens", "999999"], "expected"),
                               (["--sim", "--clients", "64", "--samples", "2"], "parallel"),
                               (["--sim", "--clients", "0"], "expected")):
            self.refused(2, pattern, "bench", *words)

    def test_settings_of_other_verbs_do_not_count(self):
        settings = os.path.join(SCRATCH, "sim.toml")
        with open(settings, "w") as file:
            file.write('temp = 0.9\nctx = 300\npin = true\n[bench]\nrepetitions = 2\n')
        row, = self.rows("--config", settings, "--clients", "1", "--requests", "1", "--prompt-tokens", "1", "--output-tokens", "1")
        self.assertEqual(row["preallocated_pages_peak"], 1)
        self.ok("bench", "--config", settings, "-p", "1", "-n", "0")

    def test_ctrl_c(self):
        process = start("bench", "--sim", "--clients", "2", "--requests", "60000", stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        time.sleep(1)
        process.send_signal(signal.SIGINT)
        out, _ = process.communicate(timeout=20)
        self.assertEqual((process.returncode, out), (130, b""))


if __name__ == "__main__":
    main()
