"""ASHA's verdicts against its definition."""

from __future__ import annotations

import math

import numpy as np
import pytest

from segsweep.search.rungs import Asha


def test_rungs_are_a_geometric_series_below_the_last_epoch() -> None:
    assert Asha(1, 3, 50).rungs == [1, 3, 9, 27]
    assert Asha(4, 3, 12).rungs == [4]
    assert Asha(5, 2, 5).rungs == []


@pytest.mark.parametrize("factor", [2, 3, 4])
def test_nobody_is_stopped_before_enough_peers(factor: int) -> None:
    asha = Asha(1, factor, 10)
    assert asha.judge(0.0, [0.9] * (factor - 1)).keep
    assert not asha.judge(0.0, [0.9] * factor).keep


@pytest.mark.parametrize("maximize", [True, False])
@pytest.mark.parametrize("factor", [2, 3])
def test_the_best_share_goes_on(factor: int, maximize: bool) -> None:
    rng = np.random.default_rng(0)
    asha = Asha(1, factor, 10, maximize)
    for _ in range(200):
        values = rng.normal(size=rng.integers(factor + 1, 20)).tolist()
        value, peers = values[0], values[1:]
        rank = sorted(values, reverse=maximize).index(value)
        assert asha.judge(value, peers).keep == (rank < math.ceil(len(values) / factor))


def test_an_undefined_value_ranks_last() -> None:
    asha = Asha(1, 2, 10)
    assert not asha.judge(None, [0.1, 0.2]).keep
    assert asha.judge(0.1, [None, None, 0.2]).keep
    assert not asha.judge(None, [None, None]).keep
