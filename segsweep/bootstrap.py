"""The bootstrap: what a number would have been on other images of the same kind.

Images, or whole groups of them (a patient, a scene), are drawn with replacement (cluster bootstrap;
Davison and Hinkley 1997, chapter 3). A draw that leaves the number undefined is made again. The
draws' mean square and skewness make the interval:

- widened by √(G/(G−1)), since a bootstrap of G groups knows their mean;
- Student's t with G_eff − 1 degrees of freedom, G_eff = 1/Σ s² of the groups' shares s in the
  number (Kish 1965), G where all weigh the same;
- Hall's transformation for skewness (Hall 1992, "On the removal of skewness by transformation")
  draws the end out that the tail is on; without it, scores near 1 and losses are held too seldom;
- the draws' bias counts as spread, and never moves the number itself.

Below FEWEST groups there is no interval: no rule gives one that holds. ``python -m
benchmarks.bootstrap_coverage`` measures how often intervals hold the truth.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtrit

Doubles = NDArray[np.float64]
Integers = NDArray[np.int64]

FEWEST = 4  # groups that an interval can be drawn from
FEW = 10  # groups below which an interval is rough, and is said to be
LEAST_EFFECTIVE = 2.0  # of effective ones: with fewer, Student's t has no degree of freedom
LEVEL = 0.95
FARTHEST = 2.0  # times as far away an end may be as without skewness
TRIES = 20  # times as many draws are made at most, for those that leave nothing undefined
HELD = 10_000_000  # numbers of draws × images that are in memory at a time


@dataclass(frozen=True)
class Groups:
    """What is drawn from, as one number sees it.

    Attributes:
        drawn: images, or groups of them, that are drawn from.
        count: those that have a share in the number.
        effective: how many equally large ones would say as much (Kish); 0 where none has a share.
        kind: what is drawn, ``images`` or ``groups``.
    """

    drawn: int
    count: int
    effective: float
    kind: str = "groups"

    @property
    def dof(self) -> float:
        """Degrees of freedom of a variance over them; 0 where there is none."""
        return max(0.0, self.effective - 1)

    @property
    def widening(self) -> float:
        """√(G/(G−1)) of those that count; of one there is none, and it is 1."""
        return float(np.sqrt(self.count / (self.count - 1))) if self.count > 1 else 1.0

    @property
    def said(self) -> str:
        """How many they are, in words: ``3 groups``, ``2 of 10 images``."""
        if self.count < self.drawn:
            return f"{self.count} of {self.drawn} {self.kind}"
        return f"{self.count} {self.kind if self.count != 1 else self.kind.removesuffix('s')}"

    @property
    def refused(self) -> str | None:
        """Why there is no interval; None: there is one."""
        if self.count < FEWEST:
            return f"it rests on {self.said}, and an interval needs {FEWEST}"
        if self.effective < LEAST_EFFECTIVE:
            return f"one of {self.said} holds most of what it rests on"
        return None

    @property
    def few(self) -> bool:
        """There is an interval, and it is rough."""
        return self.refused is None and self.count < FEW


def groups(units: Integers, weights: Doubles | None = None) -> Groups:
    """What one number sees of the groups.

    Args:
        units: (N,) from 0; images that share one are drawn together.
        weights: (N,) ≥ 0, how much of the number rests on each image; None: the same on each.
    """
    own = np.bincount(units, weights)
    kind = "images" if len(own) == len(units) else "groups"
    total = own.sum()
    if not total > 0:
        return Groups(len(own), 0, 0.0, kind)
    shares = own / total
    return Groups(len(own), int((own > 0).sum()), float(1 / (shares @ shares)), kind)


def fewest(several: Sequence[Groups]) -> Groups:
    """What a number sees that rests on several kinds of pixels at once: the least of each."""
    count, effective = min(o.count for o in several), min(o.effective for o in several)
    return Groups(several[0].drawn, count, effective, several[0].kind)


def together(several: Sequence[Groups]) -> Groups:
    """What a mean of numbers sees, each of groups of its own (the folds of a config).

    Degrees of freedom are those of the mean's variance (Satterthwaite 1946), each number's being
    that of a mean over its effective groups.
    """
    sizes = np.array([1 / one.effective if one.effective else np.inf for one in several])
    dofs = np.array([one.dof for one in several])
    dof = 0.0
    if np.isfinite(sizes).all() and (dofs > 0).all():
        dof = float(sizes.sum() ** 2 / (sizes**2 / dofs).sum())
    kind = "groups" if any(one.kind == "groups" for one in several) else "images"
    return Groups(sum(o.drawn for o in several), sum(o.count for o in several), dof + 1, kind)


def weights(
    units: Integers,
    draws: int,
    rng: np.random.Generator,
    defined: Callable[[Doubles], NDArray[np.bool_]] | None = None,
) -> Doubles:
    """How often each image comes up in each draw.

    Args:
        units: (N,) from 0; images that share one are drawn together.
        draws: how many.
        rng: where they come from.
        defined: of weights (B, N): which of these draws count; the others are made again.

    Returns:
        (draws, N); where ``TRIES`` times as many draws hold too few that count, these in turn, and
        (0, N) where none does.
    """
    count = int(units.max()) + 1
    even = np.full(count, 1 / count)
    kept: list[Doubles] = []
    found = 0
    for _ in range(TRIES):
        made = rng.multinomial(count, even, size=draws - found)[:, units].astype(np.float64)
        if defined is not None:
            made = made[defined(made)]
        kept.append(made)
        found += len(made)
        if found >= draws:
            break
    every = np.concatenate(kept)
    return every if found in (0, draws) else every[np.arange(draws) % found]


def values(
    score: Callable[[Doubles], Doubles],
    units: Integers,
    draws: int,
    rng: np.random.Generator,
) -> Doubles:
    """Numbers on images drawn with replacement, each from draws that define it.

    Args:
        score: of weights (B, N): (B, S) numbers, NaN where undefined.
        units: (N,) from 0; images that share one are drawn together.
        draws: how many times.
        rng: where the draws come from.

    Returns:
        (draws, S); where ``TRIES`` times as many draws define a number too seldom, those that do in
        turn; NaN where none does.
    """
    step = max(1, HELD // max(1, len(units)))
    found: Doubles | None = None
    have: Integers = np.zeros(0, np.int64)
    for _ in range(TRIES):
        missing = draws if found is None else int(draws - have.min())
        for start in range(0, missing, step):
            made = score(weights(units, min(step, missing - start), rng))
            if found is None:
                found = np.full((draws, made.shape[1]), np.nan)
                have = np.zeros(made.shape[1], np.int64)
            for column, own in enumerate(made.T):
                begin = int(have[column])
                known = own[np.isfinite(own)][: draws - begin]
                found[begin : begin + len(known), column] = known
                have[column] += len(known)
        if found is not None and ((have == draws) | (have == 0)).all():
            break  # what the first draws never define, more of them would not
    if found is None:
        return np.zeros((draws, 0))
    for short in np.flatnonzero((have > 0) & (have < draws)).tolist():
        found[:, short] = found[np.arange(draws) % have[short], short]
    return found


@dataclass(frozen=True)
class Replicas:
    """A number on the images, and on draws of them.

    Attributes:
        once: on the images as they are, counted as in the draws.
        drawn: (R,).
    """

    once: float
    drawn: Doubles

    def __sub__(self, other: Replicas) -> Replicas:
        """The difference of two numbers, from the same draws of both."""
        return Replicas(self.once - other.once, self.drawn - other.drawn)

    def spread(self, over: Groups) -> Spread:
        """What the draws say of the number; those that are NaN do not count."""
        moved = self.drawn[np.isfinite(self.drawn)] - self.once
        return moments(moved * over.widening, over.dof)


@dataclass(frozen=True)
class Spread:
    """How far a number is from its truth.

    Attributes:
        variance: of the number, already widened.
        bias: its draws' mean less itself.
        third: third central moment.
        dof: degrees of freedom that the variance was estimated with.
    """

    variance: float
    bias: float = 0.0
    third: float = 0.0
    dof: float = np.inf

    def __add__(self, other: Spread) -> Spread:
        """Of the sum of two independent numbers; degrees of freedom after Satterthwaite (1946)."""
        variance = self.variance + other.variance
        parts = sum(one.variance**2 / one.dof for one in (self, other) if one.variance > 0)
        dof = variance**2 / parts if parts > 0 else min(self.dof, other.dof)
        return Spread(variance, self.bias + other.bias, self.third + other.third, dof)

    def times(self, factor: float) -> Spread:
        """Of the number times ``factor``."""
        return Spread(
            self.variance * factor**2, self.bias * factor, self.third * factor**3, self.dof
        )


def moments(moved: Doubles, dof: float) -> Spread:
    """Of a number's deviations (R,) from itself, already widened."""
    if not len(moved):
        return Spread(0.0, dof=dof)
    apart = moved - moved.mean()
    variance, third = float(np.square(apart).mean()), float((apart**3).mean())
    return Spread(variance, float(moved.mean()), third, dof)


def interval(
    value: float,
    spread: Spread,
    *,
    level: float = LEVEL,
    least: float = -np.inf,
    most: float = np.inf,
) -> tuple[float, float]:
    """The interval of a number, which is in it.

    Args:
        value: the number.
        spread: how far it is from its truth.
        level: how often such an interval is to hold the truth.
        least: the metric's lower end; the interval does not go beyond.
        most: and its upper end.
    """
    size = float(np.sqrt(spread.variance + spread.bias**2))
    if not size > 0:
        return value, value
    skew = spread.third / spread.variance**1.5 if spread.variance > 0 else 0.0
    quantile = float(stdtrit(spread.dof, (1 + level) / 2))
    ends = [value - size * _unskewed(end, skew) for end in (quantile, -quantile)]
    low, high = min(*ends, value), max(*ends, value)
    return float(np.clip(low, least, value)), float(np.clip(high, value, most))


def _unskewed(y: float, skew: float) -> float:
    """The t of a skewed mean for that of an even one: the inverse of t + a t²/3 + a² t³/27 + a/6.

    ``skew`` is a, that of the mean (of single values over √n). Hall 1992, equation 2. Few groups
    say little of a, and the inverse is steep: so an end is at most FARTHEST times as far away as
    without, and never nearer: measured, that holds the truth best.
    """
    skew = float(np.clip(skew, -1, 1))  # further out the inverse turns back
    if abs(skew) < 1e-6:
        return y
    found = float(3 / skew * (np.cbrt(1 + skew * (y - skew / 6)) - 1)) * np.sign(y)
    return float(np.sign(y) * np.clip(found, abs(y), FARTHEST * abs(y)))
