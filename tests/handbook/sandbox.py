"""A folder with everything that the commands of the handbook name: photos, networks, lists."""

from __future__ import annotations

import json
import shutil
import stat
import sys
from importlib.util import find_spec
from pathlib import Path

import torch
from PIL import Image
from torchvision.models import resnet18

from tests.support.files import ROOT, SAMPLES
from tests.support.training import write_model_folder

BIRDS = ("robin", "finch", "wren", "owl")
PHOTOS = {"tabby": "chelsea", "hen": "hens", "goose": "duck", "ram": "sheep"}
"""The classes of `photos`, and the samples that stand for them."""
INDICES = {"tabby": 281, "hen": 8, "goose": 99, "ram": 348}
"""The same classes in the network."""
NETWORKS = """
from torch import nn


def small(depth=2, num_classes=4, channels=3):
    layers = [nn.Conv2d(channels, 8, 3, padding=1), nn.ReLU()]
    for _ in range(depth - 1):
        layers += [nn.Conv2d(8, 8, 3, padding=1), nn.ReLU()]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, num_classes))


def binary():
    return small(num_classes=1)


def grey():
    return small(num_classes=2, channels=1)


age, labels = binary, small
"""
STAND_INS = {
    "camcli": f'exec {sys.executable} -IS {ROOT / "tests/handbook/client.py"} "$@"',
    "curl": f"cat {SAMPLES / 'chelsea.jpg'}",
    "make": f'case "$1" in test*|help) ;; *) exec /usr/bin/env -i PATH=/usr/bin:/bin '
    f'make --dry-run --directory {ROOT} "$@" >/dev/null;; esac',
    "pip": f"""for extra in $(echo "$*" | sed -n 's/.*\\[\\(.*\\)\\].*/\\1/p' | tr , ' '); do
  grep -q "^$extra = " {ROOT / "pyproject.toml"} || exit 1
done""",
}
"""Programs that are replaced: the page's photo comes from curl, `make` says what it would do, and
`pip` knows the extras."""


def make_sandbox(folder: Path) -> Path:
    """Write all files into a new folder."""
    folder.mkdir(parents=True)
    _write_programs(folder / "bin")
    _write_photos(folder)
    _write_lists(folder)
    _write_networks(folder)
    return folder


def _write_programs(folder: Path) -> None:
    folder.mkdir()
    for name, line in STAND_INS.items():
        (folder / name).write_text(f"#!/bin/sh\n{line}\n")
        (folder / name).chmod(stat.S_IRWXU)
    (folder.parent / ".venv").mkdir()
    (folder.parent / ".venv/bin").symlink_to(folder)


def _write_photos(folder: Path) -> None:
    (folder / "sample_images").symlink_to(SAMPLES)
    (folder / "docs/pictures").mkdir(parents=True)
    for name in ("cat", "dog", "photo", "robin", "street", "face", "REF"):
        photo = SAMPLES / f"{name}.jpg"
        shutil.copy(photo if photo.exists() else SAMPLES / "chelsea.jpg", folder / f"{name}.jpg")
    scan = Image.open(SAMPLES / "chelsea.jpg").convert("L")
    scan.save(folder / "scan.png")
    scan.convert("F").point(lambda value: value * 2 - 200).save(folder / "slice.tif")
    for place in ("frames/00001.png", "frames/00002.png", "tiles/scene_1_1.tif"):
        (folder / place).parent.mkdir(exist_ok=True)
        scan.convert("RGB").save(folder / place)
    for name, sample in PHOTOS.items():
        with Image.open(SAMPLES / f"{sample}.jpg") as photo:
            for place in (f"photos/{name}/{i}.jpg" for i in (1, 2)):
                (folder / place).parent.mkdir(parents=True, exist_ok=True)
                photo.resize((96, 64)).save(folder / place)
    (folder / "more/tabby").mkdir(parents=True)
    for place in ("more/1.png", "more/tabby/3.png"):
        shutil.copy(folder / "scan.png", folder / place)
    shutil.make_archive(str(folder / "photos"), "zip", folder / "photos")


def _write_lists(folder: Path) -> None:
    rows = [f"{name}/{i}.jpg,{name}" for name in PHOTOS for i in (1, 2)]
    (folder / "truth.csv").write_text("\n".join(["image,class", *rows, ""]))
    for name in ("classes.txt", "map.txt"):
        (folder / name).write_text("".join(f"{one}: {i}\n" for one, i in INDICES.items()))
    (folder / "boxes.csv").write_text(
        "image,class,x0,y0,x1,y1\n"
        "cat_dog.jpg,Egyptian cat,191,0,525,300\ncat_dog.jpg,German shepherd,0,15,178,300\n"
    )
    for name in ("birds.txt", "names.txt"):
        (folder / name).write_text("\n".join(BIRDS))
    (folder / "two.txt").write_text("healthy\nsick")
    (folder / "findings.txt").write_text("effusion\nnodule")
    (folder / "class_to_idx.json").write_text(json.dumps({name: i for i, name in enumerate(BIRDS)}))


def _write_networks(folder: Path) -> None:
    for place in ("nets.py", "mypackage/nets.py", "path/to/nets.py"):
        (folder / place).parent.mkdir(parents=True, exist_ok=True)
        (folder / place).write_text(NETWORKS)
    (folder / "mypackage/__init__.py").touch()
    names: dict[str, object] = {}
    exec(NETWORKS, names)  # noqa: S102 - the text above
    small, grey = names["small"], names["grey"]
    assert callable(small)
    assert callable(grey)
    torch.save(grey().state_dict(), folder / "grey.pth")
    torch.save(small(2).state_dict(), folder / "own.ckpt")
    torch.save(small(2).state_dict(), folder / "small.pth")
    torch.save(small(3).state_dict(), folder / "deep.pth")
    resnet = resnet18(num_classes=4).state_dict()  # timm's has the same names
    torch.save({"state_dict": resnet}, folder / "last.ckpt")
    torch.save(resnet, folder / "birds.pth")
    write_model_folder(folder / "birds", BIRDS)
    if find_spec("transformers"):
        _write_convnext(folder / "hf-birds")


def _write_convnext(folder: Path) -> None:
    import transformers

    names = dict(enumerate(BIRDS))
    config = transformers.ConvNextConfig(
        hidden_sizes=[8, 8, 16, 16], depths=[1, 1, 1, 1], id2label=names
    )
    transformers.ConvNextForImageClassification(config).save_pretrained(folder)
    transformers.ConvNextImageProcessor(size={"shortest_edge": 64}).save_pretrained(folder)
