"""Scores from weighted images: what a metric would be, had each image come up so many times.

The same definitions as in ``segsweep.metrics.scores``, which a test holds them against; here
without torch, for many weightings at once, and from the counts that ``images.parquet`` keeps.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

POOLED = ("iou", "dice", "f1", "precision", "recall", "pixel_accuracy")
SPREAD = ("miou", "mdice", "mprecision", "mrecall")  # the mean of the above over classes
SINGLE = ("iou_per_image", "f1_per_image", "miou_present", "miou_per_image_present")


@dataclass(frozen=True)
class Scorer:
    """One score, of counts by image and class.

    Attributes:
        name: without ``val/``.
        label: of the scored class, for ``iou_<class>``; None: of all.
    """

    name: str
    label: int | None = None

    def __call__(self, counts: Array, weights: Array) -> Array:
        """Score each weighting.

        Args:
            counts: (N, K, 4) tp, fp, fn, valid of N images; K is 1 for two classes.
            weights: (B, N), how often each image counts.

        Returns:
            (B,), NaN where the score is undefined.
        """
        if self.name in SINGLE:
            return self._by_image(counts, weights)
        flat = weights @ counts.reshape(len(counts), -1)
        pooled = flat.reshape(len(weights), *counts.shape[1:])
        if self.label is not None:
            return _ratio("iou", pooled[:, self.label])
        if self.name == "pixel_accuracy":
            return self._accuracy(pooled)
        if self.name in SPREAD:
            return self._over_classes(counts, pooled)
        return _ratio(self.name, pooled[:, 0])

    def _over_classes(self, counts: Array, pooled: Array) -> Array:
        """Over the classes in the truth of all images: without one of them it is undefined."""
        there = (counts[..., 0] + counts[..., 2]).sum(axis=0) > 0
        if not there.any():
            return np.full(len(pooled), np.nan)
        means: Array = _ratio(self.name[1:], pooled[:, there]).mean(axis=1)
        return means

    def _accuracy(self, pooled: Array) -> Array:
        valid = pooled[:, 0, 3]
        if pooled.shape[1] == 1:
            return _divide(valid - pooled[:, 0, 1] - pooled[:, 0, 2], valid)
        return _divide(pooled[:, :, 0].sum(axis=1), valid)

    def _by_image(self, counts: Array, weights: Array) -> Array:
        each = _of_union("dice" if self.name == "f1_per_image" else "iou", counts)
        if self.name == "miou_per_image_present":
            each = np.where(counts[..., 0] + counts[..., 2] > 0, each, np.nan)
        values = _mean(each)
        known = ~np.isnan(values)
        return _divide(weights[:, known] @ values[known], weights[:, known].sum(axis=1))


def scorer(name: str, own: Sequence[str]) -> Scorer | None:
    """The score of that name; None where the counts do not hold it (losses, rankings, boundaries).

    Args:
        name: without ``val/``.
        own: ``iou_<class>`` of each class in their order.
    """
    if name in own:
        return Scorer(name, list(own).index(name))
    return Scorer(name) if name in (*POOLED, *SPREAD, *SINGLE) else None


def _ratio(name: str, counts: Array) -> Array:
    """Of each class that occurs in the truth; NaN of the others."""
    tp, fp, fn = counts[..., 0], counts[..., 1], counts[..., 2]
    if name == "precision":
        found = np.nan_to_num(_divide(tp, tp + fp))
    elif name == "recall":
        found = _divide(tp, tp + fn)
    else:
        found = _of_union(name, counts)
    occurs: Array = np.where(tp + fn > 0, found, np.nan)
    return occurs


def _of_union(name: str, counts: Array) -> Array:
    """Of each class that is in truth or prediction; NaN of the others."""
    tp, fp, fn = counts[..., 0], counts[..., 1], counts[..., 2]
    return _divide(tp, tp + fp + fn) if name == "iou" else _divide(2 * tp, 2 * tp + fp + fn)


def _divide(a: Array, b: Array) -> Array:
    result = np.full(b.shape, np.nan)
    np.divide(a, b, out=result, where=b > 0)
    return result


def _mean(values: Array) -> Array:
    """Over the last axis, of what is defined."""
    known = ~np.isnan(values)
    return _divide(np.where(known, values, 0).sum(axis=-1), known.sum(axis=-1).astype(np.float64))
