"""Intervals and tests on simulated sweeps whose truth is known."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache

import numpy as np
import pytest

from segsweep.compare import claims, comparison, influence, intervals, noise, resampling
from segsweep.compare.claims import Entrant
from segsweep.compare.comparison import Interval, Where
from segsweep.compare.effects import effects
from segsweep.compare.importance import Trial, importances
from segsweep.noise import luck
from tests.compare.simulated import SCORE, Sweep, Truth, simulate

ALPHA = 0.05
DRAWS = 300
SWEEPS = 400
MARGIN = 3 * float(np.sqrt(ALPHA * (1 - ALPHA) / SWEEPS))  # three standard errors of such a share
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


@dataclass(frozen=True)
class Rates:
    """Over many sweeps: intervals that hold the truth, by place; pairs with p below alpha, and
    sweeps of which any pair is told apart."""

    covered: Mapping[Where, float]
    single: Mapping[Where, float]
    family: Mapping[Where, float]


@cache
def rates(case: str) -> Rates:
    """What comes of a case's sweeps, whose cells are all equally good."""
    truth, rng = CASES[case], np.random.default_rng(1)
    hits: dict[Where, list[bool]] = {"folds": [], "holdout": []}
    single: dict[Where, list[bool]] = {"folds": [], "holdout": []}
    family: dict[Where, list[bool]] = {"folds": [], "holdout": []}
    for sweep in sweeps(truth, SWEEPS):
        for where in hits:
            ends, tests = compared(sweep, truth, where, rng)
            for interval, value in zip(ends, truth.truths, strict=True):
                assert interval is not None
                hits[where].append(interval.low <= value <= interval.high)
            single[where] += [pair.p is not None and pair.p < ALPHA for pair in tests.pairs]
            family[where].append(any(pair.told_apart for pair in tests.pairs))

    def shares(values: Mapping[Where, list[bool]]) -> dict[Where, float]:
        return {where: float(np.mean(own)) for where, own in values.items()}

    return Rates(shares(hits), shares(single), shares(family))


def compared(
    sweep: Sweep, truth: Truth, where: Where, rng: np.random.Generator
) -> tuple[list[comparison.Interval | None], comparison.Tests]:
    """Intervals and tests of one sweep, in one place."""
    k, r = truth.folds, truth.replicates
    if where == "folds":
        known, scores = noise.estimate(sweep.scores), sweep.scores.mean(axis=2)
        images = resampling.over_folds(sweep.parts, r, SCORE, DRAWS, rng)
        exact = influence.over_folds(sweep.parts, r, SCORE)
        of = intervals.of_folds
    else:
        known, scores = noise.estimate_alone(sweep.holdout), sweep.holdout.mean(axis=2)
        images = resampling.over_holdout(sweep.held, k, r, SCORE, DRAWS, rng)
        exact = influence.over_holdout(sweep.held, k, r, SCORE)
        of = intervals.of_holdout
    ends = of(scores, known, images, alpha=ALPHA)
    entrants = [Entrant(str(i), 1) for i in range(len(truth.truths))]
    tests = claims.test(
        where, entrants, scores, known, exact, goal="maximize", alpha=ALPHA, shared=0.0
    )
    return ends, tests


@pytest.mark.parametrize("where", ["folds", "holdout"])
@pytest.mark.parametrize("case", CASES)
def test_intervals_hold_the_truth_95_times_in_100(case: str, where: Where) -> None:
    assert 0.93 <= rates(case).covered[where] <= 0.97


@pytest.mark.parametrize(("images", "where"), [(12, "folds"), (24, "holdout")])
def test_four_groups_are_enough(images: int, where: Where) -> None:
    """Two in each of two folds, or four on the holdout."""
    truth, rng = (
        Truth(folds=2, images=images, group=6, between_groups=0.1),
        np.random.default_rng(1),
    )
    hits = []
    for sweep in sweeps(truth, SWEEPS):
        for one, value in zip(compared(sweep, truth, where, rng)[0], truth.truths, strict=True):
            assert one is not None
            hits.append(one.low <= value <= one.high)
    assert 0.93 <= np.mean(hits) <= 0.97


@pytest.mark.parametrize("where", ["folds", "holdout"])
@pytest.mark.parametrize("case", CASES)
def test_equally_good_cells_are_told_apart_no_more_often_than_stated(
    case: str, where: Where
) -> None:
    found = rates(case)
    assert found.single[where] <= ALPHA + MARGIN
    assert found.family[where] <= ALPHA + MARGIN


def test_a_paired_test_over_images_would_claim_what_is_not_there() -> None:
    from scipy import stats

    truth = replace(CASES["5 folds"], truths=(0.6, 0.6), seed=0.03)
    wrong = []
    for sweep in sweeps(truth, 200):
        a, b = (np.concatenate([part.counts[i, :, 0, 0] for part in sweep.parts]) for i in (0, 1))
        wrong.append(stats.wilcoxon(a, b).pvalue < ALPHA)
    assert np.mean(wrong) > 0.15
    rng = np.random.default_rng(9)
    ours = [compared(sweep, truth, "folds", rng)[1] for sweep in sweeps(truth, 200)]
    assert np.mean([test.pairs[0].told_apart for test in ours]) < ALPHA + 3 * np.sqrt(0.0475 / 200)


def test_a_real_difference_is_found_where_there_are_folds_enough() -> None:
    truth = replace(CASES["5 folds"], truths=(0.6, 0.6, 0.6, 0.7))
    rng = np.random.default_rng(3)
    found = [compared(sweep, truth, "folds", rng)[1] for sweep in sweeps(truth, 100)]
    right = [all(p.told_apart == (p.better == "3") for p in f.pairs) for f in found]
    assert np.mean(right) > 0.8


def test_two_cells_on_two_folds_claim_nothing_and_say_so() -> None:
    truth = Truth(truths=(0.9, 0.1), folds=2)
    rng = np.random.default_rng(4)
    found = compared(sweeps(truth, 1)[0], truth, "folds", rng)[1]
    assert found.pairs[0].p is None
    assert not found.pairs[0].told_apart
    assert "1 degree of freedom" in found.claim


def test_luck_of_many_tries_is_taken_off_the_gap() -> None:
    """One cell has tried 16 equal configs, the other one: its champion leads, and means nothing."""
    rng = np.random.default_rng(5)
    fair: list[bool] = []
    naive: list[bool] = []
    for _ in range(1000):
        scores = 0.6 + rng.normal(0, 0.02, (17, 5))
        best = int(scores[:16].mean(axis=1).argmax())
        both, cells = scores[[best, 16]], [scores[:16, :, None], scores[16:, :, None]]
        known = noise.estimate(both[:, :, None], cells)
        for result, tried in ((fair, 16), (naive, 1)):
            entrants = [Entrant("many", tried), Entrant("one", 1)]
            test = claims.test(
                "folds", entrants, both, known, None, goal="maximize", alpha=ALPHA, shared=0.0
            )
            result.append(test.pairs[0].told_apart)
    assert np.mean(naive) > 0.15
    assert np.mean(fair) <= ALPHA + 3 * np.sqrt(ALPHA * (1 - ALPHA) / 1000)


def test_holm_is_that_of_statsmodels() -> None:
    from statsmodels.stats.multitest import multipletests

    rng = np.random.default_rng(6)
    for count in (1, 2, 7, 28):
        values = rng.uniform(size=count) ** 3
        assert claims.holm(values.tolist()) == pytest.approx(
            multipletests(values, method="holm")[1]
        )


def test_main_effects_hold_the_truth_and_a_null_factor_is_none() -> None:
    rng = np.random.default_rng(7)
    models, losses = (0.05, 0.0, -0.05), (0.0, 0.0, 0.0)
    levels = [{"model": str(i), "loss": str(j)} for i in range(3) for j in range(3)]
    hits, false = [], []
    for _ in range(400):
        means = [
            0.7 + models[int(own["model"])] + losses[int(own["loss"])] + rng.normal(0, 0.02)
            for own in levels
        ]
        found = effects(levels, means, goal="maximize", alpha=ALPHA)
        for row in found.rows:
            assert row.interval is not None
            truth = {"model": models, "loss": losses}[row.factor][int(row.level)]
            hits.append(row.interval[0] <= truth <= row.interval[1])
        false.append(found.p["loss"] < ALPHA)
    assert 0.93 <= np.mean(hits) <= 0.97
    assert np.mean(false) <= ALPHA + MARGIN


@pytest.mark.parametrize("goal", ["maximize", "minimize"])
def test_main_effects_are_those_of_statsmodels(goal: str) -> None:
    import statsmodels.api as sm

    rng = np.random.default_rng(11)
    levels = [
        {"model": str(i), "loss": str(j)} for i in range(3) for j in range(4) if (i, j) != (1, 2)
    ]
    means = rng.normal(0.7, 0.05, len(levels))
    found = effects(levels, means.tolist(), goal=goal, alpha=0.1)
    coded = {
        name: np.vstack([np.eye(count), -np.ones(count)])
        for name, count in (("model", 2), ("loss", 3))
    }
    design = np.array(
        [
            [1, *coded["model"][int(own["model"])], *coded["loss"][int(own["loss"])]]
            for own in levels
        ]
    )
    fit = sm.OLS(means if goal == "maximize" else -means, design).fit()
    places = {"model": slice(1, 3), "loss": slice(3, 6)}
    for row in found.rows:
        contrast = np.zeros(6)
        contrast[places[row.factor]] = coded[row.factor][int(row.level)]
        tested = fit.t_test(contrast)
        assert row.effect == pytest.approx(float(tested.effect[0]))
        assert row.interval == pytest.approx(tuple(tested.conf_int(0.1)[0]))
    raw = [float(fit.f_test(np.eye(6)[places[name]]).pvalue) for name in ("model", "loss")]
    assert [found.p["model"], found.p["loss"]] == pytest.approx(claims.holm(raw))


def test_without_any_noise_only_factors_with_an_effect_are_claimed() -> None:
    levels = [{"model": m, "loss": x} for m in "ab" for x in "cd"]
    of = {"a": 0.1, "b": 0.0, "c": 0.2, "d": 0.0}

    def claim(*names: str) -> str:
        means = [0.5 + sum(of[own[name]] for name in names) for own in levels]
        return effects(levels, means, goal="maximize", alpha=ALPHA).claim

    assert claim("model").startswith("Model makes a difference")
    assert claim("model", "loss").startswith("Model and loss make a difference")
    assert claim().startswith("No main effect can be claimed")


def test_what_is_needed_holds_the_luck_of_more_tries() -> None:
    scores = np.array([[0.70, 0.72, 0.71, 0.73, 0.71], [0.69, 0.70, 0.71, 0.70, 0.70]])
    known = noise.alike(comparison.Noise(0.01, 8, "residuals"), 2)

    def tests(tried: int) -> comparison.Tests:
        entrants = [Entrant("many", tried), Entrant("one", 1)]
        return claims.test(
            "folds", entrants, scores, known, None, goal="maximize", alpha=ALPHA, shared=0.0
        )

    fair, lucky = tests(1), tests(16)
    assert fair.smallest_gap is not None
    assert lucky.smallest_gap is not None
    assert lucky.smallest_gap == pytest.approx(fair.smallest_gap + luck(16) * 0.01 / np.sqrt(5))
    assert not lucky.pairs[0].told_apart
    assert lucky.pairs[0].gap < lucky.smallest_gap
    # most pairs need less than the largest gap, which has more to exceed
    entrants = [Entrant("many", 64), *(Entrant(str(i), 1) for i in range(3))]
    four = np.vstack([scores[:1] + 0.0145, scores[1] + 0.001, scores[1:], scores[1:]])
    known = noise.alike(known.common, 4)
    found = claims.test(
        "folds", entrants, four, known, None, goal="maximize", alpha=ALPHA, shared=0.0
    )
    assert not any(pair.told_apart for pair in found.pairs)
    assert found.smallest_gap is not None
    assert max(pair.gap for pair in found.pairs) > found.smallest_gap
    assert "is needed" in found.claim


@pytest.mark.parametrize(("metric", "inside"), [("val/iou", True), ("val/loss", False)])
def test_intervals_of_scores_end_where_scores_do(metric: str, inside: bool) -> None:
    wide = intervals.clipped(Interval(-0.18, 1.58), metric)
    assert wide == (Interval(0.0, 1.0) if inside else Interval(-0.18, 1.58))
    assert intervals.clipped(None, metric) is None


def test_importance_finds_what_matters_even_with_an_optimum_in_the_middle() -> None:
    rng = np.random.default_rng(8)
    rate, other = rng.uniform(size=60), rng.uniform(size=60)
    scores = 0.8 - (rate - 0.5) ** 2 + rng.normal(0, 0.02, 60)
    trials = [
        Trial(f"cell{i % 3}", {"loss": f"{i % 3}"}, {"lr": float(rate[i]), "wd": float(other[i])},
              float(scores[i]) + i % 3)
        for i in range(60)
    ]  # fmt: skip
    found = importances(trials, 4)
    shares = {row.name: (row.share, row.p) for row in found.rows}
    assert shares["lr"][0] > 0.3
    assert shares["lr"][1] < 0.001
    assert shares["wd"][1] > ALPHA
    assert shares["loss"][0] > 0.8
    hidden = importances(trials[:19], 4)
    assert hidden.rows == []
    assert "needs 20" in (hidden.hidden or "")
