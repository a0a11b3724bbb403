"""A dictionary of Python's values as one of a YAML file's: text, numbers, lists and mappings."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import numpy as np

from segsweep.errors import Problem, SpecError
from segsweep.yamlfile import KeyPath, dotted


def mapping(given: Mapping[Any, Any], name: str) -> dict[str, Any]:
    """The same in plain values: paths as text, NumPy's numbers and arrays as Python's.

    Args:
        given: what the user wrote.
        name: what it is called in messages.

    Raises:
        SpecError: with every value that a sweep file cannot hold.
    """
    problems: list[Problem] = []
    try:
        found = _mapping(given, (), name, problems)
    except RecursionError as error:
        raise SpecError(Problem("is nested too deeply", name)) from error
    if problems:
        raise SpecError(problems)
    return found


def _mapping(
    given: Mapping[Any, Any], path: KeyPath, name: str, problems: list[Problem]
) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in given.items():
        text = str(key)
        place = (*path, text)
        if text in found:
            problems.append(Problem("this key stands twice", name, dotted(place), "keep one"))
        found[text] = _value(value, place, name, problems)
    return found


def _value(value: Any, path: KeyPath, name: str, problems: list[Problem]) -> Any:
    if isinstance(value, np.generic | np.ndarray):
        value = value.tolist()
    if isinstance(value, os.PathLike):
        value = os.fspath(value)
    if isinstance(value, Mapping):
        return _mapping(value, path, name, problems)
    if isinstance(value, list | tuple | range):
        return [_value(one, (*path, i), name, problems) for i, one in enumerate(value)]
    if value is None or isinstance(value, bool):
        return value
    for kind in (str, int, float):  # their subclasses too, such as an Enum of texts
        if isinstance(value, kind):
            return kind.__str__(value) if kind is str else kind(value)
    what = f"no value of a sweep: {type(value).__name__}"
    hint = "write text, a number, a list or a dictionary"
    problems.append(Problem(what, name, dotted(path), hint))
    return None
