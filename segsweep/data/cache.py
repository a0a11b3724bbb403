"""Every image is decoded once, ever: resized arrays in Arrow files, keyed by content.

`load` maps a file into memory and hands out views. A file's name is a hash over everything
that determines the pixels and who is held out; the holdout is a file of its own that no trial
opens. Writing is atomic. `prepare` checks a found file against the hash it carries and rebuilds
a damaged one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from segsweep.data.arrow_file import VERSION, ImageSet, digest, load, verified, write
from segsweep.data.decoding import Decoded, Part, decode_all, digest_all
from segsweep.data.drawing import Drawing
from segsweep.data.leave_out import without
from segsweep.data.sources.base import Sample, Source
from segsweep.errors import DataError, Problem

__all__ = ["ImageSet", "Prepared", "load", "prepare"]


@dataclass(frozen=True)
class Prepared:
    """Where the decoded dataset lies.

    Attributes:
        train: the file for `load` with all images that trials may see.
        holdout: the file with the others, if any.
        fingerprint: hash over the decoded content of both: ids, pixels, labels, classes, size.
        images: how many there are in both together.
        decodes: how many were decoded for this call; 0 when the cache was there.
        depth: the bits that images of 16 bits use; None where there are none.
        notes: what a person should know about the files, whether or not the cache was there.
    """

    train: Path
    holdout: Path | None
    fingerprint: str
    images: int
    decodes: int
    depth: int | None = None
    notes: tuple[str, ...] = ()


def prepare(
    source: Source,
    *,
    name: str,
    options: Mapping[str, Any],
    image_size: tuple[int, int],
    holdout: float | Literal["official"],
    seed: int,
    stratify_by: str | None,
    group_by: str | None,
    cache_dir: Path,
    folds: int = 1,
    leave_out: Sequence[str] = (),
    depth: int | None = None,
    on_progress: Callable[[int, int], None] | None = None,
) -> Prepared:
    """Decodes the dataset, unless it has been done before.

    Args:
        source: the dataset.
        name: its name in `SOURCES`.
        options: its resolved options.
        image_size: height and width that everything is resized to.
        holdout: the share to hold out, 0 for none, or ``"official"`` for the source's own.
        seed: decides who is held out.
        stratify_by: the attribute that the holdout is stratified by, or ``"classes"``.
        group_by: the attribute whose groups are held out as a whole.
        cache_dir: where the files go; made if missing.
        folds: how many there are to be of the rest.
        leave_out: classes whose pixels are ignored and that have no label; the masks with them
            are kept beside, see `ImageSet.original`.
        depth: bits that images of 16 bits are scaled by; None: those that the dataset uses.
        on_progress: called with the number of images done and of all.

    Raises:
        DataError: everything that is wrong with the files, at once; nothing is written then.
    """
    samples, problems = source.scan()
    digests, wrong = digest_all(source, samples)
    samples = [sample for sample in samples if sample.image_id in digests]
    problems = [*problems, *wrong]
    if problems or not samples:  # look into the sound rest as well: all mistakes at once
        whole = decode_all(source, samples, image_size, _one_part(samples), on_progress)
        problems += whole.problems
        raise DataError(problems or [Problem("the dataset holds no images")])
    out = sorted(leave_out)
    drawing = Drawing(holdout, seed, stratify_by, group_by, folds, source.official_holdout)
    held, who = drawing.before(samples)
    settings: tuple[Any, ...] = (name, dict(options), image_size, source.classes, who, out)
    if depth is not None:
        settings = (*settings, depth)
    key = _key(samples, digests, settings)
    train = cache_dir / f"{key}-train.arrow"
    test = cache_dir / f"{key}-holdout.arrow" if held is None or held.any() else None
    known = _verified(train, test)
    if known is not None:
        count = len(samples)
        return Prepared(train, test, known.fingerprint, count, 0, known.depth, known.notes)
    side = _one_part(samples) if held is None else held
    decoded = decode_all(source, samples, image_size, side, on_progress, depth)
    if decoded.problems:
        raise DataError(decoded.problems)
    if held is None:
        held = drawing.after(samples, decoded.parts[0][1], source.classes, out)
        decoded = replace(decoded, parts=_apart(decoded.parts[0], held))
    fingerprint = _save((train, test), decoded, samples, held, source.classes, out)
    count = len(samples)
    return Prepared(train, test, fingerprint, count, count, decoded.depth, decoded.notes)


def _verified(train: Path, test: Path | None) -> ImageSet | None:
    """The first of the files, if they are all there, undamaged, and of one build."""
    first = verified(train)
    if first is None or test is None:
        return first
    second = verified(test)
    return first if second is not None and second.fingerprint == first.fingerprint else None


def _save(
    paths: tuple[Path, Path | None],
    decoded: Decoded,
    samples: Sequence[Sample],
    held: NDArray[np.bool_],
    classes: tuple[str, ...],
    out: Sequence[str],
) -> str:
    """Writes both parts and returns the fingerprint of the whole."""
    parts: Sequence[Part] = decoded.parts
    original: list[tuple[NDArray[np.uint8] | None, tuple[str, ...]]] = [(None, ())] * 2
    if out:
        original = [(masks, classes) for _, masks in parts]
        parts, classes = without(parts, classes, out)
    fingerprint = _fingerprint(parts, samples, held, classes)
    for path, part, whole, chosen in zip(paths, parts, original, (~held, held), strict=True):
        if path is not None:
            indices = [int(index) for index in np.flatnonzero(chosen)]
            labels = _labels([samples[index] for index in indices])
            pixels = tuple(decoded.hashes[index] for index in indices)
            told = (decoded.depth, decoded.notes)
            write(path, ImageSet(*part, *labels, classes, fingerprint, pixels, *whole, *told))
    return fingerprint


def _fingerprint(
    parts: Sequence[Part],
    samples: Sequence[Sample],
    held: NDArray[np.bool_],
    classes: tuple[str, ...],
) -> str:
    ids = [
        [s.image_id for s, out in zip(samples, held, strict=True) if out == side] for side in (0, 1)
    ]
    return digest([ids, classes], [array for part in parts for array in part])


def _key(samples: Sequence[Sample], digests: Mapping[str, str], settings: tuple[Any, ...]) -> str:
    rows = [
        [s.image_id, digests[s.image_id], sorted(s.attributes.items()), s.split] for s in samples
    ]
    return digest([VERSION, rows, *settings])[:16]


def _labels(samples: Sequence[Sample]) -> tuple[tuple[str, ...], dict[str, tuple[str, ...]]]:
    names = sorted({name for sample in samples for name in sample.attributes})
    columns = {name: tuple(s.attributes.get(name, "") for s in samples) for name in names}
    return tuple(sample.image_id for sample in samples), columns


def _one_part(samples: Sequence[Sample]) -> NDArray[np.bool_]:
    return np.zeros(len(samples), dtype=np.bool_)


def _apart(part: Part, held: NDArray[np.bool_]) -> tuple[Part, Part]:
    """The rows that are not held out, and those that are.

    The former stay in their memory and close up in it, so that it is not needed twice.
    """
    out = part[0][held], part[1][held]
    left = np.flatnonzero(~held)
    for array in part:
        for place, row in enumerate(left):
            array[place] = array[row]
    return (part[0][: len(left)], part[1][: len(left)]), out
