"""What a dataset must offer, and what the readers of files share.

A source knows where images and masks lie and what the pixel values of a mask mean. It decodes
one sample at a time at its native size, the mask in codes, and says what codes mean once all have
been seen; resizing, caching and splitting are not its business.
"""

from __future__ import annotations

import difflib
import hashlib
import stat
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from segsweep.data.image_file import unreadable
from segsweep.data.sources.meaning import IGNORE, Settled
from segsweep.data.sources.seen import Look, Seen
from segsweep.errors import DataError, Problem
from segsweep.registry import names_in

__all__ = [
    "BINARY", "IGNORE", "Palette", "Sample", "Source", "confined", "digest_files", "missing_root",
    "sound",
]  # fmt: skip

BINARY = ("background", "lesion")
T = TypeVar("T")

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

    def look(self, sample: Sample) -> Look:
        """Decodes one sample, its mask in codes.

        Whether image and mask have the same size is checked by whoever builds the cache.

        Raises:
            DataError: a file cannot be decoded.
        """

    def settle(self, seen: Sequence[Seen]) -> Settled:
        """What the codes mean, of all samples of the dataset; one table for each."""

    def read(self, sample: Sample) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        """Decodes one sample as if it were the whole dataset.

        Returns:
            The RGB image (H, W, 3) and its labels (H, W), IGNORE where nothing is labelled.

        Raises:
            DataError: a file cannot be decoded, or has pixel values that stand for no class.
        """

    def digest(self, sample: Sample) -> str:
        """SHA-256 over all that determines the sample's pixels."""


def sound(scanned: tuple[list[T], list[Problem]]) -> list[T]:
    """What a scan has found, where nothing is wrong.

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
            problems.append(unreadable(path, error))
    if problems:
        raise DataError(problems)
    return total.hexdigest()
