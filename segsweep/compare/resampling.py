"""Other images: what scores would have been, had others of the same kind been photographed.

Images, or whole groups of them (a patient, a scene), are drawn with replacement, the same ones for
every model, so that what models share cancels out of their differences (cluster bootstrap; Davison
and Hinkley 1997, chapter 3). Deviations are widened by √(G/(G−1)): a bootstrap of G groups knows
their mean, and is so much too narrow.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from segsweep.compare.scoring import Array, Scorer

LEAST_DOF = 0.5  # where one group holds nearly all images


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


def dof(parts: Sequence[Part]) -> float:
    """Degrees of freedom of a variance over the groups of all parts: G − 1 each, for equal groups.

    A group weighs by its images. Where a few hold most of them, the rest say little about how far
    groups scatter (Satterthwaite 1946; Carter, Schnepel and Steigerwald 2017).
    """
    weights = [np.square(np.bincount(part.groups) / len(part.groups)) for part in parts]
    sizes = np.array([own.sum() for own in weights])
    own = np.array([own.sum() ** 2 / np.square(own).sum() - 1 for own in weights])
    return float(sizes.sum() ** 2 / (sizes**2 / np.maximum(own, LEAST_DOF)).sum())


def deviations(part: Part, score: Scorer, draws: int, rng: np.random.Generator) -> Array:
    """How far each model's score moves with other images.

    Args:
        part: at least two groups.
        score: the metric.
        draws: how many times images are drawn.
        rng: where the draws come from.

    Returns:
        (draws, M), each column about 0; 0 where a draw leaves the score undefined.
    """
    groups = part.size
    times = rng.multinomial(groups, np.full(groups, 1 / groups), size=draws)
    weights = times[:, part.groups].astype(np.float64)
    once = np.ones((1, len(part.groups)))
    moved = np.stack([score(own, weights) - score(own, once) for own in part.counts], axis=1)
    widened: Array = np.nan_to_num(moved, nan=0.0) * np.sqrt(groups / (groups - 1))
    return widened


@dataclass(frozen=True)
class ImageNoise:
    """How far champions move with other images.

    Attributes:
        moved: (draws, C, k), of each champion's score on each fold, replicates averaged.
        dof: degrees of freedom, see ``dof``.
    """

    moved: Array
    dof: float

    @property
    def means(self) -> Array:
        """(draws, C), of the mean over folds."""
        means: Array = self.moved.mean(axis=2)
        return means

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
        None where a fold has fewer than two groups, so that nothing can be drawn.
    """
    if any(part.size < 2 for part in parts):
        return None
    moved = [
        deviations(part, score, draws, rng).reshape(draws, -1, replicates).mean(axis=2)
        for part in parts
    ]
    return ImageNoise(np.stack(moved, axis=2), dof(parts))


def over_holdout(
    part: Part, folds: int, replicates: int, score: Scorer, draws: int, rng: np.random.Generator
) -> ImageNoise | None:
    """All models see the same images; they are the champions' folds, and each one's replicates.

    Returns:
        None for fewer than two groups.
    """
    if part.size < 2:
        return None
    moved = deviations(part, score, draws, rng).reshape(draws, -1, folds, replicates)
    return ImageNoise(moved.mean(axis=3), dof([part]))
