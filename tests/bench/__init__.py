"""Benchmarks: `make bench`, or `python -m tests.bench SECTION...`.

Each figure is a ratio of contenders that took turns in one run, so it does not depend on how busy
the machine is. Weights are random, because no speed depends on them.
"""
