"""A report of thousands of images, made from one."""

from __future__ import annotations

from collections.abc import Sequence
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image

from camcli.images.geometry import Crop
from camcli.report.contents import Contents
from camcli.report.folder import OutputFolder, SavedResult
from camcli.report.originals import Original
from camcli.report.page import page_data, render_page
from tests.support.files import SAMPLES


def make_large_page(folder: Path, images: int, methods: Sequence[str] = ("gradcam",)) -> Path:
    """Write `report.html` with numbered images, such as 00.jpg, and a map of each method."""
    np.save(folder / "map.npy", np.random.default_rng(0).random((14, 14), np.float32))
    thumbnail = BytesIO()
    Image.open(SAMPLES / "dog.jpg").resize((140, 105)).save(thumbnail, "WEBP", quality=75)
    crop, files = Crop(35, 0, 105, 105), {"map": folder / "map.npy"}
    results = [
        SavedResult("dog.jpg", method, "pred", "ok", crop=crop, files=files) for method in methods
    ]
    original = Original("dog.jpg", (140, 105), None, thumbnail.getvalue())
    file = folder / "report.html"
    contents = Contents(OutputFolder(folder, results, {}), [original], file, max_cells=196)
    data = page_data(contents)
    (image,) = data["images"]
    digits = len(str(images - 1))
    data["images"] = [image | {"name": f"{number:0{digits}}.jpg"} for number in range(images)]
    file.write_bytes(render_page(data))
    return file
