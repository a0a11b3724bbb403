"""What is said about an exported model: to programs in JSON, to people in the card."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from segsweep import models
from segsweep.data import palette
from segsweep.export import card, folder, preprocessing
from segsweep.export.graph import Graph
from segsweep.export.retraining import Retrained
from segsweep.export.temperature import Kind, Temperature
from segsweep.identity import since
from segsweep.losses import IGNORE
from segsweep.rundir import Run
from segsweep.state import ConfigState, SearchState, Slot

NO_ONNX = "left out with --no-onnx"
# what the exporter says of these is the name of a node
FIXED_GRIDS = {"pspnet", "upernet"}
ON_GRIDS = (
    "this architecture averages over grids of fixed numbers of cells, whose places a graph holds "
    "for one size; export a sweep of another dataset.image_size, or use --runtime torch"
)


def facts(
    run: Run,
    config: ConfigState,
    kind: Kind,
    slots: Sequence[Slot],
    fitted: Retrained | None,
    written: Graph | None,
    found: Temperature,
    *,
    chosen: bool,
) -> dict[str, Any]:
    """What the manifest says of model and data.

    Args:
        run: the run.
        config: the exported one.
        kind: what was made of it.
        slots: whose models are in it.
        fitted: the fit on all images, where there was one.
        written: the graph; None where none was asked for.
        found: the temperature.
        chosen: the config is the champion of the best cell.
    """
    split = run.split
    data = {
        "name": run.spec.dataset.name,
        "images": split["images"],
        "held_out": len(split["holdout"]),
        "folds": run.spec.folds.count,
        "fingerprint": split["fingerprint"],
    }
    onnx: dict[str, Any] = {"written": False, "reason": f"no ONNX graph: {NO_ONNX}"}
    if written is not None:
        onnx = {"written": True, **written.as_dict()}
    return {
        "source": {
            **_origin(run, config),
            "kind": kind,
            "folds": [] if fitted else [fold for fold, _ in slots],
            "replicates": [] if fitted else [replicate for _, replicate in slots],
            "epochs": fitted.epochs if fitted else None,
            "images": fitted.images if fitted else None,
            "chosen": "the best of the best cell" if chosen else "asked for by its id",
        },
        "data": data,
        "defined_since": since(run.identity),
        "model": models.bare(config.config["model"]),
        "precision": config.config["train"]["precision"],
        "onnx": onnx,
        "temperature": found.as_dict(),
        "runtime": runtime(run, config),
    }


def _origin(run: Run, config: ConfigState) -> dict[str, Any]:
    """Whose config it is, and among how many it was found."""
    state = SearchState(run.metric, run.events)
    return {
        "run": run.spec.name,
        "config_id": config.config_id,
        "cell": config.cell,
        "schedule": config.config["train"]["schedule"],
        "cells": len({one.cell for one in state.configs.values()}),
        "configs": len(state.configs),
    }


def runtime(run: Run, config: ConfigState) -> dict[str, Any] | None:
    """What the run has measured of the config: milliseconds an image, and on what."""
    for event in reversed(run.events):
        if event["event"] == "runtime" and event["config_id"] == config.config_id:
            names = ("ms", "spread_ms", "device", "threads", "precision")
            return {name: event.get(f"runtime_{name}") for name in names}
    return None


def metadata(classes: Sequence[str], size: tuple[int, int], found: Temperature) -> dict[str, str]:
    """What the graph says of itself, for whoever has nothing else of the folder."""
    prepared = preprocessing.facts(size)
    told = {
        "classes": list(classes),
        "temperature": found.value,
        "mean": prepared["mean"],
        "std": prepared["std"],
        "size": list(size),
    }
    return {name: json.dumps(value, ensure_ascii=False) for name, value in told.items()}


def plainly(written: Graph, name: str) -> Graph:
    """The graph with a reason for its one size that says more than a node's name."""
    if name.partition("/")[0] in FIXED_GRIDS:
        return replace(written, why_one_size=ON_GRIDS)
    return written


def write(
    place: Path,
    run: Run,
    config: ConfigState,
    told: Mapping[str, Any],
    metrics: Mapping[str, Any],
) -> None:
    """Every file that is neither weights nor graph nor sweep file.

    Args:
        place: the folder.
        run: the run.
        config: the exported one.
        told: what the manifest will say.
        metrics: scores.
    """
    dataset = run.spec.dataset
    names: tuple[str, ...] = tuple(run.split["classes"])
    colours = palette.of(dataset.name, dataset.options, dataset.leave_out)
    classes = [
        {"class": number, "name": name, "colour": list(palette.rgb(colours[name]))}
        for number, name in enumerate(names)
    ]
    height, width = config.config["dataset"]["image_size"]
    prepared = preprocessing.facts((int(height), int(width)), run.split.get("depth"))
    folder.write_json(place / folder.CLASSES, {"classes": classes, "ignored_in_training": IGNORE})
    folder.write_json(place / folder.PREPROCESSING, prepared)
    folder.write_json(place / folder.CALIBRATION, told["temperature"])
    folder.write_json(place / folder.METRICS, metrics)
    given = {**told, "classes": names, "preprocessing": prepared, "root": dataset.root}
    text = card.text(given, metrics, config.params)
    (place / folder.CARD).write_text(text, encoding="utf-8")
