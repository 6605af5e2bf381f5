"""Speed is measured, not asserted: `make bench` compares with named peers in the same run.

A benchmark is a `Line`: a module with a function that measures and yields rows (`line.py`), put into the
list in `lines.py`. What it measured goes to `results/`, its medians into `docs/benchmarks.md`.
"""
