"""How far trioworker is from raw Trio, and others: one file per question, its floor beside it.

``python -m benchmarks --help``, and `README.md` for how to read the numbers.
"""
