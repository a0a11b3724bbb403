"""The minimum of a convex function of some numbers in a box: projected Newton.

Numbers at a bound whose gradient points outwards stay there for the step (Bertsekas 1982); the
step of the others is halved until the function falls enough.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from segsweep.calibration.pixels import Doubles

STEPS = 60
HALVINGS = 30


@dataclass(frozen=True)
class Quadratic:
    """A function at one point: value, gradient (P,) and Hessian (P, P)."""

    value: float
    slope: Doubles
    bend: Doubles


def boxed_minimum(
    at: Callable[[Doubles], Quadratic], start: Doubles, bounds: Doubles, close: float = 1e-9
) -> tuple[Doubles, Quadratic, int]:
    """Where a convex function is lowest, what it is like there, and in how many steps.

    Args:
        at: the function; its Hessian is positive definite.
        start: (P,) where to begin.
        bounds: (2, P) lowest and highest.
        close: a fall of the function, to be expected of the next step, that is not worth it.
    """
    values = np.clip(start, bounds[0], bounds[1])
    here = at(values)
    for steps in range(1, STEPS + 1):
        held = (values <= bounds[0]) & (here.slope >= 0) | (values >= bounds[1]) & (here.slope <= 0)
        free = np.flatnonzero(~held)
        if not len(free):
            return values, here, steps
        step = np.zeros(len(values))
        step[free] = -np.linalg.solve(here.bend[np.ix_(free, free)], here.slope[free])
        if -float(step @ here.slope) / 2 < close:
            return values, here, steps
        for halving in range(HALVINGS):
            new = np.clip(values + step * 0.5**halving, bounds[0], bounds[1])
            there = at(new)
            if there.value <= here.value + 1e-4 * float(here.slope @ (new - values)):
                break
        else:  # rounding hides what there is left to gain
            return values, here, steps
        values, here = new, there
    return values, here, STEPS
