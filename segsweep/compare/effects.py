"""Main effects: which loss helps, whichever model it meets?

Ordinary least squares over the champions' means, one a cell, with the factors as sum-coded main
effects. Means and not trials, because trials of one config are no independent witnesses of a loss.
What is left over holds the noise of the means *and* the interactions, so that an interval says
how far the effect would carry to other levels of the other factors; a mixed model over trials would
say the same with more assumptions and, on a handful of cells, mostly would not converge.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from scipy import stats

from segsweep.compare.claims import holm
from segsweep.compare.comparison import Effect, Effects
from segsweep.compare.scoring import Array

NOTHING = 1e-12  # no effect, and no noise, but rounding


def effects(
    levels: Sequence[Mapping[str, str]], means: Sequence[float], *, goal: str, alpha: float
) -> Effects:
    """Main effect of each level of each factor.

    Args:
        levels: of each champion, factor → level.
        means: of each champion.
        goal: under minimize, effects change their sign: positive is better.
        alpha: 0.05 for 95 % intervals.
    """
    names = {
        factor: list(dict.fromkeys(own[factor] for own in levels))
        for factor in dict.fromkeys(name for own in levels for name in own)
        if all(factor in own for own in levels)
    }
    names = {factor: own for factor, own in names.items() if len(own) > 1}
    if not names:
        return Effects([], {}, "No factor has two levels with a champion: there is no main effect.")
    design, columns = _design(levels, names)
    values = np.asarray(means) * (1 if goal == "maximize" else -1)
    if np.linalg.matrix_rank(design) < design.shape[1]:
        what = "The cells that have a champion do not cross: main effects cannot be told apart."
        return Effects([], {}, what)
    return _fitted(levels, values, names, design, columns, alpha)


def _fitted(
    levels: Sequence[Mapping[str, str]],
    values: Array,
    names: Mapping[str, list[str]],
    design: Array,
    columns: Mapping[str, slice],
    alpha: float,
) -> Effects:
    left = len(values) - design.shape[1]
    fit = np.linalg.lstsq(design, values, rcond=None)[0]
    squares = float(np.square(values - design @ fit).sum())
    exact = left > 0 and squares < NOTHING**2
    # of the contrasts' variances, for which the design is of full rank
    spread = np.linalg.inv(design.T @ design) * (squares / left if left > 0 else 0.0)
    width = float(stats.t.ppf(1 - alpha / 2, left)) if left > 0 else None
    rows: list[Effect] = []
    p: dict[str, float] = {}
    for factor, own in names.items():
        found = []
        for place, level in enumerate(own):
            contrast = np.zeros(design.shape[1])
            contrast[columns[factor]] = _coded(place, len(own))
            effect = float(contrast @ fit)
            interval = None
            if width is not None:
                half = width * max(0.0, float(contrast @ spread @ contrast)) ** 0.5
                interval = (effect - half, effect + half)
            count = sum(cell[factor] == level for cell in levels)
            found.append(Effect(factor, level, effect, interval, count))
        rows += sorted(found, key=lambda row: -row.effect)
        if left > 0 and not exact:
            mine = columns[factor]
            own_fit = fit[mine]
            wald = float(own_fit @ np.linalg.solve(spread[mine, mine], own_fit)) / len(own_fit)
            p[factor] = float(stats.f.sf(wald, len(own_fit), left))
    corrected = dict(zip(p, holm(list(p.values())), strict=True)) if p else {}
    if exact:
        real = {row.factor for row in rows if abs(row.effect) > NOTHING}
    else:
        real = {factor for factor, value in corrected.items() if value < alpha}
    return Effects(rows, corrected, _claim(names, [name for name in names if name in real], left))


def _design(
    levels: Sequence[Mapping[str, str]], names: Mapping[str, list[str]]
) -> tuple[Array, dict[str, slice]]:
    """Sum coding: a level's effect is its distance from the unweighted mean of all levels."""
    blocks, columns, at = [np.ones((len(levels), 1))], {}, 1
    for factor, own in names.items():
        blocks.append(np.stack([_coded(own.index(cell[factor]), len(own)) for cell in levels]))
        columns[factor] = slice(at, at + len(own) - 1)
        at += len(own) - 1
    return np.concatenate(blocks, axis=1), columns


def _coded(place: int, count: int) -> Array:
    return np.eye(count - 1)[place] if place < count - 1 else -np.ones(count - 1)


def _claim(names: Mapping[str, list[str]], real: Sequence[str], left: int) -> str:
    if len(names) == 1:
        factor = next(iter(names))
        return (
            f"Only {factor} varies: its effects are the differences between the cells, and there "
            "is nothing to tell whether they would hold elsewhere."
        )
    if left <= 0:
        return "There are no more cells than effects: they have no intervals."
    if real:
        named = " and ".join(real)
        verb = "makes" if len(real) == 1 else "make"
        return (
            f"{named[0].upper()}{named[1:]} {verb} a difference across the other factors' levels."
        )
    return (
        f"No main effect can be claimed: with {left} degree{'s' if left > 1 else ''} of freedom, "
        "none is larger than the noise and the interactions between factors."
    )
