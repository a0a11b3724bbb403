"""What datasets of image and mask files share: listing, pairing, and reading by a table."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from segsweep.data.sources.base import (
    IMAGE_SUFFIXES,
    Palette,
    Sample,
    confined,
    digest_files,
    read_image,
    read_values,
    sound,
    to_labels,
)
from segsweep.errors import DataError, Problem

Files = dict[str, Path]


class FileSource(ABC):
    """A dataset of files. A subclass gives ``classes``, ``scan`` and, for masks, ``table``.

    Args:
        root: the directory that ``dataset.root`` names.

    Attributes:
        table: pixel value of a mask file → label or IGNORE.
    """

    classes: tuple[str, ...]
    palette: Palette | None = None
    official_holdout: str = "test"
    table: Mapping[int, int] = {}

    def __init__(self, root: Path | None) -> None:
        self._root = root

    @abstractmethod
    def scan(self) -> tuple[list[Sample], list[Problem]]:
        """See `Source.scan`."""

    def samples(self) -> list[Sample]:
        """See `Source.samples`."""
        return sound(self.scan())

    def read(self, sample: Sample) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        """See `Source.read`."""
        image, mask = sample.files
        return read_image(image), to_labels(read_values(mask), self.table, mask)

    def digest(self, sample: Sample) -> str:
        """See `Source.digest`."""
        return digest_files(sample.files)


def list_files(
    root: Path, folder: str, suffix: str = "", *, others: bool = False
) -> tuple[Files, list[Problem]]:
    """The image files in ``root/folder``.

    Args:
        root: the dataset; no file may lead out of it.
        folder: a path below it.
        suffix: what stems end with, ``"_mask"``.
        others: files with other endings may lie there, too, and are passed over.

    Returns:
        Stem without ``suffix`` → file; and as problems a directory that is missing, stems that
        occur twice, strange files, and links out of ``root``.
    """
    place = root / folder
    if not place.is_dir():
        return {}, [Problem(f"there is no directory {folder!r} here", where=str(root))]
    found: Files = {}
    problems: list[Problem] = []
    for path in sorted(place.iterdir()):
        if path.name.startswith(".") or path.name == "Thumbs.db":
            continue
        is_image = path.suffix.lower() in IMAGE_SUFFIXES and path.is_file()
        if others and not (is_image and path.stem.endswith(suffix)):
            continue
        if not is_image:
            hint = f"expected {' '.join(sorted(IMAGE_SUFFIXES))}"
            problems.append(Problem("is not an image file", where=str(path), hint=hint))
            continue
        if not path.stem.endswith(suffix):
            problems.append(Problem(f"does not end with {suffix!r}", where=str(path)))
            continue
        stem = path.stem[: len(path.stem) - len(suffix)]
        try:
            confined(path, root)
        except DataError as error:
            problems += error.problems
        if stem in found:
            what = f"has the same name as {found[stem].name}"
            problems.append(Problem(what, where=str(path), hint="each image needs its own stem"))
        found.setdefault(stem, path)
    return found, problems


def list_folders(root: Path, folder: str = "") -> list[str]:
    """Names of the directories in ``root/folder``, sorted; hidden ones are passed over."""
    place = root / folder
    if not place.is_dir():
        return []
    entries = [path for path in place.iterdir() if path.is_dir()]
    return sorted(path.name for path in entries if not path.name.startswith("."))


def pair(
    images: Files, masks: Files, expected: Callable[[str], str]
) -> tuple[list[tuple[str, Path, Path]], list[Problem]]:
    """Images with their masks.

    Args:
        images: stem → file.
        masks: stem → file.
        expected: the path that an image's mask should have, for the message.

    Returns:
        (stem, image, mask), sorted; and what is alone.
    """
    alone = [
        Problem("has no mask", where=str(images[stem]), hint=f"expected {expected(stem)}")
        for stem in sorted(images.keys() - masks.keys())
    ]
    alone += [
        Problem("has no image", where=str(masks[stem]))
        for stem in sorted(masks.keys() - images.keys())
    ]
    both = sorted(images.keys() & masks.keys())
    return [(stem, images[stem], masks[stem]) for stem in both], alone
