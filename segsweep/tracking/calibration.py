"""What W&B is given of a calibration: a run a model, beside the trials of its config."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from segsweep.identity import digest
from segsweep.spec import SweepSpec
from segsweep.tracking import CalibratedModel, wandb_remembered
from segsweep.tracking.wandb_runs import WandbRuns
from segsweep.tracking.writer import describe

JOB = "calibration"
COLUMNS = (
    "of", "fold", "dataset", "region", "scaling", "score", "temperature", "fitted", "fit",
    "at_bound", "metric", "value", "low", "high", "gain", "gain_low", "gain_high", "error",
    "no_interval",
)  # fmt: skip
REMEMBERED = "calibration.json"  # in the run directory's wandb/: the run of each config
DIAGRAM = ("scaling", "bin", "pixels", "confidence", "accuracy")  # columns of reliability diagrams


def log(spec: SweepSpec, run_directory: Path, models: Sequence[CalibratedModel]) -> list[str]:
    """Write a run a model: curves over T, a table of all rows, reliability diagrams.

    Returns:
        What went wrong, a line each: losing W&B costs no result.
    """
    files = WandbRuns(spec, run_directory, spec.wandb_mode == "online")
    place = run_directory / "wandb" / REMEMBERED
    known = wandb_remembered.read(place, spec.project, spec.entity)
    errors = []
    for model in models:
        # what a server has been sent cannot be replaced: other numbers are another run
        key = f"{JOB}-{model.config_id}-{digest(plain(model))[:8]}"
        earlier = known.get(model.config_id)
        if earlier == key and files.has_all_of(files.id_of(key)):
            continue
        if earlier is not None:
            files.discard(files.id_of(earlier))
        try:
            _write(files, model, key)
            known[model.config_id] = key
            wandb_remembered.write(place, spec.project, spec.entity, known)
        except Exception as error:
            errors.append(f"W&B: {describe(error)}")
    if files.problem is not None:
        text = f"the server was lost ({files.problem}); runs are kept offline"
        errors.insert(0, f"W&B: {text}")
    return list(dict.fromkeys(errors))


def plain(model: CalibratedModel) -> list[Any]:
    """All that was found, for a digest."""
    rows = (model.calibration, model.anomaly, model.diagrams)
    return [repr(sorted(row.items())) for part in rows for row in part]


def _write(files: WandbRuns, model: CalibratedModel, key: str) -> None:
    import wandb

    opened = files.open(
        key,
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
    bins: list[Any] = bins_of(model)
    columns: list[Any] = list(DIAGRAM)
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
        if row["of"] == "config" and row["temperature"] is not None and not row["fitted"]:
            place = drawn.setdefault(row["temperature"], {})
            place[f"{row['dataset']}/{row['score']}/{row['metric']}"] = row["value"]
    return sorted(drawn.items())


def bins_of(model: CalibratedModel) -> list[list[Any]]:
    """Rows of its reliability diagrams, a bin each, with the columns of ``DIAGRAM``."""
    return [
        [one["scaling"], place, pixels, *values]
        for one in model.diagrams
        for place, (pixels, *values) in enumerate(
            zip(one["pixels"], one["confidence"], one["accuracy"], strict=True)
        )
    ]
