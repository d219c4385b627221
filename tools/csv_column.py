#!/usr/bin/env python3
"""Prints each test and one column of a `ruvltra bench -o csv` table: csv_column.py avg_ts < table.csv"""
import csv
import sys

column = sys.argv[1]
rows = list(csv.DictReader(sys.stdin))
parts = (("n_prompt", "pp", "0"), ("n_gen", "tg", "0"), ("n_seqs", "b", "1"), ("n_per_step", "k", "1"), ("n_depth", "@d", "0"))
print("  ".join("".join(short + row[name] for name, short, plain in parts if row.get(name, plain) != plain)
                + f" {float(row[column]):.2f}" for row in rows))
