"""Other images: what scores would have been, had others of the same kind been photographed.

Images, or whole groups of them, are drawn with ``segsweep.bootstrap``, the same ones for every
model, so that what models share cancels out of their differences.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from segsweep import bootstrap
from segsweep.bootstrap import Groups, Spread
from segsweep.compare.resting import resting
from segsweep.compare.scoring import Array, Scorer


@dataclass(frozen=True)
class Part:
    """The images of one fold, or of the holdout.

    Attributes:
        counts: (M, N, K, 4) tp, fp, fn, valid of M models on N images.
        groups: (N,) codes from 0; images that share one are drawn together.
    """

    counts: Array
    groups: NDArray[np.int64]

    @property
    def size(self) -> int:
        """How many groups there are."""
        return int(self.groups.max()) + 1 if self.groups.size else 0

    def behind(self, score: Scorer) -> Groups:
        """The groups that a score rests on; truth is the same under every model."""
        return resting(score.name, self.counts[0], self.groups, score.label)


def deviations(part: Part, score: Scorer, draws: int, rng: np.random.Generator) -> Array:
    """How far each model's score moves with other images.

    Args:
        part: at least two groups that the score rests on.
        score: the metric.
        draws: how many times images are drawn.
        rng: where the draws come from.

    Returns:
        (draws, M), each column about 0; a draw that leaves any model's score undefined is made
        again.
    """
    once = np.ones((1, len(part.groups)))
    base = np.concatenate([score(own, once) for own in part.counts])

    def moved(weights: Array) -> Array:
        apart = np.stack([score(own, weights) for own in part.counts], axis=1) - base
        return np.where(np.isfinite(apart).all(axis=1, keepdims=True), apart, np.nan)

    found = bootstrap.values(moved, part.groups, draws, rng)
    widened: Array = found * part.behind(score).widening
    return widened


@dataclass(frozen=True)
class ImageNoise:
    """How far champions move with other images.

    Attributes:
        moved: (draws, C, k), of each champion's score on each fold, replicates averaged.
        groups: that were drawn from, in all parts together.
    """

    moved: Array
    groups: Groups

    @property
    def dof(self) -> float:
        """Degrees of freedom of their variance."""
        return self.groups.dof

    @property
    def means(self) -> Array:
        """(draws, C), of the mean over folds."""
        means: Array = self.moved.mean(axis=2)
        return means

    def spreads(self, *, shared: bool) -> list[Spread]:
        """Of each champion's mean; ``shared``: what moves all of them alike, one for all."""
        return [bootstrap.moments(one, self.groups.dof) for one in self._means(shared).T]

    def errors(self, *, shared: bool) -> Array:
        """(C, 2) standard errors of variance and third moment in ``spreads``, by the draws."""
        apart = self._means(shared) - self._means(shared).mean(axis=0)
        powers = np.stack([apart**2, apart**3], axis=2)
        errors: Array = powers.std(axis=0) / np.sqrt(len(powers))
        return errors

    def _means(self, shared: bool) -> Array:
        means = self.means
        return np.broadcast_to(means.mean(axis=1, keepdims=True), means.shape) if shared else means

    def interaction(self) -> float:
        """Mean square of what is neither the champion's nor the fold's: models see images apart.

        Part of the residuals of config + fold as well; whoever adds both takes it off once.
        """
        _, cells, folds = self.moved.shape
        if cells < 2 or folds < 2:
            return 0.0
        rest = (
            self.moved
            - self.moved.mean(axis=1, keepdims=True)
            - self.moved.mean(axis=2, keepdims=True)
            + self.moved.mean(axis=(1, 2), keepdims=True)
        )
        squares = np.square(rest).sum(axis=(1, 2)).mean()
        return float(squares / ((cells - 1) * (folds - 1)))


def over_folds(
    parts: Sequence[Part], replicates: int, score: Scorer, draws: int, rng: np.random.Generator
) -> ImageNoise | None:
    """Each fold has images of its own; its models are the champions' replicates in turn.

    Returns:
        None where on a fold the score rests on fewer than two groups: nothing can be drawn.
    """
    behind = [part.behind(score) for part in parts]
    if any(one.count < 2 for one in behind):
        return None
    moved = [
        deviations(part, score, draws, rng).reshape(draws, -1, replicates).mean(axis=2)
        for part in parts
    ]
    return ImageNoise(np.stack(moved, axis=2), bootstrap.together(behind))


def over_holdout(
    part: Part, folds: int, replicates: int, score: Scorer, draws: int, rng: np.random.Generator
) -> ImageNoise | None:
    """All models see the same images; they are the champions' folds, and each one's replicates.

    Returns:
        None where the score rests on fewer than two groups.
    """
    behind = part.behind(score)
    if behind.count < 2:
        return None
    moved = deviations(part, score, draws, rng).reshape(draws, -1, folds, replicates)
    return ImageNoise(moved.mean(axis=3), behind)
