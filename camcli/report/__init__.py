"""An output folder as one HTML page that needs no server and no network.

The page holds its code, its style, the rows, the maps' values and a thumbnail of each original: a
page opened from a disk may not read the files beside it. Overlays and originals are links. If they
are gone, the page still shows every map over its thumbnail.

Read `folder`, `originals`, `maps`, `evaluation` and `changes` (read from files), `contents` (all
together), `page` (the data and the HTML), `drawn` and `sheet` (the same on paper), and the scripts
in the order of `page.SCRIPTS`. `figure/` draws figures for papers; nothing else needs torch.

`markup` writes the other pages. That of an audit is `audit_page`, of `mean_maps` and `estimates`
(small drawings), `examples` (pictures of images) and `class_table`. That of two networks is
`compare_page`, of `compare_pictures` and `compare_rows`. May import audit, evaluation, snapshots,
training, runs and below.
"""
