"""Standings: the scores of each cell's configs, its leader, and the noise between them."""

from __future__ import annotations

from segsweep.search.race import Noise, Scores, noise
from segsweep.spec import SweepSpec
from segsweep.state import ConfigState


class Standings:
    """Kept up to date as trials end, so that no decision has to look at every config again.

    Args:
        spec: the sweep.
    """

    def __init__(self, spec: SweepSpec) -> None:
        self.slots, self.goal = spec.slots, spec.metric.goal
        self._scores: dict[str, dict[str, Scores]] = {}  # cell → config_id → scores
        self._leaders: dict[str, tuple[float, int, ConfigState]] = {}

    def take(self, config: ConfigState) -> None:
        """Hear that a trial of ``config`` has ended."""
        scores = config.scores(self.goal)
        if scores:
            self._scores.setdefault(config.cell, {})[config.config_id] = scores
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
        """See ``race.noise``."""
        return noise(self._scores.get(cell, {}), list(self._scores.values()))
