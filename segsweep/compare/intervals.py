"""Intervals of champions' means: other images and other seeds, added as variances.

Both noises are estimates with degrees of freedom of their own; those of their sum are
Satterthwaite's. ``segsweep.bootstrap`` makes the interval of it, skewed as the images' draws are.

Where the noise comes from residuals of config + fold, it holds the images that one champion finds
harder than the others do; what all of them find hard comes from the images, averaged over
champions. Where it comes from replicates, it is seeds alone, and the images are each champion's.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from scipy import stats

from segsweep import bootstrap
from segsweep.bootstrap import Spread
from segsweep.compare.comparison import Interval, Noise
from segsweep.compare.resampling import ImageNoise
from segsweep.compare.scoring import Array


def of_folds(
    scores: Array, noise: Noise | None, images: ImageNoise | None, *, alpha: float
) -> list[Interval | None]:
    """Intervals of the means over folds; None where there are too few groups to draw from.

    Args:
        scores: (C, k) of the champions, replicates averaged.
        noise: of one of them.
        images: how far other images move them; None goes by the scatter of the folds.
        alpha: 0.05 for intervals that hold the truth 95 times in 100.
    """
    cells, folds = scores.shape
    if images is not None and images.groups.refused:
        return [None] * cells
    if noise is None or (images is None and noise.source == "replicates"):
        return [_student(own, alpha) for own in scores]
    if images is not None:
        moved = images.spreads(shared=noise.source == "residuals")
        source, part = "resampled", 1.0
    else:
        if folds < 2:
            return [None] * cells
        variance = float(scores.mean(axis=0).var(ddof=1)) / folds
        moved = [Spread(variance, dof=folds - 1)] * cells
        source, part = "folds", 1 - 1 / cells  # the average's own share is in its scatter
    seeds = Spread(noise.sigma**2 * part / folds, dof=noise.dof)
    return _each(scores.mean(axis=1), [one + seeds for one in moved], alpha, source, noise.source)


def of_holdout(
    scores: Array, noise: Noise | None, images: ImageNoise | None, *, alpha: float
) -> list[Interval | None]:
    """As ``of_folds``, for fold models that all see the same images.

    None without image counts: fold models that agree on the same images say nothing about others.
    """
    cells, folds = scores.shape
    if noise is None or images is None or images.groups.refused:
        return [None] * cells
    twice = images.interaction() / folds if noise.source == "residuals" else 0.0
    moved = [_less(one, twice) for one in images.spreads(shared=False)]
    seeds = Spread(noise.sigma**2 / folds, dof=noise.dof)
    found = [one + seeds for one in moved]
    return _each(scores.mean(axis=1), found, alpha, "resampled", noise.source)


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
    means: Array, spreads: Sequence[Spread], alpha: float, images: str, source: str
) -> list[Interval | None]:
    found: list[Interval | None] = []
    for mean, spread in zip(means.tolist(), spreads, strict=True):
        low, high = bootstrap.interval(mean, spread, level=1 - alpha)
        found.append(Interval(low, high, 1 - alpha, images, source))  # type: ignore[arg-type]
    return found
