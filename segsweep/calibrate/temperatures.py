"""The temperatures of a sweep: evenly spaced in their logarithm, and further where need be."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from itertools import pairwise
from statistics import median

import numpy as np

from segsweep.calibration.temperature import BOUNDS
from segsweep.spec.shape import Temperatures

AT_ONCE = 8  # temperatures that a grid is widened by before its ends are looked at again


def grid(span: Temperatures) -> list[float]:
    """The temperatures of a sweep, evenly spaced in their logarithm, and 1."""
    found = np.geomspace(span.min, span.max, span.steps).tolist()
    near = [value for value in found if abs(value - 1) < 1e-9]
    return sorted({*(value for value in found if value not in near), 1.0})


def wider(temperatures: Sequence[float], best: Collection[float]) -> list[float]:
    """The temperatures that a grid goes on with, where something is best at its end.

    They have the grid's spacing, and end where a fitted T does (``BOUNDS``).

    Args:
        temperatures: upwards, two at least; else there is no spacing, and no more of them.
        best: where metrics are best.

    Returns:
        ``AT_ONCE`` at most for each end; none where no metric is best there, or at the bounds.
    """
    if len(temperatures) < 2:
        return []
    step = median(math.log(b / a) for a, b in pairwise(temperatures))
    low, high = temperatures[0], temperatures[-1]
    found = []
    for place in range(1, AT_ONCE + 1):
        if low in best and low * math.exp(-place * step) >= BOUNDS[0] * (1 - 1e-9):
            found.append(low * math.exp(-place * step))
        if high in best and high * math.exp(place * step) <= BOUNDS[1] * (1 + 1e-9):
            found.append(high * math.exp(place * step))
    return sorted(found)


def widened(asked: Sequence[float], swept: Sequence[float]) -> str | None:
    """What to know where a grid was widened; None: it was not."""
    ends = [
        f"{'up' if new > old else 'down'} to {new:.3g}"
        for old, new in ((asked[0], swept[0]), (asked[-1], swept[-1]))
        if new != old
    ]
    if not ends:
        return None
    return f"a metric is best at the end of the grid of T, which was widened {' and '.join(ends)}"
