"""Scenes whose truth is known, and networks that learn to talk about them.

`python -m tests.scenes` trains them and measures their maps; it prints the README's table. The
tests have a smaller one of everything.
"""
