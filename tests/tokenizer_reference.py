#!/usr/bin/python3
"""A slow, plain Qwen2 tokenizer that shares nothing with the program: Python's unicodedata and the definitions.

usage: tokenizer_reference.py MODEL.gguf [OUT.json]     writes the golden vectors, by default of tests/golden
"""
import json
import pathlib
import struct
import sys
import unicodedata

import tokenizer_texts


def read_metadata(path):
    """The key-value pairs of a GGUF file."""
    with open(path, "rb") as file:
        def number(form):
            return struct.unpack("<" + form, file.read(struct.calcsize(form)))[0]

        def value(kind):
            if kind == 8:
                return file.read(number("Q")).decode()
            if kind == 9:
                element, count = number("I"), number("Q")
                return [value(element) for _ in range(count)]
            return number({0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}[kind])

        assert file.read(4) == b"GGUF" and number("I") == 3
        number("Q")
        return {value(8): value(number("I")) for _ in range(number("Q"))}


def is_letter(c):
    return unicodedata.category(c)[0] == "L"


def is_number(c):
    return unicodedata.category(c)[0] == "N"


def is_space(c):
    return c in "\t\n\v\f\r\x85" or unicodedata.category(c)[0] == "Z"


def first_word(text):
    """Length of what the published pattern matches at the start of text, one alternative after the other."""
    def run(start, test):
        end = start
        while end < len(text) and test(text[end]):
            end += 1
        return end

    for suffix in ("'s", "'t", "'re", "'ve", "'m", "'ll", "'d"):
        if text[:len(suffix)].lower().replace("ſ", "s") == suffix:
            return len(suffix)
    start = 0 if text[0] in "\r\n" or is_letter(text[0]) or is_number(text[0]) else 1
    end = run(start, is_letter)
    if end > start:
        return end
    if is_number(text[0]):
        return 1

    def is_symbol(c):
        return not (is_space(c) or is_letter(c) or is_number(c))

    start = 1 if text[0] == " " else 0
    end = run(start, is_symbol)
    if end > start:
        return run(end, lambda c: c in "\r\n")
    end = run(0, is_space)
    newlines = [i for i in range(end) if text[i] in "\r\n"]
    if newlines:
        return newlines[-1] + 1
    return end if end == len(text) or end == 1 else end - 1


class Tokenizer:
    def __init__(self, metadata):
        tokens, types = metadata["tokenizer.ggml.tokens"], metadata["tokenizer.ggml.token_type"]
        self.id_of = {token: i for i, token in enumerate(tokens)}
        self.rank_of = {tuple(merge.split(" ")): i for i, merge in enumerate(metadata["tokenizer.ggml.merges"])}
        self.added = sorted((t for t, kind in zip(tokens, types) if kind in (3, 4)), key=len, reverse=True)
        same = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
        others = [byte for byte in range(256) if byte not in same]
        self.alphabet = {**{byte: chr(byte) for byte in same}, **{byte: chr(0x100 + i) for i, byte in enumerate(others)}}

    def word(self, text):
        parts = [self.alphabet[byte] for byte in text.encode()]
        while True:
            ranks = [self.rank_of.get(pair, len(self.rank_of)) for pair in zip(parts, parts[1:])]
            if not ranks or min(ranks) == len(self.rank_of):
                return [self.id_of[part] for part in parts]
            i = ranks.index(min(ranks))
            parts[i:i + 2] = [parts[i] + parts[i + 1]]

    def plain(self, text):
        ids, text = [], unicodedata.normalize("NFC", text)
        while text:
            n = first_word(text)
            ids += self.word(text[:n])
            text = text[n:]
        return ids

    def encode(self, text):
        ids, begin, i = [], 0, 0
        while i < len(text):
            token = next((t for t in self.added if text.startswith(t, i)), None)
            if token is None:
                i += 1
                continue
            ids += self.plain(text[begin:i]) + [self.id_of[token]]
            begin = i = i + len(token)
        return ids + self.plain(text[begin:])


def main():
    out = pathlib.Path(__file__).resolve().parent / "golden/tokenizer_nano.json"
    out = pathlib.Path(sys.argv[2]) if len(sys.argv) > 2 else out
    tokenizer = Tokenizer(read_metadata(sys.argv[1]))
    texts = [text for text in tokenizer_texts.HAND_PICKED if len(text) <= 300]
    texts += ["it'ſ", "a\u0085\u0085b", "a\ufeff b", " \ufeff"]
    texts += [text for text in tokenizer_texts.generated(420, seed=7) if len(text) <= 120]
    lines = [json.dumps([text, tokenizer.encode(text)], ensure_ascii=True, separators=(",", ":")) for text in texts]
    out.write_text("[\n" + ",\n".join(lines) + "\n]\n")
    print(f"{out.name}: {len(texts)} texts")


if __name__ == "__main__":
    main()
