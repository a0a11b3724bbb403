"""What is wrong with a sweep file, in words: for one key, and for keys that do not go together."""

from __future__ import annotations

import math
import os
import types
import typing
from collections.abc import Iterator, Mapping
from typing import Annotated, Any

from pydantic import BaseModel

from segsweep import space
from segsweep.registry import suggest
from segsweep.spec.shape import WANDB_MODES, SweepSpec
from segsweep.yamlfile import KeyPath

Mistake = tuple[KeyPath, str, str]  # where, what, hint

OWN_DATASETS = ("validation", "holdout")
LEAST_SHARE = 0.01  # of a GPU
LOWER_IS_BETTER = frozenset({"val/loss", "val/fpr95"})


def refused(data: Mapping[str, Any]) -> Iterator[Mistake]:
    """Keys and values that are not available yet."""
    storage = data.get("storage_path")
    if isinstance(storage, str) and "://" in storage:
        hint = "use a folder that every node sees"
        yield ("storage_path",), "a remote store is not available yet", hint


def has(data: Any, path: KeyPath) -> bool:
    """Is there a value at ``path``?"""
    for part in path:
        if not isinstance(data, Mapping) or part not in data:
            return False
        data = data[part]
    return True


def explain(item: Mapping[str, Any], path: KeyPath) -> tuple[str, str]:
    """What pydantic says about the key at ``path``, in our words, and what to do."""
    kind, value = item["type"], item.get("input")
    if isinstance(value, float) and not math.isfinite(value):
        return f"{value} is not a finite number", ""
    if kind == "extra_forbidden":
        return "unknown key", suggest(str(path[-1]), _fields(SweepSpec, path[:-1]))
    if kind in ("missing", "too_long", "tuple_type") and "image_size" in path:
        return "is [height, width] in pixels", "write image_size: [192, 256]"
    if kind == "missing":
        return "is missing", f"add {path[-1]}:"
    if kind in ("literal_error",):
        expected = str(item["ctx"]["expected"]).replace(" or ", ", ").replace("'", "")
        return f"{value!r} is not valid", suggest(str(value), expected.split(", "))
    if kind == "string_pattern_mismatch":
        return f"{value!r} is not a name", "letters, digits, '_', '-' and '.' are allowed"
    if kind == "too_short":
        return "is empty", "name at least one level"
    message = str(item["msg"]).replace("Input should be", "should be")
    return f"{message}, not {value!r}", _advice(kind, value, path)


def _advice(kind: str, value: Any, path: KeyPath) -> str:
    """What is meant most often by a value of the wrong kind."""
    if kind in ("int_type", "float_type") and isinstance(value, str):
        return "it is text: remove the quotes" if _is_number(value) else ""
    if path[:1] == ("parameters",) and isinstance(value, list):
        return f"write {{values: [{', '.join(map(str, value))}]}}"
    if path[-1:] == ("holdout",) and isinstance(value, int | float) and 1 < value < 100:
        return f"it is a share: {value:g} % is {value / 100:g}"
    return ""


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def together(spec: SweepSpec) -> Iterator[Mistake]:
    """Mistakes that only two keys together make, and those of parameters."""
    for name, parameter in spec.parameters.items():
        for key, what, hint in space.mistakes(parameter):
            yield ("parameters", name, *([key] if key else [])), what, hint
    mode = os.environ.get("WANDB_MODE", "")
    if spec.wandb.mode is None and mode not in WANDB_MODES:
        what = f"the environment's WANDB_MODE {mode!r} is not valid"
        yield ("wandb", "mode"), what, suggest(mode, [name for name in WANDB_MODES if name])
    if spec.folds.run is not None and spec.folds.run > spec.folds.k:
        what = f"run {spec.folds.run} is greater than k {spec.folds.k}"
        yield ("folds", "run"), what, "run the first so many of k folds"
    wanted = "minimize" if spec.metric.name in LOWER_IS_BETTER else "maximize"
    if spec.metric.goal != wanted:
        what = f"{spec.metric.name} is to be {wanted}d"
        yield ("metric", "goal"), what, f"write goal: {wanted}"
    gpu = spec.resources.gpu
    if gpu != "auto" and gpu and not LEAST_SHARE <= gpu <= 1:
        what = f"a trial uses one GPU, or a share of it down to {LEAST_SHARE:g}, not {gpu:g}"
        yield ("resources", "gpu"), what, "0.5 lets two trials share one, 0 trains on the CPU"
    yield from _calibration_checks(spec)
    if spec.method != "bayes" and spec.sampler != "tpe":
        what = f"goes with method: bayes, not with method: {spec.method}"
        yield ("sampler",), what, "remove it"
    if spec.method == "grid":
        yield from _grid_checks(spec)
    elif not spec.parameters and (spec.configs_per_cell or 1) > 1:
        what = "configs_per_cell needs parameters to search; without any, a cell is one config"
        yield ("configs_per_cell",), what, "add parameters: or remove it"


def _calibration_checks(spec: SweepSpec) -> Iterator[Mistake]:
    span = spec.calibration.temperatures
    if span.max <= span.min:
        what = f"max {span.max:g} is not above min {span.min:g}"
        yield ("calibration", "temperatures", "max"), what, "use a range with 1 in it: 0.25 to 4"
    for name in spec.calibration.datasets:
        if name in OWN_DATASETS:
            what = f"{name!r} is the name of the sweep's own images"
            yield ("calibration", "datasets", name), what, "give it another name"


def _grid_checks(spec: SweepSpec) -> Iterator[Mistake]:
    if spec.configs_per_cell is not None:
        hint = "remove it: a grid runs every combination of the values"
        yield ("configs_per_cell",), "does not go with method: grid", hint
    for name, parameter in spec.parameters.items():
        if not space.mistakes(parameter) and space.grid_values(parameter) is None:
            yield ("parameters", name), "a grid needs values:", "list them, or use method: random"


def _fields(model: type[BaseModel], path: KeyPath) -> Iterator[str]:
    """Names of the keys that are valid at ``path``."""
    for part in path:
        if isinstance(part, str) and part in model.model_fields:
            model = _section(model.model_fields[part].annotation) or model
    yield from model.model_fields


def _section(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    if typing.get_origin(annotation) in (dict, list, types.UnionType, typing.Union, Annotated):
        for argument in typing.get_args(annotation):
            if found := _section(argument):
                return found
    return None
