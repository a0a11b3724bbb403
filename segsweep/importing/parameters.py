"""W&B's parameters in our words: the same distributions where there are any, flat, by our paths.

The schema: https://docs.wandb.ai/models/sweeps/sweep-config-keys
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

from segsweep.space import DISTRIBUTIONS
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
OURS = ("train.", "model.", "loss.")
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
    """Our path for a parameter's name; of a nested one the whole name, then its end, are tried."""
    if name.startswith(OURS):
        return name
    plain = name.lower().replace("-", "_").replace(" ", "_")
    *parents, last = plain.split(".")
    if last in ("name", "type") and parents:  # optimizer: {name: …}
        last = parents[-1]
    return PATHS.get(plain, PATHS.get(last))


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
    if kind in NONE_HERE:
        raise Untranslatable(f"distribution {kind} does not exist here")
    if kind in EXPONENTS:
        sign, result["distribution"] = EXPONENTS[kind]
        low, high = sorted(sign * _number(said, key) for key in ("min", "max"))
        if max(abs(low), abs(high)) > MAX_EXPONENT:
            raise Untranslatable(f"{kind} has exponents as bounds, and e^{high:g} is no number")
        result["min"], result["max"] = (
            float(f"{math.exp(low):.12g}"),
            float(f"{math.exp(high):.12g}"),
        )
        notes.append(f"{kind} has exponents as bounds: written as values")
    elif kind in SAME:
        result["distribution"] = SAME[kind]
    elif kind is not None and kind not in DISTRIBUTIONS:
        raise Untranslatable(f"unknown distribution {kind!r}")
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
    for key in ("mu", "sigma", "q"):
        if isinstance(result.get(key), int):
            result[key] = float(result[key])
    return result, notes


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
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise Untranslatable(f"{key} is {value!r}, not a number")
    return float(value)
