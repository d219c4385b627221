"""The learning system on the command line: what is recorded, looked at, exported and imported; --bank."""
import base64
import hashlib
import json
import os
import signal
import subprocess
import tempfile

from cli_harness import SCRATCH, STORY, Case, call, main, start

MODEL_FLAGS = ["--no-progress"]


class Learning(Case):
    def setUp(self):
        self.folder = tempfile.mkdtemp(dir=SCRATCH)
        self.data = ["--data-dir", os.path.join(self.folder, "data"), *MODEL_FLAGS]

    def read(self, *path):
        with open(os.path.join(*path)) as file:
            return file.read()

    def write(self, text, *path):
        with open(os.path.join(*path), "w") as file:
            file.write(text)

    def status(self):
        return self.document("sona", "status", "--json", *self.data)

    def record(self, prompt=STORY, n=12):
        return self.ok("run", "--learn", "record", "-n", str(n), "--seed", "1", *self.data, prompt)

    def test_nothing_is_written_unless_asked(self):
        self.ok("run", "-n", "4", *self.data, STORY)
        self.assertFalse(os.path.exists(self.data[1]))
        status = self.status()
        self.assertEqual((status["trajectories"], status["bank"]["rows"], status["generation"]), (0, 0, None))
        self.assertFalse(os.path.exists(self.data[1]))

    def test_recording_changes_no_answer(self):
        plain = self.ok("run", "-n", "12", "--seed", "1", *self.data, STORY)
        self.assertEqual(self.record(), plain)
        self.assertEqual(self.status()["trajectories"], 1)
        self.record("Tell me a story about a dog and a cat.")
        self.assertEqual(self.status()["trajectories"], 2)

    def test_export_and_import(self):
        self.record()
        out = os.path.join(self.folder, "out")
        self.ok("sona", "export", out, *self.data)
        manifest = json.loads(self.read(out, "manifest.json"))
        for name, entry in manifest["files"].items():
            with open(os.path.join(out, name), "rb") as file:
                self.assertEqual(hashlib.sha256(file.read()).hexdigest(), entry["sha256"])
        self.refused(2, "without an export", "sona", "export", out, *self.data)
        other = ["--data-dir", os.path.join(self.folder, "other"), *MODEL_FLAGS]
        report = self.document("sona", "import", out, "--json", *other)
        self.assertEqual(report["records"], 1)
        self.assertEqual(self.document("sona", "status", "--json", *other)["trajectories"], 1)

        self.write(self.read(out, "bank.jsonl") + "{}\n", out, "bank.jsonl")
        self.refused(1, "bank.jsonl: expected SHA-256", "sona", "import", out, *other)
        manifest["model_sha256"] = "00" * 32
        self.write(json.dumps(manifest), out, "manifest.json")
        self.refused(1, "expected what model", "sona", "import", out, *other)
        self.write("{", out, "manifest.json")
        self.refused(1, "manifest.json", "sona", "import", out, *other)
        self.refused(1, "manifest.json", "sona", "import", os.path.join(self.folder, "none"), *other)

    def test_usage(self):
        self.refused(2, "expected a folder", "sona", "export", *self.data)
        self.refused(2, "no further argument", "sona", "status", "x", *self.data)
        self.refused(2, "expected one of status", "sona", "forget", *self.data)
        self.refused(2, "found --raw", "run", "--bank", "--raw", *self.data, "x")
        self.refused(2, "expected one of off, record, on", "run", "--learn", "yes", *self.data, "x")
        self.refused(2, "latest, none or a generation", "run", "--adapter", "0", "--learn", "on", *self.data, "x")
        self.refused(2, "expected a kept generation", "run", "--adapter", "3", *self.data, "x")

    def test_the_bank_joins_the_system_message(self):
        cold = self.document("run", "--bank", "--json", "-n", "4", *self.data, STORY)
        self.assertEqual(cold["bank"], [])
        self.record()
        folder = os.path.join(self.folder, "out")
        self.ok("sona", "export", folder, *self.data)
        # An item under the same task, as a colleague's bank would hold it: with the embedding of the middle hook.
        lines = self.read(folder, "bank.jsonl")
        trajectory = json.loads(lines)
        hooks = base64.b64decode(trajectory["steps"][0]["hooks"])
        item = {"kind": "pattern", "id": trajectory["id"], "tenant": "local", "pattern_kind": "strategy", "title": "the cheese",
                "text": "The crow keeps the cheese.", "when": STORY, "space": trajectory["steps"][0]["space"],
                "embedding": base64.b64encode(hooks[512:1024]).decode(), "a": 3.0, "b": 1.0, "created_us": 1, "last_used_us": 1,
                "uses": 0, "origins": [], "provenance": "caller", "pinned": False}
        self.write(lines + json.dumps(item) + "\n", folder, "bank.jsonl")
        manifest = json.loads(self.read(folder, "manifest.json"))
        manifest["files"]["bank.jsonl"]["sha256"] = hashlib.sha256(self.read(folder, "bank.jsonl").encode()).hexdigest()
        self.write(json.dumps(manifest), folder, "manifest.json")
        other = ["--data-dir", os.path.join(self.folder, "other"), *MODEL_FLAGS]
        self.ok("sona", "import", folder, *other)
        warm = self.document("run", "--bank", "--json", "-n", "4", *other, STORY)
        self.assertEqual(warm["bank"], [trajectory["id"]])
        self.assertGreater(warm["usage"]["prompt_tokens"], cold["usage"]["prompt_tokens"] + 10)
        far = self.document("run", "--bank", "--json", "-n", "4", *other, "SELECT count(*) FROM orders WHERE total > 100;")
        self.assertEqual(far["bank"], [])

    def test_one_owner_at_a_time(self):
        self.record()
        owner = start("run", "--learn", "record", "-n", "100000", "-c", "2048", "--temp", "1", *self.data, STORY,
                      stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        try:
            owner.stdout.read(1)  # the folder is taken
            code, _, err = call("run", "--learn", "record", "-n", "2", *self.data, STORY)
            if owner.poll() is None:
                self.assertEqual(code, 1)
                self.assertIn(str(owner.pid), err.decode())
            self.assertGreaterEqual(self.status()["trajectories"], 1)  # reading goes on beside it
        finally:
            owner.send_signal(signal.SIGINT)
            owner.wait(20)
            owner.stdout.close()
            owner.stderr.close()

    def test_damage_is_told(self):
        self.record()
        database = os.path.join(self.data[1], "learn.db")
        with open(database, "rb") as file:
            content = bytearray(file.read())
        at = content.find(b"crow")
        self.assertGreater(at, 0)
        content[at] ^= 1
        with open(database, "wb") as file:
            file.write(content)
        code, out, err = call("sona", "status", "--json", *self.data)
        self.assertEqual(code, 1, err)
        self.assertTrue(json.loads(out)["damaged"])

    def test_learning_without_anything_to_learn_from(self):
        report = self.document("sona", "learn", "--json", *self.data)
        self.assertFalse(report["head"]["accepted"])
        self.assertEqual(report["bank"]["before"], 0)


if __name__ == "__main__":
    main()
