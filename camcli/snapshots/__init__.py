"""Snapshots: output folders that later runs are compared with.

In reading order: measures (the distance of two maps), pairs (the rows of two folders), map_reader,
compare (two folders, result by result), tables (comparisons as text, JSON and JUnit), pictures,
accept (replace a baseline), pytest_plugin. And for two networks instead of one network and its
baseline: predictions (the classes in a row), networks (two folders, result by result),
class_agreement and agreement (counts and quartiles of all results), agreement_tables.
May import runs, render, images and errors, and the plugin also models. Comparing does not import
torch.
"""
