"""What goes together: scores with data, and a model that has its own loss with that loss alone."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from segsweep import models
from segsweep.calibration.anomaly import MASK_SCORES, PIXEL_SCORES
from segsweep.data import sources
from segsweep.errors import Problem, UserError
from segsweep.losses import NATIVE
from segsweep.metrics import extra_names, score_names
from segsweep.registry import suggest
from segsweep.space import Cell
from segsweep.spec.shape import Calibration, Metric


def metric_problems(metric: Metric, classes: Sequence[str]) -> list[tuple[str, Problem]]:
    """Names of scores that data with these classes does not have, each with its key."""
    scores = [*score_names(classes), *extra_names(len(classes))]
    valid = ["val/loss", *(f"val/{name}" for name in scores)]
    given = {"metric.name": metric.name}
    given |= {f"metric.also[{i}]": name for i, name in enumerate(metric.also)}
    return [
        (
            where,
            Problem(
                f"{name!r} does not exist for {len(classes)} classes", hint=suggest(name, valid)
            ),
        )
        for where, name in given.items()
        if name not in valid
    ]


def loss_problems(metric: Metric, cells: Sequence[Cell]) -> Iterator[Problem]:
    """Trials that differ in their loss, ranked by it: each would be measured by another ruler."""
    if metric.name != "val/loss" or not cells:
        return
    searched = sorted({p for cell in cells for p in cell.parameters if p.startswith("loss.")})
    if searched or any(cell.config["loss"] != cells[0].config["loss"] for cell in cells):
        by = ", ".join(searched) or ", ".join(dict.fromkeys(c.levels["loss"] for c in cells))
        what = f"val/loss is each trial's own training loss, and trials differ in it: {by}"
        score = "val/iou, or val/miou where there are more than two classes"
        yield Problem(what, hint=f"these losses are on different scales; use {score}")


def calibration_problems(calibration: Calibration) -> Iterator[tuple[str, Problem]]:
    """Names of scores and datasets that do not exist, each with the end of its key path."""
    scores = [*PIXEL_SCORES, *MASK_SCORES]
    for place, name in enumerate(calibration.scores):
        if name not in scores:
            problem = Problem(f"unknown score {name!r}", hint=suggest(name, scores))
            yield f"scores[{place}]", problem
    for key, wanted in calibration.datasets.items():
        root = Path(wanted.root) if wanted.root is not None else None
        try:
            source = sources.build(wanted.name, root=root, options=wanted.options)
            problems = source.scan()[1]
        except UserError as error:
            problems = list(error.problems)
        for problem in problems:
            yield f"datasets.{key}", problem


def native_problems(cells: Sequence[Cell]) -> list[Problem]:
    """Cells that cross a model that has a loss of its own with another, or ``native`` with others.

    Args:
        cells: of a sweep.

    Returns:
        One problem for each model, naming all losses that it cannot be crossed with.
    """
    wrong: dict[tuple[str, bool], list[str]] = {}
    for cell in cells:
        own = models.native_loss(cell.config["model"])
        if own != (NATIVE in cell.config["loss"]):
            losses = wrong.setdefault((cell.levels["model"], own), [])
            if cell.levels["loss"] not in losses:
                losses.append(cell.levels["loss"])
    problems = []
    for (model, own), losses in wrong.items():
        names = ", ".join(losses)
        rule = f"exclude it: add {{model: {_quoted(model)}, loss: [{names}]}} to exclude"
        if own:
            what = f"{model} is trained with its own loss, {NATIVE}, and not with {names}"
            hint = f"{rule}, and have {NATIVE} among the levels of loss"
        else:
            what, hint = f"{model} has no loss of its own, which {NATIVE} would be", rule
        problems.append(Problem(what, hint=hint))
    return problems


def _quoted(label: str) -> str:
    """A label as YAML reads it back inside braces."""
    return f"'{label}'" if "," in label or "{" in label else label
