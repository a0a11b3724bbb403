"""Rungs: which trials are worth more epochs, as pure rules over values.

A trial is worth its best epoch so far, here as at the end. A rule either stops a trial for good at
a rung, or parks it there until it is promoted.

============ ==================================================================================
``asha``     asynchronous successive halving that only stops (Li et al. 2020, arXiv 1810.05934)
asha_promote the same paper's algorithm 2: trials wait at a rung until they lead it
``halving``  promotes what will lead its rung once the whole cell has been there (``Halving``)
hyperband    ``asha`` in brackets with later and later first rungs (Li et al. 2018)
``median``   stops what is worse than the others' running averages (Golovin et al. 2017)
``none``     no rungs
============ ==================================================================================
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from statistics import fmean, median
from typing import ClassVar

Values = Mapping[int, float | None]  # the metric by epoch, from 1
CONFIDENCE = 0.98  # that a trial promoted before all have come would be promoted after, too


@dataclass(frozen=True)
class Verdict:
    """What a rung decided: ``keep`` or not, against which threshold, among how many peers."""

    keep: bool
    peers: int
    threshold: float | None


@dataclass(frozen=True)
class Rule(ABC):
    """Rungs at ``grace_period · reduction_factor^i`` epochs, below ``epochs``.

    Attributes:
        grace_period: epoch of the first rung.
        reduction_factor: η; the best 1/η of a rung go on.
        epochs: of a whole trial.
        maximize: larger values are better.
        least: trials that a rung promotes at the least, where the rule knows how many will come.
        parks: a trial that is not kept waits at the rung for its promotion.
    """

    grace_period: int
    reduction_factor: int
    epochs: int
    maximize: bool = True
    least: int = 1
    parks: ClassVar[bool] = False

    def bracket(self, number: int) -> int:
        """Only trials of one bracket are compared; ``number`` is the config's in its cell."""
        return 0

    def rungs(self, bracket: int = 0) -> list[int]:
        """The epochs (from 1) at which trials are compared."""
        found, rung = [], self.grace_period * self.reduction_factor**bracket
        while rung < self.epochs:
            found.append(rung)
            rung *= self.reduction_factor
        return found

    def expected_epochs(self, slots: int) -> float:
        """Epochs that a config of ``slots`` trials is to cost on average, or at the most.

        A rule that parks is taken to promote one of η at each rung; of the others nobody knows.
        """
        if not self.parks:
            return float(self.epochs * slots)
        ends = [*self.rungs(), self.epochs]
        total, share, before = 0.0, 1.0, 0
        for end in ends:
            total += share * (end - before)
            share, before = share / self.reduction_factor, end
        return total + share * self.reduction_factor * self.epochs * (slots - 1)

    def value(self, values: Values, epoch: int) -> float | None:
        """What a trial is judged by at ``epoch``: its best so far; None where it has none."""
        known = [v for e, v in values.items() if e <= epoch and v is not None]
        if not known:
            return None
        return max(known) if self.maximize else min(known)

    def shown(self, values: Values, epoch: int) -> float | None:
        """What the others are judged against."""
        return self.value(values, epoch)

    @abstractmethod
    def judge(self, value: float | None, peers: Sequence[float | None], expected: int) -> Verdict:
        """Shall a trial with ``value`` at a rung go on?

        Args:
            value: its own; None (undefined) ranks last.
            peers: what the others that have reached the rung show, in any order.
            expected: trials that will have reached the rung in the end, this one included.
        """

    def _score(self, value: float | None) -> float:
        if value is None:
            return -math.inf
        return value if self.maximize else -value

    def _among(self, value: float | None, peers: Sequence[float | None], places: int) -> Verdict:
        """Kept where it is no worse than the ``places``-th of the peers."""
        scores = sorted((self._score(peer) for peer in peers), reverse=True)
        if places < 1:
            return Verdict(False, len(peers), None)
        if places > len(scores):
            return Verdict(value is not None, len(peers), None)
        threshold = scores[places - 1]
        keep = self._score(value) >= threshold if math.isfinite(threshold) else value is not None
        shown = threshold if self.maximize else -threshold
        return Verdict(keep, len(peers), shown if math.isfinite(threshold) else None)


class Asha(Rule):
    """Stops a trial that is not among the best 1/η of all that have reached the rung."""

    def judge(self, value: float | None, peers: Sequence[float | None], expected: int) -> Verdict:
        """See ``Rule``; nobody is stopped before η peers have come."""
        if len(peers) < self.reduction_factor:
            return Verdict(True, len(peers), None)
        return self._among(value, peers, math.ceil((len(peers) + 1) / self.reduction_factor))


class AshaPromote(Rule):
    """Promotes a trial once it is among the best ⌊n/η⌋ of the n that have reached the rung."""

    parks = True

    def judge(self, value: float | None, peers: Sequence[float | None], expected: int) -> Verdict:
        """See ``Rule``."""
        return self._among(value, peers, (len(peers) + 1) // self.reduction_factor)


class Halving(Rule):
    """Promotes a trial once it is sure enough to be among the best 1/η of all that will come.

    How many will come is known, since a cell has its budget. A trial that is r-th of the m that
    have come will be overtaken by a beta-binomial number of the others, whatever the values are
    distributed like, as long as they come in random order. It is promoted where it stays in
    its place with probability ``CONFIDENCE``; when all have come, by its rank alone. So nobody is
    promoted for having come early, which is what asynchronous halving spends a quarter on.
    """

    parks = True

    def judge(self, value: float | None, peers: Sequence[float | None], expected: int) -> Verdict:
        """See ``Rule``."""
        places = max(self.least, expected // self.reduction_factor)
        own = self._score(value)
        rank = 1 + sum(self._score(peer) > own for peer in peers)
        verdict = self._among(value, peers, places)
        sure = _stays(rank, len(peers) + 1, expected, places) >= CONFIDENCE
        return Verdict(verdict.keep and sure, verdict.peers, verdict.threshold)


class Hyperband(Asha):
    """``asha`` in brackets: bracket s has its first rung at ``grace_period · η^s``.

    Configs are dealt to brackets in the proportion of Li et al. 2018 (arXiv 1603.06560,
    algorithm 1), η^-s / (brackets − s), the most aggressive bracket first.
    """

    def bracket(self, number: int) -> int:
        """See ``Rule``."""
        return _dealt(self._shares(), number)

    def _shares(self) -> tuple[float, ...]:
        count = len(self.rungs()) + 1  # the last bracket has no rung below the end
        eta = self.reduction_factor
        return tuple(eta ** (count - 1 - s) / (count - s) for s in range(count))


class Median(Rule):
    """Stops a trial whose best so far is below the median of the others' running averages.

    Looked at after every epoch from ``grace_period`` on, among η peers at the least.
    """

    def rungs(self, bracket: int = 0) -> list[int]:
        """See ``Rule``."""
        return list(range(self.grace_period, self.epochs))

    def shown(self, values: Values, epoch: int) -> float | None:
        """See ``Rule``."""
        known = [v for e, v in values.items() if e <= epoch and v is not None]
        return fmean(known) if known else None

    def judge(self, value: float | None, peers: Sequence[float | None], expected: int) -> Verdict:
        """See ``Rule``."""
        known = [peer for peer in peers if peer is not None]
        if len(known) < self.reduction_factor:
            return Verdict(True, len(peers), None)
        middle = median(known)
        return Verdict(self._score(value) >= self._score(middle), len(peers), middle)


class Never(Rule):
    """No rungs."""

    def rungs(self, bracket: int = 0) -> list[int]:
        """See ``Rule``."""
        return []

    def judge(self, value: float | None, peers: Sequence[float | None], expected: int) -> Verdict:
        """See ``Rule``."""
        return Verdict(True, len(peers), None)


RULES: dict[str, type[Rule]] = {
    "asha": Asha,
    "asha_promote": AshaPromote,
    "halving": Halving,
    "hyperband": Hyperband,
    "median": Median,
    "none": Never,
}


@cache
def _stays(rank: int, come: int, expected: int, places: int) -> float:
    """Probability that the ``rank``-th of ``come`` is among ``places`` of ``expected``."""
    left = expected - come
    if left <= 0 or rank > places:
        return float(rank <= places)
    from scipy.stats import betabinom

    return float(betabinom.cdf(places - rank, left, rank, come - rank + 1))


@cache
def _dealt(shares: tuple[float, ...], number: int) -> int:
    """The bracket of config ``number`` where brackets get their ``shares`` evenly over time."""
    given = [0] * len(shares)
    chosen = 0
    for _ in range(number + 1):
        chosen = min(range(len(shares)), key=lambda s: ((given[s] + 1) / shares[s], s))
        given[chosen] += 1
    return chosen
