#!/usr/bin/env python3
"""`ruvltra route` and `ruvltra agents`: documents, exit codes, what is kept between two runs."""
import json
import pathlib
import subprocess
import sys
import tempfile

PROGRAM = sys.argv[1]
TASK = "Write unit tests for the date parser"


def main():
    with tempfile.TemporaryDirectory() as folder:
        data = str(pathlib.Path(folder) / "data")

        def run(*arguments, code=0):
            done = subprocess.run([PROGRAM, *arguments, "--data-dir", data], capture_output=True, text=True, timeout=300)
            assert done.returncode == code, (arguments, done.returncode, done.stderr)
            assert (code == 0) == ("error:" not in done.stderr), done.stderr
            return done

        document = json.loads(run("route", "--json", "-k", "2", TASK).stdout)
        assert set(document) >= {"task", "routing", "matchedPattern", "semanticMatches", "primaryAgent",
                                 "alternativeAgents", "estimatedMetrics", "swarmRecommendation", "modelTier",
                                 "decision_id", "evidence", "trained"}, document
        assert document["primaryAgent"]["type"] == "tester" and len(document["alternativeAgents"]) == 1
        assert document["estimatedMetrics"] == {"successProbability": None, "estimatedDuration": None,
                                                "complexity": "medium"}
        assert document["trained"] is False and document["evidence"] == []

        # Another process knows of the failure.
        run("route", "feedback", document["decision_id"], "--failure", "--feedback-id", "f")
        run("route", "feedback", document["decision_id"], "--failure", "--feedback-id", "f")
        again = json.loads(run("route", "--json", "-k", "16", TASK).stdout)
        shown = {a["type"]: a["confidence"] for a in [again["primaryAgent"], *again["alternativeAgents"]]}
        assert shown["tester"] < document["primaryAgent"]["confidence"], shown
        assert again["trained"] is True and again["evidence"][0]["id"] == document["decision_id"]
        assert again["matchedPattern"] == TASK

        lines = run("route", TASK).stdout.splitlines()
        assert len(lines) == 3 and len(lines[0].split(maxsplit=2)) == 3, lines
        run("route", code=2)
        run("route", "-k", "0", TASK, code=2)
        run("route", "--success", TASK, code=2)
        run("route", "feedback", "xyz", "--success", code=2)
        run("route", "feedback", document["decision_id"], code=2)
        run("route", "feedback", document["decision_id"], "--agent", "nobody", "--success", code=2)
        run("route", "feedback", document["decision_id"], "--quality", "1.5", code=2)
        run("route", "feedback", "0" * 32, "--success", code=2)

        agents = pathlib.Path(folder) / "agents"
        agents.mkdir()
        (agents / "cook.md").write_text("---\nname: cook\ndescription: prepares soups and desserts\n---\n")
        assert json.loads(run("agents", "import", str(agents), "--json").stdout) == {"imported": 1, "agents": 16}
        assert run("agents", "list").stdout.splitlines()[-1].startswith("cook ")
        assert run("route", "prepare a soup and two desserts").stdout.startswith("cook ")
        exported = pathlib.Path(folder) / "agents.json"
        exported.write_text(run("agents", "export").stdout)
        run("agents", "remove", "cook")
        assert len(json.loads(run("agents", "list", "--json").stdout)["agents"]) == 15
        run("agents", "import", str(exported))
        assert len(json.loads(run("agents", "list", "--json").stdout)["agents"]) == 16
        run("agents", "remove", "nobody", code=2)
        run("agents", "remove", code=2)
        (agents / "bad.md").write_text("---\nname: x\ndescription: |\n  y\n---\n")
        assert "bad.md:3: description" in run("agents", "import", str(agents), code=1).stderr
        assert len(json.loads(run("agents", "list", "--json").stdout)["agents"]) == 16
    print("route and agents: documents, exit codes and what is kept")


if __name__ == "__main__":
    main()
