"""Image files for a model of RGB: found, and read as the training data was, or refused by name."""

from __future__ import annotations

import os
import stat
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from segsweep.data.image_file import (
    DEPTHS,
    IMAGE_SUFFIXES,
    Picture,
    Pixels,
    read_image,
    to_bytes,
)
from segsweep.errors import DataError, Problem

SUMMARY = "predictions.json"  # a folder that holds one holds results, and no images
# what people call images too, and is not read: named, so that nobody takes it for done
OTHERS = frozenset({
    ".gif", ".heic", ".heif", ".avif", ".jp2", ".j2k", ".jpx", ".jfif", ".jpe", ".jxl", ".dcm",
    ".exr", ".hdr", ".psd", ".tga", ".ppm", ".pgm", ".pbm", ".pnm", ".pfm", ".ras", ".dng", ".cr2",
    ".cr3", ".nef", ".arw", ".orf", ".rw2", ".raf", ".svs", ".ndpi", ".czi", ".mrxs",
})  # fmt: skip
DEEPEST = DEPTHS[-1]


@dataclass(frozen=True)
class Found:
    """What lies at or below a place.

    Attributes:
        paths: image files, sorted; not the hidden ones, nor earlier results.
        passed_over: images by their suffix that cannot be read, and what is no regular file.
        unreadable: folders that could not be listed.
    """

    paths: list[Path]
    passed_over: list[Path]
    unreadable: list[Problem]


def find(place: Path) -> Found:
    """Every image file at or below ``place``.

    Raises:
        DataError: there is no such place, no image in it, or it holds earlier results.
    """
    if place.is_file():
        return Found([place], [], [])
    if not place.is_dir():
        hint = "name a folder of images, or one image"
        what = "is neither a file nor a folder" if place.exists() else "does not exist"
        raise DataError(Problem(what, str(place), hint=hint))
    if (place / SUMMARY).is_file():
        hint = "name the folder that the images are in"
        raise DataError(Problem("holds results of `predict`, and no images", str(place), hint=hint))
    found = Found([], [], [])
    for name, folders, files in os.walk(place, onerror=lambda error: _note(found, error)):
        folder = Path(name)
        folders[:] = [one for one in folders if not _left_out(folder / one)]
        for path in (folder / one for one in files if not one.startswith(".")):
            suffix = path.suffix.lower()
            if suffix in OTHERS or (suffix in IMAGE_SUFFIXES and not _regular(path)):
                found.passed_over.append(path)
            elif suffix in IMAGE_SUFFIXES:
                found.paths.append(path)
    if not found.paths:
        _refuse_nothing(place, found)
    return Found(sorted(found.paths), sorted(found.passed_over), found.unreadable)


def _note(found: Found, error: OSError) -> None:
    what = f"the folder cannot be read: {error.strerror or error}"
    found.unreadable.append(Problem(what, str(error.filename)))


def _left_out(folder: Path) -> bool:
    try:
        return folder.name.startswith(".") or (folder / SUMMARY).is_file()
    except OSError:
        return False  # `os.walk` meets the same, and tells it


def _regular(path: Path) -> bool:
    """A pipe that is called x.png would be waited for; a broken link is told when it is read."""
    try:
        return stat.S_ISREG(path.stat().st_mode)
    except OSError:
        return True


def _refuse_nothing(place: Path, found: Found) -> None:
    hint = f"looked for {', '.join(sorted(IMAGE_SUFFIXES))}, not in folders of earlier results"
    if found.passed_over:
        hint = f"passed over {told(found.passed_over)}; {hint}"
    nothing = Problem("holds no images", str(place), hint=hint)
    raise DataError(found.unreadable or [nothing])


def told(passed_over: Sequence[Path]) -> str:
    """How many files of which kind, ``3 .heic and 1 .gif, such as a.heic``."""
    kinds = Counter(path.suffix.lower() for path in passed_over)
    counted = " and ".join(f"{count} {kind}" for kind, count in kinds.most_common())
    return f"{counted}, such as {passed_over[0]}"


def names(paths: Sequence[Path], root: Path) -> list[Path]:
    """What each image's results are called: its place below ``root`` without the suffix.

    Images keep it whose results would be called the same, or as a folder of others' results.
    """
    base = root if root.is_dir() else root.parent
    whole = [path.relative_to(base) for path in paths]
    chosen = [path.with_suffix("") for path in whole]
    folders = {
        str(folder)
        for parent in {path.parent for path in whole}
        for folder in (parent, *parent.parents)
    }
    chosen = [
        path if any(f"{short}{end}" in folders for end in _ENDS) else short
        for path, short in zip(whole, chosen, strict=True)
    ]
    while True:  # a whole name may be another's without its suffix: a.jpg, a.png, a.jpg.png
        counts = Counter(chosen)
        if len(counts) == len(chosen):
            return chosen
        pairs = zip(whole, chosen, strict=True)
        chosen = [path if counts[short] > 1 else short for path, short in pairs]


_ENDS = (".png", ".npz")  # of results


def read(path: Path, depth: int = DEEPEST) -> tuple[NDArray[np.uint8], str]:
    """An image as 8-bit RGB (H, W, 3), and how it was converted, empty where it was not.

    It is read as the training data was, by the same function: grey to three equal channels, 16
    bits scaled by the depth of the training data, CMYK and Lab as OpenCV does, alpha left out, of
    several frames the first.

    Args:
        path: the file.
        depth: the bits that the training's images of 16 bits used.

    Raises:
        DataError: it cannot be read, or training would have refused it too.
    """
    pixels, how = stored(path, depth)
    return to_bytes(pixels, depth), how


def stored(path: Path, depth: int = DEEPEST) -> tuple[Pixels, str]:
    """The same with 16 bits where the file has so many: they are resized first, as in training."""
    picture = read_image(path)
    return picture.pixels, ", ".join(_converted(picture, depth))


def _converted(picture: Picture, depth: int) -> Iterator[str]:
    """What has happened to it, or will."""
    about = picture.header
    if picture.pixels.dtype == np.uint16:
        highest, most = int(picture.pixels.max()), (1 << depth) - 1
        told = f", and values above {most} cut off" if highest > most else ""
        if depth == DEEPEST and highest < 1 << depth - 1:
            told = ", of which less than half the range is used"
        by = 1 << depth - DEPTHS[0]
        yield f"16 bits divided by {by}{told}" if by > 1 else f"16 bits taken as 8{told}"
    if about.space == "grey":
        yield "grey to three equal channels"
    if about.alpha:
        yield "alpha left out"
    if about.space in ("CMYK", "Lab"):
        yield f"{about.space} to RGB"
    if about.pages > 1:
        yield f"the first of {about.pages} frames"
