#!/usr/bin/env python3
"""The experiments on learned weights with tiny counts: what they print, and that the exit code is the verdict."""
import json
import os
import unittest

from cli_harness import MODEL, ROOT, Case, call, main

TEXTS = ["--author", ROOT + "/tests/data/authors/melville.txt", "--other", ROOT + "/tests/golden/heldout.txt"]

# Minutes each: nightly. What they are about has quick tests as well (src/sona/learner_test.cpp,
# generation_book_test.cpp, src/api/learner_api_test.cpp).
long_ones = unittest.skipUnless(os.environ.get("RUVLTRA_SONA_EVALS"), "RUVLTRA_SONA_EVALS is not set")


class EvalSona(Case):
    def run_reduced(self, name, *words, author=False):
        texts = TEXTS if author else TEXTS[2:]
        code, out, err = call("eval", name, "-m", MODEL, "--no-progress", "--json", "--seed", "2", *texts, *words,
                              timeout=900)
        document = json.loads(out or b"null")
        self.assertIsNotNone(document, err.decode(errors="replace"))
        self.assertEqual(document["kind"], name)
        self.assertTrue(document["gates"])
        self.assertEqual(document["passed"], all(gate["passed"] for gate in document["gates"]))
        self.assertEqual(code, 0 if document["passed"] else 1)
        return document

    def gate(self, document, words):
        found = [gate for gate in document["gates"] if words in gate["name"]]
        self.assertEqual(len(found), 1, words)
        return found[0]

    @long_ones
    def test_quality(self):
        """96 answers are no evidence of a rise: only what must hold at any size is asked for."""
        document = self.run_reduced("sona-quality", "--trials", "1", "--taught", "4608", "--attempts", "24")
        self.assertEqual(len(document["raw"]), 1)
        for trial in document["raw"]:
            for arm in (trial["taught"], trial["control"]):
                self.assertEqual(arm["answers"], 96)
                self.assertEqual(len(arm["reports"]), 1)
                self.assertGreater(arm["shown"], 10)
                if arm["published"] == 0:
                    self.assertEqual(arm["held_out_rate"], trial["base_rate"])
            # Opinions are what differs, not what there is to have an opinion of.
            first = [trial[arm]["reports"][0]["train_tokens"] for arm in ("taught", "control")]
            self.assertLess(abs(first[0] - first[1]), 0.5 * first[0])
        self.assertTrue(self.gate(document, "other text")["passed"])

    def test_null(self):
        document = self.run_reduced("sona-null", "--attempts", "2")
        self.assertEqual(len(document["raw"]["attempts"]), 2)
        kinds = [attempt["kind"] for attempt in document["raw"]["attempts"]]
        self.assertEqual(kinds, ["own text", "random qualities"])
        for attempt in document["raw"]["attempts"]:
            self.assertGreaterEqual(attempt["held_out_tokens"], 256)
            self.assertTrue(attempt["accepted"] or attempt["reason"].startswith("G"), attempt)
            if not attempt["accepted"]:
                self.assertLessEqual(attempt["gain_lower_bound"], 0)
        self.assertTrue(self.gate(document, "drifts")["passed"])

    @long_ones
    def test_boundary(self):
        document = self.run_reduced("sona-boundary", "--trials", "1", "--taught", "12000", "--attempts", "16", "--second-author",
                                    ROOT + "/tests/data/authors/whitman.txt", author=True)
        self.assertTrue(document["passed"], document["gates"])
        (trial,) = document["raw"]
        self.assertEqual((trial["published"], trial["blocks"], trial["false_alarms"]), (True, 16, 0))
        self.assertLessEqual(trial["delay_blocks"], 32)

    @long_ones
    def test_poison(self):
        document = self.run_reduced("sona-poison", "--attempts", "60", author=True)
        self.assertTrue(document["passed"], document["gates"])
        attacks = {attack["attack"]: attack for attack in document["raw"]["attacks"]}
        self.assertEqual(len(attacks), 6)
        for attack in attacks.values():
            self.assertGreater(attack["canary"]["tokens"], 1500)
            self.assertLessEqual(attack["canary"]["rise"], 0.005)
        self.assertEqual(attacks["no numbers"]["refused"], 60)
        # The attack that needs no opinion of anybody's gets somewhere, or the gates were never tried.
        self.assertGreater(attacks["trigger phrase"]["published"], 0)
        self.assertGreater(attacks["trigger phrase"]["canary"]["kl"], 0)

    @long_ones
    def test_rollback(self):
        document = self.run_reduced("sona-rollback", "--attempts", "8", "--publish-kills", "6", author=True)
        self.assertTrue(document["passed"], document["gates"])
        self.assertEqual(document["raw"]["jumps"]["same_bits"], 8)
        self.assertEqual(document["raw"]["kills"]["n"], 6)
        self.assertEqual(document["raw"]["races"]["one_winner"], document["raw"]["races"]["rounds"])

    def test_usage(self):
        self.refused(2, "publish-kills", "eval", "sona-null", "-m", MODEL, "--no-progress", "--publish-kills", "3")


if __name__ == "__main__":
    main()
