"""One image by several methods and models side by side, as a figure for a paper."""
