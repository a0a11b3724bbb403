"""Losses: the table of all there are, sums of them, and what a user may write for one.

A resolved loss is ``{"bce": {"weight": 1.0, …}, "dice": {"weight": 0.5, "smooth": 1.0}}``: for
each term its weight in the sum and every option, so that ``loss.dice.smooth`` names a number.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Final, TypeAlias

import torch
from torch import Tensor, nn

from segsweep.errors import Problem, UserError
from segsweep.losses import weighting
from segsweep.losses.base import IGNORE, SegmentationLoss
from segsweep.losses.lovasz import LovaszLoss
from segsweep.losses.native import NATIVE, NativeLoss, NativeOutput
from segsweep.losses.pixel import BCELoss, CrossEntropyLoss, FocalLoss
from segsweep.losses.region import DiceLoss, JaccardLoss, TverskyLoss
from segsweep.registry import differing, fill, short, suggest

__all__ = [
    "IGNORE",
    "LOSSES",
    "NATIVE",
    "WeightedSum",
    "build",
    "fit_problems",
    "resolve",
    "title",
]

LOSSES: Final[dict[str, type[SegmentationLoss]]] = {
    "bce": BCELoss,
    "cross_entropy": CrossEntropyLoss,
    "focal": FocalLoss,
    "dice": DiceLoss,
    "jaccard": JaccardLoss,
    "tversky": TverskyLoss,
    "lovasz": LovaszLoss,
    NATIVE: NativeLoss,
}

Outputs: TypeAlias = Tensor | tuple[Tensor, ...] | list[Tensor] | NativeOutput
"""What a model returns: logits; in training perhaps several of them, or what has its own loss."""

_SHAPES = "write bce, bce+dice, {bce: 1.0, dice: 0.5} or {focal: {gamma: 3.0}}"


class WeightedSum(nn.Module):
    """Σ weight · loss over its terms, and over all outputs of a model with deep supervision.

    Args:
        terms: losses by name.
        weights: the weight of each, by the same names.
    """

    def __init__(self, terms: Mapping[str, nn.Module], weights: Mapping[str, float]) -> None:
        super().__init__()
        self.terms = nn.ModuleDict(dict(terms))
        self.weights = {name: weights[name] for name in terms}

    def forward(self, outputs: Outputs, target: Tensor) -> Tensor:
        """The sum, a scalar.

        Args:
            outputs: what the model returned. Several logits, as a model with side outputs
                returns in training, count with weight 1 each.
            target: as for every loss (``SegmentationLoss.forward``).
        """
        several = outputs if isinstance(outputs, tuple | list) else (outputs,)
        total = torch.zeros((), device=target.device)
        for output in several:
            for name, term in self.terms.items():
                total = total + self.weights[name] * term(output, target)
        return total


def resolve(level: str | Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """The full loss from what a user wrote.

    Args:
        level: a name, names joined by ``+``, or a mapping from name to weight or to options
            (of which ``weight`` is one).

    Returns:
        For each term, in the order written, ``weight`` and every option.

    Raises:
        UserError: every mistake at once; ``key`` is ``focal`` or ``focal.gamma``.
    """
    terms, problems = _terms(level)
    resolved: dict[str, dict[str, Any]] = {}
    for name, given in terms.items():
        settings, mistakes = _term(name, given)
        resolved[name] = settings
        problems += mistakes
    focal = resolved.get("focal", {})
    if focal.get("alpha") is not None and focal.get(weighting.KEY) is not None:
        what = "alpha and class_weights both say what a class weighs"
        problems.append(Problem(what, key="focal.alpha", hint="keep one"))
    if NATIVE in terms and len(terms) > 1:
        what = f"{NATIVE} is all of a model's loss and stands alone"
        problems.append(Problem(what, key=NATIVE, hint=f"write {NATIVE}"))
    if not problems and not any(settings["weight"] for settings in resolved.values()):
        problems.append(Problem("every weight is 0: nothing would be learnt"))
    if problems:
        raise UserError(problems)
    return resolved


def build(config: Mapping[str, Mapping[str, Any]]) -> nn.Module:
    """The weighted sum that a resolved loss describes, its class weights numbers by now."""
    terms = {
        name: LOSSES[name](**{k: v for k, v in settings.items() if k != "weight"})
        for name, settings in config.items()
    }
    return WeightedSum(terms, {name: settings["weight"] for name, settings in config.items()})


def fit_problems(
    config: Mapping[str, Mapping[str, Any]], *, classes: Sequence[str]
) -> list[Problem]:
    """Why a resolved loss cannot be used for a data set with these classes."""
    problems, count = [], len(classes)
    if "bce" in config and count > 2:
        what = f"bce is for two classes, and the data set has {count}"
        problems.append(Problem(what, key="bce", hint="use cross_entropy"))
    if count > 2 and config.get("focal", {}).get("alpha") is not None:
        what = f"focal's alpha is for two classes, and the data set has {count}"
        problems.append(Problem(what, key="focal.alpha", hint="use class_weights, or leave it out"))
    for name, settings in config.items():
        problems += weighting.problems(name, settings, classes)
    return problems


def title(config: Mapping[str, Mapping[str, Any]]) -> str:
    """A short label: ``bce``, ``bce+0.5dice``, ``focal(gamma=3)``."""
    labels = []
    for name, settings in config.items():
        weight = settings.get("weight", 1.0)
        changed = differing(LOSSES[name], settings)
        label = f"{name}({changed})" if changed else name
        labels.append(label if weight == 1 else f"{short(float(weight))}{label}")
    return "+".join(labels)


def _terms(level: object) -> tuple[dict[str, Any], list[Problem]]:
    """The terms by name, each with what was written for it, and what is wrong with the shape."""
    if isinstance(level, str):
        names = [name.strip() for name in level.split("+")]
        twice = sorted({name for name in names if name and names.count(name) > 1})
        problems = [
            Problem(f"{name} is there twice", key=name, hint=f"write {{{name}: 2.0}}")
            for name in twice
        ]
        if not all(names):
            problems.append(Problem(f"not a loss: {level!r}", hint=_SHAPES))
        return {name: {} for name in names if name}, problems
    if isinstance(level, Mapping) and level:
        return {str(name): given for name, given in level.items()}, []
    return {}, [Problem(f"not a loss: {level!r}", hint=_SHAPES)]


def _term(name: str, given: object) -> tuple[dict[str, Any], list[Problem]]:
    """One term with its weight and every option."""
    if name not in LOSSES:
        weighted = name.lstrip("0123456789.*e- ")
        hint = suggest(name, LOSSES)
        if name != weighted and weighted in LOSSES:
            hint = f"a weight is written {{{weighted}: {name.removesuffix(weighted)}}}"
        return {}, [Problem(f"unknown loss {name!r}", key=name, hint=hint)]
    if isinstance(given, Mapping):
        options = {str(key): value for key, value in given.items()}
        key = f"{name}.weight"
    else:
        options, key = {"weight": given}, name
    weight = options.pop("weight", 1.0)
    filled, problems = fill(LOSSES[name], options, what=f"loss {name!r}", prefix=f"{name}.")
    if isinstance(weight, bool) or not isinstance(weight, int | float):
        problems.append(Problem(f"not a weight: {weight!r}", key=key, hint=_SHAPES))
    elif not (math.isfinite(weight) and weight >= 0):
        problems.append(Problem(f"a weight is a number from 0 up, not {weight}", key=key))
    else:
        filled = {"weight": float(weight), **filled}
    return filled, problems
