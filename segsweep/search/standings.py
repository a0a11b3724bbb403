"""Standings: the scores of each cell's configs, its leader, and the noise between them."""

from __future__ import annotations

import numpy as np

from segsweep import noise
from segsweep.noise import Noise, Sums
from segsweep.spec import SweepSpec
from segsweep.state import ConfigState

LEAST_DOF = 2  # of a cell's own, before any of its configs is dropped


class Residuals:
    """What config + fold leave over in each cell; a score costs one cell, and no other, a fit.

    Cells and configs are added up in the order of their names, whenever they came: a search that is
    rebuilt from its ledger decides to the last digit as one that was never interrupted.

    Args:
        folds: how many there are.
    """

    def __init__(self, folds: int) -> None:
        self.folds = folds
        self._sums: dict[str, dict[str, Sums]] = {}  # cell → config → what the fit needs
        self._left: dict[str, tuple[float, int]] = {}  # of cells that have not changed since

    def take(self, cell: str, config: str, folds: list[int], scores: list[float]) -> None:
        """All scores of a config so far, and the fold of each."""
        own = self._sums.setdefault(cell, {})
        if len(scores) > 1 and (config not in own or own[config].count != len(scores) - 1):
            own[config] = noise.sums(folds, scores, self.folds)
            self._left.pop(cell, None)

    def noise(self, cell: str) -> Noise | None:
        """The noise of a cell; None while it has too few scores to know its own.

        Other cells cannot say how noisy this one is: with their noise, a config as good as the
        incumbent of a cell that is three times as noisy would be dropped at 20 % for 5.
        """
        names = sorted(name for name, own in self._sums.items() if own)
        for name in names:
            if name not in self._left:
                own = self._sums[name]
                self._left[name] = noise.residual(noise.added([own[key] for key in sorted(own)]))
        if self._left.get(cell, (0.0, 0))[1] < LEAST_DOF:
            return None
        squares, dof = np.array([self._left[name] for name in names]).T
        found = noise.moderated(squares, dof)
        return found.own[names.index(cell)] if found else None


class Standings:
    """Kept up to date as trials end, so that no decision has to look at every config again.

    Args:
        spec: the sweep.
    """

    def __init__(self, spec: SweepSpec) -> None:
        self.slots, self.goal = spec.slots, spec.metric.goal
        self._residuals = Residuals(spec.folds.count)
        self._leaders: dict[str, tuple[float, int, ConfigState]] = {}

    def take(self, config: ConfigState) -> None:
        """Hear that a trial of ``config`` has ended."""
        scores = {s: v for s, v in config.scores(self.goal).items() if s in self.slots}
        folds = [fold for fold, _ in scores]
        self._residuals.take(config.cell, config.config_id, folds, list(scores.values()))
        mean = config.mean(self.slots, self.goal)
        if mean is not None:
            value = mean if self.goal == "maximize" else -mean
            entry = (value, -config.number, config)  # of equals, the one that came first
            leader = self._leaders.get(config.cell)
            if leader is None or entry[:2] > leader[:2]:
                self._leaders[config.cell] = entry

    def leader(self, cell: str) -> ConfigState | None:
        """The config of a cell with the best mean over all folds, so far."""
        entry = self._leaders.get(cell)
        return entry[2] if entry else None

    def noise(self, cell: str) -> Noise | None:
        """See ``Residuals.noise``."""
        return self._residuals.noise(cell)
