"""Other seeds: how far the same config would land from itself.

Of k folds and n configs, what is left after config + fold is the noise: seeds, and the images that
one config finds harder than the others do. Where so few are left that nothing can be estimated,
replicates (other seeds on the same fold) say how far seeds alone move a score.
"""

from __future__ import annotations

import numpy as np
from scipy import integrate, stats

from segsweep.compare.comparison import Noise
from segsweep.compare.scoring import Array

ENOUGH = 8  # degrees of freedom with which champions need no other configs to know their noise
FEW = 4  # below, replicates know it better, where there are any
GRID = np.linspace(-8.0, 8.0, 801)


def residuals(scores: Array) -> tuple[float, int]:
    """Mean square and degrees of freedom of what config + fold leave of (n, k) scores."""
    n, k = scores.shape
    dof = (n - 1) * (k - 1)
    if dof < 1:
        return 0.0, 0
    rest = scores - scores.mean(axis=0) - scores.mean(axis=1, keepdims=True) + scores.mean()
    return float(np.square(rest).sum()) / dof, dof


def within(scores: Array) -> tuple[float, int]:
    """The same of (n, k, R) scores between the replicates of one config and fold."""
    n, k, count = scores.shape
    dof = n * k * (count - 1)
    if dof < 1:
        return 0.0, 0
    rest = scores - scores.mean(axis=2, keepdims=True)
    return float(np.square(rest).sum()) / dof, dof


def estimate(champions: Array, finished: Array | None = None) -> Noise | None:
    """The noise of one fold's score, replicates averaged.

    Args:
        champions: (C, k, R) scores.
        finished: (n, k, R) of every config that has finished, champions among them: they help out
            where the champions are few.

    Returns:
        None where one fold, or one config, and no replicates say nothing.
    """
    square, dof = residuals(champions.mean(axis=2))
    seeds, seeds_dof = within(champions)
    if finished is not None and dof < ENOUGH:
        square, dof = residuals(finished.mean(axis=2))
        seeds, seeds_dof = within(finished)
    if dof < FEW and seeds_dof > dof:
        return Noise(float(np.sqrt(seeds / champions.shape[2])), seeds_dof, "replicates")
    return Noise(float(np.sqrt(square)), dof, "residuals") if dof else None


def luck(tried: int) -> float:
    """The expected maximum of so many standard normals: what picking the best of them gives."""
    if tried <= 1:
        return 0.0
    density = tried * stats.norm.pdf(GRID) * stats.norm.cdf(GRID) ** (tried - 1)
    return float(integrate.simpson(GRID * density, x=GRID))


def estimate_alone(holdout: Array) -> Noise | None:
    """The noise of one fold model's score on the holdout, from (C, k, R) scores of the champions.

    All fold models see the same images: one champion alone shows how far its models differ.
    """
    if len(holdout) > 1 or holdout.shape[1] < 2:
        return estimate(holdout)
    means = holdout[0].mean(axis=1)
    return Noise(float(means.std(ddof=1)), len(means) - 1, "residuals")
