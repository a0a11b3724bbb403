"""Rungs: which trials are worth more epochs.

Asynchronous successive halving (Li et al. 2020, arXiv 1810.05934) that only stops: at each rung
a trial goes on if it is among the best 1/η of all that have reached it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Verdict:
    """What a rung decided: ``keep`` or stop, against which threshold, among how many peers."""

    keep: bool
    peers: int
    threshold: float | None


@dataclass(frozen=True)
class Asha:
    """Rungs at ``grace_period · reduction_factor^i`` epochs, below ``epochs``.

    Attributes:
        grace_period: epoch of the first rung.
        reduction_factor: η; the best 1/η of a rung go on.
        epochs: of a whole trial.
        maximize: larger values are better.
    """

    grace_period: int
    reduction_factor: int
    epochs: int
    maximize: bool = True

    @property
    def rungs(self) -> list[int]:
        """The epochs (from 1) at which trials are compared."""
        found, rung = [], self.grace_period
        while rung < self.epochs:
            found.append(rung)
            rung *= self.reduction_factor
        return found

    def judge(self, value: float | None, peers: Sequence[float | None]) -> Verdict:
        """Shall a trial with ``value`` at a rung go on?

        Args:
            value: its metric at the rung; None (undefined) ranks last.
            peers: values of the others that have reached the rung, in any order.
        """
        scores = sorted((self._score(peer) for peer in peers), reverse=True)
        if len(scores) < self.reduction_factor:
            return Verdict(True, len(peers), None)
        places = math.ceil((len(scores) + 1) / self.reduction_factor)
        threshold = scores[places - 1]  # the worst value that still leaves `places` at the top
        keep = self._score(value) >= threshold if math.isfinite(threshold) else value is not None
        shown = threshold if self.maximize else -threshold
        return Verdict(keep, len(peers), shown if math.isfinite(threshold) else None)

    def _score(self, value: float | None) -> float:
        if value is None:
            return -math.inf
        return value if self.maximize else -value
