"""What datasets of image and mask files share: listing, pairing, and reading by a table."""

from __future__ import annotations

import unicodedata
from abc import abstractmethod
from collections.abc import Callable
from pathlib import Path

from segsweep.data.image_file import IMAGE_SUFFIXES, MASK_SUFFIXES
from segsweep.data.sources.base import Palette, Sample, confined, digest_files, sound
from segsweep.data.sources.reading import Reading, look_at
from segsweep.data.sources.seen import Look
from segsweep.errors import DataError, Problem

Files = dict[str, Path]


class FileSource(Reading):
    """A dataset of files. A subclass gives ``classes``, ``scan`` and ``meaning``.

    Args:
        root: the directory that ``dataset.root`` names.
    """

    classes: tuple[str, ...]
    palette: Palette | None = None
    official_holdout: str = "test"

    def __init__(self, root: Path | None) -> None:
        self._root = root

    @abstractmethod
    def scan(self) -> tuple[list[Sample], list[Problem]]:
        """See `Source.scan`."""

    def samples(self) -> list[Sample]:
        """See `Source.samples`."""
        return sound(self.scan())

    def look(self, sample: Sample) -> Look:
        """See `Source.look`."""
        image, *masks = sample.files
        return look_at(image, masks[0] if masks else None)

    def digest(self, sample: Sample) -> str:
        """See `Source.digest`."""
        return digest_files(sample.files)


def plain(name: str) -> str:
    """A name as it is compared: Unicode NFC, since macOS writes "é" as "e" and an accent."""
    return unicodedata.normalize("NFC", name)


def located(root: Path, folder: str) -> Path:
    """``root/folder``, however its names are composed; that path where there is none."""
    place = root
    for part in folder.split("/") if folder else ():
        if not (place / part).exists() and place.is_dir():
            alike = [one.name for one in place.iterdir() if plain(one.name) == plain(part)]
            part = alike[0] if alike else part
        place /= part
    return place


def list_files(
    root: Path, folder: str, suffix: str = "", *, masks: bool = False, others: bool = False
) -> tuple[Files, list[Problem]]:
    """The image files in ``root/folder``.

    Args:
        root: the dataset; no file may lead out of it.
        folder: a path below it.
        suffix: what stems end with, ``"_mask"``.
        masks: they are masks, which may be GIF files, too.
        others: files with other endings may lie there, too, and are passed over.

    Returns:
        Stem without ``suffix``, in NFC → file; and as problems a directory that is missing, stems
        that occur twice, strange files, and links out of ``root``.
    """
    place = located(root, folder)
    suffix, suffixes = plain(suffix), MASK_SUFFIXES if masks else IMAGE_SUFFIXES
    if not place.is_dir():
        return {}, [Problem(f"there is no directory {folder!r} here", where=str(root))]
    found: Files = {}
    problems: list[Problem] = []
    for path in sorted(place.iterdir()):
        if path.name.startswith(".") or path.name == "Thumbs.db":
            continue
        stem = plain(path.stem)
        is_image = path.suffix.lower() in suffixes and path.is_file()
        if others and not (is_image and stem.endswith(suffix)):
            continue
        if not is_image:
            hint = f"expected {' '.join(sorted(suffixes))}"
            problems.append(Problem("is not an image file", where=str(path), hint=hint))
            continue
        if not stem.endswith(suffix):
            problems.append(Problem(f"does not end with {suffix!r}", where=str(path)))
            continue
        stem = stem[: len(stem) - len(suffix)]
        try:
            confined(path, root)
        except DataError as error:
            problems += error.problems
        if stem in found:
            what, hint = f"has the same name as {found[stem].name}", "each image needs its own stem"
            if path.name != found[stem].name and plain(path.name) == plain(found[stem].name):
                what += " in another Unicode form"
            problems.append(Problem(what, where=str(path), hint=hint))
        found.setdefault(stem, path)
    return found, problems


def list_folders(root: Path, folder: str = "") -> list[str]:
    """Names of the directories in ``root/folder`` in NFC, sorted; hidden ones are passed over.

    Raises:
        DataError: two names are the same in NFC.
    """
    place = located(root, folder)
    if not place.is_dir():
        return []
    entries = [path for path in place.iterdir() if path.is_dir()]
    found: Files = {}
    problems: list[Problem] = []
    for path in entries:
        if path.name.startswith("."):
            continue
        if found.setdefault(plain(path.name), path) is not path:
            what = f"has the same name as another directory in {place} in another Unicode form"
            problems.append(Problem(what, str(path), hint="put both into one, or rename one"))
    return sorted(sound((list(found), problems)))


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
