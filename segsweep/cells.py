"""Cells: every combination of factor levels as a trial config with holes, fully resolved."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from pydantic import ValidationError

from segsweep import losses, models, optim, space
from segsweep.batches import smallest
from segsweep.data import augment
from segsweep.errors import Problem, UserError
from segsweep.models.fit import Tried
from segsweep.pairs import loss_problems, metric_problems, native_problems
from segsweep.registry import suggest
from segsweep.search.sampler import budget
from segsweep.space import BATCH_SIZE, Cell
from segsweep.spec import SweepSpec, Train

DEFAULT_CONFIGS = 8  # a cell, where there are parameters to search
WHOLE_SWEEP = ("dataset", "folds", "metric")  # one value for all trials, or they do not compare
FIXED = ("model.name", "model.encoder_weights", "model.pretrained", "model.weights")
TRAIN_NAMES: dict[str, Mapping[str, Any]] = {
    "optimizer": optim.OPTIMIZERS,
    "schedule": optim.SCHEDULES,
    "augment": augment.PRESETS,
}

Found = Callable[[str, Problem], None]  # a key path in the sweep file, and what is wrong there


def build(spec: SweepSpec, source_options: Mapping[str, Any], found: Found) -> list[Cell]:
    """All cells of a sweep that is well formed.

    Args:
        spec: the sweep file.
        source_options: every option of its data source.
        found: is told each mistake; cells that have one are left out.
    """
    base = _base(spec, source_options, found)
    levels = {name: _levels(spec, base, name, found) for name in spec.factors}
    for name in ("model", "loss"):
        if name not in spec.factors:
            found("factors", Problem(f"{name} is missing", hint=f"add {name}: with one level"))
            return []
    # what names a level that was refused is no mistake of its own
    whole = all(len(levels[name]) == len(given) for name, given in spec.factors.items())
    excluded = _excluded(spec, levels, found, whole=whole)
    cells = []
    for combination in itertools.product(*levels.values()):
        labels = {name: label for name, (label, _) in zip(levels, combination, strict=True)}
        if any(all(labels[k] in v for k, v in rule.items()) for rule in excluded):
            continue
        values = {name: value for name, (_, value) in zip(levels, combination, strict=True)}
        config = space.with_paths(base, values)
        cells.append(_cell(spec, "/".join(labels.values()), labels, config))
    if not cells and all(levels.values()):
        found("exclude", Problem("leaves no cell", hint="remove a rule"))
    _check_parameters(spec, cells, found, whole=whole)
    return cells


def _base(spec: SweepSpec, source_options: Mapping[str, Any], found: Found) -> dict[str, Any]:
    train = spec.train.model_dump(mode="json")
    _check_train(train, "train", found)
    dataset = {
        "name": spec.dataset.name,
        "image_size": list(spec.dataset.image_size),
        "holdout": spec.dataset.holdout,
        "leave_out": sorted(spec.dataset.leave_out),
        **source_options,
    }
    return {
        "model": {},
        "loss": {},
        "train": train,
        "dataset": dataset,
        "folds": spec.folds.model_dump(mode="json", exclude={"run"}),
        "metric": spec.metric.model_dump(mode="json"),
        "seed": spec.seed,
    }


def _check_train(train: Mapping[str, Any], where: str, found: Found) -> None:
    for key, table in TRAIN_NAMES.items():
        if train[key] not in table:
            what = f"unknown {key} {train[key]!r}"
            found(f"{where}.{key}", Problem(what, hint=suggest(str(train[key]), table)))


def _levels(
    spec: SweepSpec, base: Mapping[str, Any], name: str, found: Found
) -> list[tuple[str, Any]]:
    """(label, resolved value) of every level of a factor."""
    result: list[tuple[str, Any]] = []
    for index, level in enumerate(spec.factors[name]):
        where = f"factors.{name}[{index}]"
        try:
            label, value = _level(base, name, level)
        except UserError as error:
            for problem in error.problems:
                found(where, problem)
            continue
        if any(label == other or value == same for other, same in result):
            found(where, Problem(f"the level {label} stands twice", hint="remove one"))
            continue
        result.append((label, value))
    return result


def _level(base: Mapping[str, Any], name: str, level: Any) -> tuple[str, Any]:
    if name == "model":
        resolved = models.resolve(level)
        return models.title(resolved), resolved
    if name == "loss":
        loss = losses.resolve(level)
        return losses.title(loss), loss
    if name.split(".")[0] in WHOLE_SWEEP:
        raise UserError(Problem("belongs to the whole sweep and cannot be a factor"))
    try:
        space.get_path(base, name)
    except KeyError:
        valid = ["model", "loss", *space.leaves({"train": base["train"]}), "seed"]
        raise UserError(Problem(f"unknown factor {name!r}", hint=suggest(name, valid))) from None
    if isinstance(space.get_path(base, name), Mapping):
        raise UserError(Problem(f"{name} is a section", hint=f"name one key of it: {name}.…"))
    trial = space.with_paths(base, {name: level})
    problems = _value_problems(trial, name)
    if problems:
        raise UserError(problems)
    return f"{name.split('.')[-1]}={level}", level


def _excluded(
    spec: SweepSpec, levels: Mapping[str, list[tuple[str, Any]]], found: Found, *, whole: bool
) -> list[dict[str, set[str]]]:
    """Rules of ``exclude`` as factor → labels; a rule's value is a level or a list of them."""
    rules = []
    for index, rule in enumerate(spec.exclude):
        wanted: dict[str, set[str]] = {}
        for name, given in rule.items():
            where = f"exclude[{index}].{name}"
            if name not in levels:
                found(where, Problem(f"no factor {name!r}", hint=suggest(name, levels)))
                continue
            labels = [label for label, _ in levels[name]]
            wanted[name] = set()
            for value in given if isinstance(given, list) else [given]:
                label = level_label(name, value)
                bare = [one for one in labels if one.partition("(")[0] == value]
                if label not in labels and len(bare) != 1 and whole:
                    what = f"{label!r} is no level of {name}"
                    found(where, Problem(what, hint=suggest(label, labels)))
                wanted[name].add(label if label in labels or not bare else bare[0])
        if wanted:
            rules.append(wanted)
    return rules


def level_label(name: str, value: Any) -> str:
    """What a factor's level is called, ``unet_strided(width=32)``."""
    try:
        if name == "model":
            return models.title(models.resolve(value))
        if name == "loss":
            return losses.title(losses.resolve(value))
    except UserError:
        return str(value)
    return f"{name.split('.')[-1]}={value}"


def _cell(spec: SweepSpec, name: str, labels: Mapping[str, str], config: Mapping[str, Any]) -> Cell:
    parameters = {
        path: parameter for path, parameter in spec.parameters.items() if _exists(config, path)
    }
    wanted = spec.configs_per_cell or (DEFAULT_CONFIGS if parameters else 1)
    return Cell(name, labels, config, parameters, budget(parameters, spec.method, wanted))


def _exists(config: Mapping[str, Any], path: str) -> bool:
    try:
        return not isinstance(space.get_path(config, path), Mapping)
    except KeyError:
        return False


def _check_parameters(spec: SweepSpec, cells: list[Cell], found: Found, *, whole: bool) -> None:
    for path, parameter in spec.parameters.items():
        where = f"parameters.{path}"
        if path.split(".")[0] in WHOLE_SWEEP:
            found(where, Problem("belongs to the whole sweep and cannot be searched"))
            continue
        if path in FIXED:
            found(where, Problem("cannot be searched", hint="make it levels of factors.model"))
        if path in spec.factors:
            found(where, Problem("is a factor already", hint="keep it in one place"))
        own = [cell for cell in cells if path in cell.parameters]
        if not own and cells and whole:
            valid = sorted(
                {
                    leaf
                    for cell in cells
                    for leaf in space.leaves(cell.config)
                    if leaf.split(".")[0] not in WHOLE_SWEEP
                }
            )
            what = "this path exists in no cell"
            found(where, Problem(what, hint=suggest(path, valid)))
        told: set[str] = set()
        for cell in own:
            for value in [] if space.mistakes(parameter) else space.probes(parameter):
                for problem in _value_problems(cell.fill({path: value}), path):
                    if problem.what not in told:
                        told.add(problem.what)
                        found(where, replace(problem, key=""))


def _value_problems(config: Mapping[str, Any], path: str) -> list[Problem]:
    """What is wrong with a trial config after the value at ``path`` was put in."""
    section = path.split(".")[0]
    value = space.get_path(config, path)
    problems: list[Problem] = []
    if path == "train.precision" and value == "auto":
        problems.append(Problem("auto cannot be compared", hint="name fp32, bf16 or fp16"))
    if path == "seed" and not (type(value) is int and 0 <= value < 2**32):
        problems.append(Problem(f"{value!r} is not a whole number from 0"))
    try:
        if section == "model":
            models.resolve(config["model"])
        elif section == "loss":
            losses.resolve(config["loss"])
        elif section == "train":
            Train.model_validate(config["train"])
            _check_train(config["train"], "", lambda _, problem: problems.append(problem))
    except UserError as error:
        problems += error.problems
    except ValidationError as error:
        for item in error.errors():
            what = item["msg"].replace("Input should be", "should be")
            problems.append(Problem(f"{value!r} is not valid: {what}"))
    return problems


def meaning_problems(
    spec: SweepSpec,
    cells: list[Cell],
    names: Sequence[str],
    tried: models.TriedModels,
    found: Found,
) -> None:
    """Do metric, losses and models fit data with these classes and that image size?"""
    for where, problem in metric_problems(spec.metric, names):
        found(where, problem)
    for problem in loss_problems(spec.metric, cells):
        found("metric.name", problem)
    for problem in native_problems(cells):
        found("factors", problem)
    seen: set[str] = set()
    for cell in cells:
        model, loss = cell.levels["model"], cell.levels["loss"]
        if loss not in seen:
            seen.add(loss)
            for problem in losses.fit_problems(cell.config["loss"], classes=names):
                found(f"factors.loss ({loss})", problem)
        if model not in seen:
            seen.add(model)
            for problem in tried.of(cell.config["model"]).problems:
                found(f"factors.model ({model})", problem)
    _searched_problems(cells, names, tried, found)


def _searched_problems(
    cells: list[Cell], names: Sequence[str], tried: models.TriedModels, found: Found
) -> None:
    """As above for the ends, or all values, of searched model and loss parameters."""
    told: set[tuple[str, str]] = set()
    for cell in cells:
        for path, config in _probed(cell, ("model", "loss")):
            problems = (
                losses.fit_problems(config["loss"], classes=names)
                if path.startswith("loss.")
                else tried.of(config["model"]).problems
            )
            for problem in problems:
                if (path, problem.what) not in told:
                    told.add((path, problem.what))
                    found(f"parameters.{path}", replace(problem, key=""))


def _probed(cell: Cell, sections: Sequence[str]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Configs of a cell with the ends, or all values, of each searched parameter of some sections.

    Yields:
        The parameter's path, and the config.
    """
    for path, parameter in cell.parameters.items():
        if path.split(".")[0] in sections and not space.mistakes(parameter):
            for value in space.probes(parameter):
                config = cell.fill({path: value})
                if not _value_problems(config, path):
                    yield path, config


def batch_problems(
    spec: SweepSpec,
    cells: Sequence[Cell],
    tried: models.TriedModels,
    found: Found,
    trained_on: Mapping[int, int] | None = None,
) -> None:
    """Does every model train with the smallest batch that may come?

    Args:
        spec: the sweep.
        cells: of it.
        tried: the models.
        found: is told each mistake.
        trained_on: images that each fold is trained on, for the last batch of an epoch; None looks
            at the batch size alone.
    """
    told: set[str] = set()
    for cell in cells:
        if BATCH_SIZE in cell.parameters and space.mistakes(cell.parameters[BATCH_SIZE]):
            continue
        sizes = sorted({*cell.bounds(BATCH_SIZE), *map(int, cell.own(BATCH_SIZE))})  # type: ignore[arg-type]
        configs = [cell.config, *(config for _, config in _probed(cell, ("model",)))]
        one = max((tried.of(config["model"]) for config in configs), key=lambda one: one.least)
        label = cell.levels["model"]
        if one.least > max(1, sizes[0]) and trained_on is None and label not in told:
            told.add(label)
            key = _key(spec, BATCH_SIZE)
            found(key, _too_small(one, label, spec.dataset.image_size, key))
        for fold, images in (trained_on or {}).items():
            last = min(smallest(images, size) for size in sizes)
            if last < one.least and label not in told:
                told.add(label)
                what = f"{label} is trained on a batch of {last} in fold {fold}, of {images} images"
                hint = f"it takes {one.least} or more ({one.why}): add images"
                found("dataset", Problem(what, hint=hint))


def _too_small(one: Tried, label: str, image_size: tuple[int, int], key: str) -> Problem:
    height, width = image_size
    what = f"{label} cannot be trained with batches of one image of {height}×{width}: {one.why}"
    hint = f"the smallest batch that works is {one.least}: "
    if key == BATCH_SIZE:
        hint += f"set {key} to that or more"
    else:
        hint += f"leave values below out of {key}"
    if one.larger is not None:
        hint += f"; with dataset.image_size {one.larger[0]}×{one.larger[1]}, 1 would work"
    return Problem(what, hint=hint)


def _key(spec: SweepSpec, path: str) -> str:
    """Where the sweep file says what a path of the trial config is."""
    for section, keys in (("parameters", spec.parameters), ("factors", spec.factors)):
        if path in keys:
            return f"{section}.{path}"
    return path
