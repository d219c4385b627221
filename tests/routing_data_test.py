#!/usr/bin/env python3
"""The labelled routing tasks in tests/data/routing keep the promises of their README.

usage: routing_data_test.py [RUVLTRA]   (the program is not needed; ctest passes it to every script)
"""
import collections
import hashlib
import json
import pathlib
import re
import sys
import unittest

FOLDER = pathlib.Path(__file__).resolve().parent / "data" / "routing"
# The held-out half was committed before any router was tuned; a changed byte makes old figures incomparable.
FROZEN_TEST_SHA256 = "6d8c98970b975984e68e99079d5edf543dac87c856ede8309af73088f368aaf2"
# The default registry, in its order.
AGENTS = ["coder", "tester", "reviewer", "researcher", "architect", "security-architect", "security-auditor",
          "performance-engineer", "devops", "documenter", "designer", "ml-developer", "memory-specialist",
          "swarm-specialist", "coordinator"]
TASK_TYPES = ["code-generation", "code-review", "testing", "research", "documentation", "debugging", "refactoring",
              "security", "performance", "architecture"]
COMPLEXITIES = ["low", "medium", "high"]
FIELDS = ["id", "group", "agent", "also", "task_type", "complexity", "text"]
GROUP_SIZE = 3
MAX_ALSO_SHARE = 0.10
MAX_TEXT_BYTES = 600
# A wording that shares more than this of its words with another of its group would be found by word matching alone.
MAX_WORD_OVERLAP = 0.25


def load(name):
    with open(FOLDER / name, encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


def words(text):
    return set(re.findall(r"\w{3,}", text.lower()))


def normal(text):
    return " ".join(re.findall(r"\w+", text.lower()))


def held_out_groups(tasks):
    """The split rule: of each agent's groups, the half with the smaller SHA-256 of the group id, rounded up."""
    groups = collections.defaultdict(set)
    for task in tasks:
        groups[task["agent"]].add(task["group"])
    chosen = set()
    for names in groups.values():
        ordered = sorted(names, key=lambda name: hashlib.sha256(name.encode()).hexdigest())
        chosen.update(ordered[:(len(ordered) + 1) // 2])
    return chosen


class RoutingData(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.train, cls.test = load("train.jsonl"), load("test.jsonl")
        cls.tasks = cls.train + cls.test

    def test_fields(self):
        for task in self.tasks:
            with self.subTest(id=task.get("id")):
                self.assertEqual(list(task), FIELDS)
                self.assertRegex(task["id"], r"\Ar\d{4}\Z")
                self.assertRegex(task["group"], r"\Ag\d{4}\Z")
                self.assertIn(task["agent"], AGENTS)
                self.assertIn(task["task_type"], TASK_TYPES)
                self.assertIn(task["complexity"], COMPLEXITIES)
                self.assertIsInstance(task["also"], list)
                self.assertLessEqual(set(task["also"]), set(AGENTS) - {task["agent"]})
                self.assertTrue(10 <= len(task["text"].encode()) <= MAX_TEXT_BYTES)
                self.assertEqual(task["text"], task["text"].strip())

    def test_nothing_twice(self):
        for what, values in (("id", [t["id"] for t in self.tasks]), ("text", [normal(t["text"]) for t in self.tasks])):
            repeated = [value for value, n in collections.Counter(values).items() if n > 1]
            self.assertEqual(repeated, [], what)

    def test_counts(self):
        self.assertGreaterEqual(len(self.tasks), 660)
        self.assertGreaterEqual(len(self.test), 330)
        per_agent = {half: collections.Counter(t["agent"] for t in tasks)
                     for half, tasks in (("train", self.train), ("test", self.test))}
        for agent in AGENTS:
            self.assertGreaterEqual(per_agent["test"][agent], 20, agent)
            self.assertGreaterEqual(per_agent["train"][agent], 20, agent)
        for field, labels in (("task_type", TASK_TYPES), ("complexity", COMPLEXITIES)):
            for half in (self.train, self.test):
                self.assertEqual({t[field] for t in half}, set(labels))
        self.assertLessEqual(sum(bool(t["also"]) for t in self.tasks), MAX_ALSO_SHARE * len(self.tasks))

    def test_groups(self):
        groups = collections.defaultdict(list)
        for task in self.tasks:
            groups[task["group"]].append(task)
        for name, members in groups.items():
            with self.subTest(group=name):
                self.assertEqual(len(members), GROUP_SIZE)
                labels = {(t["agent"], tuple(t["also"]), t["task_type"], t["complexity"]) for t in members}
                self.assertEqual(len(labels), 1)
                for i, one in enumerate(members):
                    for other in members[:i]:
                        a, b = words(one["text"]), words(other["text"])
                        self.assertLessEqual(len(a & b) / len(a | b), MAX_WORD_OVERLAP, (one["id"], other["id"]))

    def test_split_by_rule(self):
        held_out = held_out_groups(self.tasks)
        self.assertEqual({t["group"] for t in self.test}, held_out)
        self.assertFalse({t["group"] for t in self.train} & held_out)

    def test_held_out_half_is_frozen(self):
        found = hashlib.sha256((FOLDER / "test.jsonl").read_bytes()).hexdigest()
        self.assertEqual(found, FROZEN_TEST_SHA256, "test.jsonl must never be edited; see its README")

    def test_labels_are_seldom_named(self):
        """No task spells out the id of its agent's registry entry, save the odd one."""
        named = [t["id"] for t in self.tasks if re.search(rf"\b{t['agent']}\b", t["text"], re.IGNORECASE)]
        self.assertLessEqual(len(named), len(self.tasks) // 100, named)


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1])
