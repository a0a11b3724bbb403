"""What logits are held against: images with the classes that a model knows, and with anomalies."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from segsweep.data import cache, sources
from segsweep.data.cache import ImageSet
from segsweep.data.sources.base import IGNORE
from segsweep.errors import DataError, Problem, UserError
from segsweep.identity import digest
from segsweep.registry import suggest
from segsweep.spec.shape import Scored

ANOMALY = {"smiyc": ("anomaly",)}  # what a source means by an anomaly, where nothing else is said


@dataclass(frozen=True)
class Target:
    """A dataset for scoring.

    Attributes:
        name: of the dataset, as in results.
        data: the images.
        labels: (N, H, W) classes of the model, IGNORE where a pixel has none of them.
        anomaly: (N, H, W) 1 where a pixel is of no class that the model knows, 0 where it is of
            one, IGNORE where a pixel is void.
        classes: that the model knows; the index is the label.
        left_out: what the anomalies are.
        fingerprint: of images, labels and anomalies.
    """

    name: str
    data: ImageSet
    labels: NDArray[np.uint8]
    anomaly: NDArray[np.uint8]
    classes: tuple[str, ...]
    left_out: tuple[str, ...]
    fingerprint: str


def own(name: str, data: ImageSet) -> Target:
    """The sweep's own images; what ``dataset.leave_out`` kept from training is the anomaly."""
    masks, classes = data.original()
    out = [label for label, one in enumerate(classes) if one not in data.classes]
    anomaly = np.where(data.masks == IGNORE, IGNORE, 0).astype(np.uint8)
    for label in out:
        anomaly[masks == label] = 1
    names = tuple(classes[label] for label in out)
    key = digest([data.fingerprint, names])
    return Target(name, data, data.masks, anomaly, data.classes, names, key)


def foreign(
    name: str,
    wanted: Scored,
    *,
    classes: Sequence[str] | None,
    image_size: tuple[int, int],
    cache_dir: Path,
    depth: int | None = None,
) -> Target:
    """A dataset that is named for scoring.

    Args:
        name: in results.
        wanted: what the user says about it.
        classes: that the model knows, in order; None: those of the dataset but its anomalies.
        image_size: of the model's training; the dataset's own word goes before it.
        cache_dir: where decoded images lie.
        depth: bits that the model's training scaled images of 16 bits by; None: it had none.

    Raises:
        UserError: it cannot be read, or its classes have nothing to do with the model's.
    """
    try:
        root = Path(wanted.root) if wanted.root is not None else None
        options = sources.resolve(wanted.name, wanted.options)
        source = sources.build(wanted.name, root=root, options=options)
        prepared = cache.prepare(
            source,
            name=wanted.name,
            options=options,
            image_size=wanted.image_size or image_size,
            holdout=0,
            seed=0,
            stratify_by=None,
            group_by=None,
            cache_dir=cache_dir,
            depth=depth,
        )
    except UserError as error:
        where = f"dataset {name}"
        raise type(error)(
            Problem(p.what, p.where or where, p.key, p.hint) for p in error.problems
        ) from error
    data = cache.load(prepared.train)
    odd = tuple(wanted.anomaly) or ANOMALY.get(wanted.name, ())
    if unknown := [one for one in odd if one not in data.classes]:
        what = f"there is no class {unknown[0]!r}"
        hint = suggest(unknown[0], data.classes)
        raise DataError(Problem(what, f"dataset {name}", "anomaly", hint))
    known = classes or tuple(one for one in data.classes if one not in odd)
    return _relabelled(name, data, known, odd)


def told(targets: Mapping[str, Target]) -> list[str]:
    """What to know about the files of datasets, each by its name."""
    return [
        f"dataset {target.name}: {note}"
        for target in targets.values()
        for note in target.data.notes
    ]


def _relabelled(name: str, data: ImageSet, known: Sequence[str], odd: Sequence[str]) -> Target:
    """Masks in the model's labels.

    A class that it does not know is an anomaly where it is named as one; else its pixels are no
    anomaly and have no label.
    """
    to_label = np.full(IGNORE + 1, IGNORE, np.uint8)
    to_anomaly = np.full(IGNORE + 1, IGNORE, np.uint8)
    for label, one in enumerate(data.classes):
        to_anomaly[label] = one in odd
        if one in known and one not in odd:
            to_label[label] = known.index(one)
    labels, anomaly = to_label[data.masks], to_anomaly[data.masks]
    if not (anomaly != IGNORE).any():
        raise DataError(Problem("not one pixel is labelled", f"dataset {name}"))
    if not odd and not (labels != IGNORE).any():
        what = f"has none of the model's classes ({', '.join(known)})"
        hint = f"it has {', '.join(data.classes)}; say which are anomalies with anomaly=…"
        raise DataError(Problem(what, f"dataset {name}", hint=hint))
    key = digest([data.fingerprint, list(known), list(odd)])
    return Target(name, data, labels, anomaly, tuple(known), tuple(odd), key)
