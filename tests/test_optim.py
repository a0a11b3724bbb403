"""Optimizers decay what they say they do; each schedule against a closed form or torch's own."""

from __future__ import annotations

import json
import math

import pytest
import torch
from torch import nn

from segsweep import optim
from segsweep.errors import UnknownName

METRICS = [0.5, 0.4, 0.6, 0.6, 0.5, 0.55, 0.1, 0.6, 0.61, 0.2, 0.3, float("nan"), 0.3, 0.3]


def model() -> nn.Module:
    return nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Conv2d(2, 1, 1))


def optimizer(lr: float = 0.1, name: str = "sgd") -> torch.optim.Optimizer:
    torch.manual_seed(0)
    return optim.build_optimizer(name, model(), lr=lr, weight_decay=0.0)


def rates(
    schedule: optim.Schedule, chosen: torch.optim.Optimizer, metrics: list[float]
) -> list[float]:
    seen = []
    for metric in metrics:
        schedule.step(metric)
        seen.append(float(chosen.param_groups[0]["lr"]))
    return seen


@pytest.mark.parametrize("name", sorted(optim.OPTIMIZERS))
class TestOptimizers:
    def test_every_trained_parameter_is_there_once_with_its_rate(self, name: str) -> None:
        net = model()
        next(net.parameters()).requires_grad_(False)
        chosen = optim.build_optimizer(name, net, lr=0.02, weight_decay=0.1)
        held = [id(p) for group in chosen.param_groups for p in group["params"]]
        assert sorted(held) == sorted(id(p) for p in net.parameters() if p.requires_grad)
        assert all(group["lr"] == 0.02 for group in chosen.param_groups)

    def test_a_step_lowers_a_quadratic(self, name: str) -> None:
        torch.manual_seed(0)
        net = nn.Linear(3, 1)
        chosen = optim.build_optimizer(name, net, lr=0.01, weight_decay=0.0)
        before = net(torch.ones(1, 3)).square()
        before.backward()
        chosen.step()
        assert net(torch.ones(1, 3)).square().item() < before.item()

    def test_weight_decay_without_a_gradient(self, name: str) -> None:
        net = model()
        nn.init.ones_(net.get_parameter("0.bias"))
        before = {key: value.clone() for key, value in net.named_parameters()}
        chosen = optim.build_optimizer(name, net, lr=0.1, weight_decay=0.5)
        for parameter in net.parameters():
            parameter.grad = torch.zeros_like(parameter)
        chosen.step()
        changed = {key for key, p in net.named_parameters() if not torch.equal(p, before[key])}
        weights = {"0.weight", "2.weight"}
        if name == "adamw":
            assert changed == weights
            shrunk = before["0.weight"] * (1 - 0.1 * 0.5)
            assert torch.allclose(net.get_parameter("0.weight"), shrunk)
        else:
            assert changed >= weights | {"0.bias", "1.weight"}


def test_sgd_has_nesterov_momentum() -> None:
    group = optimizer().param_groups[0]
    assert (group["momentum"], group["nesterov"]) == (0.9, True)


def test_unknown_names() -> None:
    with pytest.raises(UnknownName, match="did you mean 'adamw'"):
        optim.build_optimizer("adamww", model(), lr=1.0, weight_decay=0.0)
    with pytest.raises(UnknownName, match="did you mean 'cosine'"):
        optim.build_schedule("cosin", optimizer(), epochs=1, goal="maximize", patience=1)


class TestSchedules:
    @pytest.mark.parametrize(
        ("name", "factor"),
        [
            ("constant", lambda t: 1.0),
            ("cosine", lambda t: (1 + math.cos(math.pi * t)) / 2),
            ("poly", lambda t: (1 - t) ** 0.9),
        ],
    )
    def test_closed_form(self, name: str, factor: object) -> None:
        assert callable(factor)
        chosen = optimizer(0.1)
        schedule = optim.build_schedule(name, chosen, epochs=8, goal="maximize", patience=1)
        assert chosen.param_groups[0]["lr"] == 0.1
        # two epochs more than there are: the rate stays where it ended
        expected = [0.1 * factor(min(epoch / 8, 1)) for epoch in range(1, 11)]
        assert rates(schedule, chosen, [0.5] * 10) == pytest.approx(expected, abs=1e-12)

    @pytest.mark.parametrize("goal", ["maximize", "minimize"])
    @pytest.mark.parametrize("patience", [0, 1, 3])
    def test_plateau_is_torchs_without_a_threshold(self, goal: str, patience: int) -> None:
        mine, theirs = optimizer(), optimizer()
        assert goal in ("maximize", "minimize")
        schedule = optim.build_schedule(
            "plateau",
            mine,
            epochs=99,
            goal="maximize" if goal == "maximize" else "minimize",
            patience=patience,
        )
        oracle = torch.optim.lr_scheduler.ReduceLROnPlateau(
            theirs,
            mode="max" if goal == "maximize" else "min",
            factor=0.1,
            patience=patience,
            threshold=0.0,
            eps=0.0,
        )
        expected = []
        for metric in METRICS:
            oracle.step(metric)
            expected.append(theirs.param_groups[0]["lr"])
        seen = rates(schedule, mine, METRICS)
        assert seen == pytest.approx(expected)
        assert len(set(seen)) > 1

    @pytest.mark.parametrize("value", [float("nan"), float("inf")])
    def test_what_is_no_number_is_no_improvement(self, value: float) -> None:
        chosen = optimizer(1.0)
        schedule = optim.build_schedule("plateau", chosen, epochs=9, goal="maximize", patience=1)
        seen = rates(schedule, chosen, [value, 0.5, value, value, 0.6])
        assert seen == pytest.approx([1.0, 1.0, 1.0, 0.1, 0.1])
        assert schedule.state_dict()["best"] == 0.6

    def test_every_group_keeps_its_own_rate(self) -> None:
        chosen = optimizer(0.1, "adamw")
        chosen.param_groups[1]["lr"] = 0.3
        schedule = optim.build_schedule("poly", chosen, epochs=4, goal="maximize", patience=1)
        schedule.step(0.0)
        found = [group["lr"] for group in chosen.param_groups]
        assert found == pytest.approx([0.1 * 0.75**0.9, 0.3 * 0.75**0.9])

    @pytest.mark.parametrize("name", sorted(optim.SCHEDULES))
    @pytest.mark.parametrize("at", [0, 1, 6, 11])
    def test_going_on_from_a_state_is_bit_equal(self, name: str, at: int) -> None:
        whole = optimizer(0.1)
        unbroken = optim.build_schedule(name, whole, epochs=14, goal="maximize", patience=1)
        expected = rates(unbroken, whole, METRICS)

        first = optimizer(0.1)
        schedule = optim.build_schedule(name, first, epochs=14, goal="maximize", patience=1)
        rates(schedule, first, METRICS[:at])
        state = json.loads(json.dumps(schedule.state_dict(), allow_nan=False))

        second = optimizer(0.7)  # the state holds the rate that was started from
        resumed = optim.build_schedule(name, second, epochs=14, goal="maximize", patience=1)
        resumed.load_state_dict(state)
        assert second.param_groups[0]["lr"] == (expected[at - 1] if at else 0.1)
        assert rates(resumed, second, METRICS[at:]) == expected[at:]
        assert resumed.state_dict() == unbroken.state_dict()
