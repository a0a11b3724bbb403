"""The table of datasets, and how a sweep's ``dataset`` options become a source."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from segsweep import registry
from segsweep.data.sources.base import IGNORE, Sample, Source
from segsweep.data.sources.camvid import CamVid
from segsweep.data.sources.carparts import CarParts
from segsweep.data.sources.cityscapes import Cityscapes
from segsweep.data.sources.folder import Folder
from segsweep.data.sources.mvtec import MvTec
from segsweep.data.sources.ph2 import Ph2
from segsweep.data.sources.smiyc import Smiyc
from segsweep.data.sources.synthetic_lesions import SyntheticLesions
from segsweep.errors import Problem, UserError

__all__ = ["IGNORE", "SOURCES", "Sample", "Source", "build", "resolve"]

SOURCES: dict[str, Callable[..., Source]] = {
    "ph2": Ph2,
    "folder": Folder,
    "camvid": CamVid,
    "cityscapes": Cityscapes,
    "mvtec": MvTec,
    "carparts": CarParts,
    "smiyc": Smiyc,
    "synthetic_lesions": SyntheticLesions,
}


def resolve(name: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """The options of source ``name`` with every default filled in.

    Args:
        name: a key of `SOURCES`.
        options: what the user set.

    Raises:
        UnknownName: there is no such source.
        UserError: unknown options and unfit values, all at once; `Problem.key` is the option.
    """
    constructor = registry.lookup(SOURCES, name, "dataset")
    model = registry.options(constructor)
    try:
        resolved: dict[str, Any] = model.model_validate(dict(options), strict=True).model_dump()
    except ValidationError as error:
        valid = list(model.model_fields)
        raise UserError(_problem(dict(detail), name, valid) for detail in error.errors()) from error
    constructor(None, **resolved)  # options that do not fit together
    return resolved


def build(name: str, *, root: Path | None, options: Mapping[str, Any]) -> Source:
    """The source ``name`` over the files in ``root``.

    Raises:
        UnknownName: there is no such source.
        UserError: see `resolve`.
    """
    return registry.lookup(SOURCES, name, "dataset")(root, **resolve(name, options))


def _problem(detail: Mapping[str, Any], name: str, valid: list[str]) -> Problem:
    key = ".".join(str(part) for part in detail["loc"])
    if detail["type"] == "extra_forbidden":
        what = f"dataset {name!r} has no option {key!r}"
        return Problem(what, key=key, hint=registry.suggest(key, valid))
    return Problem(f"{detail['msg']} (got {detail['input']!r})", key=key)
