#!/usr/bin/python3
"""Unicode data: the committed tables are what the generator writes, and NFC passes Unicode's own conformance test.

usage: unicode_test.py RUVLTRA
"""
import bz2
import pathlib
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
UNICODE = pathlib.Path("/usr/share/unicode")


def check_tables():
    generated = subprocess.run([sys.executable, ROOT / "tools/make_unicode_tables.py", "-"],
                               capture_output=True, check=True).stdout
    if generated != (ROOT / "src/text/unicode_tables.cpp").read_bytes():
        print("FAIL: src/text/unicode_tables.cpp is not what tools/make_unicode_tables.py writes")
        return False
    return True


def token_ids(ruvltra, texts):
    command = [ruvltra, "tokenize", "-m", ROOT / "models/nano-f16.gguf", "--ids"]
    done = subprocess.run(command, input="<|endoftext|>".join(texts).encode(), capture_output=True, check=True)
    parts = [[]]
    for word in done.stdout.split():
        if word == b"4093":
            parts.append([])
        else:
            parts[-1].append(word)
    return parts


def check_nfc(ruvltra):
    """Columns 1-3 of NormalizationTest.txt have the second as their NFC, columns 4 and 5 the fourth."""
    rows = []
    for line in bz2.open(UNICODE / "NormalizationTest.txt.bz2", "rt", encoding="utf-8"):
        if line[0] not in "#@":
            rows.append(["".join(chr(int(code, 16)) for code in column.split()) for column in line.split(";")[:5]])
    tokens = [token_ids(ruvltra, [row[column] for row in rows]) for column in range(5)]
    bad = [i for i in range(len(rows))
           if not (tokens[0][i] == tokens[1][i] == tokens[2][i] and tokens[3][i] == tokens[4][i])]
    # Byte-level tokens are reversible, so equal ids are equal texts; the second column must also come back as it is.
    ids = b" ".join(word for part in tokens[1] for word in [*part, b"4093"])
    command = [ruvltra, "tokenize", "-m", ROOT / "models/nano-f16.gguf", "--decode"]
    decoded = subprocess.run(command, input=ids, capture_output=True, check=True).stdout.decode()
    if decoded.split("<|endoftext|>")[:-1] != [row[1] for row in rows]:
        print("FAIL: decoding does not give the texts of column 2")
        return False
    for i in bad[:5]:
        print(f"FAIL: NFC of {rows[i][0]!r}")
    print(f"{len(rows)} rows of NormalizationTest.txt, {len(bad)} wrong")
    return len(rows) > 18000 and not bad


def main():
    if not (UNICODE / "NormalizationTest.txt.bz2").exists():
        print("SKIP: the Debian package unicode-data is not installed")
        sys.exit(77)
    results = [check_tables(), check_nfc(sys.argv[1])]
    sys.exit(0 if all(results) else 1)


if __name__ == "__main__":
    main()
