"""Two classes: NLL depends on the true class's margin alone, and a histogram of it is enough.

A pixel whose true class leads by s has the NLL log(1 + exp(-β s)), with the slope
φ(s) = -s σ(-β s). A bin is a prefix of s's float32 bits, 9 bits of the mantissa, and keeps how many
pixels (or how much weight) W it has and the mean m of their s, so that a bin is 0.2 % of s wide.
Replacing s by m changes the slope's sum over a bin of width h by at most sup|φ''| W h² / 8 (Taylor
to second order around m, and a variance is at most h²/4). With u = β s,
|φ''| = β v |2 - u tanh(u/2)| ≤ β v max(2, |u|), v = σ(u) σ(-u), which falls with |u|. As the slope
grows with β, T's error is proved by where slope ± bound change sign.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from segsweep.calibration.newton import Bend
from segsweep.calibration.pixels import Doubles, Floats

BITS = 18  # of a float32 that name its bin: sign, exponent, and 9 of the mantissa
_SHIFT = 32 - BITS


@dataclass(frozen=True)
class Table:
    """Bins that are not empty.

    Attributes:
        weight: (B,) pixels, or their weight.
        mean: (B,) of the margin.
        near: (B,) the bin's lowest |margin|.
        far: (B,) and its highest.
    """

    weight: Doubles
    mean: Doubles
    near: Doubles
    far: Doubles

    @property
    def total(self) -> float:
        """The weight of pixels whose margin is not 0."""
        return float(self.weight[self.mean != 0].sum())

    def at(self, beta: float) -> Bend:
        """Mean NLL, its slope and curvature at β."""
        u = beta * self.mean
        wrong = 1 / (1 + np.exp(np.clip(u, -700, 700)))  # σ(-u)
        share = self.weight / self.weight.sum()
        return Bend(
            float(share @ np.logaddexp(0, -u)),
            float(share @ (-self.mean * wrong)),
            float(share @ (self.mean**2 * wrong * (1 - wrong))),
        )

    def bound(self, beta: float) -> float:
        """How far the slope at β can be from that of the pixels themselves."""
        near = np.exp(-np.clip(beta * self.near, 0, 700))
        v = near / (1 + near) ** 2
        steepest = beta * v * np.maximum(2, beta * self.far)
        width = self.far - self.near
        return float((self.weight * steepest * width**2).sum() / 8 / self.weight.sum())

    def certain(self, beta: float) -> float:
        """δ: the minimum for the pixels themselves is proved to be in (β - δ, β + δ)."""
        share = 1e-9
        while share < 1:
            low, high = beta * (1 - share), beta * (1 + share)
            if self.at(high).slope > self.bound(high) and self.at(low).slope < -self.bound(low):
                return beta * share / (1 - share)
            share *= 2
        return np.inf


class Margins:
    """Takes margins in."""

    def __init__(self) -> None:
        self._weight = np.zeros(2**BITS)
        self._sum = np.zeros(2**BITS)
        self.pixels = 0

    def add(self, margins: Floats, weights: Doubles | None = None) -> None:
        """(n,) float32 margins, with (n,) weights."""
        bins = (margins.view(np.uint32) >> _SHIFT).astype(np.int64)
        count = 2**BITS
        self._weight += np.bincount(bins, weights, count)
        self._sum += np.bincount(bins, margins if weights is None else margins * weights, count)
        self.pixels += len(margins)

    def table(self) -> Table:
        """What was taken in."""
        used = np.flatnonzero(self._weight)
        lowest = (used.astype(np.uint32) << _SHIFT).view(np.float32)
        highest = ((used.astype(np.uint32) << _SHIFT) + (2**_SHIFT - 1)).view(np.float32)
        weight = self._weight[used]
        return Table(
            weight,
            self._sum[used] / weight,
            np.abs(lowest.astype(np.float64)),
            np.abs(highest.astype(np.float64)),
        )
