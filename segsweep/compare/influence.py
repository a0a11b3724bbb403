"""How far other images move a gap, without a draw: the infinitesimal jackknife (Efron 1982).

A score is a smooth function of how much each group of images weighs. Its derivative by that weight,
the group's influence, gives the variance under other groups: Σ U² / (1 − h), for a mean of equal
groups exactly s²/G. h is the group's share of the images, for it pulls the score its own way (Bell
and McCaffrey 2002). A bootstrap's variance is much the same but for its draws, so that a p near
alpha would hang on the seed.

The influences are laid out as draws are (``ImageNoise``): rows whose mean is 0 and whose mean
square is the variance.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from segsweep import bootstrap
from segsweep.bootstrap import Groups
from segsweep.compare.resampling import ImageNoise, Part
from segsweep.compare.scoring import Array, Scorer

STEP = 1e-4  # change of a weight that a derivative is taken over
LEAST = 1.01  # groups, where one holds nearly all images
ROWS = 256  # groups at once: memory does not grow with the square of their number


def influences(part: Part, score: Scorer) -> Array:
    """(G, M) of each group on each model's score, scaled so that squares add up to its variance.

    Args:
        part: at least two groups.
        score: the metric.
    """
    groups, blocks = part.size, []
    for first in range(0, groups, ROWS):
        some = np.arange(first, min(first + ROWS, groups))
        step = STEP * (part.groups == some[:, None])
        moved = [score(own, 1 + step) - score(own, 1 - step) for own in part.counts]
        blocks.append(np.stack(moved, axis=1) / (2 * STEP))
    share = np.bincount(part.groups) / len(part.groups)
    scaled: Array = np.concatenate(blocks) / np.sqrt(1 - share)[:, None]
    return np.nan_to_num(scaled)


def _behind(part: Part, score: Scorer) -> Groups:
    """The groups behind a gap, as many as would say as much about how far groups scatter.

    Images of one group are alike, so that a group weighs by the square of its share in the
    variance: (Σs²)² / Σs⁴ (Satterthwaite 1946; Carter, Schnepel and Steigerwald 2017).
    """
    behind = part.behind(score)
    squares = np.square(np.bincount(part.groups) / len(part.groups))
    alike = float(squares.sum() ** 2 / np.square(squares).sum())
    return replace(behind, effective=max(LEAST, min(behind.effective, alike)))


def over_folds(parts: Sequence[Part], replicates: int, score: Scorer) -> ImageNoise | None:
    """As ``resampling.over_folds``: the folds' images are independent of each other."""
    behind = [_behind(part, score) for part in parts]
    if any(one.count < 2 for one in behind):
        return None
    rows = sum(part.size for part in parts)
    blocks = []
    for at, part in enumerate(parts):
        own = influences(part, score).reshape(part.size, -1, replicates).mean(axis=2)
        block = np.zeros((*own.shape, len(parts)))
        block[..., at] = own * np.sqrt(rows)
        blocks.append(block)
    return ImageNoise(np.concatenate(blocks), bootstrap.together(behind))


def over_holdout(part: Part, folds: int, replicates: int, score: Scorer) -> ImageNoise | None:
    """As ``resampling.over_holdout``: all models see the same images."""
    behind = _behind(part, score)
    if behind.count < 2:
        return None
    moved = influences(part, score).reshape(part.size, -1, folds, replicates)
    return ImageNoise(moved.mean(axis=3) * np.sqrt(part.size), behind)
