"""Every parameter to where it belongs: a factor, a fixed value, or a searched one."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Any, get_args

from segsweep import cells, losses, models, yamlfile
from segsweep.errors import UserError
from segsweep.importing.conversion import Conversion, Untranslatable
from segsweep.importing.naming import FACTORS, is_guess, path_of
from segsweep.importing.parameters import flat, steps_of, translate, values_of
from segsweep.registry import suggest
from segsweep.spec import Train
from segsweep.yamlfile import KeyPath

OUTSIDE = ("dataset.", "folds.", "metric.")
WHOLE = {
    "train.epochs", "train.batch_size", "train.patience", "seed", "folds.k", "dataset.image_size",
}  # fmt: skip
WORDS: dict[str, Collection[str]] = {
    "train.precision": get_args(Train.model_fields["precision"].annotation),
    **{f"train.{key}": table for key, table in cells.TRAIN_NAMES.items()},
}


class Placing:
    """The parameters of one file.

    Args:
        work: parameters, factors and constants go to its ``data``.
    """

    def __init__(self, work: Conversion) -> None:
        self.work, self.data = work, work.data
        self.levels: dict[str, list[Any]] = {}

    def all(self) -> None:
        """Place every parameter, or say why not; what is a guess gives way to what is not."""
        given = flat(self.work.given.get("parameters", {}))
        for place, name, said in sorted(given, key=lambda one: is_guess(one[1])):
            try:
                path = path_of(name)
                if path in self.work.places:
                    first = yamlfile.dotted(self.work.places[path])
                    raise Untranslatable(f"{path} is {first} already")
                ours, notes = translate(said)
                self._put(path, place, self._in_our_words(path, place, _whole(path, ours)))
            except Untranslatable as error:
                self.work.leave(place, f"{error}: left out", error.hint)
                continue
            self.work.places[path] = place
            if name != path:
                self.work.renamed[path] = name
            for note in notes:
                self.work.leave(place, note)
        self._factors()

    def _in_our_words(self, path: str, place: KeyPath, said: dict[str, Any]) -> dict[str, Any]:
        """Names as we write them, those that exist; W&B's files often have classes' names."""
        listed = values_of(said)
        if path not in WORDS or listed is None:
            return said
        written = list(dict.fromkeys(str(value).lower() for value in listed))
        known = [name for name in written if name in WORDS[path]]
        for name in written:
            if name not in known:
                hint = suggest(name, WORDS[path])
                self.work.leave(place, f"unknown {path.split('.')[1]} {name!r}: left out", hint)
        if not known:
            raise Untranslatable("names nothing that exists here")
        return {"values": known}

    def _put(self, path: str, place: KeyPath, ours: dict[str, Any]) -> None:
        listed = values_of(ours)
        if path in FACTORS:
            if listed is None:
                raise Untranslatable("is to be a list of names")
            self.levels[path] = listed
        elif path == "seed" and listed is not None and len(listed) > 1:
            self.data["replicates"] = len(listed)
            self.work.leave(place, f"several seeds are replicates: {len(listed)} here")
        elif listed is not None and len(listed) == 1:
            self._fix(path, listed[0])
        elif path.startswith(OUTSIDE) or path == "seed":
            raise Untranslatable("is one value for the whole sweep here")
        elif self.data["method"] == "grid":
            if listed is None and (listed := steps_of(ours)) is not None:
                self.work.leave(place, f"is written as the values of W&B's grid, {_range(listed)}")
            if listed is None:
                raise Untranslatable("a grid needs values")
            self.data.setdefault("parameters", {})[path] = {"values": listed}
        else:
            self.data.setdefault("parameters", {})[path] = ours

    def _fix(self, path: str, value: Any) -> None:
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

    def _factors(self) -> None:
        names = self.levels.get("model", [])
        if "encoder" in self.levels:
            at, encoders = self.work.places["encoder"], self.levels["encoder"]
            if names:
                names = [f"{name}/{encoder}" for name in names for encoder in encoders]
                self.work.leave(at, "is part of the model here: architecture/encoder, crossed")
            else:
                what = "is part of the model here: left out"
                self.work.leave(at, what, "write unet/<encoder>")
        self._known("model", names, models.resolve)
        self._known("loss", self.levels.get("loss", []), losses.resolve)

    def _known(self, factor: str, names: Sequence[Any], resolve: Callable[[Any], Any]) -> None:
        known = []
        for name in dict.fromkeys(str(name).lower() for name in names):
            try:
                resolve(name)
                known.append(name)
            except UserError as error:
                first = error.problems[0]
                self.work.leave(self.work.places[factor], f"{first.what}: left out", first.hint)
        if known:
            self.data.setdefault("factors", {})[factor] = known


def _whole(path: str, ours: dict[str, Any]) -> dict[str, Any]:
    """16.0 as 16, where only whole numbers can stand."""

    def number(value: Any) -> Any:
        return int(value) if isinstance(value, float) and value.is_integer() else value

    if path in WHOLE and "value" in ours:
        return ours | {"value": number(ours["value"])}
    if path in WHOLE and "values" in ours:
        return ours | {"values": [number(value) for value in ours["values"]]}
    return ours


def _range(values: Sequence[Any]) -> str:
    return f"{values[0]:g} to {values[-1]:g}"
