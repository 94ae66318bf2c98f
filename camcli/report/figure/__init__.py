"""Figures for papers: the maps of one image by several methods and models side by side.

Read `sheet` (what a figure shows), `maps` (computes it), `layout` (where it goes on the page) and
`typesetting` (draws it with matplotlib). May import engine and below.
"""
