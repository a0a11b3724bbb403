"""The race over folds: does a config deserve its next folds?

After each fold a config is compared with the incumbent, the best config of its cell that has
finished every fold. Scores are modelled as config + fold + noise; the noise is what another seed
of the same config would bring, estimated from the residuals of that model over the whole sweep.
The null hypothesis is that the config is as good as the incumbent, and that the incumbent leads
because it is the luckiest of the n configs of its cell that were tried:

    gap after m of k folds ~ N(0, σ²(2/m − 1/k)) − σ/√k · max of n standard normals

The config is dropped where a gap as bad as the one seen has a probability below p over the number
of looks (Bonferroni), so that over its whole race it is dropped at most with probability p. σ is
an estimate, so Student's t stands in for the first normal.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from segsweep.state import Slot

Scores = Mapping[Slot, float]  # the metric at the best epoch of each finished trial
GRID = np.linspace(-8.0, 8.0, 801)  # where the maximum of standard normals is integrated over
MIN_DOF = 4  # residual degrees of freedom below which a cell borrows the whole sweep's noise


@dataclass(frozen=True)
class Noise:
    """Standard deviation between seeds and folds, and its degrees of freedom."""

    sigma: float
    dof: int


@dataclass(frozen=True)
class RaceVerdict:
    """What a look at a config said.

    Attributes:
        keep: it gets its next folds.
        looks: how many trials of it were finished.
        gap: its mean minus the incumbent's over those, positive where it leads.
        probability: of a gap as bad, were it as good as the incumbent; None: not estimated.
    """

    keep: bool
    looks: int
    gap: float
    probability: float | None
    sigma: float | None
    dof: int | None


def noise(cell: Mapping[str, Scores], cells: Sequence[Mapping[str, Scores]]) -> Noise | None:
    """Noise of one cell, or of the whole sweep where the cell has too little to say.

    Args:
        cell: scores of each config of the cell.
        cells: the same of every cell, that one included.

    Returns:
        None where no config shares two folds with another.
    """
    own = _residuals(cell)
    if own[1] >= MIN_DOF:
        return Noise(float(np.sqrt(own[0] / own[1])), own[1])
    parts = [_residuals(other) for other in cells]
    squares, dof = sum(part[0] for part in parts), sum(part[1] for part in parts)
    return Noise(float(np.sqrt(squares / dof)), dof) if dof else None


def _residuals(cell: Mapping[str, Scores]) -> tuple[float, int]:
    """Residual sum of squares and degrees of freedom of config + fold by least squares.

    Config effects are taken out by centring each config, which leaves the same residuals as the
    full design and a system as small as the folds are few (Frisch and Waugh 1933).
    """
    several = [scores for scores in cell.values() if len(scores) > 1]
    folds = {fold: i for i, fold in enumerate(sorted({s[0] for row in several for s in row}))}
    design, values = [], []
    for scores in several:
        rows = np.zeros((len(scores), len(folds)))
        rows[np.arange(len(scores)), [folds[slot[0]] for slot in scores]] = 1
        own = np.array(list(scores.values()))
        design.append(rows - rows.mean(axis=0))
        values.append(own - own.mean())
    if not several:
        return 0.0, 0
    x, y = np.concatenate(design), np.concatenate(values)
    solution, _, rank, _ = np.linalg.lstsq(x.T @ x, x.T @ y, rcond=1e-10)
    squares = float(np.square(y - x @ solution).sum())
    return squares, len(y) - len(several) - int(rank)


@dataclass(frozen=True)
class Race:
    """One rule.

    Attributes:
        rule: ``predictive`` as above; ``forgiving`` drops a config whose mean so far is below
            the incumbent's worst fold; ``none`` drops nobody.
        p: largest probability of dropping, over a whole race, a config as good as the incumbent.
        total: folds × replicates of a whole config.
        maximize: larger values are better.
    """

    rule: Literal["predictive", "forgiving", "none"]
    p: float
    total: int
    maximize: bool = True

    def judge(
        self, config: Scores, incumbent: Scores, tried: int, estimate: Noise | None
    ) -> RaceVerdict:
        """Shall a config run its next folds?

        Args:
            config: scores of its finished trials.
            incumbent: scores of the best finished config, all folds.
            tried: configs of the cell so far, of which the incumbent is the best.
            estimate: the noise; None keeps everyone under ``predictive``.
        """
        sign = 1 if self.maximize else -1
        shared = [slot for slot in config if slot in incumbent]
        own = np.mean([sign * config[slot] for slot in shared])
        gap = float(own - np.mean([sign * incumbent[slot] for slot in shared]))
        looks = len(shared)
        if self.rule == "forgiving":
            worst = min(sign * value for value in incumbent.values())
            return RaceVerdict(bool(own >= worst), looks, gap, None, None, None)
        if self.rule == "none" or estimate is None:
            return RaceVerdict(True, looks, gap, None, None, None)
        chance = probability(gap, looks, self.total, tried, estimate)
        keep = chance >= self.p / max(1, self.total - 1)
        return RaceVerdict(keep, looks, gap, chance, estimate.sigma, estimate.dof)


def probability(gap: float, looks: int, total: int, tried: int, estimate: Noise) -> float:
    """Probability of a gap as bad as ``gap`` under the null hypothesis above.

    Args:
        gap: mean of the config minus that of the incumbent over ``looks`` shared folds.
        looks: m.
        total: k.
        tried: n, the configs that the incumbent is the luckiest of.
        estimate: σ and its degrees of freedom.
    """
    from scipy import integrate, stats  # a second to load, which commands are not to wait for

    if estimate.sigma <= 1e-12:  # no noise at all: any gap is real
        return 1.0 if gap >= -1e-12 else 0.0
    width = np.sqrt(2 / looks - 1 / total)
    n = max(1, tried)
    luck = n * stats.norm.pdf(GRID) * stats.norm.cdf(GRID) ** (n - 1)  # density of the maximum
    scaled = (gap / estimate.sigma + GRID / np.sqrt(total)) / width
    below = stats.t.cdf(scaled, estimate.dof)
    return float(min(1.0, integrate.simpson(below * luck, x=GRID)))
