"""Figures for papers: the maps of images by several methods and models side by side.

Read `sheet` (what a figure shows), `maps` (computes it), `lines` (measures and wraps text),
`layout` (where things go on the page) and `typesetting` (draws it with matplotlib). May import
engine and below.
"""
