"""Pictures and boxes from raw maps. Maps are scaled for display only here.

In reading order: `names` (of drawing options), `style` (colour maps, opacities and blends),
`smooth` (maps enlarged for the eye), `blend` (heat over a photo), `draw` (heatmaps and overlays),
`encode` (pictures as files), `panels` (pictures side by side), `boxes` (boxes around the hottest
regions), `numbers` (how they are written), and `figure_files` (the files of matplotlib, an extra).
Imports only `methods`, `images` and `errors`.
"""
