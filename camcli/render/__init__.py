"""Pictures and boxes from raw maps. Maps are scaled for display only here.

In reading order: `draw` (heatmaps, overlays and PNG files), `panels` (pictures side by side),
`boxes` (boxes around the hottest regions), `numbers` (how they are written), `figure_files` (the
files of matplotlib, an extra), `opencv` (the import of OpenCV). Imports only `methods`, `images`
and `errors`.
"""
