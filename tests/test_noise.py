"""The noise of scores: least squares, shrinkage and the allowance, against what they should be."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import special

from segsweep import noise
from segsweep.search.standings import Residuals

FOLDS = 5


def cell(rng: np.random.Generator, configs: int, sigma: float, folds: np.ndarray) -> noise.Sums:
    rows = folds + rng.normal(0, sigma, (configs, len(folds)))
    return noise.added([noise.sums(range(len(folds)), row.tolist(), len(folds)) for row in rows])


def test_what_config_and_fold_leave_is_that_of_the_whole_design() -> None:
    """Configs with other numbers of folds and with replicates, by a plain least-squares fit."""
    rng = np.random.default_rng(0)
    slots = [[0, 1, 2, 3, 4], [0], [0, 1], [0, 2, 4], [0, 0, 1, 1]]
    scores = [rng.normal(size=len(own)) for own in slots]
    parts = [noise.sums(own, y.tolist(), FOLDS) for own, y in zip(slots, scores, strict=True)]
    squares, dof = noise.residual(noise.added(parts))
    design = np.zeros((sum(map(len, slots)), len(slots) + FOLDS))
    row = 0
    for config, own in enumerate(slots):
        for fold in own:
            design[row, [config, len(slots) + fold]] = 1
            row += 1
    y = np.concatenate(scores)
    left = y - design @ np.linalg.lstsq(design, y, rcond=None)[0]
    assert squares == pytest.approx(float(left @ left))
    assert dof == len(y) - np.linalg.matrix_rank(design)


def test_equal_cells_together_have_the_residuals_of_config_and_fold() -> None:
    rng = np.random.default_rng(1)
    scores = rng.normal(size=(2, FOLDS))
    found = noise.across([noise.sums(range(FOLDS), row.tolist(), FOLDS) for row in scores])
    rest = scores - scores.mean(axis=0) - scores.mean(axis=1, keepdims=True) + scores.mean()
    assert found is not None
    assert found.common.dof == pytest.approx(4)
    assert found.common.sigma == pytest.approx(float(np.sqrt(np.square(rest).sum() / 4)))


@pytest.mark.parametrize("configs", [1, 8])
def test_a_noisy_cell_among_quiet_ones_has_a_noise_of_its_own(configs: int) -> None:
    rng = np.random.default_rng(2)
    noisy, quiet = [], []
    for _ in range(200):
        folds = rng.normal(0, 3, 10)
        sizes = [5, 1, 1, 1, 1, 1]
        found = noise.across([cell(rng, configs, size, folds) for size in sizes])
        assert found is not None
        assert all(one is not None for one in found.own)
        noisy.append(found.own[0].sigma if found.own[0] else 0.0)
        quiet.append(found.own[1].sigma if found.own[1] else 0.0)
    assert 3.5 < np.median(noisy) < 5.5
    assert 0.8 < np.median(quiet) < 1.3


def test_many_cells_show_how_much_they_differ() -> None:
    """Variances drawn from Smyth's prior give its d₀ and s₀² back; equal ones give a large d₀."""
    rng = np.random.default_rng(3)
    dof = np.full(4000, 8.0)
    variances = 0.04 * 6 / rng.chisquare(6, 4000)
    squares = variances * rng.chisquare(8, 4000)
    variance, prior = noise._prior(squares / dof, dof, float(squares.sum() / dof.sum()))
    assert prior == pytest.approx(6, rel=0.15)
    assert variance == pytest.approx(0.04, rel=0.05)
    few = rng.chisquare(8, 4) / 8
    assert noise._prior(few, np.full(4, 8.0), float(few.mean()))[1] < 40
    many = rng.chisquare(8, 4000) / 8
    assert noise._prior(many, dof, float(many.mean()))[1] > 40


def test_the_moderated_variance_is_smyths() -> None:
    squares, dof = np.array([1.0, 30.0, 2.5]), np.array([6.0, 6.0, 3.0])
    variance, prior = noise._prior(squares / dof, dof, float(squares.sum() / dof.sum()))
    found = noise.moderated(squares, dof)
    assert found is not None
    for own, square, own_dof in zip(found.own, squares, dof, strict=True):
        assert own is not None
        assert own.sigma**2 == pytest.approx((prior * variance + square) / (prior + own_dof))
        assert own.dof == pytest.approx(min(prior + own_dof, 15))


@pytest.mark.parametrize("value", [1e-9, 1e-3, 0.1, 1.0, 50.0, 1e6, 1e9])
def test_the_inverse_of_the_trigamma_function(value: float) -> None:
    assert special.polygamma(1, noise._inverse_trigamma(value)) == pytest.approx(value, rel=1e-6)


def test_cells_without_any_noise_or_any_scores() -> None:
    still = noise.moderated(np.zeros(3), np.array([4.0, 4.0, 0.0]))
    assert still is not None
    assert still.common.sigma == 0
    assert noise.moderated(np.zeros(2), np.zeros(2)) is None
    some = noise.moderated(np.array([0.0, 4.0, 4.0]), np.array([4.0, 4.0, 4.0]))
    assert some is not None
    assert all(own is not None and own.sigma > 0 for own in some.own)
    alone = noise.moderated(np.array([4.0, 0.0]), np.array([4.0, 0.0]))
    assert alone is not None
    assert alone.own == [noise.Noise(1.0, 4.0), None]


def test_the_allowance_is_nadeau_and_bengios() -> None:
    assert noise.overlap(5) == pytest.approx((1 / 5) / (4 / 5))
    assert noise.overlap(10) == pytest.approx(1 / 9)


def test_what_is_known_does_not_hang_on_the_order_in_which_it_came() -> None:
    """To the last digit: a search that is rebuilt from its ledger decides as it did."""
    rng = np.random.default_rng(4)
    rows = [(f"cell{i % 3}", f"c{i}", rng.normal(size=FOLDS).tolist()) for i in range(12)]
    found = []
    for order in (np.arange(12), rng.permutation(12)):
        left = Residuals(FOLDS)
        for at in order:
            name, config, scores = rows[at]
            for count in range(1, FOLDS + 1):
                left.take(name, config, list(range(count)), scores[:count])
                left.noise(name)
        found.append([left.noise(f"cell{i}") for i in range(3)])
    assert found[0] == found[1]
