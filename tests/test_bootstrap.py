"""The bootstrap: draws that are made again, what a number rests on, intervals that hold."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats

from segsweep import bootstrap
from segsweep.bootstrap import Doubles, Replicas, Spread, fewest, groups, interval, together
from segsweep.compare.resampling import Part, deviations
from segsweep.compare.resting import resting
from segsweep.compare.scoring import Scorer
from segsweep.export.intervals import intervals

UNITS = np.arange(10)


def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def test_a_group_is_drawn_as_a_whole_and_as_often_as_there_are_groups() -> None:
    units = np.array([0, 0, 1, 2, 2, 2])
    drawn = bootstrap.weights(units, 500, rng())
    assert (drawn[:, 0] == drawn[:, 1]).all()
    assert (drawn[:, 3] == drawn[:, 5]).all()
    assert (drawn[:, [0, 2, 3]].sum(axis=1) == 3).all()
    assert drawn.mean(axis=0) == pytest.approx(1, abs=0.15)


def test_draws_that_leave_a_number_undefined_are_made_again() -> None:
    """A class in 2 of 10 images: a draw of neither is no draw, and no deviation of 0 either."""
    has = np.isin(UNITS, [3, 7])
    hard = np.where(UNITS == 3, 0.4, 0.8)

    def score(weights: Doubles) -> Doubles:
        own = weights * has
        with np.errstate(invalid="ignore"):
            found: Doubles = (own @ hard / own.sum(axis=1))[:, None]
        return found

    found = bootstrap.values(score, UNITS, 4000, rng())[:, 0]
    assert np.isfinite(found).all()

    def defined(weights: Doubles) -> NDArray[np.bool_]:
        return np.asarray((weights[:, has] > 0).any(axis=1))

    chosen = bootstrap.weights(UNITS, 4000, rng(), defined)
    assert (chosen[:, has].sum(axis=1) > 0).all()
    plain = rng().multinomial(10, [0.1] * 10, 40000).astype(np.float64)
    kept = [v for v in score(plain)[:, 0] if np.isfinite(v)]
    assert found.std() == pytest.approx(np.std(kept), rel=0.03)


def test_what_no_draw_defines_ends_after_bounded_effort() -> None:
    made = []

    def never(weights: Doubles) -> Doubles:
        made.append(len(weights))
        return np.full((len(weights), 2), np.nan)

    assert np.isnan(bootstrap.values(never, UNITS, 100, rng())).all()
    assert sum(made) == 100
    none = bootstrap.weights(UNITS, 100, rng(), lambda w: np.zeros(len(w), bool))
    assert none.shape == (0, 10)
    seldom = bootstrap.weights(UNITS, 100, rng(), lambda w: w[:, 0] > 4)
    assert len(seldom) == 100
    assert (seldom[:, 0] > 4).all()


def test_deviations_of_compare_have_no_draw_without_the_class() -> None:
    """The IoU of a class in 2 of 10 images: the spread of the draws that show it."""
    counts = np.zeros((1, 10, 3, 4))
    counts[..., 3] = 1000
    counts[:, :, :2, 0] = 300
    counts[0, 3, 2] = (40, 60, 0, 1000)
    counts[0, 7, 2] = (80, 20, 0, 1000)
    part, score = Part(counts, np.arange(10)), Scorer("iou_dog", 2)
    moved = deviations(part, score, 4000, rng())
    drawn = rng().multinomial(10, [0.1] * 10, 40000).astype(float)
    value = score(counts[0], drawn) - score(counts[0], np.ones((1, 10)))
    expected = np.nanstd(value) * np.sqrt(2)  # of the 2 that show it: √(2/1)
    assert moved.std() == pytest.approx(expected, rel=0.03)
    assert part.behind(score).refused == "it rests on 2 of 10 images, and an interval needs 4"


def test_what_a_number_rests_on() -> None:
    assert groups(UNITS).count == 10
    assert groups(UNITS).dof == pytest.approx(9)
    few = groups(UNITS, np.isin(UNITS, [1, 2, 5]).astype(float))
    assert (few.count, few.said) == (3, "3 of 10 images")
    assert few.widening == pytest.approx(np.sqrt(3 / 2))
    lumps = groups(UNITS, np.where(UNITS == 0, 1000.0, 1.0))
    assert lumps.refused == "one of 10 images holds most of what it rests on"
    patients = groups(np.arange(12) // 3)
    assert (patients.said, patients.refused, patients.few) == ("4 groups", None, True)
    assert groups(np.zeros(5, int)).refused == "it rests on 1 group, and an interval needs 4"
    assert fewest([groups(UNITS), few]).count == 3
    four = together([patients] * 3)
    assert four.count == 12
    assert four.dof == pytest.approx(9)
    pairs = together([groups(np.arange(4) // 2)] * 2)
    assert (pairs.count, pairs.refused) == (4, None)
    assert pairs.dof == pytest.approx(2)
    assert together([groups(np.zeros(3, int)), patients]).dof == 0


def test_an_interval_without_skewness_is_students() -> None:
    low, high = interval(0.6, Spread(0.01, dof=5.5))
    half = 0.1 * stats.t.ppf(0.975, 5.5)
    assert (low, high) == pytest.approx((0.6 - half, 0.6 + half))
    assert interval(0.6, Spread(0.01, dof=5.5), most=0.7)[1] == 0.7
    assert interval(0.25, Spread(0.0)) == (0.25, 0.25)
    wide = interval(0.6, Spread(0.01, dof=5), level=0.99)
    assert wide[0] < low
    assert wide[1] > high


def test_a_tail_to_the_left_is_allowed_for_on_the_left() -> None:
    low, high = interval(0.6, Spread(0.01, third=-0.0002, dof=20))
    assert 0.6 - low > 1.1 * (high - 0.6)
    half = 0.1 * stats.t.ppf(0.975, 20)
    for third in (-0.0008, -0.004):
        steep = interval(0.6, Spread(0.01, third=third, dof=20))
        assert steep == pytest.approx((0.6 - 2 * half, 0.6 + half))


def test_bias_is_spread_and_moves_nothing() -> None:
    drawn = np.random.default_rng(1).normal(0.5, 0.1, 5000)
    spread = Replicas(0.4, drawn).spread(groups(np.arange(100)))
    low, high = interval(0.4, spread)
    assert high - 0.4 == pytest.approx(0.4 - low, rel=0.1)
    assert high - low == pytest.approx(2 * 1.984 * np.sqrt(0.01 + 0.01), rel=0.05)


def test_a_sum_of_independent_numbers_has_the_freedom_of_both() -> None:
    both = Spread(2.0, third=1.0, dof=4) + Spread(1.0, dof=10)
    assert (both.variance, both.third) == (3.0, 1.0)
    assert both.dof == pytest.approx(9 / (4 / 4 + 1 / 10))
    assert (Spread(0.0, dof=3) + Spread(0.0, dof=9)).dof == 3


def matrices(sizes: list[int], mean: float, generator: np.random.Generator) -> NDArray[np.int64]:
    """Confusion matrices of images whose groups differ by 0.12 in IoU, and their groups."""
    own = np.repeat(np.arange(len(sizes)), sizes)
    level = generator.normal(mean, 0.12, len(sizes))[own]
    iou = np.clip(level + generator.normal(0, 0.05, len(own)), 0, 1)
    union = generator.integers(200, 2000, len(own))
    hit = np.rint(iou * union).astype(np.int64)
    missed = (union - hit) // 2
    found = np.zeros((len(own), 2, 2), np.int64)
    found[:, 1, 1], found[:, 1, 0], found[:, 0, 1] = hit, missed, union - hit - missed
    found[:, 0, 0] = 4000 - union
    return found


def covered(sizes: list[int], mean: float = 0.6, sets: int = 400) -> float:
    """How often the card's interval of the IoU holds the truth."""
    generator, hits = np.random.default_rng(7), 0
    names = [str(i) for i in np.repeat(np.arange(len(sizes)), sizes)]
    for _ in range(sets):
        found = intervals(matrices(sizes, mean, generator), ("b", "f"), names, 200)["iou"]
        hits += found["low"] <= mean <= found["high"]
    return hits / sets


@pytest.mark.parametrize("count", [4, 6, 10])
def test_the_cards_intervals_hold_the_truth_from_four_groups_on(count: int) -> None:
    assert 0.93 <= covered([10] * count) <= 0.975


@pytest.mark.parametrize("sizes", [[40, 10, 10, 10], [2, 3, 5, 8, 13, 21, 34]])
def test_groups_of_very_unequal_size_have_intervals_that_are_not_too_narrow(
    sizes: list[int],
) -> None:
    assert covered(sizes) >= 0.93


def test_below_four_groups_there_is_none_and_the_reason_is_said() -> None:
    generator = np.random.default_rng(0)
    names = [str(i) for i in np.repeat(np.arange(3), 10)]
    found = intervals(matrices([10] * 3, 0.6, generator), ("b", "f"), names)["iou"]
    assert (found["low"], found["high"]) == (None, None)
    assert found["no_interval"] == "it rests on 3 groups, and an interval needs 4"
    assert found["value"] is not None


def test_a_mean_over_classes_is_over_the_same_classes_in_every_draw() -> None:
    """A rare class would else make the draws without it another score."""
    counts = np.zeros((40, 3, 4))
    counts[:, 0] = [900, 20, 20, 1000]
    counts[:, 1] = [60, 20, 20, 1000]
    counts[:5, 2] = [5, 10, 10, 1000]  # in five images of forty, with IoU 0.2
    part = Part(counts[None], np.arange(40))
    moved = deviations(part, Scorer("miou"), 2000, np.random.default_rng(0))
    assert moved.std() < 0.02  # without the rare class the mean is 0.19 higher
    weights = np.ones((1, 40))
    weights[0, :5] = 0
    assert np.isnan(Scorer("miou")(counts, weights)).all()


def test_a_mean_over_classes_rests_on_the_images_of_the_rarest() -> None:
    counts = np.ones((12, 3, 4))
    counts[1:, 2, [0, 2]] = 0  # one image of twelve has it
    behind = resting("miou", counts, np.arange(12))
    assert behind.count == 1
    assert behind.refused is not None
