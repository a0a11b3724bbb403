"""Intervals of champions' means: other images and other seeds, added as variances.

Both noises are estimates with degrees of freedom of their own; those of their sum are
Satterthwaite's. ``segsweep.bootstrap`` makes the interval of it, skewed as the images' draws are.
Other draws would move its ends a little; ``digits`` says how many digits they would not.

Where the noise comes from residuals of config + fold, it holds the images that one champion finds
harder than the others do; what all of them find hard comes from the images, averaged over
champions. Where it comes from replicates, it is seeds alone, and the images are each champion's.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

import numpy as np
from scipy import stats

from segsweep import bootstrap
from segsweep.bootstrap import Spread
from segsweep.compare.comparison import Interval
from segsweep.compare.noise import Noises
from segsweep.compare.resampling import ImageNoise
from segsweep.compare.scoring import Array

SURE = 4  # standard errors: two results of other draws are hardly ever so far apart
MOST, LEAST = 4, 2  # digits after the point


def of_folds(
    scores: Array, noise: Noises | None, images: ImageNoise | None, *, alpha: float
) -> list[Interval | None]:
    """Intervals of the means over folds; None where there are too few groups to draw from.

    Args:
        scores: (C, k) of the champions, replicates averaged.
        noise: of one score of each.
        images: how far other images move them; None goes by the scatter of the folds.
        alpha: 0.05 for intervals that hold the truth 95 times in 100.
    """
    cells, folds = scores.shape
    if images is not None and images.groups.refused:
        return [None] * cells
    if noise is None or (images is None and noise.common.source == "replicates"):
        return [_student(own, alpha) for own in scores]
    if images is not None:
        shared = noise.common.source == "residuals"
        moved = images.spreads(shared=shared)
        return _each(scores, moved, noise, alpha, errors=images.errors(shared=shared))
    if folds < 2:
        return [None] * cells
    variance = float(scores.mean(axis=0).var(ddof=1)) / folds
    moved = [Spread(variance, dof=folds - 1)] * cells
    part = 1 - 1 / cells  # the average's own share is in its scatter
    return _each(scores, moved, noise, alpha, part=part, source="folds")


def of_holdout(
    scores: Array, noise: Noises | None, images: ImageNoise | None, *, alpha: float
) -> list[Interval | None]:
    """As ``of_folds``, for fold models that all see the same images.

    None without image counts: fold models that agree on the same images say nothing about others.
    """
    cells, folds = scores.shape
    if noise is None or images is None or images.groups.refused:
        return [None] * cells
    twice = images.interaction() / folds if noise.common.source == "residuals" else 0.0
    moved = [_less(one, twice) for one in images.spreads(shared=False)]
    return _each(scores, moved, noise, alpha, errors=images.errors(shared=False))


def _less(spread: Spread, variance: float) -> Spread:
    """Without the part of the variance that is counted elsewhere."""
    left = np.clip(1 - variance / max(spread.variance, 1e-300), 0, 1)
    return spread.times(float(np.sqrt(left)))


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


def _each(
    scores: Array,
    moved: list[Spread],
    noise: Noises,
    alpha: float,
    *,
    part: float = 1.0,
    errors: Array | None = None,
    source: Literal["resampled", "folds"] = "resampled",
) -> list[Interval | None]:
    """Of each champion's mean.

    Args:
        scores: (C, k).
        moved: how far other images move each mean.
        noise: of one score of each.
        alpha: as above.
        part: of the noise that ``moved`` does not hold.
        errors: (C, 2) standard errors of variance and third moment of ``moved``; None: no draws.
        source: where ``moved`` comes from.
    """
    folds = scores.shape[1]
    found: list[Interval | None] = []
    for place, mean in enumerate(scores.mean(axis=1).tolist()):
        seeds = Spread(noise.own[place].sigma ** 2 * part / folds, dof=noise.own[place].dof)
        whole = moved[place] + seeds
        low, high = bootstrap.interval(mean, whole, level=1 - alpha)
        half = max(mean - low, high - mean)
        slack = 0.0 if errors is None else _slack(whole, half, errors[place], alpha)
        level, by = 1 - alpha, noise.common.source
        found.append(Interval(low, high, level, source, by, _digits(slack)))
    return found


def _slack(whole: Spread, half: float, errors: Array, alpha: float) -> float:
    """How far apart other draws may put an end, by the slopes of ``bootstrap.interval``."""
    if not whole.variance > 0:
        return 0.0
    quantile = float(stats.t.ppf(1 - alpha / 2, whole.dof))
    by_width = half * errors[0] / (2 * whole.variance)
    by_skew = (quantile**2 / 3 + 1 / 6) * errors[1] / whole.variance
    return float(SURE * np.hypot(by_width, by_skew))


def _digits(slack: float) -> int:
    """The most digits of which the last one is larger than what other draws would change."""
    if slack <= 10.0**-MOST:
        return MOST
    return max(LEAST, int(np.floor(-np.log10(slack))))
