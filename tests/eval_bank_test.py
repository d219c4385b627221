#!/usr/bin/env python3
"""`ruvltra eval bank` with reduced counts: every gate of the ReasoningBank on the bundled model."""
import unittest

from cli_harness import MODEL, ROOT, Case, call, main

TEXTS = ["--texts", ROOT + "/tests/golden/heldout.txt"]
REDUCED = ["eval", "bank", "-m", MODEL, "--no-progress", "--stream-tasks", "16", "--stream-seeds", "2", *TEXTS]


class EvalBank(Case):
    def test_gates_hold_and_the_same_seed_gives_the_same_figures(self):
        first = self.document(*REDUCED, "--seed", "3", "--json")
        for gate in first["gates"]:
            self.assertTrue(gate["passed"], gate)
        self.assertEqual(len(first["gates"]), 12)
        self.assertTrue(first["passed"])
        stream = first["streams"][0]["the same answer again"]
        self.assertEqual(stream["n"], 8)
        self.assertEqual(len(stream["nll_change"]), 8)
        self.assertGreaterEqual(stream["right_item"], 7)
        # Where nothing was put before the request, nothing changed, to the last bit.
        foreign = first["streams"][0]["other kinds of text"]
        self.assertEqual(foreign["nll_change"].count(0), foreign["n"] - foreign["injected"])
        again = self.document(*REDUCED, "--seed", "3", "--json")
        self.assertEqual(first["streams"], again["streams"])

    def test_usage(self):
        self.refused(2, "bank.texts|expected at least", "eval", "bank", "-m", MODEL, "--no-progress", "--texts",
                     ROOT + "/LICENSE")
        code, _, err = call("eval", "bank", "-m", MODEL, "--no-progress", "--texts", "/nonexistent")
        self.assertEqual(code, 1)
        self.assertIn(b"/nonexistent", err)


if __name__ == "__main__":
    main()
