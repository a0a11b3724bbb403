"""Image files for a model of RGB: found, and read as the training data was, or refused by name."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from segsweep.data.sources.base import IMAGE_SUFFIXES, decode, read_image
from segsweep.errors import DataError, Problem

_DEEP = 1 << 15  # a 16-bit image that never gets so bright holds fewer bits than its file


def find(place: Path, without: Path) -> list[Path]:
    """Every image file at or below ``place``, sorted, except below ``without``.

    Raises:
        DataError: there is no such place, or no image in it.
    """
    if place.is_file():
        return [place]
    if not place.is_dir():
        hint = "name a folder of images, or one image"
        raise DataError(Problem("does not exist", str(place), hint=hint))
    out = without.resolve()
    found = sorted(
        path
        for path in place.rglob("*")
        if path.suffix.lower() in IMAGE_SUFFIXES
        and not any(part.startswith(".") for part in path.relative_to(place).parts)
        and not path.resolve().is_relative_to(out)
    )
    if not found:
        hint = f"looked for {', '.join(sorted(IMAGE_SUFFIXES))}"
        raise DataError(Problem("holds no images", str(place), hint=hint))
    return found


def names(paths: Sequence[Path], root: Path) -> list[Path]:
    """What each image's results are called: its place below ``root`` without the suffix.

    Images that differ in their suffix alone keep it.
    """
    base = root if root.is_dir() else root.parent
    plain = [path.relative_to(base).with_suffix("") for path in paths]
    return [
        path.relative_to(base) if plain.count(short) > 1 else short
        for path, short in zip(paths, plain, strict=True)
    ]


def read(path: Path) -> tuple[NDArray[np.uint8], str]:
    """An image as 8-bit RGB (H, W, 3), and how it was converted, empty where it was not.

    Converted are grey images (three equal channels), 16 bits that use their range (divided by
    256), and an alpha channel that hides nothing (left out); the training data was read so too.

    Raises:
        DataError: it cannot be read, or not be converted without guessing.
    """
    raw = decode(path, cv2.IMREAD_UNCHANGED)
    told = [*_depth(raw, path), *_channels(raw, path)]
    return read_image(path), ", ".join(told)


def _depth(raw: NDArray[Any], path: Path) -> list[str]:
    if raw.dtype == np.uint8:
        return []
    if raw.dtype != np.uint16:
        hint = "save it with 8 bits a channel"
        raise DataError(Problem(f"holds {raw.dtype} numbers", str(path), hint=hint))
    brightest = int(raw[..., :3].max() if raw.ndim == 3 else raw.max())
    if brightest < _DEEP:
        what = f"16 bits a channel, of which the brightest is {brightest}: its range is unknown"
        hint = "scale it to 8 bits, as the training images were"
        raise DataError(Problem(what, str(path), hint=hint))
    return ["16 bits divided by 256"]


def _channels(raw: NDArray[Any], path: Path) -> list[str]:
    count = 1 if raw.ndim == 2 else raw.shape[2]
    if count == 3:
        return []
    if count == 1:
        return ["grey to three equal channels"]
    if count == 4:
        if (raw[..., 3] == np.iinfo(raw.dtype).max).all():
            return ["alpha left out, which hides nothing"]
        hint = "save it without transparency, over the background that it should have"
        raise DataError(Problem("is transparent in places", str(path), hint=hint))
    what = f"has {count} channels, and the model takes three"
    raise DataError(Problem(what, str(path), hint="save it as RGB"))
