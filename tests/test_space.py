"""Distributions against their definition."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import optuna
import pytest
import scipy.stats

from segsweep import space
from segsweep.space import Cell, Parameter


def draws(settings: dict[str, Any], n: int = 400) -> list[Any]:
    parameter = Parameter.model_validate(settings)
    assert space.mistakes(parameter) == []
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    distribution = space.distribution(parameter)
    return [space.decode(parameter, study.ask({"x": distribution}).params["x"]) for _ in range(n)]


def p_value(values: list[Any], reference: Any) -> float:
    return float(scipy.stats.kstest(values, reference).pvalue)


def test_ranges_have_their_distribution() -> None:
    assert p_value(draws({"min": 2.0, "max": 5.0}), scipy.stats.uniform(2, 3).cdf) > 0.01
    logs = draws({"distribution": "log_uniform_values", "min": 1e-4, "max": 1e-1})
    assert p_value([math.log10(v) for v in logs], scipy.stats.uniform(-4, 3).cdf) > 0.01
    normal = draws({"distribution": "normal", "mu": 3.0, "sigma": 2.0})
    assert p_value(normal, scipy.stats.norm(3, 2).cdf) > 0.01
    log_normal = draws({"distribution": "log_normal", "mu": -1.0, "sigma": 0.5})
    assert p_value(np.log(log_normal).tolist(), scipy.stats.norm(-1, 0.5).cdf) > 0.01


def test_whole_numbers_and_steps() -> None:
    whole = draws({"min": 1, "max": 3})
    assert set(whole) == {1, 2, 3}
    assert all(isinstance(value, int) for value in whole)
    steps = draws({"distribution": "q_uniform", "min": 0.0, "max": 1.0, "q": 0.25})
    assert set(steps) == {0.0, 0.25, 0.5, 0.75, 1.0}
    assert all(
        isinstance(v, int) for v in draws({"distribution": "q_normal", "mu": 5.0, "sigma": 2.0})
    )


def test_values_and_constants() -> None:
    assert set(draws({"values": [1, "a", None]})) == {1, "a", None}
    assert set(draws({"value": 7})) == {7}


def test_probes_are_the_ends_or_all_values() -> None:
    assert space.probes(Parameter(min=1, max=5)) == [1, 5]
    assert space.probes(Parameter(values=["a", "b"])) == ["a", "b"]
    low, middle, high = space.probes(Parameter(distribution="normal", mu=1.0, sigma=1.0))
    assert middle == 1.0
    assert (low, high) == pytest.approx((-2.72, 4.72), abs=0.01)


def test_a_cell_is_filled_without_touching_its_config() -> None:
    config: dict[str, Any] = {"train": {"lr": 1.0, "epochs": 3}, "loss": {"focal": {"gamma": 2.0}}}
    cell = Cell("c", {}, config, {}, 1)
    filled = cell.fill({"train.lr": 0.5, "loss.focal.gamma": 3.0})
    assert filled == {"train": {"lr": 0.5, "epochs": 3}, "loss": {"focal": {"gamma": 3.0}}}
    assert config["train"]["lr"] == 1.0
