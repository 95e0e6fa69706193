"""How far trioworker is from raw Trio: one file per question, each with its floor beside it.

``python -m benchmarks --help``, and `README.md` for how to read the numbers.
"""
