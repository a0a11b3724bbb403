"""Intervals of champions' means: other images and other seeds, drawn together.

A draw moves all champions by the same other images, and each by seeds of its own. Both noises are
estimates, so that each draw takes its own value of them: a normal times √(ν/χ²) is Student's t.

Where the noise comes from residuals of config + fold, it holds the images that one champion finds
harder than the others do; what all of them find hard comes from the images, averaged over
champions. Where it comes from replicates, it is seeds alone, and the images are each champion's.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from scipy import stats

from segsweep.compare.comparison import Interval, Noise
from segsweep.compare.resampling import ImageNoise
from segsweep.compare.scoring import Array


def of_folds(
    scores: Array,
    noise: Noise | None,
    images: ImageNoise | None,
    *,
    alpha: float,
    draws: int,
    rng: np.random.Generator,
) -> list[Interval | None]:
    """Intervals of the means over folds.

    Args:
        scores: (C, k) of the champions, replicates averaged.
        noise: of one of them.
        images: how far other images move them.
        alpha: 0.05 for intervals that hold the truth 95 times in 100.
        draws: as many as ``images`` has.
        rng: where the draws come from.
    """
    cells, folds = scores.shape
    if noise is None or (images is None and noise.source == "replicates"):
        return [_student(own, alpha) for own in scores]
    if images is not None:
        if noise.source == "residuals":
            shared = images.means.mean(axis=1, keepdims=True)
        else:
            shared = images.means
        moved = shared * _mixed(images.dof, (draws, 1), rng)
        source, part = "resampled", 1.0
    else:
        if folds < 2:
            return [None] * cells
        average = scores.mean(axis=0)
        spread = average.std(ddof=1) / np.sqrt(folds)
        moved = spread * rng.standard_t(folds - 1, size=(draws, 1))
        source, part = "folds", 1 - 1 / cells  # the average's own share is in its scatter
    size = noise.sigma * np.sqrt(part / folds)
    seeds = rng.standard_normal((draws, cells)) * _mixed(noise.dof, (draws, 1), rng) * size
    return _percentiles(scores.mean(axis=1), moved + seeds, alpha, source, noise.source)


def of_holdout(
    scores: Array,
    noise: Noise | None,
    images: ImageNoise | None,
    *,
    alpha: float,
    draws: int,
    rng: np.random.Generator,
) -> list[Interval | None]:
    """As ``of_folds``, for fold models that all see the same images.

    None without image counts: fold models that agree on the same images say nothing about others.
    """
    cells, folds = scores.shape
    if noise is None or images is None:
        return [None] * cells
    moved = images.means * _mixed(images.dof, (draws, 1), rng)
    spread = images.means.var(axis=0)
    twice = images.interaction() / folds if noise.source == "residuals" else 0.0
    moved = moved * np.sqrt(np.clip(1 - twice / np.maximum(spread, 1e-300), 0, 1))
    size = noise.sigma / np.sqrt(folds)
    seeds = rng.standard_normal((draws, cells)) * _mixed(noise.dof, (draws, 1), rng) * size
    return _percentiles(scores.mean(axis=1), moved + seeds, alpha, "resampled", noise.source)


def clipped(interval: Interval | None, metric: str) -> Interval | None:
    """Within what the metric can be: a score is from 0 to 1, a loss has no end."""
    if interval is None or metric == "val/loss":
        return interval
    low, high = min(1.0, max(0.0, interval.low)), min(1.0, max(0.0, interval.high))
    return replace(interval, low=low, high=high)


def _mixed(dof: int, shape: tuple[int, int], rng: np.random.Generator) -> Array:
    """√(ν/χ²): what makes a normal a Student's t of ν degrees of freedom."""
    mixed: Array = np.sqrt(dof / rng.chisquare(dof, size=shape))
    return mixed


def _student(scores: Array, alpha: float) -> Interval | None:
    """One config by itself: its folds differ in images and in seeds alike."""
    folds = len(scores)
    if folds < 2:
        return None
    half = stats.t.ppf(1 - alpha / 2, folds - 1) * scores.std(ddof=1) / np.sqrt(folds)
    mean = scores.mean()
    return Interval(float(mean - half), float(mean + half), 1 - alpha, "folds", "folds")


def _percentiles(
    means: Array, moved: Array, alpha: float, images: str, source: str
) -> list[Interval | None]:
    low, high = np.quantile(moved, [alpha / 2, 1 - alpha / 2], axis=0)
    return [
        Interval(float(mean + a), float(mean + b), 1 - alpha, images, source)  # type: ignore[arg-type]
        for mean, a, b in zip(means, low, high, strict=True)
    ]
