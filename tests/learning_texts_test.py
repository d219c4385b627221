#!/usr/bin/env python3
"""The bundled texts of data/learning: enough of them, of the agreed lengths, clean, and no two alike."""
import collections
import json
import os
import re
import unicodedata
import unittest

from cli_harness import MODEL, ROOT, Case, main

FOLDER = os.path.join(ROOT, "data", "learning")


def lines_of(name):
    with open(os.path.join(FOLDER, name), "rb") as file:
        return file.read().decode("utf-8").split("\n")  # not splitlines(): U+2028 and its like must not pass


WHITENING = lines_of("whitening.txt")
CANARY_LINES = lines_of("canary.jsonl")
CANARY = [json.loads(line) for line in CANARY_LINES if line]


def trigrams(text):
    words = re.findall(r"\w+", text.lower())
    return {tuple(words[i:i + 3]) for i in range(len(words) - 2)}


def resembling(texts, limit):
    """Pairs of texts of which the one with fewer trigrams shares more than `limit` of them with the other."""
    grams = [trigrams(text) for text in texts]
    places = collections.defaultdict(list)
    for i, own in enumerate(grams):
        shared = collections.Counter(j for gram in own for j in places[gram])
        for j, count in shared.items():
            if count > limit * min(len(own), len(grams[j])):
                yield texts[j], texts[i]
        for gram in own:
            places[gram].append(i)


class Texts(unittest.TestCase):
    def clean(self, text, allowed=""):
        self.assertEqual(text, unicodedata.normalize("NFC", text))
        self.assertEqual(text, text.strip())
        for character in text:
            if character not in allowed:
                self.assertNotIn(unicodedata.category(character), ("Cc", "Cf", "Cn", "Co", "Cs", "Zl", "Zp"), text)
        self.assertNotIn("\ufffd", text)
        self.assertNotIn("<|", text)  # would look like a special token

    def test_both_files_end_with_one_line_feed(self):
        for lines in (WHITENING, CANARY_LINES):
            self.assertEqual([i for i, line in enumerate(lines) if not line], [len(lines) - 1])

    def test_whitening_texts(self):
        texts = WHITENING[:-1]
        self.assertGreaterEqual(len(texts), 560)
        for text in texts:
            self.clean(text)
            self.assertTrue(4 <= len(text.split()) <= 40, text)
            self.assertLessEqual(len(text), 256, text)
        openings = collections.Counter(" ".join(text.lower().split()[:2]) for text in texts)
        self.assertLessEqual(max(openings.values()), 6, openings.most_common(3))
        words = {word for text in texts for word in re.findall(r"[^\W\d_]+", text.lower())}
        self.assertGreater(len(words), 3000)
        short = sum(len(text.split()) <= 5 for text in texts)
        long = sum(len(text.split()) >= 25 for text in texts)
        self.assertTrue(short >= 20 and long >= 15, (short, long))

    def test_canary_texts(self):
        self.assertGreaterEqual(len(CANARY), 220)
        for number, record in enumerate(CANARY, 1):
            self.assertEqual(list(record), ["id", "domain", "text"])
            self.assertEqual(record["id"], f"c{number:03}")
            self.clean(record["text"], "\n\t" if record["domain"] == "code" else "\n")
            self.assertTrue(60 <= len(record["text"].split()) <= 120, record["id"])
            self.assertLessEqual(len(record["text"]), 1000, record["id"])
            if record["domain"] not in ("code", "verse"):
                self.assertNotIn("\n", record["text"], record["id"])
        self.assertGreater(sum(len(record["text"].split()) for record in CANARY), 16000)
        domains = collections.Counter(record["domain"] for record in CANARY)
        self.assertGreaterEqual(len(domains), 8)
        self.assertGreaterEqual(min(domains.values()), 10)
        self.assertGreaterEqual(domains["story"], 70)

    def test_no_two_texts_are_alike(self):
        texts = WHITENING[:-1] + [record["text"] for record in CANARY]
        folded = collections.Counter(re.sub(r"\W+", " ", text).strip().casefold() for text in texts)
        self.assertEqual([text for text, count in folded.items() if count > 1], [])
        self.assertEqual(list(resembling(texts, 0.3)), [])

    def test_readme_states_the_counts(self):
        with open(os.path.join(FOLDER, "README.md"), encoding="utf-8") as file:
            text = file.read()
        stated = {name: int(count) for name, count in re.findall(r"^\| (\w+) \| (\d+) \|", text, re.M)}
        self.assertEqual(stated, collections.Counter(record["domain"] for record in CANARY))
        self.assertIn(f"`whitening.txt` | {len(WHITENING) - 1} short texts", text)
        self.assertIn(f"`canary.jsonl` | {len(CANARY)} texts", text)


class Tokens(Case):
    def test_canary_is_long_enough_in_tokens(self):
        """The drift gate is defined for at least 12,000 tokens; a tokenizer with large words must reach that too."""
        text = "\n".join(record["text"] for record in CANARY)
        tokens = len(self.ok("tokenize", "-m", MODEL, "--ids", stdin=text.encode()).split())
        self.assertGreaterEqual(tokens, 12000)
        print(f"canary: {len(text.split())} words, {tokens} tokens of the bundled tokenizer")


if __name__ == "__main__":
    main()
