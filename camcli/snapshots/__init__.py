"""Snapshots: output folders that later runs are compared with.

Reading order: `measures` (the distance of two maps), `folder` (the rows and maps of an output
folder), `compare` (two folders, result by result), `tables` (comparisons as text, JSON and JUnit),
`pictures` (the changed maps side by side), `accept` (replace a baseline) and `pytest_plugin`.
Imports from runs, render, images and errors; the plugin also from models. Comparing does not import
torch.
"""
