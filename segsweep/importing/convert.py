"""A W&B sweep file, key by key."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from segsweep import cells, losses, models, spec, yamlfile
from segsweep.errors import Problem, SpecError, UserError
from segsweep.importing.parameters import Untranslatable, flat, path_of, translate, values_of
from segsweep.metrics.scores import BINARY, BOUNDARY, MULTICLASS, RANKING
from segsweep.yamlfile import Document, KeyPath

METRICS = ("loss", *BINARY, *MULTICLASS, *RANKING, *BOUNDARY)
CALLED = {"jaccard": "iou", "mean_iou": "miou", "dice_score": "dice", "dice_coef": "dice"}
LEFT = {
    "program": "segsweep trains itself: it starts no script",
    "command": "segsweep trains itself: it starts no command",
    "controller": "segsweep decides itself which config is next",
    "job": "`segsweep launch --address` runs on a cluster",
    "image_uri": "`segsweep launch --address` runs on a cluster",
    "scheduler": "`segsweep launch --address` runs on a cluster",
    "launch": "`segsweep launch --address` runs on a cluster",
}
TAKEN = (
    "name", "description", "project", "entity", "method", "metric", "parameters",
    "early_terminate", "run_cap",
)  # fmt: skip
ETA = 3  # W&B's default


@dataclass
class Imported:
    """A sweep file of ours.

    Attributes:
        data: its keys and values.
        left: what was not taken over, or in other words, each with its line.
        missing: what is to be filled in or mended before it can be launched.
    """

    data: dict[str, Any]
    left: list[Problem] = field(default_factory=list)
    missing: list[Problem] = field(default_factory=list)

    @property
    def text(self) -> str:
        """As YAML."""
        return yamlfile.dump(self.data)


def convert(path: Path, overrides: Sequence[str] = ()) -> Imported:
    """Turn a W&B sweep file into ours.

    Args:
        path: the YAML file.
        overrides: ``key=value`` of ours, for what W&B's file does not hold: ``dataset.name=ph2``.

    Raises:
        SpecError: it is not YAML, has tags or duplicate keys, or is no W&B sweep file.
    """
    document = yamlfile.read(path)
    # `${env}` and the like are W&B's own words in a command
    problems = [one for one in document.problems if not one.key.startswith("command")]
    if "factors" in document.data:
        problems.append(Problem("is a sweep file of segsweep already", str(path), "factors"))
    elif not isinstance(document.data.get("parameters"), Mapping):
        hint = "one has method:, metric: and parameters:"
        problems.append(Problem("is no W&B sweep file: no parameters", str(path), hint=hint))
    if problems:
        raise SpecError(problems)
    work = _Conversion(document)
    work.head(path)
    work.metric()
    work.parameters()
    work.stopping()
    made = Document("the new file", work.data)
    spec.override(made, overrides)
    work.budget()
    work.result.missing += _missing(made)
    return work.result


class _Conversion:
    def __init__(self, document: Document) -> None:
        self.document, self.given = document, document.data
        self.data: dict[str, Any] = {}
        self.result = Imported(self.data)

    def leave(self, path: KeyPath, why: str, hint: str = "") -> None:
        """Say what was not taken over as it stands."""
        where = self.document.where(path)
        self.result.left.append(Problem(why, where, yamlfile.dotted(path), hint))

    def head(self, path: Path) -> None:
        """Names, the method, and keys that have no counterpart."""
        name = str(self.given.get("name") or path.stem)
        self.data["name"] = re.sub(r"[^A-Za-z0-9_.-]+", "_", name).strip("_.-")[:100] or "imported"
        if "name" in self.given and self.data["name"] != name:
            self.leave(("name",), f"is written {self.data['name']}: it names a folder here")
        for key in ("project", "entity", "description"):
            if self.given.get(key) is not None:
                self.data[key] = str(self.given[key])
        for key in self.given:
            if key not in TAKEN:
                self.leave((key,), LEFT.get(key, "has no counterpart"))
        method = self.given.get("method", "bayes")
        if method not in ("bayes", "random", "grid"):
            self.leave(("method",), f"{method!r} has no counterpart: bayes is written")
            method = "bayes"
        self.data["method"] = method

    def metric(self) -> None:
        """The compared metric, by our name for it."""
        given = self.given.get("metric")
        if not isinstance(given, Mapping):
            if given is not None:
                self.leave(("metric",), "is not a mapping of name and goal")
            return
        name = str(given.get("name", ""))
        plain = re.sub(r"^(val|valid|validation|test|eval)[/_.\- ]+", "", name.lower())
        plain = CALLED.get(plain, plain).replace("-", "_")
        if plain in METRICS or plain.startswith("iou_"):
            goal = "minimize" if plain in ("loss", "fpr95") else "maximize"
            self.data["metric"] = {"name": f"val/{plain}", "goal": goal}
            if self.data["metric"]["name"] != name:
                self.leave(("metric", "name"), f"{name} is written val/{plain}")
            if given.get("goal", "minimize") != goal:
                self.leave(("metric", "goal"), f"is {goal} for val/{plain}")
        else:
            self.leave(("metric", "name"), f"{name!r} is no metric here: the default val/iou stays")
        for key in given:
            if key not in ("name", "goal"):
                self.leave(("metric", key), "has no counterpart")

    def parameters(self) -> None:
        """Every parameter to where it belongs: a factor, a fixed value, or a searched one."""
        levels: dict[str, tuple[KeyPath, list[Any]]] = {}
        for place, name, said in flat(self.given["parameters"]):
            path = path_of(name)
            try:
                if path is None:
                    raise Untranslatable("is no setting here")
                ours, notes = translate(said)
                for note in notes:
                    self.leave(place, note)
                self._put(path, place, ours, levels)
            except Untranslatable as error:
                self.leave(place, f"{error}: left out")
        self._factors(levels)

    def _put(
        self,
        path: str,
        place: KeyPath,
        ours: dict[str, Any],
        levels: dict[str, tuple[KeyPath, list[Any]]],
    ) -> None:
        listed = values_of(ours)
        if path in ("model", "encoder", "loss"):
            if listed is None:
                raise Untranslatable("is to be a list of names")
            levels[path] = (place, listed)
        elif path == "seed" and listed is not None and len(listed) > 1:
            self.data["replicates"] = len(listed)
            self.leave(place, f"several seeds are replicates: {len(listed)} here")
        elif listed is not None and len(listed) == 1:
            self._fix(path, place, listed[0])
        elif path.startswith(OUTSIDE) or path == "seed":
            raise Untranslatable("is one value for the whole sweep here")
        elif self.data["method"] == "grid":
            if listed is None:
                raise Untranslatable("a grid needs values:")
            self.data.setdefault("parameters", {})[path] = {"values": listed}
        else:
            self.data.setdefault("parameters", {})[path] = ours

    def _fix(self, path: str, place: KeyPath, value: Any) -> None:
        """A constant."""
        if path == "dataset.image_size":
            value = [value, value]
        section, _, key = path.partition(".")
        if section in ("model", "loss"):
            self.data.setdefault("parameters", {})[path] = {"value": value}
        elif key:
            self.data.setdefault(section, {})[key] = value
        else:
            self.data[section] = value

    def _factors(self, levels: Mapping[str, tuple[KeyPath, list[Any]]]) -> None:
        place, names = levels.get("model", ((), []))
        if "encoder" in levels:
            at, encoders = levels["encoder"]
            if names:
                names = [f"{name}/{encoder}" for name in names for encoder in encoders]
                self.leave(at, "is part of the model here: architecture/encoder, crossed")
            else:
                self.leave(at, "is part of the model here: left out", "write unet/<encoder>")
        self._known("model", place, names, models.resolve)
        self._known("loss", *levels.get("loss", ((), [])), losses.resolve)

    def _known(
        self, factor: str, place: KeyPath, names: Sequence[Any], resolve: Callable[[Any], Any]
    ) -> None:
        known = []
        for name in dict.fromkeys(str(name) for name in names):
            try:
                resolve(name.lower())
                known.append(name.lower())
            except UserError as error:
                first = error.problems[0]
                self.leave(place, f"{first.what}: left out", first.hint)
        if known:
            self.data.setdefault("factors", {})[factor] = known

    def stopping(self) -> None:
        """``early_terminate``, whose only type is hyperband."""
        given, at = self.given.get("early_terminate"), "early_terminate"
        if given is None:
            self.data["early_stopping"] = {"type": "none"}
            return
        if not isinstance(given, Mapping) or given.get("type") != "hyperband":
            self.leave((at,), "is of no known type: left out")
            self.data["early_stopping"] = {"type": "none"}
            return
        eta = given.get("eta", ETA)
        factor = max(2, round(eta)) if isinstance(eta, (int, float)) else ETA
        if factor != eta:
            self.leave((at, "eta"), f"is written {factor}: a whole number from 2 here")
        ours = {"type": "hyperband", "grace_period": 1, "reduction_factor": factor}
        least, most, brackets = (given.get(key) for key in ("min_iter", "max_iter", "s"))
        if isinstance(least, int):
            ours["grace_period"] = least
        elif isinstance(most, int):
            # W&B's first bracket is at max_iter / eta^s
            ours["grace_period"] = max(1, most // factor ** int(brackets or 1))
            self.data.setdefault("train", {}).setdefault("epochs", most)
        self.data["early_stopping"] = ours
        self.leave((at,), "counts epochs here, not calls of log")
        for key in given:
            if key not in ("type", "eta", "min_iter", "max_iter", "s"):
                self.leave((at, key), "has no counterpart")

    def budget(self) -> None:
        """``run_cap``, which counts runs, as configs a cell."""
        cap = self.given.get("run_cap")
        if cap is None:
            return
        if isinstance(cap, bool) or not isinstance(cap, int) or cap < 1:
            self.leave(("run_cap",), f"{cap!r} is not a number of runs: left out")
        elif self.data["method"] == "grid":
            self.leave(("run_cap",), "a grid runs every combination: left out")
        elif not self.data.get("parameters"):
            self.leave(("run_cap",), "nothing is searched, so a cell is one config: left out")
        else:
            factors = self.data.get("factors", {})
            count = 1
            for levels in factors.values():
                count *= len(levels)
            self.data["configs_per_cell"] = max(1, cap // count)
            what = f"is {self.data['configs_per_cell']} configs in each of {count} cells"
            self.leave(("run_cap",), what, "each config runs folds.k times, once a fold")


OUTSIDE = ("dataset.", "folds.", "metric.")


def _missing(made: Document) -> list[Problem]:
    """What a launch would refuse, and what W&B's file does not hold."""
    found = []
    if "dataset" not in made.data or "name" not in made.data["dataset"]:
        hint = "--set dataset.name=folder --set dataset.root=DIR; without it, synthetic images"
        found.append(Problem("no data is named", key="dataset.name", hint=hint))
    for key, example in (("model", "[segnet, unet/resnet34]"), ("loss", "[bce, dice]")):
        if key not in made.data.get("factors", {}):
            hint = f"--set 'factors.{key}={example}'"
            found.append(Problem("no level is named", key=f"factors.{key}", hint=hint))
    read, problems = spec.parse(made)
    found += [one for one in problems if not one.key.startswith("factors")]
    if read is not None and not any(one.key.startswith("factors") for one in found):
        cells.build(read, {}, lambda at, what: found.append(replace(what, key=what.key or at)))
    return found
