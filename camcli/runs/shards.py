"""A shard: one of N parts of a run's images."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from camcli.errors import CamcliError
from camcli.images.listing import Listing
from camcli.images.source import Source


@dataclass(frozen=True)
class Shard:
    """Part `number`, from 1, of the `count` parts of a list of images.

    `images` is the length of the list, and `names` the digest of its names. The part holds every
    `count`-th batch of the list, from batch `number`. Batches stay whole, so that each image is in
    the same batch as in an unsharded run.
    """

    number: int
    count: int
    images: int
    names: str

    @property
    def name(self) -> str:
        """The name of its records, such as `2-of-8`."""
        return f"{self.number}-of-{self.count}"

    def share(self, batch_size: int) -> int:
        """Return the number of images in the shard."""
        whole, rest = divmod(self.images, batch_size)
        turns, left = divmod(whole, self.count)
        mine = (turns + (self.number <= left)) * batch_size
        return mine + (rest if self.number == left + 1 else 0)


def shard_of(sources: Sequence[Source], spec: str, batch_size: int) -> tuple[Listing, Shard]:
    """Return the images of shard `I/N`, and the shard. Raises CamcliError."""
    found = re.fullmatch(r"(\d+)/(\d+)", spec)
    if not found or not 1 <= int(found[1]) <= int(found[2]):
        raise CamcliError(f"--shard '{spec}': expected I/N with I from 1 to N, such as 1/4")
    number, count, names = int(found[1]), int(found[2]), hashlib.sha256()
    images = Listing.of(sources)
    for folder, files in images.parts():
        names.update(os.fsencode("".join(f"{folder.image}{file}\0" for file in files)))
    mine = np.arange(len(images)) // batch_size % count == number - 1
    return images.where(mine), Shard(number, count, len(images), names.hexdigest()[:16])
