"""Run directories of simulated sweeps: a ledger and the evidence of every trial, no training."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch

from segsweep import checkpoint, results, rundir
from segsweep import spec as spec_module
from segsweep.rundir import Run
from segsweep.spec import SweepSpec
from segsweep.trial import directory
from tests.compare.simulated import Truth, simulate

MODELS, LOSSES = ("unet", "segnet"), ("dice", "bce")
CLASSES = ["background", "lesion"]


def spec_of(truth: Truth, **changes: Any) -> SweepSpec:
    data: dict[str, Any] = {
        "name": "simulated",
        "factors": {"model": list(MODELS), "loss": list(LOSSES)},
        "folds": {"k": max(2, truth.folds), "run": truth.folds},
        "replicates": truth.replicates,
        "metric": {"name": "val/iou_per_image"},
        "train": {"epochs": 2},
        "early_stopping": {"type": "none"},
    }
    return SweepSpec.model_validate({**data, **changes})


def make_run(
    place: Path,
    truth: Truth,
    *,
    seed: int = 0,
    finished: bool = True,
    closed: bool = True,
    fingerprint: str = "data",
    **changes: Any,
) -> Run:
    """A run of one config a cell; where it is not ``finished``, its last fold is still open."""
    spec, sweep = spec_of(truth, **changes), simulate(truth, np.random.default_rng(seed))
    names = [f"image{fold}-{i}" for fold in range(truth.folds) for i in range(truth.images)]
    held = [f"held{i}" for i in range(truth.images)]
    by = {name: f"g{i // truth.group}" for i, name in enumerate([*names, *held])}
    cells = {f"{model}/{loss}": 1 for model in MODELS for loss in LOSSES}
    lines: list[dict[str, Any]] = [
        {"event": "launch", "version": "0", "spec": spec_module.to_plain(spec), "cells": cells},
        {
            "event": "split", "fingerprint": fingerprint, "folds_hash": "folds", "holdout": held,
            "classes": CLASSES, "folds": {n: int(n[5]) for n in names},
            "groups": by if spec.folds.group_by else {},
        },
    ]  # fmt: skip
    for c, cell in enumerate(cells):
        lines += _config(c, cell)
        for fold, replicate in [(f, r) for f, r in spec.slots]:
            model = c * truth.replicates + replicate
            part, images = sweep.parts[fold], names[fold * truth.images : (fold + 1) * truth.images]
            score = float(sweep.scores[c, fold, replicate])
            lines += _trial(c, fold, replicate, score)
            if not finished and fold == truth.folds - 1:
                lines.pop()
                continue
            _evidence(place, (c, fold, replicate), "evidence", part.counts[model], images)
            model = (c * truth.folds + fold) * truth.replicates + replicate
            _evidence(place, (c, fold, replicate), "holdout", sweep.held.counts[model], held)
            score = float(sweep.holdout[c, fold, replicate])
            name = f"c{c}-f{fold}-r{replicate}"
            lines.append({"event": "holdout", "trial_id": name, "holdout_iou_per_image": score})
        lines.append({"event": "champion", "cell": cell, "config_id": f"c{c}"})
        lines.append(_runtime(c))
    if closed:
        lines.append({"event": "close", "status": "done"})
    ledger = place / "ledger" / "events.jsonl"
    ledger.parent.mkdir(parents=True, exist_ok=True)
    stamped = [{"time": 1000.0 + at, **line} for at, line in enumerate(lines)]
    ledger.write_text("".join(f"{json.dumps(line)}\n" for line in stamped))
    run = rundir.load(place)
    results.write(place, run.events, run.metric, run.spec.metric.goal)
    return run


def _runtime(number: int) -> dict[str, Any]:
    """Each cell's champion is of another size."""
    return {"event": "runtime", "config_id": f"c{number}", "runtime_ms": 10.0 - number,
            "runtime_spread_ms": 0.2, "architecture": f"a{number}", "timing": 1}  # fmt: skip


def _config(number: int, cell: str) -> list[dict[str, Any]]:
    model, loss = cell.split("/")
    config = {"model": {"name": model}, "train": {"epochs": 2, "batch_size": 4}}
    return [
        {"event": "config", "config_id": f"c{number}", "cell": cell, "number": 0, "draws": {},
         "params": {"train.lr": 0.01}, "levels": {"model": model, "loss": loss}, "config": config}
    ]  # fmt: skip


def _trial(number: int, fold: int, replicate: int, score: float) -> list[dict[str, Any]]:
    name = f"c{number}-f{fold}-r{replicate}"
    rest = dict.fromkeys(("val_loss", "train_loss", "train_seconds", "seconds", "lr"), 0.5)
    parameters = 100 + number
    epoch = {"event": "epoch", "trial_id": name, "images": 9, "parameters": parameters, **rest}
    return [
        {"event": "start", "trial_id": name, "config_id": f"c{number}", "fold": fold,
         "replicate": replicate, "attempt": 1},
        {**epoch, "epoch": 1, "val_iou_per_image": score - 0.1},
        {**epoch, "epoch": 2, "val_iou_per_image": score},
        {"event": "end", "trial_id": name, "status": "finished"},
    ]  # fmt: skip


def _evidence(
    place: Path, slot: tuple[int, int, int], name: str, counts: Any, images: list[str]
) -> None:
    tp, fp, fn, valid = (counts[:, 0, i].astype(np.int64) for i in range(4))
    matrix = np.stack([np.stack([valid - tp - fp - fn, fp], 1), np.stack([fn, tp], 1)], axis=1)
    config, fold, replicate = slot
    folder = directory(str(place), f"c{config}", fold, replicate)
    Path(folder).mkdir(parents=True, exist_ok=True)
    facts = {"image_ids": images, "classes": CLASSES}
    checkpoint.save(
        Path(folder) / f"{name}.safetensors", {"matrix": torch.from_numpy(matrix)}, facts
    )
