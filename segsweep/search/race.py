"""The race over folds: does a config deserve its next folds?

After each fold a config is compared with the incumbent, the best config of its cell that has
finished every fold. Scores are modelled as config + fold + noise; the noise is what another seed
of the same config would bring, each cell's own as far as it is known (``segsweep.noise``). The
null hypothesis is that the config is as good as the incumbent, and that the incumbent leads
because it is the luckiest of the n configs of its cell that were tried:

    gap after m of k folds ~ N(0, σ²(2/m − 1/k + c)) − σ√(1/k + c) · max of n standard normals

c is the variance of the luck that all folds of a config share, because their training sets overlap
(``noise.overlap``). The config is dropped where a gap as bad as the one seen has a probability
below p over the number of looks (Bonferroni), so that over its whole race it is dropped at most
with probability p. σ is an estimate, so Student's t stands in for the first normal.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np

from segsweep.noise import GRID, Noise, luck_shares
from segsweep.state import Slot

Scores = Mapping[Slot, float]  # the metric at the best epoch of each finished trial


@dataclass(frozen=True)
class RaceVerdict:
    """What a look at a config said.

    Attributes:
        keep: it gets its next folds.
        looks: how many trials of it were finished.
        gap: its mean minus the incumbent's over those, positive where it leads.
        probability: of a gap as bad, were it as good as the incumbent; None: not estimated.
        sigma: noise of one score in its cell; ``dof`` the degrees of freedom behind it.
        shared: variance allowed for the luck that a config's folds share, in those of one score.
    """

    keep: bool
    looks: int
    gap: float
    probability: float | None
    sigma: float | None
    dof: float | None
    shared: float | None = None


@dataclass(frozen=True)
class Race:
    """One rule.

    Attributes:
        rule: ``predictive`` as above; ``forgiving`` drops a config whose mean so far is below
            the incumbent's worst fold; ``none`` drops nobody.
        p: largest probability of dropping, over a whole race, a config as good as the incumbent.
        total: folds × replicates of a whole config.
        maximize: larger values are better.
        shared: c, the variance of the luck that a config's folds share, in those of one score.
    """

    rule: Literal["predictive", "forgiving", "none"]
    p: float
    total: int
    maximize: bool = True
    shared: float = 0.0

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
        chance = probability(gap, looks, self.total, tried, estimate, self.shared)
        keep = chance >= self.p / max(1, self.total - 1)
        return RaceVerdict(keep, looks, gap, chance, estimate.sigma, estimate.dof, self.shared)


def probability(
    gap: float, looks: int, total: int, tried: int, estimate: Noise, shared: float = 0.0
) -> float:
    """Probability of a gap as bad as ``gap`` under the null hypothesis above.

    Args:
        gap: mean of the config minus that of the incumbent over ``looks`` shared folds.
        looks: m.
        total: k.
        tried: n, the configs that the incumbent is the luckiest of.
        estimate: σ and its degrees of freedom.
        shared: c.
    """
    from scipy import special  # a second to load, which commands are not to wait for

    if estimate.sigma <= 1e-12:  # no noise at all: any gap is real
        return 1.0 if gap >= -1e-12 else 0.0
    width = np.sqrt(2 / looks - 1 / total + shared)
    scaled = (gap / estimate.sigma + GRID * np.sqrt(1 / total + shared)) / width
    below = special.stdtr(estimate.dof, scaled)
    return float(min(1.0, below @ luck_shares(max(1, tried))))
