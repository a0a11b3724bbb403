"""What W&B is given of a calibration, read back from its own offline files."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from segsweep.spec import SweepSpec
from segsweep.tracking import CalibratedModel, calibration
from segsweep.tracking.wandb_runs import WandbRuns
from tests.doubles.wandb_file import offline_runs
from tests.helpers import tiny

OF = {"of": "config", "dataset": "validation", "region": "all", "metric": "ece"}


def spec() -> SweepSpec:
    return SweepSpec.model_validate(tiny(wandb={"mode": "offline"}))


def model(*values: float) -> CalibratedModel:
    rows: list[dict[str, Any]] = [
        {**OF, "scaling": "temperature", "fitted": False, "temperature": 1.0 + at, "value": value}
        for at, value in enumerate(values)
    ]
    odd: list[dict[str, Any]] = [
        {**OF, "score": "msp", "fitted": fitted, "temperature": at, "value": value}
        for at, value, fitted in ((1.0, 0.7, False), (2.0, 0.8, False), (1.0, 0.5, True))
    ]
    return CalibratedModel("c0ffee", "unet", 1.5, rows, odd, [])


def test_a_fitted_temperature_is_no_point_of_a_curve() -> None:
    drawn = dict(calibration.curves_of(model(0.1, 0.2)))
    assert drawn[1.0]["validation/msp/ece"] == 0.7
    assert drawn[2.0] == {"validation/all/ece": 0.2, "validation/msp/ece": 0.8}


def test_calibrating_again_takes_the_place_of_what_was_not_sent(tmp_path: Path) -> None:
    (tmp_path / "wandb").mkdir()
    for found in (model(0.1, 0.2, 0.3), model(0.4, 0.5), model(0.4, 0.5)):
        assert calibration.log(spec(), tmp_path, [found]) == []
    (run,) = offline_runs(tmp_path / "wandb")
    assert [row.get("validation/all/ece") for row in run.history.values()] == [0.4, 0.5, None]


def test_what_was_sent_stays_and_other_numbers_are_another_run(tmp_path: Path) -> None:
    (tmp_path / "wandb").mkdir()
    assert calibration.log(spec(), tmp_path, [model(0.1)]) == []
    for record in (tmp_path / "wandb").glob("*/*.wandb"):
        record.with_name(f"{record.name}.synced").touch()
    again = replace(model(0.1), temperature=1.5)
    assert calibration.log(spec(), tmp_path, [again]) == []  # the same: nothing to write
    assert len(WandbRuns(spec(), tmp_path, online=False).folders) == 1
    assert calibration.log(spec(), tmp_path, [model(0.2)]) == []
    assert len(WandbRuns(spec(), tmp_path, online=False).folders) == 2
