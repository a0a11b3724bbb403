"""Variances without a draw are those of the bootstrap, and exact for means."""

from __future__ import annotations

import numpy as np
import pytest

from segsweep.compare import influence, resampling
from segsweep.compare.resampling import Part
from segsweep.compare.scoring import Scorer
from tests.compare.simulated import SCORE, Truth, simulate


def test_of_a_mean_over_images_it_is_the_variance_of_a_mean() -> None:
    sweep = simulate(Truth(folds=1, images=30), np.random.default_rng(0))
    scores = sweep.held.counts[:, :, 0, 0] / 10_000
    found = influence.influences(sweep.held, SCORE)
    assert np.square(found).sum(axis=0) == pytest.approx(scores.var(axis=1, ddof=1) / 30)
    assert found.sum(axis=0) == pytest.approx(np.zeros(len(scores)), abs=1e-9)


def test_more_groups_than_rows_at_once_are_as_good(monkeypatch: pytest.MonkeyPatch) -> None:
    sweep = simulate(Truth(folds=1, images=30, group=2), np.random.default_rng(1))
    whole = influence.influences(sweep.held, SCORE)
    monkeypatch.setattr(influence, "ROWS", 4)
    assert influence.influences(sweep.held, SCORE) == pytest.approx(whole, rel=1e-12)


@pytest.mark.parametrize("name", ["iou", "miou", "miou_per_image_present"])
def test_of_pooled_scores_it_is_near_the_bootstraps(name: str) -> None:
    rng = np.random.default_rng(2)
    sizes = rng.integers(50, 500, (1, 60, 3, 1))
    shares = rng.dirichlet([6, 1, 1], (4, 60, 3))
    counts = np.concatenate([shares * sizes, np.full((4, 60, 3, 1), 900.0)], axis=3)
    part = Part(counts, np.arange(60) // 2)
    linear = influence.over_holdout(part, 2, 1, Scorer(name))
    drawn = resampling.over_holdout(part, 2, 1, Scorer(name), 4000, rng)
    assert linear is not None
    assert drawn is not None
    assert linear.dof == drawn.dof
    assert 24 < linear.dof < 30  # of 30 groups, which do not all hold as many pixels
    assert linear.means.var(axis=0) == pytest.approx(drawn.means.var(axis=0), rel=0.12)
    first, second = (found.means[:, 0] - found.means[:, 1] for found in (linear, drawn))
    assert first.var() == pytest.approx(second.var(), rel=0.12)
    assert linear.interaction() == pytest.approx(drawn.interaction(), rel=0.12)


def test_folds_have_images_of_their_own() -> None:
    sweep = simulate(Truth(folds=3, images=40), np.random.default_rng(3))
    smaller = [Part(p.counts[:, : 10 * (i + 2)], p.groups[: 10 * (i + 2)])
               for i, p in enumerate(sweep.parts)]  # fmt: skip
    linear = influence.over_folds(smaller, 1, SCORE)
    drawn = resampling.over_folds(smaller, 1, SCORE, 4000, np.random.default_rng(4))
    assert linear is not None
    assert drawn is not None
    assert linear.dof == drawn.dof
    assert linear.means.var(axis=0) == pytest.approx(drawn.means.var(axis=0), rel=0.12)
    assert linear.interaction() == pytest.approx(drawn.interaction(), rel=0.12)


def test_degrees_of_freedom_are_of_groups_that_count() -> None:
    def dof(*parts: list[int]) -> float:
        groups = [np.repeat(np.arange(len(sizes)), sizes) for sizes in parts]
        made = [Part(np.ones((1, len(own), 1, 4)), own) for own in groups]
        found = influence.over_folds(made, 1, Scorer("iou"))
        assert found is not None
        return found.dof

    assert dof([3, 3, 3, 3]) == pytest.approx(3)
    assert dof([2] * 5, [1] * 10) == pytest.approx(0.3**2 / (0.2**2 / 4 + 0.1**2 / 9))
    assert dof([60, 30, 15, *[1] * 17]) < 1  # by shares and not by their squares it were 2.6
    assert dof([100, 1]) < 0.1
