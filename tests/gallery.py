"""Draw the pictures of docs/gallery.md, and its page: `python -m tests.gallery`.

Each picture is what one command of `camcli explain` writes for mini, made smaller.
"""

from __future__ import annotations

import shlex
from pathlib import Path
from tempfile import TemporaryDirectory

import cv2

from camcli import METHODS, cli
from camcli.engine.catalogue import describe_network
from camcli.methods.registry import EVIDENCE, Method
from tests.support.files import ROOT, manifest

PAGE, PICTURES = ROOT / "docs/gallery.md", ROOT / "docs/pictures/gallery"
PHOTOS = {
    "chelsea.jpg": "Egyptian cat",
    "hens.jpg": "hen",
    "coffee.jpg": "espresso",
    "owl.jpg": "great grey owl",
}
"""The sample photos, and the classes that are explained."""
SHOWN = {name: METHODS[name] for name in describe_network("mini").methods}
"""The methods that apply to the network."""
SIDE = 150
"""The width of a picture."""
HEAD = """# Gallery

Methods on the same photos, for the class that is named above each column. The network is
[mini](../camcli/assets/mini/README.md), which comes with camcli, and the methods are those that
apply to it. The command below a row draws its first picture, and those of the others are their
tooltips. `python -m tests.gallery` draws them all.

The same commands with `--model resnet50` or another of the [networks](models.md) show what these
look at, once their weights are downloaded. This page has no pictures of them: camcli does not come
with their weights, and the maps of random weights show nothing. For the same reason, methods that
read the attention of a transformer are not here.

"""


def command(photo: str, method: str) -> str:
    """Return the command that explains a photo by a method."""
    target = shlex.quote(PHOTOS[photo])
    return f"camcli explain sample_images/{photo} --method {method} --target {target} --fit full"


def name_of(photo: str, method: str) -> str:
    """Return the name of a picture. A plus is special in addresses."""
    return f"{Path(photo).stem}-{method.replace('+', 'p')}.jpg"


def page() -> str:
    """Return the page: a heading, a row of pictures and a command for each method."""
    columns = " | ".join(f"{name}" for name in PHOTOS.values())
    head = f"| {columns} |\n|{'---|' * len(PHOTOS)}\n"
    return HEAD + "\n".join(
        f"## {name}\n\n{method.summary}\n\n{head}| {_pictures(name)} |\n\n{_mark(method)}"
        f"```console\n$ {command(next(iter(PHOTOS)), name)}\n```\n"
        for name, method in SHOWN.items()
    )


def _pictures(method: str) -> str:
    cells = (
        f"![{PHOTOS[photo]} by {method}](pictures/gallery/{name_of(photo, method)} "
        f'"{command(photo, method)}")'
        for photo in PHOTOS
    )
    return " | ".join(cells)


def _mark(method: Method) -> str:
    """Return the comment before a command that takes many passes, which the tests do not run."""
    costs = {EVIDENCE[name].cost for name in method.needs}
    return "" if costs <= {"nothing", "backward"} else "<!-- not run: takes many passes -->\n"


def draw(photo: str, folder: Path) -> None:
    """Explain a photo by all methods and write the small pictures."""
    first, *others = SHOWN
    arguments = shlex.split(command(photo, first))[1:]
    more = [word for method in others for word in ("--method", method)]
    try:
        cli.main([*arguments, *more, "--save", "overlay", "--output", str(folder)])
    except SystemExit as stopped:
        assert not stopped.code, stopped.code  # noqa: PT017 - not a test
    for row in manifest(folder):
        if row["image"] != photo:
            continue
        pixels = cv2.imread(str(folder / row["overlay"]))
        height, width = pixels.shape[:2]
        size = (SIDE, round(SIDE * height / width))
        small = cv2.resize(pixels, size, interpolation=cv2.INTER_AREA)
        options = [cv2.IMWRITE_JPEG_QUALITY, 82]
        cv2.imwrite(str(PICTURES / name_of(photo, row["method"])), small, options)


def main() -> None:
    """Write the page and all pictures, and remove those of methods that no longer exist."""
    PICTURES.mkdir(exist_ok=True)
    for old in PICTURES.iterdir():
        old.unlink()
    with TemporaryDirectory() as folder:
        for photo in PHOTOS:
            draw(photo, Path(folder))
    PAGE.write_text(page())


if __name__ == "__main__":
    main()
