"""Snapshots: output folders that later runs are compared with.

In reading order: measures (the distance of two maps), pairs (the rows of two folders), compare (two
folders, result by result), tables (comparisons as text, JSON and JUnit), pictures, accept (replace
a baseline), pytest_plugin.
May import runs, render, images and errors, and the plugin also models. Comparing does not import
torch.
"""
