"""Parts of a report on numbers worked out by hand."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from segsweep.report import Facts, gather, pictures
from segsweep.report.answer import listed, sentences
from segsweep.report.curves import POINTS, thin
from segsweep.report.figures import pareto
from segsweep.report.spent import bill
from tests.report.synthetic import Made, spec_of


def test_a_thinned_curve_keeps_its_ends_its_best_and_its_extremes() -> None:
    curve = [(e, math.sin(e / 40) + (3.0 if e == 517 else 0.0)) for e in range(1, 1001)]
    few = thin(curve)
    assert len(few) <= POINTS
    assert few[0] == curve[0]
    assert few[-1] == curve[-1]
    assert (517, curve[516][1]) in few
    assert min(v for _, v in few) == min(v for _, v in curve)
    assert [e for e, _ in few] == sorted({e for e, _ in few})
    assert min(v for _, v in thin(curve, maximize=False)) == min(v for _, v in curve)


def test_a_short_curve_is_left_as_it_is_and_undefined_values_out_of_it() -> None:
    assert thin([(1, 0.5), (2, None), (3, 0.7)]) == [(1, 0.5), (3, 0.7)]
    assert thin([(1, None)]) == []


def test_the_pareto_front_by_brute_force() -> None:
    rng = np.random.default_rng(0)
    for maximize in (True, False):
        points = [(str(i), float(c), float(s)) for i, (c, s) in enumerate(rng.random((40, 2)))]
        sign = 1 if maximize else -1
        front = {
            name
            for name, cost, score in points
            if not any(c < cost and sign * s >= sign * score for _, c, s in points)
        }
        assert set(pareto(points, maximize)) == front
    # of two that cost the same the better one, of equals one
    assert pareto([("a", 1, 0.5), ("b", 1, 0.6), ("c", 1, 0.6)], True) == ["b"]


def test_the_score_of_an_image_by_hand() -> None:
    assert pictures.image_score(np.array([[10, 2], [3, 5]])) == pytest.approx(5 / 10)
    assert pictures.image_score(np.array([[10, 0], [0, 0]])) is None
    three = np.array([[4, 1, 0], [1, 2, 0], [0, 0, 0]])  # the third class is nowhere
    assert pictures.image_score(three) == pytest.approx((4 / 6 + 2 / 4) / 2)
    stray = np.array([[999, 0, 1], [0, 0, 0], [0, 0, 0]])
    assert pictures.image_score(stray) == pytest.approx(0.999)


def example(score: float) -> pictures.Example:
    image = np.full((4, 6, 3), 100, np.uint8)
    truth = np.zeros((4, 6), np.uint8)
    truth[:, 3:] = 1
    truth[0, 0] = pictures.IGNORE
    prediction = np.zeros((4, 6), np.uint8)
    prediction[:2, :] = 1
    return pictures.Example(str(score), 0, 1, score, image, truth, prediction)


@pytest.mark.parametrize(
    ("count", "titles"),
    [
        (0, []),
        (1, ["the only one"]),
        (2, ["best", "worst"]),
        (3, ["best", "median", "worst"]),
        (9, ["best", "best", "median", "median", "worst", "worst"]),
    ],
)
def test_no_image_is_chosen_twice(count: int, titles: list[str]) -> None:
    chosen = pictures.chosen([example(i / 10) for i in range(count)])
    assert [title for title, _ in chosen] == titles
    scores = [one.score for _, one in chosen]
    assert len(set(scores)) == len(scores)


def test_mistakes_are_painted_where_they_are() -> None:
    one = example(0.5)
    painted = pictures._mistakes(one.image, one.truth, one.prediction, True).astype(int)

    def nearest(y: int, x: int) -> str:
        """The colour that most of a pixel's own comes from, over grey."""
        colour = painted[y, x] - painted[y, x].mean()
        if np.abs(colour).max() < 5:
            return "none"
        known = {"hit": pictures.HIT, "extra": pictures.EXTRA, "missed": pictures.MISSED}
        cosine = {
            name: float(colour @ (np.array(c) - np.mean(c)))
            / float(np.linalg.norm(np.array(c) - np.mean(c)))
            for name, c in known.items()
        }
        return max(cosine, key=lambda name: cosine[name])

    assert nearest(1, 4) == "hit"
    assert nearest(1, 1) == "extra"
    assert nearest(3, 4) == "missed"
    assert nearest(3, 1) == "none"
    assert nearest(0, 0) == "none"  # nobody knows what is there


def test_many_classes_have_colours_of_their_own() -> None:
    assert len(set(pictures.colours(36, None))) == 36
    assert pictures.colours(2, [[1, 2, 3], [4, 5, 6]]) == [(1, 2, 3), (4, 5, 6)]
    assert len(pictures.colours(3, [[1, 2, 3]])) == 3  # a palette that does not fit is not used


def test_names_are_listed_as_people_do() -> None:
    assert listed(["a"]) == "a"
    assert listed(["a", "b"]) == "a and b"
    assert listed(["a", "b", "c"]) == "a, b and c"
    assert listed(["a", "b", "c", "d", "e"]) == "a, b and 3 others"


def compared(folder: Path, gap: float, noise: float) -> tuple[Facts, tuple[str, str]]:
    """Two cells ``gap`` apart whose scores scatter by ``noise`` between seeds."""
    made = Made(folder, spec_of(folds={"k": 5}, factors={"model": ["a", "b"], "loss": ["bce"]}))
    champions: dict[str, tuple[str, float]] = {}
    for model, level in (("a", 0.7), ("b", 0.7 + gap)):
        for number, shift in enumerate((0.0, -0.1, -0.12)):
            config = made.config(model, "bce", number)
            champions.setdefault(f"{model}/bce", (config, 2.0 if model == "a" else 4.0))
            for fold in range(5):
                luck = noise * math.sin(7.0 * fold + 3.0 * number + (5.0 if model == "a" else 0.0))
                made.trial(config, fold, level + shift + luck)
    made.conclude(champions)
    facts = gather(made.write())
    return facts, sentences(facts, bill(facts))


def test_a_large_gap_is_told_and_a_small_one_is_not(tmp_path: Path) -> None:
    facts, (first, second) = compared(tmp_path / "far", 0.15, 0.005)
    assert facts.comparison is not None
    best = facts.comparison.standings[0]
    assert best.interval is not None
    assert first.startswith("Use b/bce with lr=")
    assert f"95 % interval {best.interval.low:.3f} to {best.interval.high:.3f}" in first
    pair = facts.comparison.tests["folds"].pairs[0]
    assert second.startswith("It leads every other cell")
    assert f"a/bce comes next, {pair.gap:.3f} behind" in second
    facts, (first, second) = compared(tmp_path / "near", 0.002, 0.02)
    assert first.startswith("Use ")
    other = "a/bce" if "b/bce" in first else "b/bce"
    assert second.startswith(f"It cannot be told from {other}")
    assert "a/bce is the fastest, at 2 ms" in second or "it is also the fastest, at 2 ms" in second
