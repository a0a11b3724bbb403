"""The model that is exported: one that a checkpoint holds, or the mean of several."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn
from torch.nn import functional as F

from segsweep import checkpoint, models
from segsweep.errors import Problem, RunError, TrialError


class Ensemble(nn.Module):
    """The mean of its members' probabilities, as logits: of temperature 1.

    With two classes z = log p̄ − log(1 − p̄), p̄ the mean of σ(z_k); with more z = log p̄, p̄ the
    mean of softmax(z_k). Both are computed from logarithms, so that no certainty is lost.

    Args:
        members: models of the same classes.
    """

    def __init__(self, members: Sequence[nn.Module]) -> None:
        super().__init__()
        self.members = nn.ModuleList(members)

    def forward(self, x: Tensor) -> Tensor:
        """(N, 3, H, W) → (N, C, H, W)."""
        logits = torch.stack([member(x) for member in self.members])
        if logits.shape[2] == 1:
            return F.logsigmoid(logits).logsumexp(0) - F.logsigmoid(-logits).logsumexp(0)
        return F.log_softmax(logits, dim=2).logsumexp(0) - math.log(len(self.members))


def build(config: Mapping[str, Any], classes: int, members: int) -> nn.Module:
    """The bare model of an export.

    Args:
        config: the resolved model.
        classes: of the data set.
        members: 1, or how many an ensemble has.
    """
    made = [models.build(models.bare(config), classes=classes) for _ in range(members)]
    return made[0].eval() if members == 1 else Ensemble(made).eval()


def from_checkpoints(config: Mapping[str, Any], classes: int, paths: Sequence[Path]) -> nn.Module:
    """The model that one checkpoint holds, or the ensemble of several, on the CPU.

    Raises:
        RunError: checkpoints that cannot be used, each named.
    """
    states, problems = [], []
    for path in paths:
        try:
            states.append(checkpoint.unprefixed("model", checkpoint.load(path)[0]))
        except TrialError as error:
            hint = "restore it from a backup, or export another config with --config ID"
            problems.append(
                Problem(f"cannot be used: {error.__cause__ or error}", str(path), "", hint)
            )
    if problems:
        raise RunError(problems)
    model = build(config, classes, len(paths))
    parts = model.members if isinstance(model, Ensemble) else [model]
    for part, state in zip(parts, states, strict=True):
        part.load_state_dict(state)
    return model


def save(path: Path, model: nn.Module, config: Mapping[str, Any], classes: Sequence[str]) -> None:
    """Every weight, and in the header what the model is built from."""
    count = len(model.members) if isinstance(model, Ensemble) else 1
    facts = {"model": models.bare(config), "classes": list(classes), "members": count}
    checkpoint.save(path, model.state_dict(), facts)


def classes_of(path: Path) -> tuple[str, ...]:
    """The names in the header of what ``save`` wrote; no weight is read.

    Raises:
        ValueError: there is no such header.
    """
    try:
        with safe_open(path, framework="numpy") as file:
            facts = json.loads(file.metadata()["segsweep"])
        return tuple(str(name) for name in facts["classes"])
    except (SafetensorError, KeyError, TypeError) as error:
        raise ValueError(f"{path.name} does not say its classes") from error


def load(path: Path) -> nn.Module:
    """What ``save`` wrote.

    Raises:
        RunError: the file cannot be used.
    """
    try:
        state, facts = checkpoint.load(path)
    except TrialError as error:
        raise RunError(Problem(str(error), str(path), hint="export again")) from error
    model = build(facts["model"], len(facts["classes"]), facts["members"])
    model.load_state_dict(state)
    return model
