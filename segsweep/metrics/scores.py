"""Scores from counts. Every name says how it averages; what is undefined is None.

**Which classes a score is of.** A class has a score over a set of images where it occurs in their
truth; elsewhere its score is undefined, whatever was predicted. A class that occurs and is never
predicted has precision 0. A mean over classes takes the classes that have a score. So it takes the
same ones for every config, epoch and seed that is scored on the same images: a stray pixel of an
absent class costs no more than the pixel. Names that end in ``_present`` or ``_per_image`` say
otherwise: in a single image, a class that is predicted and not there counts as 0.

Two classes, the scored one being class 1:

=========================== ===================================================================
iou dice f1                 over all pixels of the split together; dice and f1 are two names of
precision recall            one number
iou_per_image f1_per_image  the mean over images in which the class occurs or is predicted
auroc ap fpr95              of the logit as a ranking of all pixels (``ranking.py``)
boundary_iou                over all pixels close to a contour (``boundary.py``), together;
boundary_iou_per_image      or the mean over images that have any
=========================== ===================================================================

More classes:

=========================== ===================================================================
miou mdice mprecision       the mean over classes of the same, over all pixels together
mrecall mboundary_iou
iou_<class>                 of one class, over all pixels together
miou_present                per image over the classes in truth or prediction, then over images
miou_per_image_present      per image over the classes in its truth, then over images
=========================== ===================================================================

Both: ``pixel_accuracy``, over all pixels together. Those of ranking and boundary cost time, and are
computed where a sweep names them (``metric.name`` or ``metric.also``).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segsweep.metrics.counts import per_class

BINARY = (
    "iou", "dice", "f1", "precision", "recall", "pixel_accuracy", "iou_per_image", "f1_per_image",
)  # fmt: skip
MULTICLASS = (
    "miou", "mdice", "mprecision", "mrecall", "pixel_accuracy", "miou_present",
    "miou_per_image_present",
)  # fmt: skip
RANKING = ("auroc", "ap", "fpr95")
BOUNDARY = ("boundary_iou", "boundary_iou_per_image", "mboundary_iou")


def score_names(classes: int | Sequence[str]) -> tuple[str, ...]:
    """The scores that ``scores`` gives a data set.

    Args:
        classes: their number, or their names, whose IoU then has names too.
    """
    if not isinstance(classes, int):
        return score_names(len(classes)) + tuple(class_names(classes))
    return BINARY if classes == 2 else MULTICLASS


def extra_names(classes: int) -> tuple[str, ...]:
    """The scores that are computed where they are asked for."""
    return (*RANKING, *BOUNDARY[:2]) if classes == 2 else BOUNDARY[2:]


def wanted_extras(metric: Mapping[str, Any], classes: int) -> list[str]:
    """Of those, the ones that a trial config's ``metric`` names."""
    named = [name.removeprefix("val/") for name in (metric["name"], *metric.get("also", ()))]
    return [name for name in extra_names(classes) if name in named]


def class_names(classes: Sequence[str]) -> list[str]:
    """``iou_<class>`` of every class where there are more than two; letters, digits and _ alone."""
    if len(classes) == 2:
        return []
    plain = [re.sub(r"\W+", "_", name) for name in classes]
    taken = {*MULTICLASS, *BINARY, *BOUNDARY}
    return [
        f"iou_{name}_{i}" if plain.count(name) > 1 or f"iou_{name}" in taken else f"iou_{name}"
        for i, name in enumerate(plain)
    ]


def scores(
    matrix: NDArray[np.int64], classes: Sequence[str] | None = None
) -> dict[str, float | None]:
    """Every score of one split.

    Args:
        matrix: (N, K, K) confusion matrices of N images, rows are the truth.
        classes: their names; then each of more than two has its IoU.

    Returns:
        score name → value in [0, 1], or None where it is undefined (an absent class).
    """
    pooled = per_class(matrix.sum(axis=0))
    images = per_class(matrix)
    ratios, image_ratios = _ratios(pooled), _of_union(images)
    total = int(pooled["valid"])
    accuracy = float(pooled["tp"].sum() / total) if total else None
    if matrix.shape[-1] == 2:
        found = {name: _number(values[1]) for name, values in ratios.items()}
        found |= {"f1": found["dice"], "pixel_accuracy": accuracy}
        found["iou_per_image"] = _mean(image_ratios["iou"][:, 1])
        found["f1_per_image"] = _mean(image_ratios["dice"][:, 1])
        return {name: found[name] for name in BINARY}
    found = {f"m{name}": _mean(values) for name, values in ratios.items()}
    found["pixel_accuracy"] = accuracy
    true = images["tp"] + images["fn"] > 0
    found["miou_present"] = _mean_of_means(image_ratios["iou"])
    found["miou_per_image_present"] = _mean_of_means(np.where(true, image_ratios["iou"], np.nan))
    own = zip(class_names(classes or []), ratios["iou"], strict=bool(classes))
    return found | {name: _number(value) for name, value in own}


def boundary_scores(counts: NDArray[np.int64]) -> dict[str, float | None]:
    """Scores of the contours of a split: of classes that have one in the truth.

    Args:
        counts: (N, K, 3), what ``boundary_counts`` returned for all its images.
    """
    pooled = counts.sum(axis=0)
    each = np.where(pooled[:, 2] > 0, _divide(pooled[:, 0], pooled[:, 1]), np.nan)
    if counts.shape[1] > 2:
        return {"mboundary_iou": _mean(each)}
    images = _divide(counts[:, 1, 0], counts[:, 1, 1])
    return {"boundary_iou": _number(each[1]), "boundary_iou_per_image": _mean(images)}


def _ratios(counts: dict[str, NDArray[np.int64]]) -> dict[str, NDArray[np.float64]]:
    """Of each class that occurs in the truth; NaN of the others."""
    tp, fp, fn = counts["tp"], counts["fp"], counts["fn"]
    found = {
        "iou": _divide(tp, tp + fp + fn),
        "dice": _divide(2 * tp, 2 * tp + fp + fn),
        "precision": np.nan_to_num(_divide(tp, tp + fp)),
        "recall": _divide(tp, tp + fn),
    }
    return {name: np.where(tp + fn > 0, values, np.nan) for name, values in found.items()}


def _of_union(counts: dict[str, NDArray[np.int64]]) -> dict[str, NDArray[np.float64]]:
    """Of each class that is in truth or prediction of an image; NaN of the others."""
    tp, fp, fn = counts["tp"], counts["fp"], counts["fn"]
    return {"iou": _divide(tp, tp + fp + fn), "dice": _divide(2 * tp, 2 * tp + fp + fn)}


def _divide(a: NDArray[np.int64], b: NDArray[np.int64]) -> NDArray[np.float64]:
    ratio = np.full(b.shape, np.nan)
    np.divide(a, b, out=ratio, where=b > 0)
    return ratio


def _number(value: np.float64) -> float | None:
    return None if np.isnan(value) else float(value)


def _mean(values: NDArray[np.float64]) -> float | None:
    known = values[~np.isnan(values)]
    return float(known.mean()) if known.size else None


def _mean_of_means(rows: NDArray[np.float64]) -> float | None:
    """The mean over rows of the mean of each, what is undefined left out."""
    means = [_mean(row) for row in rows]
    return _mean(np.array([np.nan if value is None else value for value in means]))
