"""Figures for papers: the maps of one image by several methods and models side by side.

Read `sheet` (what a figure shows), `maps` (computes it), `layout` and `text` (where it goes on the
page), `typesetting` (draws it with matplotlib). May import engine, capture, models, render and
below.
"""
