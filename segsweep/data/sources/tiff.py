"""What a TIFF file says of its channels, read before OpenCV, which takes some of many for all."""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import TiffImagePlugin

from segsweep.errors import DataError, Problem

_MAGIC = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_BITS, _MEANING, _SAMPLES, _EXTRA, _FORMAT = 258, 262, 277, 338, 339
_GREY, _RGB, _CMYK = (0, 1), 2, 5
_ALPHA = (1, 2)  # what an extra sample must be called to be one
_FLOATS, _COMPLEX = 3, (5, 6)


@dataclass(frozen=True)
class Channels:
    """Of the first frame.

    Attributes:
        count: all of them.
        alpha: how many of them are called transparency.
        bits: of the deepest.
        meaning: TIFF's number for what they are: 0 and 1 grey, 2 RGB, 5 CMYK, …
        floats: their numbers are no integers.
    """

    count: int
    alpha: int
    bits: int
    meaning: int
    floats: bool


def channels(content: NDArray[np.uint8]) -> Channels | None:
    """The channels of a TIFF file; None where it is none, or its tags cannot be read."""
    raw = content.tobytes() if content[:4].tobytes() in _MAGIC else b""
    if not raw:
        return None
    big = raw[2:3] == b"+" or raw[3:4] == b"+"
    try:
        tags = TiffImagePlugin.ImageFileDirectory_v2(raw[: 16 if big else 8])
        stream = io.BytesIO(raw)
        stream.seek(tags.next)
        tags.load(stream)
        formats = _all(tags.get(_FORMAT, 1))
        return Channels(
            count=int(tags.get(_SAMPLES, 1)),
            alpha=sum(int(one) in _ALPHA for one in _all(tags.get(_EXTRA, ()))),
            bits=max(map(int, _all(tags.get(_BITS, 1)))),
            meaning=int(tags.get(_MEANING, 1)),
            floats=any(one == _FLOATS or one in _COMPLEX for one in formats),
        )
    except Exception:  # whatever damaged tags lead to: OpenCV has the last word
        return None


def _all(value: Any) -> tuple[Any, ...]:
    return value if isinstance(value, tuple) else (value,)


def refuse_others(content: NDArray[np.uint8], path: Path) -> None:
    """Nothing but grey, RGB or CMYK, with alpha or without, of 16 bits at most.

    Raises:
        DataError: the file has other channels, of which OpenCV would take the first.
    """
    found = channels(content)
    if found is None:
        return
    colours = found.count - found.alpha
    known = {1, 3} if found.meaning not in _GREY else {1}
    if found.meaning == _CMYK:
        known = {4}
    elif found.meaning == _RGB and found.count == 4:
        known = {3, 4}  # some writers leave it open what the fourth is
    if colours not in known or found.alpha > 1:
        what = f"has {found.count} channels, and the model takes three"
        raise DataError(Problem(what, str(path), hint="save it as RGB"))
    kind = "floating-point" if found.floats else f"{found.bits}-bit"
    if found.floats or found.bits > 16:
        hint = "save it with 8 bits a channel"
        raise DataError(Problem(f"holds {kind} numbers", str(path), hint=hint))
