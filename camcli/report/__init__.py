"""An output folder as one HTML page that needs no server and no network.

Code, style and rows are in the page, and so are the maps' values and a small picture of each
original: a page that was opened from a disk may not read files beside it, and 10 000 photos as
thumbnails would be 10 000 decoded photos. Overlays and whole originals are links to the files where
they lie, for whoever has them; without them the page still shows every map over its small picture.

`folder` reads what `camcli explain` wrote, `originals` finds the images that were explained, `maps`
packs raw values, `evaluation` and `changes` read what `camcli evaluate` and `camcli check` found,
and `page` makes the page of it all. Nothing here needs torch.
"""
