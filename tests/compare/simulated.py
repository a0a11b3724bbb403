"""Sweeps whose truth is known: scores of images under models, with every source of noise.

The score of config c on image i under fold f and seed r is

    truth_c + group_g(i) + difficulty_i + interaction_ci + seed_cfr + rest_cfri

and a trial's score is the mean over its images, as a metric of images is. An image has 10,000
pixels of the scored class, of which the model finds the share that is its score.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from segsweep.compare.resampling import Part
from segsweep.compare.scoring import Array, Scorer

SCORE = Scorer("iou_per_image")
PIXELS = 10_000


@dataclass(frozen=True)
class Truth:
    """Standard deviations of each source, on the scale of the score."""

    truths: tuple[float, ...] = (0.6, 0.6, 0.6, 0.6)
    folds: int = 5
    replicates: int = 1
    images: int = 20  # of each fold, and of the holdout
    group: int = 1  # images of one group
    between_groups: float = 0.0
    difficulty: float = 0.10
    interaction: float = 0.03
    seed: float = 0.02
    rest: float = 0.03


@dataclass(frozen=True)
class Sweep:
    """One simulated sweep: (C, k, R) scores and the counts that they follow from."""

    scores: Array
    parts: list[Part]
    holdout: Array
    held: Part


def simulate(truth: Truth, rng: np.random.Generator) -> Sweep:
    """Draw a sweep: new images, new seeds."""
    folds = [_scores(truth, 1, rng) for _ in range(truth.folds)]
    held = _scores(truth, truth.folds, rng)
    shape = (len(truth.truths), truth.folds, truth.replicates)
    return Sweep(
        scores=np.stack([own.mean(axis=-1)[:, 0] for own, _ in folds], axis=1),
        parts=[_part(*own) for own in folds],
        holdout=held[0].mean(axis=-1).reshape(shape),
        held=_part(*held),
    )


def _scores(truth: Truth, models: int, rng: np.random.Generator) -> tuple[Array, NDArray[np.int64]]:
    """(C, models, R, N) scores of one set of images, and their groups."""
    cells, n = len(truth.truths), truth.images
    groups = np.arange(n) // truth.group
    shape = (cells, models, truth.replicates)
    hard = rng.normal(0, truth.difficulty, n)
    hard = hard + rng.normal(0, truth.between_groups, groups.max() + 1)[groups]
    own = rng.normal(0, truth.interaction, (cells, 1, 1, n))
    seeds = rng.normal(0, truth.seed, (*shape, 1))
    rest = rng.normal(0, truth.rest, (*shape, n))
    level = np.asarray(truth.truths)[:, None, None, None]
    scores: Array = level + hard + own + seeds + rest
    return np.round(np.clip(scores, 0, 1) * PIXELS) / PIXELS, groups


def _part(scores: Array, groups: NDArray[np.int64]) -> Part:
    flat = np.rint(scores.reshape(-1, scores.shape[-1]) * PIXELS)
    counts = np.zeros((*flat.shape, 1, 4))
    counts[..., 0, 0], counts[..., 0, 2] = flat, PIXELS - flat
    counts[..., 0, 3] = 2 * PIXELS
    return Part(counts, groups)
