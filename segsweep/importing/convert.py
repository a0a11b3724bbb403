"""A W&B sweep file, key by key."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from segsweep import cells, losses, spec
from segsweep.errors import Problem, SpecError, UserError
from segsweep.importing import limits, merging
from segsweep.importing.conversion import Conversion, Imported
from segsweep.importing.lacking import missing
from segsweep.importing.naming import is_guess, written
from segsweep.importing.placing import Placing
from segsweep.metrics.scores import BINARY, BOUNDARY, MULTICLASS, RANKING
from segsweep.yamlfile import Document

METRICS = ("loss", *BINARY, *MULTICLASS, *RANKING, *BOUNDARY)
CALLED = {"jaccard": "iou", "mean_iou": "miou", "dice_score": "dice", "dice_coef": "dice"}
LEFT = {
    "program": "segsweep trains itself: it starts no script",
    "command": "segsweep trains itself: it starts no command",
    "controller": "segsweep decides itself which config is next",
    "job": "launch --address runs on a cluster",
    "image_uri": "launch --address runs on a cluster",
    "scheduler": "launch --address runs on a cluster",
    "launch": "launch --address runs on a cluster",
}
TAKEN = (
    "name", "description", "project", "entity", "method", "metric", "parameters",
    "early_terminate", "run_cap",
)  # fmt: skip

# ours that is no parameter → W&B's that it comes from
KEYS = {
    "name": "name", "project": "project", "entity": "entity", "description": "description",
    "method": "method", "metric": "metric", "early_stopping": "early_terminate",
    "configs_per_cell": "run_cap",
}  # fmt: skip


def convert(path: Path, overrides: Sequence[str] = ()) -> Imported:
    """Turn a W&B sweep file into ours.

    Args:
        path: the YAML file; nothing of the environment is put into it.
        overrides: ``key=value`` of ours, for what W&B's file does not hold: ``dataset.name=ph2``.

    Raises:
        SpecError: it is not YAML, has tags or duplicate keys, or is no W&B sweep file; or an
            override is no value of ours.
    """
    document = merging.read(path)
    problems = document.problems
    if "factors" in document.data:
        problems.append(Problem("is a sweep file of segsweep already", str(path), "factors"))
    elif not isinstance(document.data.get("parameters"), Mapping):
        hint = "one has method:, metric: and parameters:"
        problems.append(Problem("is no W&B sweep file: no parameters", str(path), hint=hint))
    if problems:
        raise SpecError(problems)
    work = Conversion(document)
    work.places |= {ours: (theirs,) for ours, theirs in KEYS.items()}
    for key in TAKEN:
        work.without_variables(key)
    _head(work, path)
    _metric(work)
    Placing(work).all()
    limits.stopping(work)
    made = _overridden(work, overrides)
    _options(work, made)
    limits.budget(work)
    _names(work)
    work.result.left.sort(key=lambda problem: int(problem.where.rpartition(":")[2]))
    work.result.missing, work.result.fill = missing(work, made)
    return work.result


def _overridden(work: Conversion, overrides: Sequence[str]) -> Document:
    """Our file with ``--set`` applied; what stands there is to be of the right kind.

    Raises:
        SpecError: it is not.
    """
    made = Document("the new file", work.data)
    spec.override(made, overrides)
    _, problems = spec.parse(made)
    if wrong := [problem for problem in problems if problem.where == "--set"]:
        raise SpecError(wrong)
    return made


def _options(work: Conversion, made: Document) -> None:
    """Leave out options that no model and no loss of the sweep has, where these are known."""
    _guess(work, made)
    read, _ = spec.parse(made)
    if read is None or not {"model", "loss"} <= read.factors.keys():
        return
    built = cells.build(read, {}, lambda _at, _problem: None)
    own = [path for path in read.parameters if path in work.places]
    for path in own if built else ():
        if not any(path in cell.parameters for cell in built):
            _drop(work, path, "no model or loss of the sweep has it: left out")


def _guess(work: Conversion, made: Document) -> None:
    """Take a bare ``gamma`` for a focal loss's where there is one: a schedule may have it, too."""
    path = "loss.focal.gamma"
    factors = made.data.get("factors", {})
    if not is_guess(work.renamed.get(path, "")) or path not in work.data.get("parameters", {}):
        return
    if not any(_is_focal(level) for level in factors.get("loss", ())):
        hint = f"if it is the focal loss's, write it as {path}"
        _drop(
            work, path, "no loss of the sweep is focal, and a schedule may have one: left out", hint
        )


def _is_focal(level: Any) -> bool:
    try:
        return "focal" in losses.resolve(level)
    except UserError:
        return False


def _drop(work: Conversion, path: str, why: str, hint: str = "") -> None:
    del work.data["parameters"][path]
    work.renamed.pop(path, None)
    work.leave(work.places[path], why, hint)


def _names(work: Conversion) -> None:
    """Say which parameters have other names here: in one line where they are not nested."""
    plain = []
    for path, name in work.renamed.items():
        if path == "encoder":
            continue
        if "." in name or is_guess(name):
            work.leave(work.places[path], f"is written {written(path)}")
        else:
            plain.append(f"{name} is written {written(path)}")
    if plain:
        work.leave(("parameters",), ", ".join(plain))


def _head(work: Conversion, path: Path) -> None:
    """Names, the method, and keys that have no counterpart."""
    name = str(work.given.get("name") or path.stem)
    work.data["name"] = re.sub(r"[^A-Za-z0-9_.-]+", "_", name).strip("_.-")[:100] or "imported"
    if "name" in work.given and work.data["name"] != name:
        work.leave(("name",), f"is written {work.data['name']}: it names a folder here")
    for key in ("project", "entity", "description"):
        if work.given.get(key) is not None:
            work.data[key] = str(work.given[key])
    for key in work.given:
        if key not in TAKEN:
            work.leave((key,), LEFT.get(key, "has no counterpart"))
    method = work.given.get("method", "bayes")
    if method not in ("bayes", "random", "grid"):
        work.leave(("method",), f"{method!r} has no counterpart: bayes is written")
        method = "bayes"
    work.data["method"] = method


def _metric(work: Conversion) -> None:
    """The compared metric, by our name for it."""
    given = work.given.get("metric")
    if not isinstance(given, Mapping):
        if given is not None:
            work.leave(("metric",), "is not a mapping of name and goal")
        return
    name = str(given.get("name", ""))
    plain = re.sub(r"^(val|valid|validation|test|eval)[/_.\- ]+", "", name.lower())
    plain = CALLED.get(plain, plain).replace("-", "_")
    if plain in METRICS or plain.startswith("iou_"):
        goal = "minimize" if plain in ("loss", "fpr95") else "maximize"
        work.data["metric"] = {"name": f"val/{plain}", "goal": goal}
        if work.data["metric"]["name"] != name:
            work.leave(("metric", "name"), f"{name} is written val/{plain}")
        if given.get("goal", "minimize") != goal:
            work.leave(("metric", "goal"), f"is {goal} for val/{plain}")
    else:
        work.leave(("metric", "name"), f"{name!r} is no metric here: the default val/iou stays")
    for key in given:
        if key not in ("name", "goal"):
            work.leave(("metric", key), "has no counterpart")
