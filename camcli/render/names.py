"""The names of drawing options. They are listed by `--help`, without OpenCV."""

COLORMAPS = (
    *("auto", "diverging", "autumn", "bone", "cividis", "cool", "deepgreen", "hot", "hsv"),
    *("inferno", "jet", "magma", "ocean", "parula", "pink", "plasma", "rainbow", "spring"),
    *("summer", "turbo", "twilight", "twilight_shifted", "viridis", "winter"),
)
"""The colour maps: two of camcli's own, and OpenCV's."""

BLENDS = ("heat", "even")
"""How a map lies over the photo: more opaque where it is hotter, or evenly opaque."""

SCALES = ("image", "run", "probability")
"""What is drawn in full colour: a map's own maximum, that of all maps of a run by the same method
for the same target, or the map's own maximum divided by the probability of its class."""

FORMATS = ("png", "jpg", "webp")
"""The formats of pictures, which are also the endings of their files."""
