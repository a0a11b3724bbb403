"""Optimizers and learning-rate schedules: the tables, and how one is built.

A schedule is stepped once an epoch and sets the optimizer's rates from its own state, which is
plain JSON, so that a resumed run has the same rates bit for bit. ``poly`` and ``cosine`` count
epochs from the start of training: before the first step the rate is the one that was asked for.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, Final, Literal

import torch
from torch import nn
from torch.optim import Optimizer

from segsweep.registry import lookup

Goal = Literal["maximize", "minimize"]


def _adamw(model: nn.Module, lr: float, weight_decay: float) -> Optimizer:
    """AdamW; biases, norm layers and every other vector are not decayed."""
    parameters = [p for p in model.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": weight_decay},
        {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW([group for group in groups if group["params"]], lr=lr)


def _adam(model: nn.Module, lr: float, weight_decay: float) -> Optimizer:
    """Adam; weight decay is an L2 penalty on every parameter."""
    parameters = [p for p in model.parameters() if p.requires_grad]
    return torch.optim.Adam(parameters, lr=lr, weight_decay=weight_decay)


def _sgd(model: nn.Module, lr: float, weight_decay: float) -> Optimizer:
    """SGD with Nesterov momentum 0.9; weight decay is an L2 penalty on every parameter."""
    parameters = [p for p in model.parameters() if p.requires_grad]
    return torch.optim.SGD(
        parameters, lr=lr, momentum=0.9, nesterov=True, weight_decay=weight_decay
    )


OPTIMIZERS: Final[dict[str, Callable[[nn.Module, float, float], Optimizer]]] = {
    "adamw": _adamw,
    "adam": _adam,
    "sgd": _sgd,
}


def build_optimizer(name: str, model: nn.Module, *, lr: float, weight_decay: float) -> Optimizer:
    """The optimizer called ``name`` over the parameters of ``model`` that are trained.

    Args:
        name: an entry of ``OPTIMIZERS``.
        model: on the device it is trained on.
        lr: learning rate.
        weight_decay: decoupled for ``adamw``, which spares biases and norm layers (all that has
            at most one dimension); an L2 penalty on everything for ``adam`` and ``sgd``.

    Raises:
        UnknownName: there is no such optimizer.
    """
    return lookup(OPTIMIZERS, name, "optimizer")(model, lr, weight_decay)


class Schedule:
    """Learning rates by epoch; itself the constant schedule, from which the others differ.

    Args:
        optimizer: its rates at this moment are what every factor is relative to.
        epochs: how many there will be.
        goal: whether a larger metric is better.
        patience: epochs without improvement that ``plateau`` waits for.
    """

    def __init__(self, optimizer: Optimizer, epochs: int, goal: Goal, patience: int) -> None:
        self._optimizer = optimizer
        self._base = [float(group["lr"]) for group in optimizer.param_groups]
        self._epochs = epochs
        self._goal = goal
        self._patience = patience
        self._epoch = 0

    def factor(self) -> float:
        """What the first rate is multiplied by for the epoch that comes next."""
        return 1.0

    def step(self, metric: float) -> None:
        """An epoch has ended with this validation metric: set the rates of the next one."""
        self._epoch += 1
        self._observe(metric)
        self._apply()

    def state_dict(self) -> dict[str, Any]:
        """All that a resumed run needs, in plain JSON values."""
        return {"epoch": self._epoch, "base": list(self._base)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from ``state``; sets the optimizer's rates too."""
        self._epoch = int(state["epoch"])
        self._base = [float(rate) for rate in state["base"]]
        self._restore(state)
        self._apply()

    def _observe(self, metric: float) -> None:
        """Take note of a metric; most schedules do not look at it."""

    def _restore(self, state: Mapping[str, Any]) -> None:
        """Take what a subclass has put into the state."""

    def _apply(self) -> None:
        factor = self.factor()
        for group, base in zip(self._optimizer.param_groups, self._base, strict=True):
            group["lr"] = base * factor


class Cosine(Schedule):
    """Half a cosine from 1 to 0: (1 + cos(π t / T)) / 2.

    Loshchilov and Hutter 2017, arXiv 1608.03983, equation 5, without restarts.
    """

    def factor(self) -> float:
        """By the share of epochs done."""
        return 0.5 * (1.0 + math.cos(math.pi * min(self._epoch / self._epochs, 1.0)))


class Poly(Schedule):
    """(1 - t / T)^0.9, the "poly" policy of Chen et al. 2017, arXiv 1606.00915, by epoch."""

    def factor(self) -> float:
        """By the share of epochs done."""
        return float((1.0 - min(self._epoch / self._epochs, 1.0)) ** 0.9)


class Plateau(Schedule):
    """A tenth of the rate whenever more than ``patience`` epochs have brought no improvement.

    Any improvement counts; a metric that is not a number is none.
    """

    def __init__(self, optimizer: Optimizer, epochs: int, goal: Goal, patience: int) -> None:
        super().__init__(optimizer, epochs, goal, patience)
        self._best: float | None = None
        self._waited = 0
        self._cuts = 0

    def factor(self) -> float:
        """By the number of times it was cut."""
        return float(0.1**self._cuts)

    def state_dict(self) -> dict[str, Any]:
        """All that a resumed run needs, in plain JSON values."""
        own = {"best": self._best, "waited": self._waited, "cuts": self._cuts}
        return super().state_dict() | own

    def _observe(self, metric: float) -> None:
        sign = 1.0 if self._goal == "maximize" else -1.0
        better = self._best is None or sign * metric > sign * self._best
        if math.isfinite(metric) and better:
            self._best = float(metric)
            self._waited = 0
            return
        self._waited += 1
        if self._waited > self._patience:
            self._cuts += 1
            self._waited = 0

    def _restore(self, state: Mapping[str, Any]) -> None:
        self._best = None if state["best"] is None else float(state["best"])
        self._waited = int(state["waited"])
        self._cuts = int(state["cuts"])


SCHEDULES: Final[dict[str, type[Schedule]]] = {
    "constant": Schedule,
    "cosine": Cosine,
    "plateau": Plateau,
    "poly": Poly,
}


def build_schedule(
    name: str, optimizer: Optimizer, *, epochs: int, goal: Goal, patience: int
) -> Schedule:
    """The schedule called ``name``, to be stepped once after every epoch.

    Args:
        name: an entry of ``SCHEDULES``.
        optimizer: fresh, with the learning rate to start from.
        epochs: how many there will be.
        goal: whether a larger validation metric is better.
        patience: epochs without improvement that ``plateau`` waits for; the others ignore it.

    Raises:
        UnknownName: there is no such schedule.
    """
    constructor = lookup(SCHEDULES, name, "schedule")
    return constructor(optimizer, epochs, goal, patience)
