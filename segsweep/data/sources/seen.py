"""What was seen of a sample's files while it was decoded, and its mask in codes.

What a pixel value means may depend on the whole dataset: is 255 the foreground, or no label? So a
mask is decoded to codes first, one for each different pixel in it, and a sample's `Seen` says what
they are. Once all are known, `segsweep.data.sources.meaning` gives the label of every code.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from segsweep.data.image_file import Picture, Pixels, Stored

MOST_CODES = 256


@dataclass(frozen=True)
class Value:
    """One of the different pixels in a mask.

    Attributes:
        value: grey, or the place in a palette.
        count: how many pixels are so.
        alpha: where the file has alpha.
        colour: RGB, where the file has a palette.
    """

    value: int
    count: int
    alpha: int | None = None
    colour: tuple[int, int, int] | None = None


@dataclass(frozen=True)
class MaskSeen:
    """Of a mask file.

    Attributes:
        used: the different pixels; a code is a place here. No more than 256 are kept.
        whole: they are all in ``used``; else the codes mean nothing.
        bits: of the file, 1 for black and white.
    """

    path: Path
    used: tuple[Value, ...]
    whole: bool = True
    bits: int = 8
    orientation: int = 1
    pages: int = 1

    @property
    def indexed(self) -> bool:
        """Has it a palette?"""
        return any(one.colour is not None for one in self.used)


@dataclass(frozen=True)
class ImageSeen:
    """Of an image file; see `Picture`.

    Attributes:
        highest: its largest value, where it has 16 bits; else 0.
        lowest: its smallest value, where it has 16 bits; else 0.
    """

    path: Path
    highest: int = 0
    lowest: int = 0
    alpha: str = "same"
    orientation: int = 1
    pages: int = 1


@dataclass(frozen=True)
class Seen:
    """Of a sample; what it has no file of is None."""

    image: ImageSeen | None = None
    mask: MaskSeen | None = None


@dataclass(frozen=True)
class Look:
    """A sample as decoded, at its native size.

    Attributes:
        image: (H, W, 3) RGB, of 8 bits or 16.
        codes: (H, W) places in ``seen.mask.used``; labels, where there is no mask file.
    """

    image: Pixels
    codes: NDArray[np.uint8]
    seen: Seen


def image_seen(picture: Picture, path: Path) -> ImageSeen:
    """What to know of an image file."""
    deep = picture.pixels.dtype == np.uint16 and picture.pixels.size
    highest, lowest = (int(picture.pixels.max()), int(picture.pixels.min())) if deep else (0, 0)
    about = picture.header
    return ImageSeen(
        path,
        max(1, highest) if deep else 0,
        lowest,
        picture.alpha,
        about.orientation,
        about.pages,
    )


def coded(stored: Stored, path: Path) -> tuple[NDArray[np.uint8], MaskSeen]:
    """A mask in codes, and what they are."""
    about = stored.header
    codes, used, whole = _coded(stored)
    return codes, MaskSeen(path, used, whole, about.bits, about.orientation, about.pages)


def coded_values(values: NDArray[Any], path: Path) -> tuple[NDArray[np.uint8], MaskSeen]:
    """Mask values (H, W) that come from no image file, in codes."""
    codes, places, counts = _ranked(values)
    used = tuple(Value(*one) for one in zip(places, counts, strict=True))
    return codes, MaskSeen(path, used[:MOST_CODES], len(used) <= MOST_CODES)


def _coded(stored: Stored) -> tuple[NDArray[np.uint8], tuple[Value, ...], bool]:
    values, alpha = stored.values, stored.alpha
    one: int | None = None
    if alpha is not None and alpha.size:
        if int(alpha.min()) == int(alpha.max()):
            one = int(alpha.flat[0])
        else:
            return _with_alpha(values, alpha)
    codes, places, counts = _ranked(values)
    colours: list[tuple[int, int, int] | None] = [None] * len(places)
    if (palette := stored.palette) is not None:  # a damaged file may have places beyond it
        rows = [palette[place] if place < len(palette) else (0, 0, 0) for place in places]
        colours = [(int(row[0]), int(row[1]), int(row[2])) for row in rows]
    used = tuple(
        Value(place, count, one, colour)
        for place, count, colour in zip(places, counts, colours, strict=True)
    )
    return codes, used[:MOST_CODES], len(used) <= MOST_CODES


def _ranked(values: NDArray[Any]) -> tuple[NDArray[np.uint8], list[int], list[int]]:
    """The rank of each value (H, W); the values, ascending, and how many pixels have each."""
    if not values.size:
        return np.zeros(values.shape, np.uint8), [], []
    bins = 256 if values.dtype == np.uint8 else 65536
    flat = np.ascontiguousarray(values)
    counts = cv2.calcHist([flat], [0], None, [bins], [0, bins]).ravel()
    places = np.flatnonzero(counts)
    if int(places[-1]) < len(places):  # 0, 1, 2, … are their own ranks
        codes = flat.astype(np.uint8, copy=False)
    else:
        ranks = np.zeros(bins, np.uint8)
        ranks[places[:MOST_CODES]] = np.arange(min(len(places), MOST_CODES))
        codes = np.asarray(cv2.LUT(flat, ranks) if bins == 256 else ranks[flat], np.uint8)
    return codes, places.tolist(), counts[places].astype(int).tolist()


def _with_alpha(
    values: NDArray[Any], alpha: NDArray[Any]
) -> tuple[NDArray[np.uint8], tuple[Value, ...], bool]:
    keys = values.astype(np.uint32) << np.uint32(16) | alpha
    pairs, inverse, counts = np.unique(keys, return_inverse=True, return_counts=True)
    used = tuple(
        Value(int(pair) >> 16, int(count), int(pair) & 0xFFFF)
        for pair, count in zip(pairs[:MOST_CODES], counts, strict=False)
    )
    codes = inverse.reshape(values.shape).astype(np.uint8)
    return codes, used, len(pairs) <= MOST_CODES
