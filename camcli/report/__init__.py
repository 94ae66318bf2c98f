"""An output folder as one HTML page that needs no server and no network.

The page holds its code, its style, the rows, the maps' values and a thumbnail of each original: a
page opened from a disk may not read the files beside it, and 10 000 decoded photos would not fit
into memory. Overlays and originals are links. If they are gone, the page still shows every map over
its thumbnail.

Read `json_values`, `folder`, `originals`, `maps`, `evaluation` and `changes` (what is read from
files), `contents` (all of it together), `page_data` (what the script gets), `page` (the HTML), and
the scripts in the order of `page.SCRIPTS`. `figure/` draws figures for papers. Except for
`figure/`, nothing here needs torch. May import evaluation, snapshots, training, runs and below.
"""
