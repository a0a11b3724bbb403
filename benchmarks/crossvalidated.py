"""Generated sweeps of configs that are equally good, with every source of noise that sweeps have.

A sweep is drawn with fresh data each time, so that a rate over sweeps is a rate over data as well.
Kinds: ``scores`` of a formula, ``images`` whose scores have groups and tails, and ``trained``, the
real cross-validation of a linear classifier of pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from segsweep.compare.resampling import Part

Array = NDArray[np.float64]
PIXELS = 10_000  # of an image's scored class, where scores are drawn and not counted
SIDE = 12  # of a trained classifier's images
CHANNELS = 6  # that one cell sees of a pixel


@dataclass(frozen=True)
class Truth:
    """What a sweep is drawn from. Sizes are in units of the noise between seeds.

    Attributes:
        cells: each with ``configs``.
        worse: how much worse some are: the second half of every cell for the race, the last cell
            for the comparison.
        noisy: how many times as noisy the first cell is.
        luck: standard deviation of what all folds of a config share.
        learner: of ``trained``: least squares over all channels, or the one best channel, which is
            another one with another training set.
    """

    kind: Literal["scores", "images", "trained"] = "scores"
    folds: int = 5
    cells: int = 4
    configs: int = 8
    noisy: float = 1.0
    luck: float = 0.0
    worse: float = 0.0
    sizes: Sequence[int] = (1,) * 50  # images of each group
    group: float = 0.0  # how differently hard configs find a group
    tail: float = 0.0  # of lognormal losses of single images
    learner: Literal["least squares", "one channel"] = "least squares"


@dataclass(frozen=True)
class Sweep:
    """Scores of every config, (cells, configs, folds), and the first ones' images.

    Attributes:
        held: (cells, folds) of the first config of each cell on the holdout, ``part`` its counts;
            None where no images are drawn.
    """

    scores: Array
    held: Array | None = None
    part: Part | None = None


def draw(truth: Truth, rng: np.random.Generator) -> Sweep:
    """A sweep whose configs differ by luck alone (and by ``worse``)."""
    return {"scores": _scores, "images": _images, "trained": _trained}[truth.kind](truth, rng)


def _scores(truth: Truth, rng: np.random.Generator) -> Sweep:
    shape = (truth.cells, truth.configs)
    sizes = np.ones((truth.cells, 1, 1))
    sizes[0] = truth.noisy
    own = rng.normal(size=(*shape, truth.folds)) + truth.luck * rng.normal(size=(*shape, 1))
    return Sweep(2 * rng.normal(size=truth.folds) + sizes * own)


def _images(truth: Truth, rng: np.random.Generator) -> Sweep:
    """Scores around 0.7, with seeds of 0.01; an image's is the mean of nothing but itself."""
    groups = rng.permutation(np.repeat(np.arange(len(truth.sizes)), truth.sizes))
    fold = _dealt(truth.sizes, truth.folds)[groups]
    every = truth.cells * truth.configs
    images = _own(truth, groups, every, rng)
    seeds = rng.normal(0, 0.01, (every, truth.folds))
    scores = np.stack([images[:, fold == f].mean(axis=1) for f in range(truth.folds)], axis=1)
    held = _own(truth, groups, truth.cells, rng)[:, None]
    held = held + rng.normal(0, 0.01, (truth.cells, truth.folds, 1))
    held = np.round(np.clip(held, 0, 1) * PIXELS)
    counts = np.zeros((truth.cells * truth.folds, len(groups), 1, 4))
    flat = held.reshape(-1, len(groups))
    counts[..., 0, 0], counts[..., 0, 2], counts[..., 0, 3] = flat, PIXELS - flat, 2 * PIXELS
    return Sweep(
        (scores + seeds).reshape(truth.cells, truth.configs, truth.folds),
        held.mean(axis=2) / PIXELS,
        Part(counts, groups),
    )


def _own(truth: Truth, groups: NDArray[np.int64], configs: int, rng: np.random.Generator) -> Array:
    """(configs, N) of each image: how hard it is, and how much harder for this config."""
    hard = rng.normal(0, 0.05, len(groups)) + rng.normal(0, 0.05, groups.max() + 1)[groups]
    apart = rng.normal(0, truth.group, (configs, groups.max() + 1))[:, groups]
    apart = apart + rng.normal(0, 0.03, (configs, len(groups)))
    lost = truth.tail * (rng.lognormal(0, 1, (configs, len(groups))) - np.exp(0.5))
    own: Array = 0.7 + hard + apart - lost
    return own


def _dealt(sizes: Sequence[int], folds: int) -> NDArray[np.int64]:
    """Groups to folds, the largest first, each to the fold that has the fewest images."""
    full = np.zeros(folds)
    place = np.zeros(len(sizes), dtype=np.int64)
    for group in np.argsort(sizes)[::-1]:
        place[group] = full.argmin()
        full[place[group]] += sizes[group]
    return place


def _trained(truth: Truth, rng: np.random.Generator) -> Sweep:
    """Every cell sees channels of its own, all drawn alike: no cell is better than another.

    A config is another seed: each of its trials weighs the training images at random (bagging).
    """
    count = 8 * truth.folds
    masks, channels = _pictures(truth.cells, 2 * count, rng)
    square = np.einsum("cnpi,cnpj->cnij", channels, channels)
    along = np.einsum("cnpi,np->cni", channels, 2.0 * masks - 1)
    fold = np.arange(count) % truth.folds
    shape = (truth.cells, truth.configs, truth.folds)
    scores, held = np.zeros(shape), np.zeros((truth.cells, truth.folds))
    counts = np.zeros((truth.cells * truth.folds, count, 1, 4))
    for cell, config, f in np.ndindex(*shape):
        seen = np.flatnonzero(fold != f)
        bag = rng.multinomial(len(seen), np.full(len(seen), 1 / len(seen)))
        weights = _fitted(truth.learner, square[cell, seen], along[cell, seen], bag)
        found = channels[cell] @ weights > 0
        scores[cell, config, f] = _iou(_counted(found, masks)[:count][fold == f])
        if config == 0:
            own = _counted(found, masks)[count:]
            counts[cell * truth.folds + f, :, 0] = own
            held[cell, f] = _iou(own)
    return Sweep(scores, held, Part(counts, np.arange(count)))


def _pictures(cells: int, count: int, rng: np.random.Generator) -> tuple[NDArray[np.bool_], Array]:
    """(N, P) masks of discs, and (C, N, P, channels + 1) noisy views of them; the last is 1."""
    y, x = np.mgrid[:SIDE, :SIDE]
    centre, radius = rng.uniform(3, SIDE - 4, (2, count, 1, 1)), rng.uniform(2, 4, (count, 1, 1))
    masks = ((y - centre[0]) ** 2 + (x - centre[1]) ** 2 < radius**2).reshape(count, -1)
    shape = (cells, count, 1, CHANNELS)  # an image shows more of its disc in some channels
    shown = rng.normal(0.8, 0.4, shape)
    noise = rng.normal(size=(cells, count, SIDE * SIDE, CHANNELS)) + rng.normal(0, 0.3, shape)
    views = shown * (masks[None, :, :, None] - 0.5) + noise
    return masks, np.concatenate([views, np.ones((*views.shape[:3], 1))], axis=3)


def _fitted(learner: str, square: Array, along: Array, bag: NDArray[np.int64]) -> Array:
    gram, moment = np.tensordot(bag, square, 1), bag @ along
    if learner == "one channel":
        size = moment**2 / np.diag(gram)
        chosen = [int(size[:-1].argmax()), len(moment) - 1]
    else:
        chosen = list(range(len(moment)))
    weights = np.zeros(len(moment))
    weights[chosen] = np.linalg.solve(gram[np.ix_(chosen, chosen)], moment[chosen])
    return weights


def _counted(found: NDArray[np.bool_], masks: NDArray[np.bool_]) -> Array:
    """(N, 4) tp, fp, fn, valid."""
    both = (found & masks).sum(axis=1)
    valid = np.full(len(masks), masks.shape[1])
    return np.stack([both, found.sum(axis=1) - both, masks.sum(axis=1) - both, valid], axis=1) * 1.0


def _iou(counts: Array) -> float:
    tp, fp, fn, _ = counts.sum(axis=0)
    return float(tp / max(1.0, tp + fp + fn))
