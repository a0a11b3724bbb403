"""Generated sweeps: learning curves whose truth is known, of the kinds that rules fail on.

A config is a point in the unit cube. Where it ends up falls off quadratically from an optimum that
every sweep has elsewhere; how it gets there, and what noise is added, is the kind's:

========= =====================================================================================
smooth    little noise, similar speeds
noisy     much noise between epochs, less as the learning rate decays
crossing  speeds differ and have nothing to do with where a curve ends
late      the better a config ends, the slower it begins
seed      runs of one config differ by a standard deviation of 0.02
flat      all configs end within a few hundredths of each other
cliff     three of ten configs never learn
========= =====================================================================================

Folds differ in difficulty, every config has another seed on each.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
AXES = ("lr", "weight_decay", "width")  # names of the three coordinates, most important first
START = 0.45  # where every curve begins


@dataclass(frozen=True)
class Kind:
    """How curves of one kind behave.

    Attributes:
        epoch_noise: standard deviation between epochs at the first one.
        seed_noise: standard deviation between runs of one config.
        speeds: epochs that a curve needs, least and most.
        late: good configs are the slow ones.
        depth: how far the worst corner ends below the best config.
        dead: share of configs that never learn.
    """

    epoch_noise: float = 0.012
    seed_noise: float = 0.004
    speeds: tuple[float, float] = (2.0, 4.0)
    late: bool = False
    depth: float = 0.35
    dead: float = 0.0


KINDS: Mapping[str, Kind] = {
    "smooth": Kind(epoch_noise=0.004, seed_noise=0.002),
    "noisy": Kind(epoch_noise=0.035, seed_noise=0.012),
    "crossing": Kind(speeds=(1.0, 8.0)),
    "late": Kind(speeds=(1.5, 8.5), late=True),
    "seed": Kind(seed_noise=0.02),
    "flat": Kind(epoch_noise=0.008, seed_noise=0.006, depth=0.08),
    "cliff": Kind(dead=0.3),
}


@dataclass
class Surface:
    """One cell of a generated sweep.

    Args:
        kind: its curves.
        epochs: of a trial.
        rng: draws the optimum, and nothing afterwards: a config's curves depend on ``seed``.
    """

    kind: Kind
    epochs: int
    rng: np.random.Generator
    folds: int = 1
    top: float = 0.86
    difficulty: Array = field(init=False)

    def __post_init__(self) -> None:
        self.optimum = self.rng.uniform(0.25, 0.75, len(AXES))
        self.weights = np.array([1.0, 0.5, 0.15]) * self.rng.uniform(0.5, 1.5, len(AXES))
        self.difficulty = self.rng.normal(0, 0.02, self.folds)
        self.seed = int(self.rng.integers(2**31))

    def end(self, x: Array) -> float:
        """Where a config would end without any noise: what a search looks for."""
        height = self.top - self.kind.depth * float(((x - self.optimum) ** 2) @ self.weights)
        dead = np.random.default_rng((self.seed, *_bits(x))).random() < self.kind.dead
        return min(height, START + 0.05) if dead else height

    def curve(self, x: Array, fold: int) -> Array:
        """The metric after each epoch, shape ``(epochs,)``."""
        kind, epoch = self.kind, np.arange(1, self.epochs + 1)
        rng = np.random.default_rng((self.seed, fold, *_bits(x)))
        end = self.end(x)
        place = rng.random()
        if kind.late:  # 1 at the optimum, 0 far away
            place = float(np.clip(1 - (self.top - end) / (0.4 * kind.depth), 0, 1)) ** 2
        speed = kind.speeds[0] + (kind.speeds[1] - kind.speeds[0]) * place
        own = end + rng.normal(0, kind.seed_noise) + self.difficulty[fold]
        rising = own - (own - START) * np.exp(-((epoch / speed) ** 0.9))
        decay = 0.15 + 0.425 * (1 + np.cos(np.pi * epoch / self.epochs))
        noise = _correlated(rng, self.epochs) * decay * (1 + 2 * np.exp(-epoch / 3))
        curve: Array = np.clip(rising + kind.epoch_noise * noise, 0.0, 1.0)
        return curve


def _correlated(rng: np.random.Generator, count: int) -> Array:
    """Normal noise of which neighbours share half."""
    fresh = rng.normal(size=count)
    for i in range(1, count):
        fresh[i] = 0.5 * fresh[i - 1] + np.sqrt(0.75) * fresh[i]
    return fresh


def _bits(x: Array) -> list[int]:
    return [int(value * 2**30) for value in x]
