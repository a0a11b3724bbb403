"""Runs without training: a ledger as a launch would have left it, and evidence beside it."""

from __future__ import annotations

import json
import math
import random
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from segsweep import checkpoint, identity
from segsweep.identity import trial_id
from segsweep.rundir import Run, load
from segsweep.spec import SweepSpec, to_plain

Event = dict[str, Any]
CLASSES = ("background", "lesion")


def spec_of(**changes: Any) -> SweepSpec:
    data: dict[str, Any] = {
        "name": "made",
        "description": "a run that was never trained",
        "factors": {"model": ["segnet", "unet_vanilla"], "loss": ["bce", "dice"]},
        "parameters": {
            "train.lr": {"distribution": "log_uniform_values", "min": 1e-4, "max": 1e-2}
        },
        "folds": {"k": 3},
        "train": {"epochs": 6},
        "configs_per_cell": 3,
        "wandb": {"mode": "disabled"},
    }
    return SweepSpec.model_validate({**data, **changes})


class Made:
    """A run in the making.

    Args:
        folder: where its directory goes.
        spec: its settings.
        classes: of its data.
        seed: of every number in it.
    """

    def __init__(
        self, folder: Path, spec: SweepSpec, classes: Sequence[str] = CLASSES, seed: int = 0
    ) -> None:
        self.path, self.spec, self.classes = folder / spec.name, spec, list(classes)
        self.random = random.Random(seed)  # noqa: S311 - nothing is kept secret by it
        self.events: list[Event] = []
        self.clock = 1_800_000_000.0
        self.metric = spec.metric.name.replace("/", "_")
        self.add("launch", version="0.1.0", pid=1, host="here", command="segsweep launch made.yaml",
                 spec=to_plain(spec), device="cpu")  # fmt: skip
        self.add("split", fingerprint="f" * 64, folds_hash="a" * 16, classes=self.classes,
                 images=40, decodes=40, folds={f"i{n}": n % 3 for n in range(30)},
                 holdout=[f"h{n}" for n in range(10)])  # fmt: skip

    def add(self, event: str, **fields: Any) -> None:
        self.clock += 1.0
        self.events.append({"event": event, "time": self.clock, **fields})

    def config(self, model: str, loss: str, number: int, **params: float) -> str:
        cell = f"{model}/{loss}"
        values = {"train.lr": 10 ** self.random.uniform(-4, -2), **params}
        plain = {
            "model": {"name": model}, "loss": {loss: {}}, "seed": 0,
            "train": {"epochs": self.spec.train.epochs, "batch_size": 8, "lr": values["train.lr"]},
            "dataset": {}, "folds": {}, "metric": {},
        }  # fmt: skip
        config_id = identity.config_id({**plain, "seed": len(self.events)}, "data", "folds")
        self.add("config", config_id=config_id, cell=cell, number=number, params=values, draws={},
                 levels={"model": model, "loss": loss}, config=plain)  # fmt: skip
        return config_id

    def trial(
        self, config_id: str, fold: int, level: float, *, epochs: int | None = None,
        status: str | None = "finished", stopped_by: str | None = None, error: str | None = None,
    ) -> str:  # fmt: skip
        """A trial whose last epoch is its best, at ``level``."""
        name = trial_id(config_id, fold)
        self.add("start", trial_id=name, config_id=config_id, fold=fold, replicate=0, attempt=1,
                 micro_batch=None)  # fmt: skip
        last = self.spec.train.epochs if epochs is None else epochs
        for epoch in range(1, last + 1):
            value = level * (1 - 0.5 * math.exp(-3 * epoch / last)) / (1 - 0.5 * math.exp(-3))
            scores = {
                "val_loss": 1 - value, "val_iou": value, "val_dice": value, "val_miou": value,
                **{f"val_iou_{c}": value for c in self.classes if len(self.classes) > 2},
            }  # fmt: skip
            self.add("epoch", trial_id=name, epoch=epoch, train_loss=1 - value, lr=1e-3,
                     seconds=0.5, train_seconds=0.4, images=20, best_epoch=epoch,
                     parameters=1000 + len(config_id), **scores)  # fmt: skip
        if status is not None:
            self.add("end", trial_id=name, status=status, stopped_by=stopped_by, error=error,
                     node="here")  # fmt: skip
        return name

    def evidence(self, config_id: str, fold: int, images: int = 4, holdout: bool = False) -> None:
        """Counts and examples of one trial: discs, and predictions further and further off."""
        height, width, count = 12, 16, len(self.classes)
        rows, columns = np.mgrid[:height, :width]
        truths, predictions, matrices = [], [], []
        for i in range(images):
            truth = ((rows - 6) ** 2 + (columns - 8) ** 2 < 16).astype(np.uint8)
            if count > 2:
                truth = ((truth + columns + rows) % count).astype(np.uint8)
            prediction = np.roll(truth, i + fold, axis=1).astype(np.uint8)
            truth = truth.copy()
            truth[0, 0] = 255
            known = truth != 255
            pairs = truth[known].astype(int) * count + prediction[known]
            matrices.append(np.bincount(pairs, minlength=count * count).reshape(count, count))
            truths.append(truth)
            predictions.append(prediction)
        names = [f"{'h' if holdout else 'i'}{3 * i + fold}" for i in range(images)]
        tensors = {"matrix": torch.from_numpy(np.stack(matrices).astype(np.int64))}
        facts: dict[str, Any] = {"image_ids": names, "classes": self.classes}
        if not holdout:
            image = np.random.default_rng(0).integers(0, 255, (images, height, width, 3))
            tensors["examples.image"] = torch.from_numpy(image.astype(np.uint8))
            tensors["examples.truth"] = torch.from_numpy(np.stack(truths))
            tensors["examples.prediction"] = torch.from_numpy(np.stack(predictions))
            facts |= {"epoch": 3, "examples": names}
        name = "holdout" if holdout else "evidence"
        place = self.path / "trials" / config_id / f"fold{fold}" / f"{name}.safetensors"
        checkpoint.save(place, tensors, facts)

    def conclude(self, champions: Mapping[str, tuple[str, float]], status: str = "done") -> None:
        """Champions by cell, each with its milliseconds; a holdout score; the end."""
        for cell, (config_id, milliseconds) in champions.items():
            self.add("champion", cell=cell, config_id=config_id)
            for fold in range(self.spec.folds.count):
                self.add("holdout", trial_id=trial_id(config_id, fold), holdout_loss=0.3,
                         holdout_iou=0.5 + 0.01 * fold, holdout_miou=0.5)  # fmt: skip
            self.add("runtime", config_id=config_id, runtime_ms=milliseconds, timing=1,
                     runtime_spread_ms=0.1, architecture=config_id)  # fmt: skip
        self.add("close", status=status, undecided=0)

    def write(self) -> Run:
        """The ledger on the disk, and the run as a reader finds it."""
        (self.path / "ledger").mkdir(parents=True, exist_ok=True)
        lines = "".join(json.dumps(event, separators=(",", ":")) + "\n" for event in self.events)
        (self.path / "ledger" / "events.jsonl").write_text(lines)
        return load(self.path)


def small(folder: Path, **changes: Any) -> Made:
    """Four cells of three configs: one stopped at a rung, one by the race, the rest finished."""
    made = Made(folder, spec_of(**changes))
    champions = {}
    for c, (model, loss) in enumerate(
        (model, loss) for model in ("segnet", "unet_vanilla") for loss in ("bce", "dice")
    ):
        base = 0.6 + 0.05 * c
        best = made.config(model, loss, 0)
        for fold in range(3):
            made.trial(best, fold, base + 0.02 * fold)
            made.evidence(best, fold)
            made.evidence(best, fold, holdout=True)
        behind = made.config(model, loss, 1)
        name = made.trial(behind, 0, base - 0.3, epochs=2, status=None)
        made.add("rung", trial_id=name, epoch=2, value=base - 0.3, peers=3, threshold=base,
                 keep=False)  # fmt: skip
        made.add("end", trial_id=name, status="stopped", stopped_by="rung", node="here")
        raced = made.config(model, loss, 2)
        made.trial(raced, 0, base - 0.1)
        made.add("race", config_id=raced, incumbent=best, looks=1, gap=0.1, probability=0.01,
                 sigma=0.02, dof=4, keep=False)  # fmt: skip
        champions[f"{model}/{loss}"] = (best, 5.0 - c if c != 1 else 9.0)
    made.conclude(champions)
    return made


def large(folder: Path, cells: int = 9, configs: int = 20, epochs: int = 50) -> Made:
    """500 trials and more: of each cell every third config on all folds, the others stopped."""
    factors = {"model": [f"m{i}" for i in range(3)], "loss": [f"l{i}" for i in range(cells // 3)]}
    spec = spec_of(factors=factors, folds={"k": 5}, train={"epochs": epochs}, name="large")
    names = [f"class{i}" for i in range(19)]
    made = Made(folder, spec, names)
    champions = {}
    for cell in range(cells):
        model, loss = f"m{cell // (cells // 3)}", f"l{cell % (cells // 3)}"
        best = 0.0
        for number in range(configs):
            config = made.config(model, loss, number)
            level = 0.5 + 0.02 * cell + made.random.gauss(0, 0.02)
            if number % 2:
                made.trial(config, 0, level - 0.1, epochs=epochs // 4, status="stopped",
                           stopped_by="rung")  # fmt: skip
                continue
            for fold in range(5):
                made.trial(config, fold, level + 0.01 * fold)
            if level > best:
                best = level
                champions[f"{model}/{loss}"] = (config, 3.0 + cell)
        for fold in range(5):
            made.evidence(champions[f"{model}/{loss}"][0], fold)
            made.evidence(champions[f"{model}/{loss}"][0], fold, holdout=True)
    made.conclude(champions)
    return made
