"""Scores from counts. Every name says how it averages; what is undefined is None.

Two classes (the scored one is class 1): ``iou``, ``dice`` (F1), ``precision`` and ``recall`` over
all pixels of the split together, ``iou_per_image`` the mean over images in which the class occurs
or is predicted. More classes: ``miou``, ``mdice``, ``mprecision``, ``mrecall``, the mean over
classes of the same, and ``miou_present``, per image over the classes in truth or prediction, then
over images. Both: ``pixel_accuracy``.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from segsweep.metrics.counts import per_class

BINARY = ("iou", "dice", "precision", "recall", "pixel_accuracy", "iou_per_image")
MULTICLASS = ("miou", "mdice", "mprecision", "mrecall", "pixel_accuracy", "miou_present")


def score_names(classes: int) -> tuple[str, ...]:
    """The scores that a data set of ``classes`` classes has."""
    return BINARY if classes == 2 else MULTICLASS


def scores(matrix: NDArray[np.int64]) -> dict[str, float | None]:
    """Every score of one split.

    Args:
        matrix: (N, K, K) confusion matrices of N images, rows are the truth.

    Returns:
        score name → value in [0, 1], or None where it is undefined (an absent class).
    """
    pooled = per_class(matrix.sum(axis=0))
    images = per_class(matrix)
    classes = matrix.shape[-1]
    ratios = _ratios(pooled)
    image_iou = _ratios(images)["iou"]
    total = int(pooled["valid"])
    accuracy = float(pooled["tp"].sum() / total) if total else None
    if classes == 2:
        found = {name: _number(values[1]) for name, values in ratios.items()}
        return {**found, "pixel_accuracy": accuracy, "iou_per_image": _mean(image_iou[:, 1])}
    found = {f"m{name}": _mean(values) for name, values in ratios.items()}
    present = [_mean(row) for row in image_iou]
    known = np.array([value for value in present if value is not None])
    return {**found, "pixel_accuracy": accuracy, "miou_present": _mean(known)}


def _ratios(counts: dict[str, NDArray[np.int64]]) -> dict[str, NDArray[np.float64]]:
    tp, fp, fn = counts["tp"], counts["fp"], counts["fn"]
    return {
        "iou": _divide(tp, tp + fp + fn),
        "dice": _divide(2 * tp, 2 * tp + fp + fn),
        "precision": _divide(tp, tp + fp),
        "recall": _divide(tp, tp + fn),
    }


def _divide(a: NDArray[np.int64], b: NDArray[np.int64]) -> NDArray[np.float64]:
    ratio = np.full(b.shape, np.nan)
    np.divide(a, b, out=ratio, where=b > 0)
    return ratio


def _number(value: np.float64) -> float | None:
    return None if np.isnan(value) else float(value)


def _mean(values: NDArray[np.float64]) -> float | None:
    known = values[~np.isnan(values)]
    return float(known.mean()) if known.size else None
