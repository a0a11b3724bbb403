"""Image files for a model of RGB: found, and read as the training data was, or refused by name."""

from __future__ import annotations

import os
import warnings
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageCms, ImageOps

from segsweep.data.sources.base import IMAGE_SUFFIXES, decode, read_image
from segsweep.errors import DataError, Problem

SUMMARY = "predictions.json"  # a folder that holds one holds results, and no images
_DEEP = 1 << 15  # a 16-bit image that never gets so bright holds fewer bits than its file
_FRAMES = {"TIFF", "PNG", "WEBP"}  # the further ones of a camera's JPEG are previews


def find(place: Path) -> list[Path]:
    """Every image file at or below ``place``, sorted; not the hidden ones, nor earlier results.

    Raises:
        DataError: there is no such place, or no image in it.
    """
    if place.is_file():
        return [place]
    if not place.is_dir():
        hint = "name a folder of images, or one image"
        raise DataError(Problem("does not exist", str(place), hint=hint))
    found: list[Path] = []
    for name, folders, files in os.walk(place):
        folder = Path(name)
        folders[:] = [one for one in folders if not _left_out(folder / one)]
        own = (folder / one for one in files if not one.startswith("."))
        found += (one for one in own if one.suffix.lower() in IMAGE_SUFFIXES)
    if not found:
        hint = f"looked for {', '.join(sorted(IMAGE_SUFFIXES))}, not in folders of earlier results"
        raise DataError(Problem("holds no images", str(place), hint=hint))
    return sorted(found)


def _left_out(folder: Path) -> bool:
    return folder.name.startswith(".") or (folder / SUMMARY).is_file()


def names(paths: Sequence[Path], root: Path) -> list[Path]:
    """What each image's results are called: its place below ``root`` without the suffix.

    Images whose results would be called the same keep it.
    """
    base = root if root.is_dir() else root.parent
    whole = [path.relative_to(base) for path in paths]
    chosen = [path.with_suffix("") for path in whole]
    while True:  # a whole name may be another's without its suffix: a.jpg, a.png, a.jpg.png
        counts = Counter(chosen)
        if len(counts) == len(chosen):
            return chosen
        pairs = zip(whole, chosen, strict=True)
        chosen = [path if counts[short] > 1 else short for path, short in pairs]


def read(path: Path) -> tuple[NDArray[np.uint8], str]:
    """An image as 8-bit RGB (H, W, 3), and how it was converted, empty where it was not.

    Converted are grey images (three equal channels), 16 bits that use their range (divided by
    256), an alpha channel that hides nothing (left out), CMYK and Lab. Of several frames the first
    is taken. The training data was read so too, but for Lab, whose white point is minded here.

    Raises:
        DataError: it cannot be read, or not be converted without guessing.
    """
    mode, frames = _header(path)
    told = [f"the first of {frames} frames"] if frames > 1 else []
    if mode == "LAB":
        return _from_lab(path), ", ".join(["Lab to sRGB", *told])
    raw = decode(path, cv2.IMREAD_UNCHANGED)
    if mode == "CMYK" and raw.dtype != np.uint8:
        hint = "save it as RGB with 8 bits a channel"
        raise DataError(Problem(f"CMYK as {raw.dtype} numbers", str(path), hint=hint))
    channels = ["CMYK to RGB"] if mode == "CMYK" else _channels(raw, path)
    how = ", ".join([*_depth(raw, path), *channels, *told])
    return read_image(path), how


def _header(path: Path) -> tuple[str, int]:
    """Pillow's word for what the channels are, and how many frames there are.

    ``("", 1)`` where Pillow does not know the file: OpenCV reads some that it cannot.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of very large images, which OpenCV reads
            with Image.open(path) as image:
                frames = getattr(image, "n_frames", 1) if image.format in _FRAMES else 1
                return image.mode, frames
    except Exception:  # whatever a decoder meets: OpenCV has the last word
        return "", 1


def _from_lab(path: Path) -> NDArray[np.uint8]:
    lab, rgb = ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB")
    try:
        with Image.open(path) as image:
            turned = ImageOps.exif_transpose(image)
            found = ImageCms.profileToProfile(turned, lab, rgb, outputMode="RGB")
            return np.asarray(found, np.uint8)
    except Exception as error:  # decoders raise nearly anything on damaged input
        what = f"its Lab colours cannot be converted: {error}"
        raise DataError(Problem(what, str(path), hint="save it as RGB")) from error


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
