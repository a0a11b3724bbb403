"""Meaning: do the names exist, do the pairs fit, is the data sound? Starts no trial."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from segsweep import cells as cells_module
from segsweep import models, tracking
from segsweep import spec as spec_module
from segsweep.data.cache import ImageSet, Prepared
from segsweep.data.content import Content
from segsweep.data.duplicates import duplicates
from segsweep.data.folds import Folds
from segsweep.data.sources import Source
from segsweep.data.sources.base import Palette
from segsweep.masks import Masks
from segsweep.opening import (
    Found,
    OnProgress,
    classes_of,
    decoded,
    list_images,
    shared_groups,
    source_of,
)
from segsweep.pairs import calibration_problems
from segsweep.space import EPOCHS, Cell
from segsweep.spec import SweepSpec


@dataclass(frozen=True)
class Checked:
    """A sweep file that can be run as it stands.

    Attributes:
        spec: its settings; ``auto`` values are not filled in yet.
        text: the file as it was given.
        cells: every combination of factor levels.
        classes: names of the labels.
        data: the images that trials see; ``holdout`` those that only the closing stage does.
        notices: what the user should know but need not change.
        content: what the masks hold.
        tried: the models, at the sweep's image size.
        palette: the dataset's own colour of each class, where its authors have given one.
    """

    spec: SweepSpec
    text: str
    source_options: Mapping[str, Any]
    cells: list[Cell]
    prepared: Prepared
    data: ImageSet
    holdout: ImageSet | None
    folds: Folds
    notices: tuple[str, ...]
    content: Content
    tried: models.TriedModels
    palette: Palette | None = None

    def as_dict(self) -> dict[str, Any]:
        """What the file holds, in numbers."""
        return {
            "name": self.spec.name,
            "cells": [cell.name for cell in self.cells],
            "configs": sum(cell.budget for cell in self.cells),
            "folds": self.spec.folds.count,
            "images": len(self.data.image_ids),
            "holdout_images": len(self.holdout.image_ids) if self.holdout else 0,
            "classes": list(self.data.classes),
            "content": self.content.as_dict(),
            "notices": list(self.notices),
        }

    def with_spec(self, spec: SweepSpec) -> Checked:
        """The same with other settings, such as ``auto`` filled in."""
        found = Found(None)
        cells = cells_module.build(spec, self.source_options, found)
        found.stop()
        return replace(self, spec=spec, cells=cells)


def check(
    path: Path, overrides: Sequence[str] = (), on_progress: OnProgress | None = None
) -> Checked:
    """Check a sweep file and its data, which is decoded into the cache where it is not there yet.

    Args:
        path: the sweep file.
        overrides: ``dotted.key=value`` strings.
        on_progress: is called with images decoded and their number.

    Raises:
        UserError: with every mistake of file and data.
    """
    document = spec_module.read(path, overrides)
    spec, problems = spec_module.parse(document)
    found = Found(document, problems)
    if spec is None:
        found.stop()
        raise AssertionError  # a file without a spec has problems
    source, options = source_of(spec, found)
    cells = cells_module.build(spec, options, found)
    for problem in tracking.problems(spec):
        found("tracking", problem)
    if source is not None:
        names = classes_of(source, spec, found)
        tried = models.TriedModels(len(names), spec.dataset.image_size)
        cells_module.meaning_problems(spec, cells, names, tried, found)
        cells_module.batch_problems(spec, cells, tried, found)
        list_images(source, spec, found)
    for key, problem in calibration_problems(spec.calibration):
        found(f"calibration.{key}", problem)
    found.stop()
    assert source is not None  # noqa: S101 - a missing source is a problem
    spec, notices = _clip(spec, cells)  # cells do not hang on it
    opened = decoded(source, spec, options, found, on_progress)
    prepared, data, holdout, folds = opened.prepared, opened.data, opened.holdout, opened.folds
    twins, accepted = duplicates(data, folds, holdout)
    for problem in twins:
        found("dataset", problem)
    masks = Masks.of(spec, opened)
    for key, problem in masks.problems():
        hint = "; ".join(filter(None, (problem.hint, *prepared.notes)))  # it may be the cause
        found(key, replace(problem, hint=hint))
    trained_on = {fold: len(folds.train_indices(fold)) for fold in range(spec.folds.count)}
    cells_module.batch_problems(spec, cells, tried, found, trained_on)
    found.stop()
    text = path.read_text(encoding="utf-8")
    shared = shared_groups(spec.folds.group_by, data, holdout)
    told = (
        *notices, *_model_notices(cells), *prepared.notes, *folds.notices, *shared, *accepted,
        *masks.notices(),
    )  # fmt: skip
    colours = _palette(source, data.classes)
    return Checked(
        spec, text, options, cells, prepared, data, holdout, folds, told, masks.content, tried,
        colours,
    )  # fmt: skip


def _palette(source: Source, classes: Sequence[str]) -> Palette | None:
    """The colours of the classes that are left to learn."""
    if source.palette is None:
        return None
    own = dict(zip(source.classes, source.palette, strict=True))
    return tuple(own[name] for name in classes)


def _model_notices(cells: Sequence[Cell]) -> list[str]:
    """What to know about the weight files of models, each said once."""
    own = {cell.levels["model"]: cell.config["model"] for cell in cells}
    return list(dict.fromkeys(note for model in own.values() for note in models.notices(model)))


def _clip(spec: SweepSpec, cells: Sequence[Cell]) -> tuple[SweepSpec, tuple[str, ...]]:
    """The first rung is no later than the last epoch that a trial of any cell may have."""
    if spec.early_stopping.type == "none" or not cells:
        return spec, ()
    grace, bounds = spec.early_stopping.grace_period, [cell.bounds(EPOCHS) for cell in cells]
    fewest, epochs = min(low for low, _ in bounds), max(high for _, high in bounds)
    if grace > epochs:
        stopping = spec.early_stopping.model_copy(update={"grace_period": epochs})
        what = f"is beyond the {epochs} epochs: clipped to {epochs}"
        notice = f"early_stopping.grace_period {grace} {what}"
        return spec.model_copy(update={"early_stopping": stopping}), (notice,)
    if grace > fewest:
        what = f"trials of at most {grace} epochs meet no rung ({EPOCHS} is {fewest} to {epochs})"
        return spec, (f"early_stopping.grace_period {grace}: {what}",)
    return spec, ()
