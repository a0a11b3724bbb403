"""W&B's parameters in our words: the same distributions where there are any, flat, by our paths.

The schema: https://docs.wandb.ai/models/sweeps/sweep-config-keys
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from segsweep.importing.conversion import Untranslatable
from segsweep.space import DISTRIBUTIONS
from segsweep.yamlfile import KeyPath

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
MOST_VALUES = 100  # that a range is listed as
NORMAL = {"mu": 0.0, "sigma": 1.0}  # W&B's defaults

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
    if str(kind).endswith("normal"):
        absent = {key: value for key, value in NORMAL.items() if key not in said}
        result |= absent
        notes += [
            f"{kind} has no {key}: W&B's default {absent[key]:g} is written" for key in absent
        ]
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
    if whole and isinstance(low, int) and isinstance(high, int) and high - low < MOST_VALUES:
        return list(range(low, high + 1))
    return None


def steps_of(said: Mapping[str, Any]) -> list[Any] | None:
    """What W&B's grid makes of a translated ``q_uniform``; None of others.

    It takes ``numpy.arange``, so without max, or with it where rounding has it so.
    """
    if said.get("distribution") != "q_uniform":
        return None
    low, high, q = _number(said, "min"), _number(said, "max"), float(said.get("q", 1.0))
    count = (high - low) / q if q > 0 else math.inf
    if not 0 < count <= MOST_VALUES:
        raise Untranslatable(f"a grid needs values, and its steps of q are not 1 to {MOST_VALUES}")
    steps = [float(f"{step:.12g}") for step in np.arange(low, high, q).tolist()]
    return [int(step) for step in steps] if all(s.is_integer() for s in (low, q)) else steps


def _number(said: Mapping[str, Any], key: str) -> float:
    value = said.get(key)
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        raise Untranslatable(f"{key} is {value!r}, not a number")
    return float(value)
