"""Scores from weighted images against ``segsweep.metrics.scores``, which is the oracle."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from segsweep.compare.scoring import SPREAD, Array, Scorer, scorer
from segsweep.metrics.counts import per_class
from segsweep.metrics.scores import class_names, score_names, scores

CLASSES = {2: ["sky", "cell"], 4: ["sky", "road", "car a", "car-a"]}


def matrices(classes: int) -> NDArray[np.int64]:
    """Of ten images, some of which lack a class in truth or prediction, or in both."""
    rng = np.random.default_rng(classes)
    found = rng.integers(0, 50, (10, classes, classes))
    found[0, 1], found[1, :, 1] = 0, 0
    found[2, 1], found[2, :, 1] = 0, 0
    if classes > 2:
        found[:, 2] = 0  # predicted here and there, and in no truth
    return found


def counts_of(found: NDArray[np.int64]) -> Array:
    counts = per_class(found)
    valid = np.broadcast_to(counts["valid"][:, None], counts["tp"].shape)
    every = np.stack([counts["tp"], counts["fp"], counts["fn"], valid], axis=-1).astype(float)
    return every[:, 1:] if found.shape[-1] == 2 else every


@pytest.mark.parametrize("classes", [2, 4])
def test_weighting_images_is_repeating_them(classes: int) -> None:
    names, found = CLASSES[classes], matrices(classes)
    rng = np.random.default_rng(0)
    times = rng.integers(0, 3, (5, 10))
    own = class_names(names)
    for name in score_names(names):
        score = scorer(name, own)
        assert score is not None, name
        values = score(counts_of(found), times.astype(float))
        for value, weights in zip(values, times, strict=True):
            expected = scores(np.repeat(found, weights, axis=0), names)[name]
            there = found.sum(axis=(0, 2)) > 0
            drawn = np.repeat(found, weights, axis=0).sum(axis=(0, 2)) > 0
            if expected is None or (name in SPREAD and (there & ~drawn).any()):
                assert np.isnan(value)  # a mean over classes is of the same ones in every draw
            else:
                assert value == pytest.approx(expected), name


def test_what_pixel_counts_do_not_hold_has_no_scorer() -> None:
    for name in ("loss", "auroc", "boundary_iou", "iou_car"):
        assert scorer(name, []) is None


def test_an_absent_class_is_undefined_and_not_0() -> None:
    nothing = np.zeros((3, 1, 4))
    for name in ("iou", "iou_per_image", "recall", "pixel_accuracy"):
        assert np.isnan(Scorer(name)(nothing, np.ones((1, 3)))).all()
