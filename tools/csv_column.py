#!/usr/bin/env python3
"""Prints each test and one column of a `ruvltra bench -o csv` table: csv_column.py avg_ts < table.csv"""
import csv
import sys

column = sys.argv[1]
rows = list(csv.DictReader(sys.stdin))
print("  ".join(
    f"{'pp' + row['n_prompt'] if int(row['n_prompt']) else ''}{'tg' + row['n_gen'] if int(row['n_gen']) else ''}"
    f" {float(row[column]):.2f}" for row in rows))
