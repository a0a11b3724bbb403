"""What a comparison says: plain values, each of them traceable to the Parquet files of a run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

Where = Literal["folds", "holdout"]


@dataclass(frozen=True)
class Interval:
    """A confidence interval.

    Attributes:
        low: its lower end.
        high: its upper end.
        level: how often such an interval holds the truth, 0.95.
        images: where the part of the images comes from: ``resampled`` (images or their groups,
            the same for all cells) or ``folds`` (the scatter of the folds, where there is nothing
            to resample).
        noise: where the part of the seeds comes from: ``residuals`` of config + fold,
            ``replicates``, or the scatter of the ``folds``.
        digits: after the point, that other draws of images would not change by more than one in
            the last; ``text`` prints so many.
    """

    low: float
    high: float
    level: float = 0.95
    images: Literal["resampled", "folds"] = "resampled"
    noise: Literal["residuals", "replicates", "folds"] = "residuals"
    digits: int = 4

    def text(self, most: int = 4) -> tuple[str, str]:
        """Its ends, with ``digits`` digits or ``most``, if these are fewer."""
        shown = min(most, self.digits)
        low, high = (round(end, shown) + 0.0 for end in (self.low, self.high))  # no -0.00
        return f"{low:.{shown}f}", f"{high:.{shown}f}"


@dataclass(frozen=True)
class Noise:
    """What another seed of the same config would change.

    Attributes:
        sigma: standard deviation of the score of one trial (its replicates averaged).
        dof: degrees of freedom that it was estimated with, those of shrinkage included.
        source: residuals of config + fold, or replicates.
    """

    sigma: float
    dof: float
    source: Literal["residuals", "replicates"]


@dataclass(frozen=True)
class Standing:
    """A champion: a cell's best config that has finished every fold.

    Attributes:
        run: name of its sweep.
        cell: its name in every file; ``label`` is the same in short, for people, with the sweep's
            name before it where several are compared.
        levels: factor → label of its level.
        scores: fold → the metric at the best epoch, replicates averaged.
        mean: over folds, of ``scores``; ``std`` their sample standard deviation, None for one.
        interval: of the mean, for other images and other seeds; None where nothing can be said.
        holdout: mean over the fold models on the holdout; its ``holdout_std`` over them, and its
            interval for other images and other seeds.
        configs: how many of its cell were tried; ``finished`` of them on every fold, of which
            this is the best.
        parameters: of the model.
        runtime_ms: milliseconds for one image, the least of several turns.
        tied: it cannot be told from the best on the folds.
        no_interval: why there is no interval of the mean, and ``no_holdout_interval`` none on the
            holdout; None where there is one, or no holdout score.
    """

    run: str
    cell: str
    label: str
    config_id: str
    levels: Mapping[str, str]
    params: Mapping[str, Any]
    scores: Mapping[int, float]
    mean: float
    std: float | None
    interval: Interval | None
    holdout: float | None
    holdout_std: float | None
    holdout_interval: Interval | None
    configs: int
    finished: int
    parameters: int | None
    runtime_ms: float | None
    tied: bool
    no_interval: str | None = None
    no_holdout_interval: str | None = None


@dataclass(frozen=True)
class Pair:
    """Two champions: is one better than another seed of the other would be?

    Attributes:
        better: config id of the one with the better mean; ``worse`` of the other.
        gap: of their means, never negative whichever way the metric goes.
        interval: of the gap, negative where the other may be better; not corrected for the number
            of pairs.
        p: two-sided probability of so large a gap, were they the same config; None: no claim.
        p_holm: the same, corrected for the number of pairs (Holm 1979).
        told_apart: ``p_holm`` is below alpha.
    """

    better: str
    worse: str
    gap: float
    interval: tuple[float, float] | None
    p: float | None
    p_holm: float | None
    told_apart: bool


@dataclass(frozen=True)
class Tests:
    """All pairs of champions, on the folds or on the holdout.

    Attributes:
        noise: of all cells, as if they were alike; None where it cannot be estimated; then no pair
            has a p.
        own: config id of each champion → the noise of its cell, which widths are made of.
        shared: the variance that is allowed for the luck that all folds of a config share, as a
            share of one score's.
        smallest_gap: the smallest gap between means that could be told from another seed, after
            correction for the number of pairs; None where none could.
        claim: what can be said, or why nothing can, in a sentence or two.
    """

    where: Where
    alpha: float
    noise: Noise | None
    own: Mapping[str, Noise]
    shared: float
    pairs: Sequence[Pair]
    smallest_gap: float | None
    claim: str


@dataclass(frozen=True)
class Effect:
    """How much better (positive) or worse a level of a factor is than the mean of its levels.

    Attributes:
        effect: in units of the metric, positive is better whichever way the metric goes.
        interval: None where no degrees of freedom are left.
        cells: how many champions have this level.
    """

    factor: str
    level: str
    effect: float
    interval: tuple[float, float] | None
    cells: int


@dataclass(frozen=True)
class Effects:
    """Main effects of the factors over the champions' means.

    Attributes:
        rows: the levels of every factor that has more than one, best first within a factor.
        p: factor → probability of such differences between its levels, had it no effect, Holm's
            correction over factors; empty where nothing can be tested.
        claim: what can be said, or why nothing can.
    """

    rows: Sequence[Effect]
    p: Mapping[str, float]
    claim: str


@dataclass(frozen=True)
class Importance:
    """How much of the first-rung scores a parameter explains.

    Attributes:
        name: dotted path of a parameter, or a factor.
        share: of the variance of ranks that its groups explain, corrected for their number (0:
            no more than chance, 1: all).
        p: Kruskal-Wallis, Holm's correction over all names.
        direction: Spearman's correlation with a good score; None for what has no order.
        configs: how many have it.
    """

    name: str
    share: float
    p: float
    direction: float | None
    configs: int


@dataclass(frozen=True)
class Importances:
    """Parameters by importance; ``hidden`` says why there are none, where there are none."""

    rows: Sequence[Importance]
    epoch: int
    hidden: str | None


@dataclass(frozen=True)
class Comparison:
    """Everything that ``compare`` says.

    Attributes:
        runs: names of the sweeps.
        metric: as the sweep file names it, ``val/iou``; ``goal`` maximize or minimize.
        folds: how many every champion has finished; ``replicates`` seeds on each.
        grouped: the attribute whose groups were resampled as a whole; None: images one by one.
        standings: champions from best to worst.
        unfinished: labels of cells without a champion yet.
        final: no trial of any cell is open.
        tests: of the pairs on the folds and, where champions were scored there, on the holdout.
        tied: config ids that cannot be told from the best on the folds, the best first.
        fastest: of those the config id whose architecture is faster than all others by more than
            timings of it are apart; None where that cannot be said.
        equally_fast: all of those that have that architecture, ``fastest`` first.
        smallest: the same with the fewest parameters.
        limits: which sources of variation the tests and the race cover, and which they do not.
        warnings: what a reader must know before quoting a number.
        notes: what was mended while reading.
    """

    runs: Sequence[str]
    metric: str
    goal: Literal["maximize", "minimize"]
    folds: int
    replicates: int
    grouped: str | None
    standings: Sequence[Standing]
    unfinished: Sequence[str]
    final: bool
    tests: Mapping[Where, Tests]
    tied: Sequence[str]
    fastest: str | None
    equally_fast: Sequence[str]
    smallest: str | None
    effects: Effects
    importances: Importances
    limits: str
    warnings: Sequence[str]
    notes: Sequence[str]

    def standing(self, config_id: str) -> Standing:
        """The champion of that id."""
        return next(row for row in self.standings if row.config_id == config_id)

    def against_best(self, config_id: str) -> float | None:
        """The corrected probability, on the folds, that a champion is as good as the best one."""
        best = self.standings[0].config_id
        for pair in self.tests["folds"].pairs:
            if {pair.better, pair.worse} == {best, config_id}:
                return pair.p_holm
        return None

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for ``--json``; ``cells`` are the standings."""
        plain = asdict(self)
        return {**plain, "cells": plain.pop("standings")}
