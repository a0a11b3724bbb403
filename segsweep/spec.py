"""The sweep file: its shape, its defaults, and every mistake of it at once.

What a name *means* (does the model exist, does the data lie there) is ``check.py``'s business.
"""

from __future__ import annotations

import os
import types
import typing
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, Strict, ValidationError

from segsweep import space, yamlfile
from segsweep.errors import Problem, SpecError
from segsweep.registry import suggest
from segsweep.space import Parameter
from segsweep.yamlfile import Document, KeyPath, dotted

Positive = Annotated[int, Field(ge=1)]
NAME = r"^[A-Za-z0-9][A-Za-z0-9_.-]*$"
LOWER_IS_BETTER = frozenset({"val/loss"})

# keys of the sweep file that are planned: refused, never ignored
NOT_YET: dict[KeyPath, str] = {
    ("race",): "every surviving config runs all its folds",
    ("calibration",): "",
    ("replicates",): "repeat the sweep under another name and seed",
    ("sampler",): "method: bayes is Optuna's TPE",
    ("tracking",): "W&B is the tracker",
    ("dataset", "leave_out"): "",
}

# stand in for mistaken keys, so that the meaning of the others can be checked all the same
PLACEHOLDERS: dict[str, Any] = {"name": "unnamed", "factors": {}}


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class Dataset(_Section):
    """Where the images come from and how large they are; further keys are the source's own."""

    model_config = ConfigDict(extra="allow", strict=True, frozen=True)

    name: str = "synthetic_lesions"
    root: str | None = None
    image_size: Annotated[tuple[Positive, Positive], Strict(False)] = (96, 128)
    holdout: Annotated[float, Field(ge=0, lt=1)] | Literal["official"] = 0.2

    @property
    def options(self) -> dict[str, Any]:
        """The keys that are the source's own."""
        return dict(self.model_extra or {})


class FoldsSpec(_Section):
    """Cross-validation: k folds, of which the first ``run`` are run."""

    k: Annotated[int, Field(ge=2)] = 5
    stratify_by: str | None = None
    group_by: str | None = None
    run: Positive | None = None

    @property
    def count(self) -> int:
        """How many folds a config must finish."""
        return self.k if self.run is None else self.run


class Train(_Section):
    """How one trial is trained."""

    epochs: Positive = 50
    batch_size: Positive = 16
    optimizer: str = "adamw"
    lr: Annotated[float, Field(gt=0)] = 1e-3
    weight_decay: Annotated[float, Field(ge=0)] = 1e-2
    schedule: str = "cosine"
    patience: Positive | None = None
    augment: str = "light"
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    grad_clip: Annotated[float, Field(gt=0)] | None = None


class Metric(_Section):
    """What is compared, and which way is better."""

    name: str = "val/iou"
    goal: Literal["maximize", "minimize"] = "maximize"


class EarlyStopping(_Section):
    """Asynchronous successive halving (Li et al. 2020, arXiv 1810.05934), stopping only."""

    type: Literal["asha", "none"] = "asha"
    grace_period: Positive = 1
    reduction_factor: Annotated[int, Field(ge=2)] = 3
    compare_within: Literal["cell", "sweep"] = "cell"


class Resources(_Section):
    """What one trial occupies; gpu null is one GPU a trial where the cluster has any."""

    cpu: Positive = 1
    gpu: Annotated[float, Field(ge=0)] | None = None


class Wandb(_Section):
    """The file (or --set) wins over WANDB_MODE; without either, offline."""

    mode: Literal["offline", "online", "disabled"] | None = None


class SweepSpec(_Section):
    """A whole sweep file with its defaults."""

    name: Annotated[str, Field(pattern=NAME)]
    project: str = "segsweep"
    entity: str | None = None
    description: str = ""
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 0
    dataset: Dataset = Dataset()
    folds: FoldsSpec = FoldsSpec()
    factors: dict[str, Annotated[list[Any], Field(min_length=1)]]
    exclude: list[dict[str, Any]] = []
    parameters: dict[str, Parameter] = {}
    method: Literal["bayes", "random", "grid"] = "bayes"
    configs_per_cell: Positive | None = None
    metric: Metric = Metric()
    train: Train = Train()
    early_stopping: EarlyStopping = EarlyStopping()
    resources: Resources = Resources()
    max_concurrent: Positive | None = None
    max_failures: Annotated[int, Field(ge=0)] = 3
    storage_path: str = "runs"
    wandb: Wandb = Wandb()

    @property
    def run_directory(self) -> Path:
        """``<storage_path>/<name>``, relative to the working directory."""
        return Path(self.storage_path) / self.name

    @property
    def wandb_mode(self) -> str:
        """The file's word, else the environment's, else offline."""
        return self.wandb.mode or os.environ.get("WANDB_MODE") or "offline"

    def better(self, a: float, b: float) -> bool:
        """Is metric value ``a`` better than ``b``?"""
        return a > b if self.metric.goal == "maximize" else a < b


def load(path: Path, overrides: Sequence[str] = ()) -> SweepSpec:
    """Read a sweep file.

    Args:
        path: the YAML file.
        overrides: ``dotted.key=value`` strings, as given to ``--set``.

    Raises:
        SpecError: with every mistake.
    """
    spec, problems = parse(read(path, overrides))
    if problems or spec is None:
        raise SpecError(problems)
    return spec


def read(path: Path, overrides: Sequence[str] = ()) -> Document:
    """The raw document with ``--set`` applied."""
    document = yamlfile.read(path)
    for text in overrides:
        key, equals, value = text.partition("=")
        if not equals or not key.strip():
            hint = "write --set dotted.key=value, such as --set train.epochs=5"
            raise SpecError(Problem(f"{text!r} is not key=value", "--set", hint=hint))
        _override(document, key.strip(), yamlfile.scalar(value))
    return document


def _override(document: Document, key: str, value: Any) -> None:
    node, rest = document.data, key.split(".")
    path: KeyPath = ()
    while rest:
        # a key may itself hold dots (parameters: train.lr), so the longest existing one wins
        for size in range(len(rest), 0, -1):
            head = ".".join(rest[:size])
            if head in node:
                break
        else:
            head, size = (key, len(rest)) if path == ("parameters",) else (rest[0], 1)
            head = ".".join(rest) if path == ("parameters",) else head
        path, rest = (*path, head), rest[size:]
        if not rest:
            node[head] = value
            document.overridden.add(path)
        else:
            if not isinstance(node.get(head), dict):
                node[head] = {}
                document.overridden.add(path)
            node = node[head]


def parse(document: Document) -> tuple[SweepSpec | None, list[Problem]]:
    """The spec, as far as it can be understood, and every mistake of shape.

    Where there are mistakes, the spec returned is the file without the mistaken keys, so that
    the meaning of the rest can still be checked; None where too little is left.
    """
    problems = list(document.problems)
    data = _without(document.data, _refused(document, problems))
    spec, bad = _validate(document, data, problems)
    for _ in range(len(SweepSpec.model_fields)):
        if spec is not None:
            break
        data = {**PLACEHOLDERS, **_without(data, bad)}
        spec, bad = _validate(document, data, [])
        bad = [path[:1] for path in bad]
    if spec is not None:
        problems += _cross_checks(document, spec)
    return spec, problems


def _refused(document: Document, problems: list[Problem]) -> list[KeyPath]:
    found: list[KeyPath] = []
    for path, hint in NOT_YET.items():
        if _has(document.data, path):
            hint = f"remove it; {hint}" if hint else "remove it"
            problems.append(_problem(document, path, "is not available yet", hint))
            found.append(path)
    if _has(document.data, ("resources", "gpu")) and document.data["resources"]["gpu"] == "auto":
        path = ("resources", "gpu")
        hint = "write a number such as 1 or 0.5, or leave it out for one GPU where there is any"
        problems.append(_problem(document, path, "auto is not available yet", hint))
        found.append(path)
    storage = document.data.get("storage_path")
    if isinstance(storage, str) and "://" in storage:
        hint = "use a folder that every node sees"
        path = ("storage_path",)
        problems.append(_problem(document, path, "a remote store is not available yet", hint))
        found.append(path)
    return found


def _validate(
    document: Document, data: Mapping[str, Any], problems: list[Problem]
) -> tuple[SweepSpec | None, list[KeyPath]]:
    try:
        return SweepSpec.model_validate(data), []
    except ValidationError as error:
        bad: list[KeyPath] = []
        for item in error.errors(include_url=False):
            path = _real_path(data, item["loc"])
            if path in bad:
                continue
            bad.append(path)
            what, hint = _explain(dict(item), path)
            problems.append(_problem(document, path, what, hint))
        return None, bad


def _real_path(data: Any, loc: tuple[str | int, ...]) -> KeyPath:
    """Pydantic's place without the names of union members that it puts in."""
    path: list[str | int] = []
    node = data
    for part in loc:
        if isinstance(node, Mapping):
            path.append(part)
            node = node.get(part)
        elif isinstance(node, list) and isinstance(part, int):
            path.append(part)
            node = node[part] if part < len(node) else None
    return tuple(path)


def _explain(item: Mapping[str, Any], path: KeyPath) -> tuple[str, str]:
    kind, value = item["type"], item.get("input")
    if kind == "extra_forbidden":
        return "unknown key", suggest(str(path[-1]), _fields(SweepSpec, path[:-1]))
    if kind in ("missing", "too_long") and "image_size" in path:
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
    return f"{message}, not {value!r}", ""


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


def _cross_checks(document: Document, spec: SweepSpec) -> list[Problem]:
    """Mistakes that only two keys together make."""
    found: list[tuple[KeyPath, str, str]] = []
    for name, parameter in spec.parameters.items():
        for key, what, hint in space.mistakes(parameter):
            found.append((("parameters", name, *([key] if key else [])), what, hint))
    if spec.folds.run is not None and spec.folds.run > spec.folds.k:
        what = f"run {spec.folds.run} is greater than k {spec.folds.k}"
        found.append((("folds", "run"), what, "run the first so many of k folds"))
    wanted = "minimize" if spec.metric.name in LOWER_IS_BETTER else "maximize"
    if spec.metric.goal != wanted:
        what = f"{spec.metric.name} is to be {wanted}d"
        found.append((("metric", "goal"), what, f"write goal: {wanted}"))
    if spec.method == "grid":
        found += _grid_checks(spec)
    elif not spec.parameters and (spec.configs_per_cell or 1) > 1:
        what = "configs_per_cell needs parameters to search; without any, a cell is one config"
        found.append((("configs_per_cell",), what, "add parameters: or remove it"))
    return [_problem(document, path, what, hint) for path, what, hint in found]


def _grid_checks(spec: SweepSpec) -> Iterator[tuple[KeyPath, str, str]]:
    if spec.configs_per_cell is not None:
        hint = "remove it: a grid runs every combination of the values"
        yield ("configs_per_cell",), "does not go with method: grid", hint
    for name, parameter in spec.parameters.items():
        if not space.mistakes(parameter) and space.grid_values(parameter) is None:
            yield ("parameters", name), "a grid needs values:", "list them, or use method: random"


def _problem(document: Document, path: KeyPath, what: str, hint: str) -> Problem:
    return Problem(what, document.where(path), dotted(path), hint)


def _has(data: Any, path: KeyPath) -> bool:
    for part in path:
        if not isinstance(data, Mapping) or part not in data:
            return False
        data = data[part]
    return True


def _without(data: Any, paths: Sequence[KeyPath]) -> Any:
    """A copy of ``data`` without the values at ``paths``."""
    if () in paths:
        return {}
    if isinstance(data, Mapping):
        return {
            key: _without(value, [path[1:] for path in paths if path[:1] == (key,)])
            for key, value in data.items()
            if (key,) not in paths
        }
    if isinstance(data, list):
        return [
            _without(value, [path[1:] for path in paths if path[:1] == (i,)])
            for i, value in enumerate(data)
            if (i,) not in paths
        ]
    return data


def to_plain(spec: SweepSpec) -> dict[str, Any]:
    """Every key with its default, as plain values for ``resolved.yaml``."""
    plain = spec.model_dump(mode="json")
    plain["parameters"] = {
        name: parameter.model_dump(mode="json", exclude_unset=True)
        for name, parameter in spec.parameters.items()
    }
    return plain
