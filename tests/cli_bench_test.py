#!/usr/bin/env python3
"""`ruvltra bench` as its users meet it (docs/cli.md): documents, tables and refusals; no timing is asserted."""
import json
import os

from cli_harness import MODEL, Case, call, main


class Bench(Case):
    def test_documents(self):
        names = ("build_commit build_number cpu_info gpu_info backends model_filename model_type model_size model_n_params "
                 "n_batch n_ubatch n_threads cpu_mask cpu_strict poll type_k type_v n_gpu_layers split_mode main_gpu "
                 "no_kv_offload flash_attn tensor_split use_mmap embeddings n_prompt n_gen n_depth test_time avg_ns "
                 "stddev_ns avg_ts stddev_ts isa peak_rss_bytes read_bw_gbs pct_roofline n_seqs n_per_step step_ms step_ratio "
                 "samples_ts").split()
        sizes = ["-p", "16", "-n", "4,0", "-pg", "8,2", "-r", "2", "-t", "1,2"]
        rows = self.document("bench", *sizes, "-o", "json")
        self.assertEqual([(r["n_threads"], r["n_prompt"], r["n_gen"]) for r in rows],
                         [(t, p, n) for t in (1, 2) for p, n in ((16, 0), (0, 4), (8, 2))])
        for row in rows:
            self.assertEqual(list(row), names)
            self.assertEqual(len(row["samples_ts"]), 2)
            self.assertAlmostEqual(row["avg_ts"], sum(row["samples_ts"]) / 2, delta=1e-6 * row["avg_ts"])
            self.assertEqual(row["pct_roofline"] is not None, row["n_prompt"] == 0)
        # The 256 MiB read beside the runs are not the model's.
        self.assertLess(rows[0]["peak_rss_bytes"], 192 << 20)
        self.assertGreater(rows[0]["peak_rss_bytes"], os.path.getsize(MODEL))
        lines = self.ok("bench", "-p", "8", "-n", "2", "-r", "1", "-o", "csv").decode().splitlines()
        self.assertEqual(lines[0].split(","), names)
        self.assertEqual(len(lines), 3)
        lines = self.ok("bench", "-p", "8", "-n", "2", "-r", "1", "-o", "jsonl").decode().splitlines()
        self.assertEqual([list(json.loads(line)) for line in lines], [names, names])
        table = self.ok("bench", "-p", "8", "-n", "2", "-r", "1").decode()
        self.assertRegex(table, r"(?m)^\| model \| size \| params \| backend \| threads \| test \| t/s \|$")
        self.assertRegex(table, r"(?m)\| pp8 \| [\d.]+ ± [\d.]+ \|$")

    def test_batches(self):
        sizes = ["-p", "0", "-n", "3", "-d", "0,70", "-b", "2,1", "--step-tokens", "4", "-r", "2"]
        rows = self.document("bench", *sizes, "-o", "json")
        self.assertEqual([(r["n_depth"], r["n_seqs"], r["n_per_step"]) for r in rows],
                         [(d, s, n) for d in (0, 70) for s, n in ((1, 1), (2, 1), (1, 4))])
        for row in rows:
            tokens = 3 * row["n_seqs"] * row["n_per_step"]
            self.assertAlmostEqual(row["step_ms"], row["avg_ns"] / 1e6 / 3, delta=1e-3 * row["step_ms"])
            # Deviations are allowed for: the mean of rates is not the rate of the mean.
            self.assertGreaterEqual(row["avg_ts"] * 1.0001, tokens / (row["avg_ns"] / 1e9))
            self.assertEqual(row["step_ratio"] == 1, row["n_seqs"] * row["n_per_step"] == 1)
        table = self.ok("bench", *sizes[:5], "0", *sizes[6:]).decode()
        self.assertRegex(table, r"(?m)^\| threads \| test \| ms per step \| x a 1-token step \| % of read bandwidth \|$")
        self.assertRegex(table, r"(?m)^\| \d+ \| tg3 2 seqs \| [\d.]+ \| [\d.]+ \| \d+ \|$")
        for option, value in (("-b", "0"), ("-b", "1,x"), ("--step-tokens", "513"), ("-d", "-1"), ("-pg", "5"), ("-p", "")):
            code, out, err = call("bench", option, value)
            self.assertEqual((code, out), (2, b""), (option, value))
            self.assertRegex(err.decode(), r"^ruvltra: error: .*expected .*found")
        code, _, err = call("bench", "-p", "0", "-n", "4", "-b", "256", "-d", "1900", "--memory-limit", "100M")
        self.assertEqual(code, 1)
        self.assertIn("KV cache", err.decode())


if __name__ == "__main__":
    main()
