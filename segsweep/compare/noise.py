"""Other seeds: how far the same config would land from itself, a champion's own cell first.

What is left after config + fold of a cell's finished configs is its noise: seeds, and the images
that this cell finds harder than the others do. Where so little is left that nothing can be
estimated, replicates (other seeds on the same fold) say how far seeds alone move a score.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from segsweep import noise
from segsweep.compare.comparison import Noise
from segsweep.compare.scoring import Array
from segsweep.noise import Estimate

FEW = 4  # degrees of freedom below which replicates know the noise better, where there are any


@dataclass(frozen=True)
class Noises:
    """The noise of each champion's cell, and of all together; of one score, replicates averaged."""

    own: Sequence[Noise]
    common: Noise

    @property
    def variances(self) -> Array:
        """(C,) of one score of each champion."""
        return np.square([one.sigma for one in self.own])

    @property
    def dof(self) -> Array:
        """(C,) degrees of freedom behind ``variances``."""
        return np.array([one.dof for one in self.own])


def alike(one: Noise, champions: int) -> Noises:
    """All champions with the same noise."""
    return Noises([one] * champions, one)


def estimate(champions: Array, finished: Sequence[Array] | None = None) -> Noises | None:
    """The noise of one fold's score, replicates averaged.

    Args:
        champions: (C, k, R) scores.
        finished: for each champion (n, k, R) of all configs of its cell that have finished, itself
            among them; None: itself alone.

    Returns:
        None where one fold, or one config, and no replicates say nothing.
    """
    cells = [one[None] for one in champions] if finished is None else finished
    _, folds, replicates = champions.shape
    left = noise.across(
        [
            noise.added([noise.sums(range(folds), own, folds) for own in cell.mean(axis=2)])
            for cell in cells
        ]
    )
    if left is None or left.common.dof < FEW:
        seeds = noise.moderated(*_between_replicates(cells))
        if seeds is not None and (left is None or seeds.common.dof > left.common.dof):
            return _named(seeds, "replicates", 1 / np.sqrt(replicates))
    return _named(left, "residuals") if left else None


def _between_replicates(cells: Sequence[Array]) -> tuple[Array, Array]:
    """Sums of squares of each cell between replicates of one config and fold, and their dof."""
    rest = [cell - cell.mean(axis=2, keepdims=True) for cell in cells]
    squares = np.array([float(np.square(own).sum()) for own in rest])
    return squares, np.array([float(own.size - own[..., 0].size) for own in rest])


def _named(
    found: Estimate, source: Literal["residuals", "replicates"], factor: float = 1.0
) -> Noises:
    named = [
        Noise(float(factor * one.sigma), one.dof, source)
        for one in (found.common, *(own or found.common for own in found.own))
    ]
    return Noises(named[1:], named[0])


def estimate_alone(holdout: Array) -> Noises | None:
    """The noise of one fold model's score on the holdout, from (C, k, R) scores of the champions.

    All fold models see the same images: one champion alone shows how far its models differ.
    """
    if len(holdout) > 1 or holdout.shape[1] < 2:
        return estimate(holdout)
    means = holdout[0].mean(axis=1)
    return alike(Noise(float(means.std(ddof=1)), float(len(means) - 1), "residuals"), 1)
