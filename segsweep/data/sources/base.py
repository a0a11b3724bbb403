"""What a dataset must offer, and what the readers of files share.

A source knows where images and masks lie and what the pixel values of a mask mean. It decodes
one sample at a time at its native size; resizing, caching and splitting are not its business.
"""

from __future__ import annotations

import difflib
import hashlib
import stat
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from segsweep.data.sources import tiff
from segsweep.errors import DataError, Problem
from segsweep.registry import names_in

IGNORE = 255
"""The one value that means "no label here" in every cached mask."""

BINARY = ("background", "lesion")
IMAGE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp"})
_HIGHEST_VALUE = 65535

Palette = tuple[tuple[int, int, int], ...]
"""An RGB colour for each class."""


@dataclass(frozen=True)
class Sample:
    """One image and all that is known about it without decoding it.

    Attributes:
        image_id: unique within the source.
        files: the files it is decoded from, the image first; empty where it is generated.
        attributes: ``{"diagnosis": "melanoma", "patient": "p07"}``.
        split: the official split the image belongs to (``"train"``, ``"test"``, …), if any.
    """

    image_id: str
    files: tuple[Path, ...]
    attributes: Mapping[str, str]
    split: str | None = None


class Source(Protocol):
    """A dataset.

    Attributes:
        classes: class names; the index is the label.
        palette: the colours that the dataset's authors paint the classes in, where they do.
        official_holdout: the official split that ``holdout: official`` holds out.
    """

    classes: tuple[str, ...]
    palette: Palette | None
    official_holdout: str

    def scan(self) -> tuple[list[Sample], list[Problem]]:
        """The usable samples sorted by ``image_id``, and everything that is wrong besides."""

    def samples(self) -> list[Sample]:
        """All samples, sorted by ``image_id``.

        Raises:
            DataError: lists every missing, superfluous or unreadable entry.
        """

    def read(self, sample: Sample) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        """Decodes one sample.

        Returns:
            The RGB image (H, W, 3) and its labels (H, W), IGNORE where nothing is labelled.
            Whether both have the same size is checked by whoever builds the cache.

        Raises:
            DataError: a file cannot be decoded, or has pixel values that stand for no class.
        """

    def digest(self, sample: Sample) -> str:
        """SHA-256 over all that determines the sample's pixels."""


def sound(scanned: tuple[list[Sample], list[Problem]]) -> list[Sample]:
    """The samples of a scan that found nothing wrong.

    Raises:
        DataError: it found something.
    """
    samples, problems = scanned
    if problems:
        raise DataError(problems)
    return samples


def missing_root(root: Path | None, what: str, expected: str) -> list[Problem]:
    """Why ``root`` cannot be a dataset directory; empty where it can.

    Args:
        root: what the user gave.
        what: the dataset's name, for the message.
        expected: what should lie in the directory.
    """
    if root is None:
        hint = f"set `dataset.root` to the directory that holds {expected}"
        return [Problem(f"{what} needs a directory", key="dataset.root", hint=hint)]
    try:
        if stat.S_ISDIR(root.stat().st_mode):
            return []
        is_what = "is not a directory"
    except (FileNotFoundError, NotADirectoryError):
        is_what = "does not exist"
    except OSError as error:  # such as a directory above it that may not be looked into
        is_what = f"cannot be looked at ({error.strerror})"
    hint = (
        f"expected a directory, or a .zip archive, that holds {expected}; point `dataset.root` "
        "to it, or set SEGSWEEP_DATA where the sweep file uses ${SEGSWEEP_DATA:-data}"
    )
    if near := difflib.get_close_matches(root.name, names_in(root.parent), n=1):
        hint = f"did you mean {str(root.parent / near[0])!r}? {hint}"
    what = f"{what} {is_what}: {root.absolute()}"
    return [Problem(what, key="dataset.root", hint=hint)]


def confined(path: Path, root: Path) -> Path:
    """``path``, provided that it does not lead out of ``root`` (by ``..`` or a link).

    Raises:
        DataError: it does.
    """
    if path.resolve().is_relative_to(root.resolve()):
        return path
    hint = "copy the file into the dataset, or point `dataset.root` to a directory above both"
    raise DataError(Problem(f"leads out of {root}", where=str(path), hint=hint))


def digest_files(files: Sequence[Path]) -> str:
    """SHA-256 over the contents of ``files``, in order.

    Raises:
        DataError: a file cannot be read; all such files are listed.
    """
    total, problems = hashlib.sha256(), []
    for path in files:
        try:
            with path.open("rb") as stream:
                total.update(hashlib.file_digest(stream, "sha256").digest())
        except OSError as error:
            problems.append(_unreadable(path, error))
    if problems:
        raise DataError(problems)
    return total.hexdigest()


def _unreadable(path: Path, error: OSError) -> Problem:
    return Problem(f"cannot be read: {error.strerror or error}", where=str(path))


def decode(path: Path, flags: int) -> NDArray[Any]:
    """Decodes an image file with OpenCV, whatever characters its path has.

    Args:
        path: the file.
        flags: ``cv2.IMREAD_COLOR`` (BGR) or ``cv2.IMREAD_UNCHANGED``.

    Raises:
        DataError: the file cannot be read or decoded.
    """
    try:
        content = np.fromfile(path, dtype=np.uint8)
    except OSError as error:
        raise DataError(_unreadable(path, error)) from error
    tiff.refuse_others(content, path)
    try:
        pixels = cv2.imdecode(content, flags) if content.size else None
    except cv2.error:
        pixels = None
    if pixels is None:
        what = "the file is empty" if not content.size else "damaged, or not an image file"
        raise DataError(Problem(what, where=str(path), hint="replace the file or remove the image"))
    return np.asarray(pixels)


def read_image(path: Path) -> NDArray[np.uint8]:
    """An image file as 8-bit RGB (H, W, 3), turned as its EXIF orientation says.

    Training and ``predict`` both read by it, so that no image is converted in two ways.

    Raises:
        DataError: the file cannot be read or decoded, or holds other channels or floats.
    """
    bgr = decode(path, cv2.IMREAD_COLOR)
    return np.asarray(cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB), dtype=np.uint8)


def read_values(path: Path) -> NDArray[np.integer[Any]]:
    """A mask file's pixel values (H, W) as stored: indices of a palette, 8 or 16 bits, 0/1.

    Pillow reads masks, since OpenCV replaces palette indices by the palette's colours.

    Raises:
        DataError: the file cannot be decoded, or is in colour.
    """
    try:
        with Image.open(path) as image:
            pixels = np.asarray(image)
    except FileNotFoundError as error:
        raise DataError(_unreadable(path, error)) from error
    except Exception as error:  # decoders raise nearly anything on damaged input
        hint = "replace the file or remove the image"
        raise DataError(Problem(f"damaged mask: {error}", where=str(path), hint=hint)) from error
    return one_channel(pixels, path)


def one_channel(pixels: NDArray[Any], path: Path) -> NDArray[np.integer[Any]]:
    """Mask pixels without their colour channels: (H, W) integers from 0 to 65535.

    Args:
        pixels: (H, W), (H, W, 2) grey with alpha, or (H, W, 3 or 4) with equal colour channels.
        path: where they come from, for messages.

    Raises:
        DataError: real colours, floats or values out of range.
    """
    hint = "save masks with one channel, whose values are the classes (PNG with 8 bits)"
    if pixels.dtype == np.bool_:
        pixels = pixels.astype(np.uint8)
    if pixels.ndim == 3:
        colours = pixels[..., :3] if pixels.shape[-1] >= 3 else pixels[..., :1]
        if not (colours == colours[..., :1]).all():
            raise DataError(Problem("the mask is in colour", where=str(path), hint=hint))
        pixels = colours[..., 0]
    if not np.issubdtype(pixels.dtype, np.integer):
        what = f"the mask holds {pixels.dtype} numbers"
        raise DataError(Problem(what, where=str(path), hint=hint))
    if pixels.size and (pixels.min() < 0 or pixels.max() > _HIGHEST_VALUE):
        what = f"the mask has values outside 0 … {_HIGHEST_VALUE}"
        raise DataError(Problem(what, where=str(path), hint=hint))
    return pixels


def to_labels(
    values: NDArray[np.integer[Any]], table: Mapping[int, int], path: Path
) -> NDArray[np.uint8]:
    """Pixel values as labels.

    Args:
        values: (H, W), from 0 to 65535.
        table: pixel value → label or IGNORE.
        path: the mask file, for messages.

    Raises:
        DataError: the mask has values that are not in ``table``; lists them.
    """
    counts = np.bincount(values.ravel())
    unknown = [int(value) for value in np.flatnonzero(counts) if int(value) not in table]
    if unknown:
        shown = ", ".join(map(str, unknown[:8])) + (", …" if len(unknown) > 8 else "")
        what = f"{counts[unknown].sum()} pixels have values that stand for no class: {shown}"
        hint = f"known values: {', '.join(map(str, sorted(table)))}"
        if path.suffix.lower() in {".jpg", ".jpeg"}:
            hint += "; JPEG changes pixel values, save masks as PNG"
        raise DataError(Problem(what, where=str(path), hint=hint))
    lookup = np.zeros(len(counts), dtype=np.uint8)
    for value, label in table.items():
        if value < len(lookup):
            lookup[value] = label
    return np.asarray(lookup[values], dtype=np.uint8)


def binary_labels(
    values: NDArray[np.integer[Any]], path: Path, ignore: int | None = None
) -> NDArray[np.uint8]:
    """Labels of a two-class mask whose foreground is 1 or 255.

    Args:
        values: (H, W).
        path: the mask file, for messages.
        ignore: the pixel value that means ignored.

    Raises:
        DataError: other values, or both 1 and 255.
    """
    foreground = 1 if ignore == 255 or not (values == 255).any() else 255
    table = {0: 0, foreground: 1}
    if ignore is not None:
        table[ignore] = IGNORE
    return to_labels(values, table, path)
