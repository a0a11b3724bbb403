"""W&B's parameters in our words: the same distributions where there are any, flat, by our paths.

The schema: https://docs.wandb.ai/models/sweeps/sweep-config-keys
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

from segsweep.space import DISTRIBUTIONS
from segsweep.spec import Train
from segsweep.yamlfile import KeyPath

# what a parameter is often called, without case and with _ for - and spaces → ours
PATHS: dict[str, str] = {
    "lr": "train.lr", "learning_rate": "train.lr", "base_lr": "train.lr",
    "batch_size": "train.batch_size", "bs": "train.batch_size", "batchsize": "train.batch_size",
    "epochs": "train.epochs", "epoch": "train.epochs", "num_epochs": "train.epochs",
    "n_epochs": "train.epochs", "max_epochs": "train.epochs",
    "weight_decay": "train.weight_decay", "wd": "train.weight_decay",
    "optimizer": "train.optimizer", "optim": "train.optimizer", "opt": "train.optimizer",
    "schedule": "train.schedule", "scheduler": "train.schedule", "lr_scheduler": "train.schedule",
    "augment": "train.augment", "augmentation": "train.augment",
    "grad_clip": "train.grad_clip", "clip_grad": "train.grad_clip",
    "gradient_clip_val": "train.grad_clip", "patience": "train.patience",
    "precision": "train.precision", "gamma": "loss.focal.gamma",
    "focal_gamma": "loss.focal.gamma", "seed": "seed", "random_seed": "seed",
    "model": "model", "arch": "model", "architecture": "model", "network": "model",
    "model_name": "model", "encoder": "encoder", "backbone": "encoder",
    "encoder_name": "encoder", "loss": "loss", "criterion": "loss", "loss_fn": "loss",
    "loss_function": "loss", "image_size": "dataset.image_size",
    "img_size": "dataset.image_size", "input_size": "dataset.image_size",
    "folds": "folds.k", "k_folds": "folds.k", "n_folds": "folds.k", "num_folds": "folds.k",
}  # fmt: skip
OURS = ("model", "loss")  # their further keys are options of models and losses
EXPONENTS = {
    "log_uniform": (1, "log_uniform_values"),
    "q_log_uniform": (1, "q_log_uniform_values"),
    "inv_log_uniform": (-1, "log_uniform_values"),
}
# 1/x is log-uniform exactly where x is
SAME = {
    "inv_log_uniform_values": "log_uniform_values",
    "categorical_w_probabilities": "categorical",
}
NONE_HERE = ("beta", "q_beta")
SIMPLE = (bool, int, float, str, type(None))
MAX_EXPONENT = 700.0

Given = tuple[KeyPath, str, Mapping[str, Any]]  # where it stands, its dotted name, what it says


def flat(parameters: Mapping[str, Any], path: KeyPath = ("parameters",)) -> Iterator[Given]:
    """Every parameter, those nested in others too."""
    for name, said in parameters.items():
        place = (*path, name)
        if isinstance(said, Mapping) and isinstance(said.get("parameters"), Mapping):
            yield from flat(said["parameters"], (*place, "parameters"))
        else:
            names = [str(part) for i, part in enumerate(place) if i % 2]
            yield place, ".".join(names), said if isinstance(said, Mapping) else {"value": said}


def path_of(name: str) -> str | None:
    """Our path for a parameter's name, by rule where there is one; None where there is none.

    Of a nested name the whole is tried, then its end: ``model.backbone`` is the encoder. What is
    nested as our paths are, ``loss.focal.alpha``, is one of them.
    """
    parts = name.lower().replace("-", "_").replace(" ", "_").split(".")
    while len(parts) > 1 and parts[-1] in ("name", "type"):  # optimizer: {name: …}
        del parts[-1]
    plain = ".".join(parts)
    if plain in PATHS:
        return PATHS[plain]
    section, rest = parts[0], parts[1:]
    if section == "loss" and len(rest) == 2 and all(rest):  # its last word may mean another loss's
        return plain
    if parts[-1] in PATHS:
        return PATHS[parts[-1]]
    if section == "train":
        return plain if len(rest) == 1 and rest[0] in Train.model_fields else None
    return plain if section in OURS and rest and all(rest) else None


class Untranslatable(Exception):
    """A parameter that has no counterpart; the text says why."""


def translate(said: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """A parameter in our words, and what of it was left behind.

    Raises:
        Untranslatable: there are no words for it.
    """
    kind, notes = said.get("distribution"), []
    result = {key: value for key, value in said.items() if key not in ("probabilities", "q")}
    if "probabilities" in said:
        notes.append("probabilities: all values are equally likely here")
    if kind is not None:
        result |= _distribution(kind, said)
    if kind in EXPONENTS:
        notes.append(f"{kind} has exponents as bounds: written as values")
    if "q" in said:
        if str(kind).startswith("q_"):
            result["q"] = said["q"]
        else:
            notes.append("q: only distributions that begin with q_ have it")
    unknown = set(result) - {"distribution", "value", "values", "min", "max", "mu", "sigma", "q"}
    for key in sorted(unknown):
        del result[key]
        notes.append(f"{key}: is no part of a parameter here")
    listed = result.get("values", [result.get("value")])
    if not isinstance(listed, list) or not all(isinstance(value, SIMPLE) for value in listed):
        raise Untranslatable("its values are lists or mappings")
    if not result:
        raise Untranslatable("it says nothing")
    for key in ("min", "max", "mu", "sigma", "q"):
        if key in result:
            number = _number(result, key)
            if key not in ("min", "max"):  # whole bounds are a distribution of their own
                result[key] = number
    return result, notes


def _distribution(kind: Any, said: Mapping[str, Any]) -> dict[str, Any]:
    """A distribution by our name; where its bounds are exponents, with values for bounds."""
    if not isinstance(kind, str):
        raise Untranslatable(f"unknown distribution {kind!r}")
    if kind in NONE_HERE:
        raise Untranslatable(f"distribution {kind} does not exist here")
    if kind in EXPONENTS:
        sign, name = EXPONENTS[kind]
        low, high = sorted(sign * _number(said, key) for key in ("min", "max"))
        if max(abs(low), abs(high)) > MAX_EXPONENT:
            raise Untranslatable(f"{kind} has exponents as bounds, and e^{high:g} is no number")
        least, most = (float(f"{math.exp(bound):.12g}") for bound in (low, high))
        return {"distribution": name, "min": least, "max": most}
    if kind not in DISTRIBUTIONS and kind not in SAME:
        raise Untranslatable(f"unknown distribution {kind!r}")
    return {"distribution": SAME.get(kind, kind)}


def values_of(said: Mapping[str, Any]) -> list[Any] | None:
    """All values of a translated parameter where they are listed, or whole numbers in a range."""
    if "values" in said:
        return list(said["values"])
    if "value" in said:
        return [said["value"]]
    low, high = said.get("min"), said.get("max")
    whole = said.get("distribution", "int_uniform") == "int_uniform"
    if whole and isinstance(low, int) and isinstance(high, int) and high - low < 100:
        return list(range(low, high + 1))
    return None


def _number(said: Mapping[str, Any], key: str) -> float:
    value = said.get(key)
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        raise Untranslatable(f"{key} is {value!r}, not a number")
    return float(value)
