"""How much does a parameter matter? From the scores at the first rung, which every config has.

Later scores exist for survivors alone, and what only good configs have would hide what made the
others bad. Scores are ranked, for parameters after their cell's median was taken off; a parameter's
values are cut into thirds, or taken as they are where they are few or no numbers; Kruskal and
Wallis's H over the groups gives the share of the ranks' variance, corrected for the number of
groups: ε² = (H − g + 1) / (n − g) (Tomczak and Tomczak 2014). Unlike a correlation, it
sees an optimum in the middle; unlike a forest, it has a probability.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from scipy import stats

from segsweep.compare.claims import holm
from segsweep.compare.comparison import Importance, Importances
from segsweep.compare.scoring import Array
from segsweep.identity import counted

FEWEST = 20  # configs below which no importance is worth a look
GROUPS = 3


@dataclass(frozen=True)
class Trial:
    """A config at the first rung: cell, factor levels, parameters, score (higher is better)."""

    cell: str
    levels: Mapping[str, str]
    params: Mapping[str, Any]
    score: float


def importances(trials: Sequence[Trial], epoch: int) -> Importances:
    """Parameters and factors by the share of first-rung scores that they explain.

    Args:
        trials: one a config, on the first fold.
        epoch: of the first rung.
    """
    if len(trials) < FEWEST:
        told = f"{counted(len(trials), 'config')} {'has' if len(trials) == 1 else 'have'}"
        what = f"{told} reached the first rung; importance needs {FEWEST}"
        return Importances([], epoch, what)
    by_cell: dict[str, list[float]] = {}
    for trial in trials:
        by_cell.setdefault(trial.cell, []).append(trial.score)
    middles = {cell: float(np.median(scores)) for cell, scores in by_cell.items()}
    found: list[Importance] = []
    for factor in dict.fromkeys(name for trial in trials for name in trial.levels):
        have = [t for t in trials if factor in t.levels]
        scores = np.array([t.score for t in have])
        found += _importance(factor, [t.levels[factor] for t in have], scores)
    for name in dict.fromkeys(name for trial in trials for name in trial.params):
        have = [t for t in trials if name in t.params and len(by_cell[t.cell]) > 1]
        scores = np.array([t.score - middles[t.cell] for t in have])
        found += _importance(name, [t.params[name] for t in have], scores)
    if not found:
        return Importances([], epoch, "nothing that varies has been tried often enough")
    corrected = holm([row.p for row in found])
    rows = [replace(row, p=p) for row, p in zip(found, corrected, strict=True)]
    return Importances(sorted(rows, key=lambda row: -row.share), epoch, None)


def _importance(name: str, values: Sequence[Any], scores: Array) -> list[Importance]:
    """One row, or none where there is too little to go by."""
    if len(values) < FEWEST or len(set(map(str, values))) < 2 or np.ptp(scores) == 0:
        return []
    ordered = all(isinstance(v, int | float) and not isinstance(v, bool) for v in values)
    codes = _codes(values, ordered=ordered)
    groups = [scores[codes == code] for code in np.unique(codes)]
    if len(groups) < 2:
        return []
    h, p = stats.kruskal(*groups)
    share = (h - len(groups) + 1) / (len(scores) - len(groups))
    direction = None
    if ordered:
        direction = float(stats.spearmanr(np.asarray(values, float), scores).statistic)
    return [Importance(name, float(np.clip(share, 0, 1)), float(p), direction, len(scores))]


def _codes(values: Sequence[Any], *, ordered: bool) -> Array:
    if not ordered or len(set(values)) <= GROUPS:
        return np.unique([str(value) for value in values], return_inverse=True)[1].astype(float)
    numbers = np.asarray(values, float)
    cuts = np.quantile(numbers, np.arange(1, GROUPS) / GROUPS)
    thirds: Array = np.searchsorted(cuts, numbers, side="left").astype(np.float64)
    return thirds
