"""Names: the one place that looks one up, and the one that reads a constructor's options.

A registry is a literal dict from name to constructor. What a user may set is exactly the
constructor's keyword-only parameters, so that a new option needs no second declaration.
"""

from __future__ import annotations

import difflib
import inspect
import itertools
import math
import os
from collections.abc import Callable, Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import Any, TypeVar, get_type_hints

from pydantic import BaseModel, ConfigDict, ValidationError, create_model

from segsweep.errors import Problem, UnknownName

T = TypeVar("T")
COMPARED = 2000  # names at most that a mistyped one is compared with
# what other tools call our keys
ELSEWHERE = {
    "learning_rate": "lr", "eta": "reduction_factor", "max_epochs": "epochs", "n_epochs": "epochs",
    "optim": "optimizer", "n_splits": "k", "n_folds": "k", "direction": "goal",
    "num_samples": "configs_per_cell", "n_trials": "configs_per_cell",
    "run_cap": "configs_per_cell", "augmentation": "augment",
    "scheduler": "schedule", "bs": "batch_size",
}  # fmt: skip


def lookup(table: Mapping[str, T], name: str, what: str) -> T:
    """The entry of ``table`` called ``name``.

    Args:
        table: a registry.
        name: what the user wrote.
        what: what the table holds, for the message (``"model"``).

    Raises:
        UnknownName: no such entry; the message lists the valid names and the nearest one.
    """
    if name in table:
        return table[name]
    raise UnknownName(Problem(f"unknown {what} {name!r}", hint=suggest(name, table)))


def suggest(name: str, valid: Iterable[str]) -> str:
    """``did you mean 'dice'? valid: bce, dice, …``, for a message's second line."""
    names = list(valid)
    near = nearest(name, names)
    hint = f"valid: {', '.join(names)}" if names else "none are allowed here"
    return f"did you mean {near!r}? {hint}" if near else hint


def nearest(name: str, names: Iterable[str]) -> str | None:
    """The valid name that was probably meant, capitals aside; None where none is near."""
    lower = {one.lower(): one for one in names}
    *parents, last = name.lower().split(".")
    known = ".".join([*parents, ELSEWHERE.get(last, last)])
    near = difflib.get_close_matches(known, lower, n=1, cutoff=0.6)
    return lower[near[0]] if near else None


@cache
def options(constructor: Callable[..., Any]) -> type[BaseModel]:
    """A pydantic model of the keyword-only parameters of ``constructor``.

    Constraints are written in the signature: ``width: Annotated[int, Field(ge=1)] = 64``.
    """
    target = constructor.__init__ if inspect.isclass(constructor) else constructor
    hints = get_type_hints(target, include_extras=True)
    fields: dict[str, Any] = {}
    for parameter in inspect.signature(constructor).parameters.values():
        if parameter.kind is inspect.Parameter.KEYWORD_ONLY:
            required = parameter.default is inspect.Parameter.empty
            fields[parameter.name] = (
                hints[parameter.name],
                ... if required else parameter.default,
            )
    name = f"{getattr(constructor, '__name__', 'constructor')}Options"
    return create_model(name, __config__=ConfigDict(extra="forbid"), **fields)


def fill(
    constructor: Callable[..., Any], given: Mapping[Any, Any], *, what: str, prefix: str = ""
) -> tuple[dict[str, Any], list[Problem]]:
    """Every option of ``constructor``: what was given, else the default.

    Args:
        constructor: its keyword-only parameters are the options.
        given: what the user wrote, without the name.
        what: whose options these are, for the message (``"model 'segnet'"``).
        prefix: put before the option's name in ``Problem.key`` (``"focal."``).

    Returns:
        The options (empty where there is a problem) and all problems.
    """
    fields = options(constructor)
    problems = {
        str(name): Problem(f"{name} = {value}: not a finite number", key=f"{prefix}{name}")
        for name, value in given.items()
        if isinstance(value, float) and not math.isfinite(value) and name in fields.model_fields
    }
    try:
        filled = fields.model_validate({str(k): v for k, v in given.items()}, strict=True)
    except ValidationError as error:
        for mistake in error.errors():
            name = str(mistake["loc"][0])
            if mistake["type"] == "extra_forbidden":
                text, hint = f"{what} has no option {name!r}", suggest(name, fields.model_fields)
            else:
                text, hint = f"{name} = {mistake['input']!r}: {_lower(mistake['msg'])}", ""
            problems.setdefault(name, Problem(text, key=f"{prefix}{name}", hint=hint))
    if problems:
        return {}, list(problems.values())
    return filled.model_dump(), []


def differing(constructor: Callable[..., Any], given: Mapping[str, Any]) -> str:
    """``width=32, norm=none``: the options in ``given`` that are not at their default."""
    return ", ".join(
        f"{name}={short(given[name])}"
        for name, field in options(constructor).model_fields.items()
        if name in given and given[name] != field.default
    )


def short(value: Any) -> str:
    """A value for a label: six significant digits, no trailing zeros."""
    if isinstance(value, list):
        return f"[{', '.join(map(short, value))}]"
    if isinstance(value, Mapping):
        return f"{{{', '.join(f'{name}: {short(one)}' for name, one in value.items())}}}"
    return f"{value:g}" if isinstance(value, float) else str(value)


def _lower(sentence: str) -> str:
    sentence = sentence.removeprefix("Value error, ")  # of a validator of our own
    return sentence[:1].lower() + sentence[1:]


def names_in(folder: Path) -> list[str]:
    """What lies in a folder; nothing where that cannot be said, or is much to compare with."""
    try:
        with os.scandir(folder) as entries:
            names = [entry.name for entry in itertools.islice(entries, COMPARED + 1)]
    except OSError:
        return []
    return names if len(names) <= COMPARED else []
