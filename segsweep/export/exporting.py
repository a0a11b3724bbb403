"""``export``: from a finished run to a folder that can be shipped, or nothing at all."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from segsweep import rundir, spec
from segsweep.check import Checked
from segsweep.engine import prepare_images
from segsweep.errors import Problem, RunError, UserError
from segsweep.export import (
    describing,
    folder,
    graph,
    members,
    scoring,
    sweepfile,
    temperature,
)
from segsweep.export.choosing import best_slot, choose
from segsweep.export.retraining import Retrained, retrain
from segsweep.export.temperature import Kind, Temperature
from segsweep.progress import BEST
from segsweep.rundir import Run
from segsweep.state import ConfigState, Slot
from segsweep.trial import directory

SHIPPED = "fp32"  # precision that an exported model computes in


@dataclass(frozen=True)
class Exported:
    """What lies in the folder.

    Attributes:
        kind: one fold's model, the ensemble of all, or one trained on all images.
        graph: None where no ONNX graph was asked for.
        notes: what the user should know.
    """

    out: Path
    config_id: str
    cell: str
    kind: Kind
    graph: graph.Graph | None
    temperature: Temperature
    notes: tuple[str, ...]

    def as_dict(self) -> dict[str, Any]:
        """Plain values; the folder's own files say more."""
        return {
            "out": str(self.out),
            "config_id": self.config_id,
            "cell": self.cell,
            "kind": self.kind,
            "onnx": self.graph.as_dict() if self.graph else None,
            "temperature": self.temperature.as_dict(),
            "notes": list(self.notes),
        }


def export(
    path: Path,
    out: Path,
    *,
    config_id: str | None = None,
    ensemble: bool = False,
    retrain_all: bool = False,
    opset: int | None = None,
    onnx: bool = True,
    console: Console | None = None,
) -> Exported:
    """Export the champion of a run's best cell, or the config that is asked for.

    Args:
        path: the run directory.
        out: the folder to be made; it must not be there, or be empty.
        config_id: of a finished config, or the beginning of it.
        ensemble: all its fold models as one, instead of that with the best validation score.
        retrain_all: fit it once more, on all images that are not held out.
        opset: of ONNX; None leaves it to the exporter.
        onnx: whether to write the graph.
        console: where progress is shown; None shows nothing.

    Raises:
        UserError: refused; nothing is left at ``out``.
        Undecided: the retraining ended early.
    """
    folder.refuse_taken(out)
    if ensemble and retrain_all:
        hint = "an ensemble is made of the fold models as they are: leave one of the two out"
        raise RunError(Problem("does not go with --retrain", key="--ensemble", hint=hint))
    if onnx:
        graph.require(opset)
    run = rundir.load(path)
    kind: Kind = "ensemble" if ensemble else "retrained" if retrain_all else "fold"
    with folder.staged(out) as place:
        work = _Export(run, choose(run, config_id), kind, place, console or Console(quiet=True))
        return work.run_all(out, opset, onnx, chosen=config_id is None)


class _Export:
    """One export, into a folder that is not yet in its place."""

    def __init__(
        self, run: Run, config: ConfigState, kind: Kind, place: Path, console: Console
    ) -> None:
        self.run, self.config, self.kind = run, config, kind
        self.place, self.console = place, console
        self.notes: list[str] = []
        self.unread = ""  # why the images could not be
        self.split: dict[str, Any] = run.split
        self.classes: tuple[str, ...] = tuple(self.split["classes"])
        height, width = config.config["dataset"]["image_size"]
        self.size = (int(height), int(width))
        self.slots: list[Slot] = (
            [slot for slot in config.trials if slot in run.spec.slots]
            if kind == "ensemble"
            else [best_slot(run, config)]
        )
        text = sweepfile.text(run, config)
        (place / folder.CONFIG).write_text(text, encoding="utf-8")
        spec.load(place / folder.CONFIG)

    def run_all(self, out: Path, opset: int | None, onnx: bool, *, chosen: bool) -> Exported:
        found = temperature.of_run(
            self.run, self.config, self.kind, self.slots[0] if self.kind == "fold" else None
        )
        model = None if self.kind == "retrained" else self._model(None)  # may be damaged
        checked = self._data() if self._wants_images(found) else None
        fitted = None
        if model is None:
            fitted = self._retrain(checked)
            model = self._model(fitted)
        with self.console.status("scoring"):
            metrics, found = self._judge(model, checked, found)
            masks = scoring.masks(model, self._trial()) if self.kind == "fold" else None
        members.save(self.place / folder.WEIGHTS, model, self.config.config["model"], self.classes)
        written = self._graph(model, opset, found) if onnx else None
        facts = describing.facts(
            self.run, self.config, self.kind, self.slots, fitted, written, found, chosen=chosen
        )
        facts["masks"] = masks.as_dict() if masks else None
        facts["parameters"] = sum(one.numel() for one in model.parameters())
        describing.write(self.place, self.run, self.config, facts, metrics)
        folder.seal(self.place, facts)
        return Exported(
            out, self.config.config_id, self.config.cell, self.kind, written, found,
            tuple(self.notes),
        )  # fmt: skip

    def _wants_images(self, found: Temperature) -> bool:
        """Of a fold model all is known but its temperature, where nothing has fitted one.

        A trial in half precision has scored other masks than those that are shipped.
        """
        if self.kind != "fold":
            return True
        return bool(self.split["holdout"]) and (not found.fitted or self._rounded)

    @property
    def _rounded(self) -> bool:
        """The trial's scores are not those of the exported model, which computes in float32."""
        return bool(self.config.config["train"]["precision"] != SHIPPED)

    def _trial(self) -> Path:
        return directory(self.run.path, self.config.config_id, *self.slots[0])

    def _data(self) -> Checked | None:
        """The images, where they are still what the config was trained on.

        Raises:
            UserError: they are not, and are needed.
        """
        try:
            with self.console.status("checking and decoding images"):
                return sweepfile.checked(self.place / folder.CONFIG, self.run, self.config)
        except UserError as error:
            if self.kind == "retrained":
                raise
            self.unread = f"the holdout could not be read: {error.problems[0]}"
            self.notes.append(self.unread)
            return None

    def _retrain(self, checked: Checked | None) -> Retrained:
        assert checked is not None  # noqa: S101 - `_data` raises where it is needed
        with self.console.status("retraining") as status:
            return retrain(
                self.run,
                self.config,
                checked,
                lambda epoch, of: status.update(f"retraining: epoch {epoch} of {of}"),
            )

    def _model(self, fitted: Retrained | None) -> torch.nn.Module:
        paths = [
            directory(self.run.path, self.config.config_id, *slot) / BEST for slot in self.slots
        ]
        return members.from_checkpoints(
            self.config.config["model"],
            len(self.classes),
            paths if fitted is None else [fitted.checkpoint],
        )

    def _judge(
        self, model: torch.nn.Module, checked: Checked | None, found: Temperature
    ) -> tuple[dict[str, Any], Temperature]:
        """Scores with intervals, and the temperature."""
        metrics = scoring.of_config(self.run, self.config, self.classes)
        held: dict[str, Any] | None = None
        if self.kind == "fold":
            held = scoring.holdout_of_fold(self.run, self.config, self.slots[0], self.classes)
        if checked is not None and checked.holdout is not None:
            counted, fit = scoring.judge(copy.deepcopy(model), checked.holdout, self.config.config)
            if held is None or self._rounded:
                held = counted.described(self.run, self.classes, SHIPPED)
            if not found.fitted:
                found = temperature.of_holdout(fit)
                if found.fitted:
                    held["note"] = "The temperature was fitted on them, which changes no mask."
        elif self.unread and not found.fitted:
            found = temperature.none(f"{found.source}; {self.unread.splitlines()[0]}")
        if held is not None:
            metrics["holdout"] = held
        else:
            why = "no image was held out"
            if self.split["holdout"]:
                why = "the held-out images were not scored, or could not be read"
            metrics["no_holdout"] = why
        if not found.fitted:
            self.notes.append(f"T = 1: {found.source}")
        if found.at_bound:
            self.notes.append(temperature.bound(found.value))
        return metrics, found

    def _graph(self, model: torch.nn.Module, opset: int | None, found: Temperature) -> graph.Graph:
        kept = scoring.examples(self._trial())
        if kept is None:
            images = torch.randint(0, 256, (2, 3, *self.size)).to(torch.uint8)
        else:
            images = torch.from_numpy(kept[0]).permute(0, 3, 1, 2)
        with self.console.status("writing the ONNX graph and comparing it with torch"):
            written = graph.write(
                model,
                self.place / folder.GRAPH,
                self.size,
                prepare_images(images, torch.device("cpu")),
                opset=opset,
                metadata=describing.metadata(self.classes, self.size, found),
            )
        if written.any_size:
            return written
        written = describing.plainly(written, self.config.config["model"]["name"])
        size = f"{self.size[0]}×{self.size[1]}"
        self.notes.append(f"the graph takes {size} alone: {written.why_one_size}")
        return written
