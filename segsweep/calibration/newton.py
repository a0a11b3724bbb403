"""The minimum of a convex function of one number in an interval, by its derivatives."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

STEPS = 100


@dataclass(frozen=True)
class Bend:
    """A function at one point: value, first and second derivative."""

    value: float
    slope: float
    bend: float


@dataclass(frozen=True)
class Minimum:
    """Where a function is lowest.

    Attributes:
        beta: where.
        value: how low, from the last point by its slope and curvature.
        at_bound: it falls on beyond the interval's end, which is ``beta``.
        left: the next step, estimated.
        steps: points that were looked at.
    """

    beta: float
    value: float
    at_bound: bool
    left: float
    steps: int


def minimum(
    at: Callable[[float], Bend], bounds: tuple[float, float], start: float, *, close: float
) -> Minimum:
    """Newton's steps, halving an interval (of log β) wherever they leave it.

    Args:
        at: a convex function.
        bounds: of β, both positive.
        start: the first point; it is moved between the bounds.
        close: a step of this size, over β, is the last one.
    """
    low, high = bounds
    beta = float(np.clip(start, low, high))
    seen_low = seen_high = False
    for steps in range(1, STEPS + 1):
        here = at(beta)
        if here.slope > 0:
            high, seen_high = beta, True
        else:
            low, seen_low = beta, True
        if high == low or (beta in bounds and _outward(here.slope, beta, bounds)):
            return Minimum(beta, here.value, True, 0.0, steps)
        new = beta - here.slope / here.bend if here.bend > 0 else (high if here.slope < 0 else low)
        step = new - beta
        if abs(step) <= close * beta and low <= new <= high:
            value = here.value + here.slope * step + here.bend * step * step / 2
            return Minimum(float(new), value, False, step * step / beta, steps)
        if new <= low:
            new = low if not seen_low else float(np.sqrt(low * high))
        elif new >= high:
            new = high if not seen_high else float(np.sqrt(low * high))
        beta = new
    return Minimum(beta, here.value, False, high - low, STEPS)


def _outward(slope: float, beta: float, bounds: tuple[float, float]) -> bool:
    """Does the function fall towards the outside at this end?"""
    return slope >= 0 if beta == bounds[0] else slope <= 0
