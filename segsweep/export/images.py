"""Image files for a model of RGB: found, and read as the training data was, or refused by name."""

from __future__ import annotations

import os
import stat
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from segsweep.data.sources.base import IMAGE_SUFFIXES, read_image
from segsweep.errors import DataError, Problem

SUMMARY = "predictions.json"  # a folder that holds one holds results, and no images
# what people call images too, and is not read: named, so that nobody takes it for done
OTHERS = frozenset({
    ".gif", ".heic", ".heif", ".avif", ".jp2", ".j2k", ".jpx", ".jfif", ".jpe", ".jxl", ".dcm",
    ".exr", ".hdr", ".psd", ".tga", ".ppm", ".pgm", ".pbm", ".pnm", ".pfm", ".ras", ".dng", ".cr2",
    ".cr3", ".nef", ".arw", ".orf", ".rw2", ".raf", ".svs", ".ndpi", ".czi", ".mrxs",
})  # fmt: skip
_FRAMES = {"TIFF", "PNG", "WEBP"}  # the further ones of a camera's JPEG are previews
_GREY, _ALPHA = {"1", "L", "LA", "I", "I;16", "I;16B", "F"}, {"LA", "PA", "RGBA", "La", "RGBa"}
_HALF = 128  # 16 bits divided by 256 that stay below were most likely 12 or fewer


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


def read(path: Path) -> tuple[NDArray[np.uint8], str]:
    """An image as 8-bit RGB (H, W, 3), and how it was converted, empty where it was not.

    It is read as the training data was, by the same function: grey to three equal channels, 16
    bits divided by 256, CMYK and Lab as OpenCV does, alpha left out, of several frames the first.

    Raises:
        DataError: it cannot be read, or training would have refused it too.
    """
    image = read_image(path)
    return image, ", ".join(_converted(path, image))


def _converted(path: Path, read: NDArray[np.uint8]) -> Iterator[str]:
    """What has happened to it, by its header; nothing where Pillow does not know the file."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of very large images, which OpenCV reads
            with Image.open(path) as image:
                frames = getattr(image, "n_frames", 1) if image.format in _FRAMES else 1
                kind, mode, bits = image.format, image.mode, _bits(image, path)
                alpha = mode in _ALPHA or "transparency" in image.info
    except Exception:  # whatever a decoder meets: OpenCV has read it
        return
    if bits == 16:
        narrow = ", of which less than half the range is used" if read.max() < _HALF else ""
        yield f"16 bits divided by 256{narrow}"
    if mode in _GREY:
        yield "grey to three equal channels"
    if alpha:
        yield "alpha over black" if kind == "TIFF" else "alpha left out"
    if mode in ("CMYK", "LAB"):
        yield "CMYK to RGB" if mode == "CMYK" else "Lab to RGB"
    if frames > 1:
        yield f"the first of {frames} frames"


def _bits(image: Image.Image, path: Path) -> int:
    """Of a channel, where Pillow's mode does not say it: RGB of 16 bits is RGB to it."""
    if image.format == "PNG":
        with path.open("rb") as file:
            return file.read(25)[24]
    if image.format == "TIFF":
        return int(max(getattr(image, "tag_v2", {}).get(258, (8,))))
    return 8
