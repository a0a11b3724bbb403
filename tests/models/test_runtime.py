"""Milliseconds an image: what is timed, how often, and what is said about it."""

from __future__ import annotations

from itertools import count
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from segsweep.models import runtime


class Clock:
    """A clock that a model moves on: no test depends on how fast this machine is."""

    def __init__(self) -> None:
        self.now = 0.0

    def perf_counter(self) -> float:
        return self.now


class Slow(nn.Module):
    """Each image takes one second more than the one before."""

    def __init__(self, clock: Clock) -> None:
        super().__init__()
        self.clock = clock
        self.seen: list[tuple[int, ...]] = []
        self.modes: list[tuple[bool, bool, torch.dtype]] = []
        self.takes = count(1)
        self.weight = nn.Parameter(torch.ones(1, 3))

    def forward(self, x: Tensor) -> Tensor:
        self.clock.now += next(self.takes)
        self.seen.append(tuple(x.shape))
        kind = nn.functional.linear(torch.ones(1, 3), self.weight).dtype
        self.modes.append((self.training, torch.is_grad_enabled(), kind))
        return x


@pytest.fixture
def model(monkeypatch: pytest.MonkeyPatch) -> Slow:
    clock = Clock()
    monkeypatch.setattr(runtime, "time", clock)
    return Slow(clock)


def measure(model: Slow, **options: Any) -> runtime.Runtime:
    return runtime.measure(model, (8, 12), device=torch.device("cpu"), **options)


def test_the_median_of_single_images_after_a_warm_up(model: Slow) -> None:
    found = measure(model, repeats=5, seconds=10_000)
    # 1, 2 and 3 s warm up; 4, 5, 6, 7, 8 s count
    assert (found.least, found.milliseconds, found.most) == (4000, 6000, 8000)
    assert found.repeats == 5
    assert model.seen == [(1, 3, 8, 12)] * 8
    assert (found.height, found.width, found.device) == (8, 12, "cpu")
    assert found.threads == torch.get_num_threads()


def test_a_slow_model_is_not_timed_for_long(model: Slow) -> None:
    assert measure(model, repeats=50, seconds=1).repeats == runtime.LEAST
    assert measure(model, repeats=50, seconds=100).repeats > runtime.LEAST


def test_it_runs_as_in_evaluation_and_leaves_the_mode_alone(model: Slow) -> None:
    measure(model.train())
    assert set(model.modes) == {(False, False, torch.float32)}
    assert model.training
    measure(model.eval())
    assert not model.training


def test_precision(model: Slow) -> None:
    found = runtime.measure(model, (8, 12), device=torch.device("cpu"), precision="bf16")
    assert {kind for _, _, kind in model.modes} == {torch.bfloat16}
    assert found.precision == "bf16"
