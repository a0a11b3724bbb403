"""What a score rests on: which images, and how much on each.

A score of few images is known no better than they are many: the IoU of a class that two images of
a hundred show has two images behind it.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from segsweep.bootstrap import Groups, Integers, fewest, groups
from segsweep.compare.scoring import POOLED, SINGLE, Array


def resting(name: str, counts: Array, units: Integers, label: int | None = None) -> Groups:
    """The groups of images behind a score.

    Args:
        name: of the score, without ``val/``.
        counts: (N, K, 4) tp, fp, fn, valid of N images; K is 1 for two classes.
        units: (N,) from 0; images that share one are drawn together.
        label: of the scored class, for ``iou_<class>``.
    """
    truth: Array = counts[..., 0] + counts[..., 2]  # (N, K)
    touched: Array = counts[..., :3].sum(axis=-1)
    if name in SINGLE:
        return groups(units, np.asarray((truth > 0).any(axis=1), np.float64))
    if name == "pixel_accuracy":
        return groups(units, counts[:, 0, 3])
    if label is None and name in POOLED:
        label = 0
    if label is not None:
        # no class is scored without its truth, however many pixels are taken for it
        return fewest([groups(units, touched[:, label]), groups(units, truth[:, label])])
    there = np.flatnonzero(truth.sum(axis=0) > 0)
    shares = touched[:, there] / touched[:, there].sum(axis=0)
    whole = groups(units, shares.sum(axis=1))
    # a mean over classes is known no better than the class that fewest show
    few = [groups(units, truth[:, label]).count for label in there]
    return replace(whole, count=min([whole.count, *few]))
