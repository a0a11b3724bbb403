"""What the masks of a data set hold: the pixels of each class, counted in one pass.

Counted are the masks as the cache has them, resized and without the classes that are left out: what
trials learn from and what they are scored on.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segsweep.data.folds import Folds
from segsweep.data.sources.base import IGNORE

CLASSES = "classes"
"""The value of ``folds.stratify_by`` that spreads the classes of the masks."""

Counts = NDArray[np.int64]
"""(N, C + 1): pixels of each class in each mask; the last column: of those that are ignored."""


def by_classes(stratify_by: str | None, attributes: Collection[str]) -> bool:
    """Are images spread by the classes in their masks? An attribute of that name goes first."""
    return stratify_by == CLASSES and CLASSES not in attributes


def label_counts(masks: NDArray[np.uint8], classes: int) -> Counts:
    """Counts the labels of masks (N, H, W), one mask at a time."""
    labels = [*range(classes), IGNORE]
    counts = np.zeros((len(masks), len(labels)), np.int64)
    for row, mask in enumerate(masks):
        counts[row] = np.bincount(mask.ravel(), minlength=IGNORE + 1)[labels]
    return counts


@dataclass(frozen=True)
class Content:
    """The masks of a sweep, in numbers.

    Attributes:
        classes: names; the index is the label.
        search: of the images that trials see.
        holdout: of the others, if any.
        units: (N,) the number of the group of each image that trials see; without groups, of each.
        held_units: the same of the holdout.
        folds: of the images that trials see.
        run: how many folds are run.
    """

    classes: tuple[str, ...]
    search: Counts
    holdout: Counts | None
    units: NDArray[np.int64]
    held_units: NDArray[np.int64] | None
    folds: Folds
    run: int

    def in_folds(self) -> NDArray[np.bool_]:
        """(k, C) whether a class is in a mask that a fold validates."""
        found = np.zeros((self.folds.k, len(self.classes)), np.bool_)
        images, labels = np.nonzero(self.search[:, :-1])
        found[np.asarray(self.folds.assignment)[images], labels] = True
        return found

    def absent(self) -> list[str]:
        """Classes that no mask has which trials see."""
        return self._names(~self._seen())

    def missing(self) -> dict[str, list[int]]:
        """Class → the folds that are run and validate no pixel of it, though others do."""
        there = self.in_folds()
        return {
            name: [int(fold) for fold in np.flatnonzero(~there[: self.run, label])]
            for label, name in enumerate(self.classes)
            if there[:, label].any() and not there[: self.run, label].all()
        }

    def alone(self) -> dict[str, int]:
        """Class → the only fold that has it, where that is run: it trains without the class."""
        there = self.in_folds()
        only = {
            name: int(np.argmax(there[:, label]))
            for label, name in enumerate(self.classes)
            if there[:, label].sum() == 1
        }
        return {name: fold for name, fold in only.items() if fold < self.run}

    def not_held_out(self) -> list[str]:
        """Classes that trials see and the holdout does not have."""
        if self.holdout is None:
            return []
        return self._names(self._seen() & (self.holdout[:, :-1].sum(axis=0) == 0))

    def groups_with(self, name: str, *, holdout: bool) -> int:
        """How many groups have a class (images, where there are no groups).

        ``holdout``: those of the holdout count, too.
        """
        label = self.classes.index(name)
        count = len(np.unique(self.units[self.search[:, label] > 0]))
        if holdout and self.holdout is not None and self.held_units is not None:
            count += len(np.unique(self.held_units[self.holdout[:, label] > 0]))
        return count

    def as_dict(self) -> dict[str, Any]:
        """Shares of labelled pixels and of images, and where a class is missing."""
        return {
            "search": _shares(self.search, self.classes),
            "holdout": None if self.holdout is None else _shares(self.holdout, self.classes),
            "missing_in_folds": self.missing(),
        }

    def _seen(self) -> NDArray[np.bool_]:
        return np.asarray(self.search[:, :-1].sum(axis=0) > 0)

    def _names(self, chosen: NDArray[np.bool_]) -> list[str]:
        return [self.classes[label] for label in np.flatnonzero(chosen)]


def _shares(counts: Counts, classes: tuple[str, ...]) -> dict[str, Any]:
    """Of labelled pixels (None: there are none), and of images; of all pixels those ignored."""
    pixels = counts.sum(axis=0)
    labelled, images = int(pixels[:-1].sum()), (counts > 0).mean(axis=0)
    return {
        "images": len(counts),
        "ignored": int(pixels[-1]) / max(1, int(pixels.sum())),
        "classes": {
            name: {
                "pixels": int(pixels[label]) / labelled if labelled else None,
                "images": float(images[label]),
            }
            for label, name in enumerate(classes)
        },
    }
