"""Learning in a dialogue: corrected answers change what comes next, by as much as can be shown, and go away again."""
import os
import tempfile

from cli_harness import SCRATCH, Case, call, main
from fables import NEVER_TAUGHT, PAIRS, corrected, question


class Sona(Case):
    def setUp(self):
        self.data = ["--data-dir", os.path.join(tempfile.mkdtemp(dir=SCRATCH), "data"), "--no-progress"]

    def dialogue(self, lines):
        """What a dialogue with these lines prints: the answers, one paragraph each, and the notes."""
        code, out, err = call("run", "-i", "--learn", "on", "--no-history", "--temp", "0", "-n", "40", *self.data,
                              stdin="".join(line + "\n" for line in lines).encode())
        self.assertEqual(code, 0, err.decode())
        return out.decode(), err.decode()

    def test_corrections_change_what_comes_next(self):
        lines = []
        for a, b in PAIRS:
            lines += [question(a, b), f"/fix {corrected(a, b)}"]
        lines += ["/learn", "/learned", NEVER_TAUGHT, "/adapter none", "/retry", "/adapter latest", "/retry", "/rollback",
                  "/retry"]
        out, notes = self.dialogue(lines)
        self.assertIn("published generation 1", notes)
        self.assertIn("generation 2 is what 0 was", notes)
        answers = [text for text in out.split("\n\n") if text.strip()][-4:]
        learned, plain, again, back = answers
        self.assertNotEqual(learned, plain)
        self.assertEqual(learned, again)
        self.assertEqual(back, plain)
        self.assertGreater(learned.count('"'), plain.count('"'))

        # From outside: what is live, back to the first generation, and the model as it was.
        status = self.document("sona", "status", "--json", *self.data)
        (live,) = status["generations"]
        self.assertEqual((live["number"], live["reason"], int(live["hash"], 16)), (2, "rollback", 0))
        of = ["--session", live["session"], "--json", *self.data]
        history = self.document("sona", "history", *of)
        self.assertEqual([row["number"] for row in history], [2, 1])
        forward = self.document("sona", "rollback", "--to", "1", *of)
        self.assertEqual((forward["number"], forward["hash"]), (3, history[1]["hash"]))
        self.assertEqual(int(self.document("sona", "reset", *of)["hash"], 16), 0)
        self.refused(2, "expected one of the last", "sona", "rollback", "--to", "99", *of)
        self.assertEqual(self.document("sona", "history", "--json", *self.data), [])

    def test_teaching_says_what_it_measured(self):
        text = os.path.join(os.path.dirname(self.data[1]), "few.txt")
        with open(text, "w") as file:
            file.write("It was the best of times, it was the worst of times. " * 20)
        report = self.document("sona", "teach", text, "--json", *self.data)
        self.assertFalse(report["accepted"])
        self.assertGreater(report["tokens"], 200)
        self.assertIn(report["reason"], ("too few tokens", "no evidence yet"))
        self.refused(2, "expected a folder or file", "sona", "teach", *self.data)
        self.refused(1, "none.txt", "sona", "teach", "none.txt", *self.data)


if __name__ == "__main__":
    main()
