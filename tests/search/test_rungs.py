"""Each rule's verdicts against its definition."""

from __future__ import annotations

import math

import numpy as np
import pytest

from segsweep.search.rungs import RULES, Asha, AshaPromote, Halving, Hyperband, Median, Never


def test_rungs_are_a_geometric_series_below_the_last_epoch() -> None:
    assert Asha(1, 3, 50).rungs() == [1, 3, 9, 27]
    assert Asha(4, 3, 12).rungs() == [4]
    assert Asha(5, 2, 5).rungs() == []
    assert Never(1, 3, 50).rungs() == []
    assert Median(3, 3, 6).rungs() == [3, 4, 5]


@pytest.mark.parametrize("factor", [2, 3, 4])
def test_nobody_is_stopped_before_enough_peers(factor: int) -> None:
    for rule in (Asha(1, factor, 10), Median(1, factor, 10)):
        assert rule.judge(0.0, [0.9] * (factor - 1), 60).keep
        assert not rule.judge(0.0, [0.9] * factor, 60).keep


@pytest.mark.parametrize("maximize", [True, False])
@pytest.mark.parametrize("factor", [2, 3])
def test_the_best_share_goes_on(factor: int, maximize: bool) -> None:
    rng = np.random.default_rng(0)
    asha, promote = Asha(1, factor, 10, maximize), AshaPromote(1, factor, 10, maximize)
    halving = Halving(1, factor, 10, maximize)
    for _ in range(200):
        values = rng.normal(size=rng.integers(factor + 1, 20)).tolist()
        value, peers = values[0], values[1:]
        rank = sorted(values, reverse=maximize).index(value)
        n = len(values)
        assert asha.judge(value, peers, n).keep == (rank < math.ceil(n / factor))
        assert promote.judge(value, peers, n).keep == (rank < n // factor)
        assert halving.judge(value, peers, n).keep == (rank < n // factor)


@pytest.mark.parametrize("name", [name for name in RULES if name not in ("none",)])
def test_an_undefined_value_ranks_last(name: str) -> None:
    rule = RULES[name](1, 2, 10)
    assert not rule.judge(None, [0.1, 0.2], 3).keep
    assert rule.judge(0.3, [None, None, 0.2], 4).keep
    assert name == "median" or not rule.judge(None, [None, None], 3).keep


def test_a_trial_is_worth_its_best_epoch_so_far() -> None:
    values = {1: 0.3, 2: 0.5, 3: None, 4: 0.4, 5: 0.9}
    assert Asha(1, 2, 10).value(values, 4) == 0.5
    assert Asha(1, 2, 10, maximize=False).value(values, 4) == 0.3
    assert Asha(1, 2, 10).value({1: None}, 1) is None
    assert Median(1, 2, 10).shown(values, 4) == pytest.approx(0.4)  # the running average


def test_halving_promotes_early_only_who_will_stay_in_front() -> None:
    """Against a simulation: of those promoted early, 2 % may drop out of the places later."""
    rng = np.random.default_rng(0)
    rule, expected = Halving(1, 2, 20), 40
    early, dropped = 0, 0
    for _ in range(400):
        values = rng.normal(size=expected)
        final = np.argsort(np.argsort(-values))  # rank of each when all have come
        for come in range(2, expected):
            own = values[come - 1]
            if rule.judge(own, values[: come - 1].tolist(), expected).keep:
                early += 1
                dropped += bool(final[come - 1] >= expected // 2)
    assert early > 1000
    assert dropped / early < 0.02


def test_halving_promotes_someone_from_a_cell_that_is_smaller_than_the_factor() -> None:
    rule = Halving(1, 4, 20)
    assert rule.judge(0.5, [0.4], 2).keep
    assert not rule.judge(0.4, [0.5], 2).keep
    assert Halving(1, 4, 20, least=2).judge(0.4, [0.5], 2).keep


def test_hyperband_deals_configs_in_the_published_proportions() -> None:
    rule = Hyperband(1, 3, 81)
    given = [rule.bracket(number) for number in range(600)]
    # Li et al. 2018, table 1: 81, 27, 9, 6 and 5 configs begin with 1, 3, 9, 27 and 81 epochs;
    # before rounding up, 81, 33.75, 15, 7.5 and 5 in proportion
    shares = np.bincount(given) / len(given)
    wanted = np.array([81 / 5, 27 / 4, 9 / 3, 3 / 2, 1 / 1])
    assert shares == pytest.approx(wanted / wanted.sum(), abs=0.004)
    assert rule.rungs(4) == []
    assert rule.rungs(2) == [9, 27]


def test_expected_epochs_are_those_of_successive_halving() -> None:
    # all to epoch 1, one of 2 to 2, of 4 to 4, of 8 to 8, of 16 to 16, of 32 to the end
    expected = 1 + 1 / 2 + 2 / 4 + 4 / 8 + 8 / 16 + 4 / 32
    assert Halving(1, 2, 20).expected_epochs(1) == pytest.approx(expected)
    assert Halving(1, 2, 20).expected_epochs(5) == pytest.approx(expected + 20 * 4 / 32)
    assert Asha(1, 2, 20).expected_epochs(5) == 100
