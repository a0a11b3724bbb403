"""What MLflow is given of a calibration: a run a model, in place of an earlier one."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Sequence
from pathlib import Path

from segsweep.spec import SweepSpec
from segsweep.tracking import CalibratedModel
from segsweep.tracking.calibration import COLUMNS, DIAGRAM, JOB, bins_of, curves_of
from segsweep.tracking.mlflow_runs import CONFIG, OF, MlflowRuns, brisk, reason, refused, table
from segsweep.tracking.writer import describe


def log(spec: SweepSpec, run_directory: Path, models: Sequence[CalibratedModel]) -> list[str]:
    """Write a run a model: curves over T, all rows and reliability diagrams as tables.

    Returns:
        What went wrong, a line each: losing MLflow costs no result.
    """
    runs, errors = MlflowRuns(spec, run_directory), list[str]()
    with brisk():
        for model in models:
            try:
                if not runs.found:
                    runs.find()
                _write(runs, model)
            except Exception as error:
                if isinstance(error, ImportError) or not refused(error):
                    lost = f"MLflow: it was lost ({reason(error)})"
                    return [*errors, f"{lost}: calibrate again to have it there"]
                errors.append(f"MLflow: {describe(error)}")
    return list(dict.fromkeys(errors))


def _write(runs: MlflowRuns, model: CalibratedModel) -> None:
    tags = {OF: JOB, CONFIG: model.config_id}
    run = runs.create(f"{model.name} {JOB}", tags)
    try:
        _fill(runs, run, model)
    except Exception:
        with contextlib.suppress(Exception):  # the next calibration replaces it all the same
            runs.client.delete_run(run)
        raise
    for old in runs.others.get((JOB, model.config_id), []):
        runs.client.delete_run(old)
    runs.others[JOB, model.config_id] = [run]


def _fill(runs: MlflowRuns, run: str, model: CalibratedModel) -> None:
    """Curves are drawn over steps, which are whole numbers: T is a curve of its own."""
    runs.params(run, {"config_id": model.config_id, "fitted_temperature": model.temperature})
    metrics, now = [], time.time()
    for step, (temperature, values) in enumerate(curves_of(model)):
        known = {key: value for key, value in values.items() if value is not None}
        metrics += runs.row({"temperature": temperature, **known}, now, step)
    runs.write(run, metrics)
    rows = [*model.calibration, *model.anomaly]
    runs.client.log_text(run, table(rows, COLUMNS), f"{JOB}.csv")
    bins = [dict(zip(DIAGRAM, cells, strict=True)) for cells in bins_of(model)]
    runs.client.log_text(run, table(bins, DIAGRAM), "reliability.csv")
    runs.client.set_terminated(run)
