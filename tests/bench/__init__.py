"""Benchmarks: `make bench`, or `python -m tests.bench SECTION...`.

Every figure is a ratio of things that took turns in one run, so that a machine that is slower
today than yesterday does not matter. Weights are random: no speed hangs on them.
"""
