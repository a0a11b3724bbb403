"""How a source reads: each sample is looked at, and what was seen of all gives the labels."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from segsweep.data.image_file import depth_of, read_image, read_mask, to_bytes
from segsweep.data.sources.base import Sample
from segsweep.data.sources.meaning import Meaning, Settled, Table
from segsweep.data.sources.seen import MOST_CODES, Look, Seen, coded, image_seen
from segsweep.errors import DataError


class Reading(ABC):
    """What sources share. A subclass gives `look`, and `meaning` where its masks are files.

    Attributes:
        meaning: what the pixels of mask files mean.
    """

    meaning: Meaning = Table({})

    @abstractmethod
    def look(self, sample: Sample) -> Look:
        """See `Source.look`."""

    def settle(self, seen: Sequence[Seen]) -> Settled:
        """See `Source.settle`."""
        found = self.meaning.settle([one.mask for one in seen if one.mask is not None])
        tables = iter(found.tables)
        labels = np.arange(MOST_CODES, dtype=np.uint8)
        found.tables = [labels if one.mask is None else next(tables) for one in seen]
        return found

    def read(self, sample: Sample) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        """See `Source.read`."""
        look = self.look(sample)
        settled = self.settle([look.seen])
        if settled.problems:
            raise DataError(settled.problems)
        highest = look.seen.image.highest if look.seen.image is not None else 0
        return to_bytes(look.image, depth_of(highest)), settled.tables[0][look.codes]


def look_at(image: Path, mask: Path | None) -> Look:
    """An image file with its mask file; without one, every pixel has label 0.

    Raises:
        DataError: see `Source.look`.
    """
    picture = read_image(image)
    seen = image_seen(picture, image)
    if mask is None:
        return Look(picture.pixels, np.zeros(picture.pixels.shape[:2], np.uint8), Seen(seen))
    codes, of_mask = coded(read_mask(mask), mask)
    return Look(picture.pixels, codes, Seen(seen, of_mask))
