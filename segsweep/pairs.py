"""Which models and losses go together: a model with a loss of its own is trained with it alone."""

from __future__ import annotations

from collections.abc import Sequence

from segsweep import models
from segsweep.errors import Problem
from segsweep.losses import NATIVE
from segsweep.space import Cell


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
