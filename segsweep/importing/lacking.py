"""What a launch would refuse in the file that an import made; each with the line of W&B's file."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from segsweep import cells, models, spec
from segsweep.data import sources
from segsweep.data.sources import Source
from segsweep.errors import Problem, UnknownName, UserError
from segsweep.importing.conversion import Conversion
from segsweep.opening import Found, classes_of, list_images
from segsweep.pairs import loss_problems, native_problems
from segsweep.spec import SweepSpec
from segsweep.yamlfile import Document

EXAMPLES = {"model": "[segnet, unet/resnet34]", "loss": "[bce, dice]"}
FOLDER = ("dataset.name=folder", "dataset.root=DIR")


def missing(work: Conversion, made: Document) -> tuple[list[Problem], list[str]]:
    """What is to be filled in or mended, as ``validate`` would say it without a look at images.

    Args:
        work: the conversion.
        made: our file, with ``--set`` applied.

    Returns:
        The problems, and for each an example for ``--set``; none where one has no example.
    """
    absent, fill = _absent(made)
    read, problems = spec.parse(made)
    found = Found(made, [one for one in problems if not one.key.startswith("factors")])
    if read is not None:
        _meaning(read, found)
    wrong = [
        replace(one, where=work.where(one.key)) if one.where == made.name else one
        for one in found.problems
    ]
    return absent + wrong, [] if wrong else fill


def _absent(made: Document) -> tuple[list[Problem], list[str]]:
    """What W&B's file does not hold."""
    found: list[Problem] = []
    fill: list[str] = []
    if "dataset" not in made.data or "name" not in made.data["dataset"]:
        hint = "--set dataset.name=folder --set dataset.root=DIR; without it, synthetic images"
        what = "no data is named, and so metric, losses and models are not checked against it"
        found.append(Problem(what, key="dataset.name", hint=hint))
        fill += FOLDER
    for name, example in EXAMPLES.items():
        if name not in made.data.get("factors", {}):
            key, given = f"factors.{name}", f"factors.{name}={example}"
            found.append(Problem("no level is named", key=key, hint=f"--set '{given}'"))
            fill.append(given)
    return found, fill


def _meaning(read: SweepSpec, found: Found) -> None:
    """Do names exist and pairs fit? The root is not looked at: it may be another machine's."""
    source: Source | None = None
    options: dict[str, Any] = {}
    if "name" in read.dataset.model_fields_set:
        try:
            options = sources.resolve(read.dataset.name, read.dataset.options)
            source = sources.build(read.dataset.name, root=None, options=options)
        except UserError as error:
            at = "dataset.name" if isinstance(error, UnknownName) else "dataset"
            for problem in error.problems:
                found(at, problem)
    whole = EXAMPLES.keys() <= read.factors.keys()
    built = cells.build(read, options, found) if whole else []
    if source is not None:
        names = classes_of(source, read, found)
        tried = models.TriedModels(len(names), read.dataset.image_size)
        cells.meaning_problems(read, built, names, tried, found)
        cells.batch_problems(read, built, tried, found)
        if read.dataset.root is None:  # its images are generated, or a root is what it lacks
            list_images(source, read, found)
        return
    for problem in loss_problems(read.metric, built):
        found("metric.name", problem)
    for problem in native_problems(built):
        found("factors", problem)
