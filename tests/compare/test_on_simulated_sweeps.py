"""Intervals and tests on simulated sweeps whose truth is known."""

from __future__ import annotations

import numpy as np
import pytest

from segsweep.compare import claims, intervals, noise, resampling
from segsweep.compare.claims import Entrant
from segsweep.compare.comparison import Tests
from tests.compare.simulated import SCORE, Sweep, Truth, simulate

ALPHA = 0.05
DRAWS = 400
SWEEPS = 500
CASES = {
    "5 folds": Truth(),
    "3 folds": Truth(folds=3),
    "2 folds": Truth(folds=2, images=40),
    "2 folds, 2 champions, 3 replicates": Truth(
        truths=(0.6, 0.6), folds=2, replicates=3, images=40
    ),
    "3 folds, groups of 4": Truth(folds=3, images=60, group=4, between_groups=0.1),
    "1 fold, 4 replicates": Truth(folds=1, replicates=4, images=60),
    "seeds alone": Truth(folds=3, difficulty=0.0, interaction=0.0, rest=0.0),
}


def sweeps(truth: Truth, count: int) -> list[Sweep]:
    rng = np.random.default_rng(0)
    return [simulate(truth, rng) for _ in range(count)]


def covered(truth: Truth, where: str, count: int = SWEEPS) -> float:
    """The share of intervals that hold the truth."""
    rng = np.random.default_rng(1)
    hits = []
    for sweep in sweeps(truth, count):
        k, r = truth.folds, truth.replicates
        if where == "folds":
            known = noise.estimate(sweep.scores)
            images = resampling.over_folds(sweep.parts, r, SCORE, DRAWS, rng)
            scores, of = sweep.scores.mean(axis=2), intervals.of_folds
        else:
            known = noise.estimate_alone(sweep.holdout)
            images = resampling.over_holdout(sweep.held, k, r, SCORE, DRAWS, rng)
            scores, of = sweep.holdout.mean(axis=2), intervals.of_holdout
        found = of(scores, known, images, alpha=ALPHA, draws=DRAWS, rng=rng)
        for interval, value in zip(found, truth.truths, strict=True):
            assert interval is not None
            hits.append(interval.low <= value <= interval.high)
    return float(np.mean(hits))


@pytest.mark.parametrize("case", CASES)
def test_intervals_of_the_folds_hold_the_truth_95_times_in_100(case: str) -> None:
    assert 0.93 <= covered(CASES[case], "folds") <= 0.97


@pytest.mark.parametrize("case", CASES)
def test_intervals_of_the_holdout_do_so_too(case: str) -> None:
    assert 0.93 <= covered(CASES[case], "holdout") <= 0.97


def tested(sweep: Sweep, truth: Truth, where: str, rng: np.random.Generator) -> Tests:
    """The tests of one sweep."""
    k, r = truth.folds, truth.replicates
    entrants = [Entrant(str(i), 1) for i in range(len(truth.truths))]
    if where == "folds":
        known, scores = noise.estimate(sweep.scores), sweep.scores.mean(axis=2)
        need = known is not None and known.source == "replicates"
        images = resampling.over_folds(sweep.parts, r, SCORE, DRAWS, rng) if need else None
        return claims.test("folds", entrants, scores, known, images, goal="maximize", alpha=ALPHA)
    known, scores = noise.estimate_alone(sweep.holdout), sweep.holdout.mean(axis=2)
    images = resampling.over_holdout(sweep.held, k, r, SCORE, DRAWS, rng)
    return claims.test("holdout", entrants, scores, known, images, goal="maximize", alpha=ALPHA)


def rates(truth: Truth, where: str, count: int = SWEEPS) -> tuple[float, float]:
    """How often a pair has p below alpha, and how often any pair of a sweep is told apart."""
    rng = np.random.default_rng(2)
    single, family = [], []
    for sweep in sweeps(truth, count):
        found = tested(sweep, truth, where, rng)
        single += [pair.p is not None and pair.p < ALPHA for pair in found.pairs]
        family.append(any(pair.told_apart for pair in found.pairs))
    return float(np.mean(single)), float(np.mean(family))
