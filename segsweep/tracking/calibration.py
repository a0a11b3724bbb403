"""What W&B is given of a calibration: a run a model, beside the trials of its config."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from segsweep.spec import SweepSpec
from segsweep.tracking import CalibratedModel
from segsweep.tracking.wandb_runs import WandbRuns, describe

JOB = "calibration"
COLUMNS = (
    "of", "fold", "dataset", "region", "scaling", "score", "temperature", "fitted", "metric",
    "value", "low", "high", "gain", "gain_low", "gain_high",
)  # fmt: skip


def log(spec: SweepSpec, run_directory: Path, models: Sequence[CalibratedModel]) -> list[str]:
    """Write a run a model: curves over T, a table of all rows, reliability diagrams.

    Returns:
        What went wrong, a line each: losing W&B costs no result.
    """
    files = WandbRuns(spec, run_directory, spec.wandb_mode == "online")
    errors = []
    for model in models:
        try:
            _write(files, model)
        except Exception as error:
            errors.append(describe(error))
    if files.problem is not None:
        errors.insert(0, f"the server was lost ({files.problem}); runs are kept offline")
    return list(dict.fromkeys(errors))


def _write(files: WandbRuns, model: CalibratedModel) -> None:
    import wandb

    opened = files.open(
        f"{JOB}-{model.config_id}",
        name=f"{model.name} {JOB}",
        group=model.config_id,
        job_type=JOB,
        config={"config_id": model.config_id, "temperature": model.temperature},
    )
    step = opened.first
    for temperature, curves in curves_of(model):
        opened.log({"temperature": temperature, **curves}, step)
        step += 1
    rows = [*model.calibration, *model.anomaly]
    cells: list[Any] = [[row.get(column) for column in COLUMNS] for row in rows]
    names: list[Any] = list(COLUMNS)
    table = wandb.Table(columns=names, data=cells)
    bins: list[Any] = [
        [one["scaling"], place, pixels, *values]
        for one in model.diagrams
        for place, (pixels, *values) in enumerate(
            zip(one["pixels"], one["confidence"], one["accuracy"], strict=True)
        )
    ]
    columns: list[Any] = ["scaling", "bin", "pixels", "confidence", "accuracy"]
    diagram = wandb.Table(columns=columns, data=bins)
    opened.log({"calibration": table, "reliability": diagram}, step)
    files.finish(opened)


def curves_of(model: CalibratedModel) -> Iterable[tuple[float, dict[str, Any]]]:
    """What is drawn over T, T by T: of fold models together, or of the one there is."""
    drawn: dict[float, dict[str, Any]] = {}
    for row in model.calibration:
        if row["of"] == "config" and row["scaling"] == "temperature" and not row["fitted"]:
            place = drawn.setdefault(row["temperature"], {})
            place[f"{row['dataset']}/{row['region']}/{row['metric']}"] = row["value"]
    for row in model.anomaly:
        if row["of"] == "config" and row["temperature"] is not None:
            place = drawn.setdefault(row["temperature"], {})
            place[f"{row['dataset']}/{row['score']}/{row['metric']}"] = row["value"]
    return sorted(drawn.items())
