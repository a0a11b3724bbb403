"""Main effects: which loss helps, whichever model it meets?

Ordinary least squares over the champions' means, one a cell, with the factors as sum-coded main
effects. Means and not trials, because trials of one config are no independent witnesses of a loss.
What is left over holds the noise of the means *and* the interactions, so that an interval says
how far the effect would carry to other levels of the other factors; a mixed model over trials would
say the same with more assumptions and, on a handful of cells, mostly would not converge.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from segsweep.compare.claims import holm
from segsweep.compare.comparison import Effect, Effects
from segsweep.compare.scoring import Array


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
    import statsmodels.api as sm  # a second to load

    fit = sm.OLS(values, design).fit()
    left = len(values) - design.shape[1]
    exact = left > 0 and float(np.square(fit.resid).sum()) < 1e-24
    rows: list[Effect] = []
    p: dict[str, float] = {}
    for factor, own in names.items():
        found = []
        for place, level in enumerate(own):
            contrast = np.zeros(design.shape[1])
            contrast[columns[factor]] = _coded(place, len(own))
            tested: Any = fit.t_test(contrast) if left > 0 else None
            ends = tested.conf_int(alpha)[0] if tested is not None else None
            interval = None if ends is None else (float(ends[0]), float(ends[1]))
            count = sum(cell[factor] == level for cell in levels)
            found.append(Effect(factor, level, float(contrast @ fit.params), interval, count))
        rows += sorted(found, key=lambda row: -row.effect)
        if left > 0 and not exact:
            p[factor] = float(fit.f_test(np.eye(design.shape[1])[columns[factor]]).pvalue)
    corrected = dict(zip(p, holm(list(p.values())), strict=True)) if p else {}
    return Effects(rows, corrected, _claim(names, corrected, left, alpha))


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


def _claim(names: Mapping[str, list[str]], p: Mapping[str, float], left: int, alpha: float) -> str:
    if len(names) == 1:
        factor = next(iter(names))
        return (
            f"Only {factor} varies: its effects are the differences between the cells, and there "
            "is nothing to tell whether they would hold elsewhere."
        )
    if left <= 0:
        return "There are no more cells than effects: they have no intervals."
    real = [factor for factor, value in p.items() if value < alpha]
    if not p or real:
        named = " and ".join(real or names)
        return f"{named[0].upper()}{named[1:]} makes a difference across the other factors' levels."
    return (
        f"No main effect can be claimed: with {left} degree{'s' if left > 1 else ''} of freedom, "
        "none is larger than the noise and the interactions between factors."
    )
