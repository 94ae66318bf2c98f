"""Drawn scenes with a known ground truth, and networks that learn to answer questions about them.

`python -m tests.scenes` trains the networks, measures their maps and prints the table of the
documentation. The tests train smaller ones.
"""
