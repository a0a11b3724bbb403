"""Parquet files from the ledger: versioned schemas, one way, rebuilt whole at any time.

=================== ==========================================================================
trials.parquet      one row a trial: what it was, how it ended, its best epoch's scores; data with
                    more than two classes has val_iou_<class> and holdout_iou_<class> besides
epochs.parquet      one row an epoch of a trial
images.parquet      pixels of every image at the best epoch by class: the evidence for paired tests
confusion.parquet   the same, summed over images, by true and predicted class
=================== ==========================================================================
"""

from __future__ import annotations

import json
import os
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from segsweep import pixelcounts
from segsweep.ledger import Event
from segsweep.state import ConfigState, SearchState, TrialState

SCHEMA_VERSION = "1"
FILES = ("trials", "epochs", "images", "confusion")
SCORES = (
    "loss", "iou", "dice", "precision", "recall", "pixel_accuracy", "iou_per_image",
    "miou", "mdice", "mprecision", "mrecall", "miou_present",
    "f1", "f1_per_image", "miou_per_image_present",
    "auroc", "ap", "fpr95", "boundary_iou", "boundary_iou_per_image", "mboundary_iou",
)  # fmt: skip

Row = dict[str, Any]


def _schema(*fields: tuple[str, pa.DataType]) -> pa.Schema:
    return pa.schema(list(fields), metadata={"segsweep_schema": SCHEMA_VERSION})


TEXT, WHOLE, REAL = pa.string(), pa.int64(), pa.float64()
VAL = [(f"val_{name}", REAL) for name in SCORES]
TRIALS = _schema(
    ("trial_id", TEXT), ("config_id", TEXT), ("cell", TEXT), ("model", TEXT), ("encoder", TEXT),
    ("loss", TEXT), ("fold", WHOLE), ("replicate", WHOLE), ("params", TEXT), ("status", TEXT),
    ("stopped_by", TEXT), ("epochs", WHOLE), ("best_epoch", WHOLE), ("metric", REAL), *VAL,
    ("train_seconds", REAL), ("images_per_second", REAL), ("parameters", WHOLE),
    ("attempts", WHOLE), ("micro_batch", WHOLE), ("node", TEXT), ("error", TEXT),
    ("champion", pa.bool_()),
    *[(f"holdout_{name}", REAL) for name in SCORES], ("runtime_ms", REAL),
)  # fmt: skip
EPOCHS = _schema(
    ("trial_id", TEXT), ("epoch", WHOLE), ("train_loss", REAL), *VAL, ("lr", REAL),
    ("seconds", REAL),
)  # fmt: skip
IMAGES = _schema(
    ("trial_id", TEXT), ("split", TEXT), ("image_id", TEXT), ("class", TEXT), ("tp", WHOLE),
    ("fp", WHOLE), ("fn", WHOLE), ("valid", WHOLE),
)  # fmt: skip
CONFUSION = _schema(
    ("trial_id", TEXT), ("split", TEXT), ("truth", TEXT), ("predicted", TEXT), ("pixels", WHOLE)
)


def write(
    run_directory: Path,
    events: Sequence[Event],
    metric: str,
    goal: str,
    only: Collection[str] = FILES,
) -> list[str]:
    """Write the files of a run, each in one step.

    Returns:
        What evidence is damaged and so missing from the files of images and pixels.

    Args:
        run_directory: where ``trials/`` lies and ``results/`` goes.
        events: of the whole ledger.
        metric: ledger name of the compared metric, ``val_iou``.
        goal: ``maximize`` or ``minimize``.
        only: names among ``FILES``; the others are left as they are.
    """
    folder = run_directory / "results"
    folder.mkdir(parents=True, exist_ok=True)
    tables, damaged = build(run_directory, events, metric, goal, only)
    for name, table in tables.items():
        _save(folder / f"{name}.parquet", table)
    return damaged


def build(
    run_directory: Path,
    events: Sequence[Event],
    metric: str,
    goal: str,
    only: Collection[str] = FILES,
) -> tuple[dict[str, pa.Table], list[str]]:
    """The tables that ``write`` writes, by name, and what it returns."""
    trials = trial_rows(events, metric, goal)
    own = class_scores(events)
    columns = [f"{split}_{name}" for split in ("val", "holdout") for name in own]
    tables = {}
    if "trials" in only:
        tables["trials"] = pa.Table.from_pylist(trials, schema=_with(TRIALS, columns))
    if "epochs" in only:
        schema = _with(EPOCHS, [f"val_{name}" for name in own])
        tables["epochs"] = pa.Table.from_pylist(epoch_rows(events), schema=schema)
    if not {"images", "confusion"} & set(only):
        return tables, []
    images, confusion, damaged = pixelcounts.rows(run_directory, trials)
    if "images" in only:
        tables["images"] = pa.Table.from_pylist(images, schema=IMAGES)
    if "confusion" in only:
        tables["confusion"] = pa.Table.from_pylist(confusion, schema=CONFUSION)
    return tables, damaged


def class_scores(events: Sequence[Event]) -> list[str]:
    """``iou_<class>`` of every class, for data with more than two; in the order of the classes."""
    for event in events:
        if event["event"] == "epoch":
            own = (name for name in event if name.startswith("val_iou_"))
            return [name.removeprefix("val_") for name in own if name not in EPOCHS.names]
    return []


def _with(schema: pa.Schema, names: Sequence[str]) -> pa.Schema:
    """A schema with a number more for each name."""
    for name in names:
        schema = schema.append(pa.field(name, REAL))
    return schema


def epoch_rows(events: Sequence[Event]) -> list[Row]:
    """One row an epoch; columns that the task does not have are null."""
    names = [*EPOCHS.names, *(f"val_{name}" for name in class_scores(events))]
    return [
        {name: event.get(name) for name in names} for event in events if event["event"] == "epoch"
    ]


@dataclass(frozen=True)
class Timed:
    """What the ledger says of how long a config's model takes for an image.

    Attributes:
        milliseconds: the least of several turns; in older ledgers the median of one.
        spread: between turns, in milliseconds; None in older ledgers.
        architecture: configs that share it share the timing; None in older ledgers.
        timing: number of the timing of the run in which all of one number were timed in turn.
    """

    milliseconds: float
    spread: float | None = None
    architecture: str | None = None
    timing: int | None = None


def timings(events: Sequence[Event]) -> dict[str, Timed]:
    """The last timing of each config that has one, by config id."""
    return {
        event["config_id"]: Timed(
            event["runtime_ms"],
            event.get("runtime_spread_ms"),
            event.get("architecture"),
            event.get("timing"),
        )
        for event in events
        if event["event"] == "runtime"
    }


def trial_rows(events: Sequence[Event], metric: str, goal: str) -> list[Row]:
    """One row a trial, with the scores of its best epoch."""
    state = SearchState(metric, events)
    champions = set(state.champions.values())
    scores = [*SCORES, *class_scores(events)]
    told, timed = _Told(events), timings(events)
    rows = []
    for trial in state.trials.values():
        config, name = state.configs[trial.config_id], trial.trial_id
        curve = told.epochs.get(name, [])
        best = _best(curve, metric, goal)
        scored = told.holdout.get(name, {})
        rows.append(
            {
                **_what(trial, config),
                "status": trial.status,
                "stopped_by": trial.stopped_by,
                "epochs": len(curve),
                "best_epoch": best.get("epoch"),
                "metric": best.get(metric),
                **{f"val_{name}": best.get(f"val_{name}") for name in scores},
                **_speed(curve),
                "parameters": best.get("parameters"),
                "attempts": trial.attempts,
                "micro_batch": trial.micro_batch or config.config["train"].get("batch_size"),
                "node": told.ends.get(name, {}).get("node"),
                "error": trial.error,
                "champion": trial.config_id in champions,
                **{f"holdout_{name}": scored.get(f"holdout_{name}") for name in scores},
                "runtime_ms": timed[trial.config_id].milliseconds
                if trial.config_id in timed
                else None,
            }
        )
    return rows


class _Told:
    """What the ledger says of trials, by trial."""

    def __init__(self, events: Sequence[Event]) -> None:
        self.epochs: dict[str, list[Event]] = {}
        self.ends: dict[str, Event] = {}
        self.holdout: dict[str, Event] = {}
        for event in events:
            if event["event"] == "epoch":
                self.epochs.setdefault(event["trial_id"], []).append(event)
            elif event["event"] == "end":
                self.ends[event["trial_id"]] = event
            elif event["event"] == "holdout":
                self.holdout[event["trial_id"]] = event


def _what(trial: TrialState, config: ConfigState) -> Row:
    """What a trial was."""
    model = str(config.config["model"]["name"])
    return {
        "trial_id": trial.trial_id,
        "config_id": trial.config_id,
        "cell": config.cell,
        "model": model,
        "encoder": model.partition("/")[2] or None,
        "loss": config.levels["loss"],
        "fold": trial.fold,
        "replicate": trial.replicate,
        "params": json.dumps(config.params),
    }


def _speed(curve: Sequence[Event]) -> Row:
    """How long a trial trained, and how fast."""
    seconds = sum(event["train_seconds"] for event in curve)
    images = sum(event["images"] for event in curve)
    return {
        "train_seconds": seconds,
        "images_per_second": images / seconds if seconds else None,
    }


def _best(curve: Sequence[Event], metric: str, goal: str) -> Event:
    """The first epoch with the best value; the first epoch where none has one."""
    sign = 1 if goal == "maximize" else -1
    known = [event for event in curve if event.get(metric) is not None]
    if not known:
        return curve[0] if curve else {}
    return max(known, key=lambda event: sign * event[metric])


def _save(path: Path, table: pa.Table) -> None:
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        pq.write_table(table, temporary)
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
