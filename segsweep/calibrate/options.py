"""Datasets and models as they are written on a command line: ``key=value``; and ``--set``."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import ValidationError

from segsweep.errors import Problem, SpecError
from segsweep.pairs import calibration_problems
from segsweep.spec import SweepSpec
from segsweep.spec.mistakes import OWN_DATASETS
from segsweep.spec.shape import NAME, Calibration, Scored
from segsweep.yamlfile import scalar

_TEXT = ("root", "image_size")  # is no YAML: 0x4 would be a number


def parse_datasets(texts: Sequence[str], at_least: int = 0) -> dict[str, Scored]:
    """``name=smiyc,root=DIR,layout=fishyscapes,called=lost_and_found`` → by name in results.

    Args:
        texts: one a dataset.
        at_least: so many must be given.

    Raises:
        SpecError: every mistake.
    """
    found: dict[str, Scored] = {}
    problems: list[Problem] = []
    for text in texts:
        try:
            called, one = _dataset(text)
        except SpecError as error:
            problems += error.problems
            continue
        if called in found:
            what = f"two datasets are called {called!r}"
            problems.append(Problem(what, "--dataset", hint="tell them apart: called=NAME"))
        found[called] = one
    if len(texts) < at_least:
        problems.append(Problem("is missing", "--dataset", hint="write name=camvid,root=DIR,…"))
    if problems:
        raise SpecError(problems)
    return found


def _dataset(text: str) -> tuple[str, Scored]:
    pairs = _pairs(text, "--dataset")
    called = str(pairs.pop("called", pairs.get("name", "")))
    if not re.fullmatch(NAME, called) or called in OWN_DATASETS:
        what = f"{called!r} cannot be the name of a dataset in results"
        raise SpecError(Problem(what, "--dataset", hint="write name=smiyc,called=NAME,root=DIR"))
    if "image_size" in pairs:
        pairs["image_size"] = [int(side) for side in re.findall(r"\d+", pairs["image_size"])]
    if isinstance(odd := pairs.get("anomaly"), str):
        pairs["anomaly"] = odd.split("+")
    try:
        return called, Scored.model_validate(pairs)
    except ValidationError as error:
        raise SpecError(
            Problem(f"{item['msg']} (got {item['input']!r})", "--dataset", str(item["loc"][0]))
            for item in error.errors()
        ) from error


def parse_model(text: str) -> dict[str, Any]:
    """``erfnet,width=16`` → a model's name and options."""
    name, _, rest = text.partition(",")
    return {"name": name, **(_pairs(rest, "--model") if rest else {})}


def _pairs(text: str, where: str) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for part in text.split(","):
        key, equals, value = part.partition("=")
        if not equals or not key.strip():
            hint = "write key=value, parted by commas"
            raise SpecError(Problem(f"{part!r} is not key=value", where, hint=hint))
        name = key.strip()
        found[name] = value if name in _TEXT else scalar(value, name, where)
    return found


def overridden(
    spec: SweepSpec, overrides: Sequence[str], datasets: Mapping[str, Scored]
) -> SweepSpec:
    """A sweep's settings with others of its section ``calibration``.

    Raises:
        SpecError: a key that is not of that section, or a value that it cannot have.
    """
    plain = spec.calibration.model_dump(mode="json")
    problems = []
    for text in overrides:
        key, equals, value = text.partition("=")
        parts = key.strip().split(".")
        if not equals or parts[0] != "calibration" or len(parts) < 2:
            hint = "a finished run takes --set calibration.…=value alone"
            problems.append(Problem(f"{text!r} cannot be set", "--set", hint=hint))
            continue
        node = plain
        for part in parts[1:-1]:
            node = node.setdefault(part, {})
        try:
            node[parts[-1]] = scalar(value, key.strip())
        except SpecError as error:
            problems += error.problems
    plain["datasets"] |= {name: one.model_dump(mode="json") for name, one in datasets.items()}
    try:
        section = Calibration.model_validate(plain)
    except ValidationError as error:
        problems += [
            Problem(f"{item['msg']} (got {item['input']!r})", "--set", _path(item["loc"]))
            for item in error.errors()
        ]
        raise SpecError(problems) from error
    if section.temperatures.max <= section.temperatures.min:
        problems.append(Problem("max is not above min", "--set", "calibration.temperatures"))
    for key, problem in calibration_problems(section):
        place = ".".join(part for part in ("calibration", key, problem.key) if part)
        problems.append(Problem(problem.what, problem.where, place, problem.hint))
    if problems:
        raise SpecError(problems)
    return spec.model_copy(update={"calibration": section})


def _path(loc: tuple[int | str, ...]) -> str:
    return ".".join(["calibration", *map(str, loc)])
