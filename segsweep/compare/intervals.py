"""Intervals of champions' means: other images and other seeds together.

Other images move all champions alike, other seeds each on its own. Both variances are estimates;
their sum has Welch and Satterthwaite's degrees of freedom, and Student's t gives the ends. Ends
from moments need far fewer draws than percentiles for the same digits; ``digits`` says how many.

Where the noise comes from residuals of config + fold, it holds the images that one champion finds
harder than the others do; what all of them find hard comes from the images, averaged over
champions. Where it comes from replicates, it is seeds alone, and the images are each champion's.

The luck that all folds of a config share is not in them: they are for the training sets that there
were.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

import numpy as np
from scipy import stats

from segsweep.compare.claims import welch
from segsweep.compare.comparison import Interval
from segsweep.compare.noise import Noises
from segsweep.compare.resampling import ImageNoise
from segsweep.compare.scoring import Array

SURE = 5  # standard errors: two results of other draws are hardly ever so far apart
MOST, LEAST = 4, 1  # digits after the point


def of_folds(
    scores: Array, noise: Noises | None, images: ImageNoise | None, *, alpha: float
) -> list[Interval | None]:
    """Intervals of the means over folds.

    Args:
        scores: (C, k) of the champions, replicates averaged.
        noise: of one score of each.
        images: how far other images move them.
        alpha: 0.05 for intervals that hold the truth 95 times in 100.
    """
    cells, folds = scores.shape
    if noise is None or (images is None and noise.common.source == "replicates"):
        return [_student(own, alpha) for own in scores]
    seeds = noise.variances / folds
    if images is not None:
        moved = images.means
        if noise.common.source == "residuals":
            moved = np.repeat(moved.mean(axis=1, keepdims=True), cells, axis=1)
        return _ends(scores, moved.var(axis=0), _error(moved), images.dof, seeds, noise, alpha)
    if folds < 2:
        return [None] * cells
    average = np.full(cells, scores.mean(axis=0).var(ddof=1) / folds)
    seeds = seeds * (1 - 1 / cells)  # the average's own share is in its scatter
    none = np.zeros(cells)
    return _ends(scores, average, none, folds - 1, seeds, noise, alpha, source="folds")


def of_holdout(
    scores: Array, noise: Noises | None, images: ImageNoise | None, *, alpha: float
) -> list[Interval | None]:
    """As ``of_folds``, for fold models that all see the same images.

    None without image counts: fold models that agree on the same images say nothing about others.
    """
    cells, folds = scores.shape
    if noise is None or images is None:
        return [None] * cells
    spread = images.means.var(axis=0)
    twice = images.interaction() / folds if noise.common.source == "residuals" else 0.0
    left = np.maximum(spread - twice, 0.0)
    error = _error(images.means)
    return _ends(scores, left, error, images.dof, noise.variances / folds, noise, alpha)


def clipped(interval: Interval | None, metric: str) -> Interval | None:
    """Within what the metric can be: a score is from 0 to 1, a loss has no end."""
    if interval is None or metric == "val/loss":
        return interval
    low, high = min(1.0, max(0.0, interval.low)), min(1.0, max(0.0, interval.high))
    return replace(interval, low=low, high=high)


def _student(scores: Array, alpha: float) -> Interval | None:
    """One config by itself: its folds differ in images and in seeds alike."""
    folds = len(scores)
    if folds < 2:
        return None
    half = stats.t.ppf(1 - alpha / 2, folds - 1) * scores.std(ddof=1) / np.sqrt(folds)
    mean = scores.mean()
    return Interval(float(mean - half), float(mean + half), 1 - alpha, "folds", "folds")


def _error(moved: Array) -> Array:
    """(C,) standard errors of the variances of (draws, C): what other draws would change."""
    squares = np.square(moved - moved.mean(axis=0))
    errors: Array = squares.std(axis=0) / np.sqrt(len(moved))
    return errors


def _ends(
    scores: Array,
    images: Array,
    error: Array,
    images_dof: float,
    seeds: Array,
    noise: Noises,
    alpha: float,
    source: Literal["resampled", "folds"] = "resampled",
) -> list[Interval | None]:
    """From the variances of both parts, and the standard error of the first one's draws."""
    found: list[Interval | None] = []
    for place, mean in enumerate(scores.mean(axis=1).tolist()):
        parts = [(images[place], images_dof), (seeds[place], noise.own[place].dof)]
        width, dof = welch(parts)
        times = float(stats.t.ppf(1 - alpha / 2, dof))
        half = times * width
        slack = SURE * times * error[place] / (2 * width) if width > 0 else 0.0
        found.append(
            Interval(
                mean - half,
                mean + half,
                1 - alpha,
                source,
                noise.common.source,
                _digits(float(slack)),
            )
        )
    return found


def _digits(slack: float) -> int:
    """The most digits of which the last one is larger than what other draws would change."""
    if slack <= 10.0**-MOST:
        return MOST
    return max(LEAST, int(np.floor(-np.log10(slack))))
