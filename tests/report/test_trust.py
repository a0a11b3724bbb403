"""The section about probabilities, from files as ``calibrate`` leaves them."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import plotly.graph_objects as go
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from segsweep import report
from segsweep.rundir import Run
from tests.report.reading import Report
from tests.report.synthetic import small
from tests.report.test_report import best_configs, with_real_colours

GRID = (0.5, 1.0, 2.0, 4.0)
FITTED = 1.7


def nll(temperature: float) -> float:
    return 0.3 + (temperature - FITTED) ** 2


def calibrated(folder: Path) -> tuple[Run, str]:
    """A run with calibration and anomaly results of its best config; and the config."""
    made = small(folder)
    run = made.write()
    report.write(run)
    config = best_configs(made)["unet_vanilla/dice"]
    whose = {"config_id": config, "cell": "unet_vanilla/dice", "of": "config", "fold": None}
    rows: list[dict[str, Any]] = []
    for metric in ("nll", "ece"):
        base = {**whose, "dataset": "validation", "region": "all", "scaling": "temperature",
                "metric": metric}  # fmt: skip
        rows += [{**base, "temperature": t, "value": nll(t), "gain": 0.0, "fitted": False}
                 for t in GRID]  # fmt: skip
        rows.append({**base, "temperature": FITTED, "value": 0.31, "gain": 0.48, "fitted": True})
        rows.append({**base, "of": "fold", "temperature": 9.0, "value": 99.0, "gain": 0.0,
                     "fitted": False})  # fmt: skip
    pq.write_table(pa.Table.from_pylist(rows), run.path / "results" / "calibration.parquet")
    odd = [
        {**whose, "dataset": "odd", "score": score, "metric": "auroc", "value": 0.8 + 0.01 * t,
         "temperature": t if score == "msp" else None}
        for score in ("msp", "max_logit") for t in (GRID if score == "msp" else (0.0,))
    ]  # fmt: skip
    pq.write_table(pa.Table.from_pylist(odd), run.path / "results" / "anomaly.parquet")
    diagram = {"pixels": [10, 0, 30], "confidence": [0.6, 0.0, 0.9], "accuracy": [0.5, 0.0, 0.7]}
    entry = {"config_id": config, "diagrams": [{"scaling": "none", **diagram}]}
    (run.path / "calibration.json").write_text(json.dumps({"models": [entry]}))
    return run, config


def test_curves_table_and_diagrams_show_the_numbers_of_the_files(tmp_path: Path) -> None:
    run, _ = calibrated(tmp_path)
    read = Report(report.write(run)[0])
    curve = read.trace("temperature-nll", "unet_vanilla/dice")
    assert dict(zip(curve["x"], curve["y"], strict=True)) == pytest.approx(
        {t: nll(t) for t in GRID}
    )
    point = read.figures["temperature-nll"]["data"][1]
    assert point["x"] == [FITTED]
    share = math.log(FITTED) / math.log(2)  # on the line between its neighbours, 1 and 2
    assert point["y"] == pytest.approx([nll(1) + share * (nll(2) - nll(1))])
    assert read.tables["probabilities"][0][1] == [
        "unet_vanilla/dice", "of the other folds", "not recorded",
        "0.7900", "0.3100", "0.7900", "0.3100",
    ]  # fmt: skip
    diagram = read.trace("reliability-0", "as trained")
    assert (diagram["x"], diagram["y"]) == ([0.6, 0.9], [0.5, 0.7])  # an empty bin is no point
    assert diagram["customdata"] == [0.25, 0.75]
    fixed = read.trace("anomaly-odd-auroc", "max_logit")
    assert fixed["y"] == [0.8, 0.8]  # no temperature changes its ranking
    assert read.trace("anomaly-odd-auroc", "msp")["y"] == pytest.approx(
        [0.8 + 0.01 * t for t in GRID]
    )
    for figure in read.figures.values():
        go.Figure(
            data=with_real_colours(figure["data"]), layout=with_real_colours(figure["layout"])
        )


def test_damaged_or_missing_files_leave_the_section_out(tmp_path: Path) -> None:
    run, _ = calibrated(tmp_path)
    for name in ("calibration", "anomaly"):
        (run.path / "results" / f"{name}.parquet").write_bytes(b"PAR1 not")
    (run.path / "calibration.json").write_text("[")
    read = Report(report.write(run)[0])
    assert "probabilities" not in read.tables
    assert not any("temperature" in name for name in read.figures)


def test_the_temperatures_that_a_number_was_measured_with_stand_beside_it(tmp_path: Path) -> None:
    run, _ = calibrated(tmp_path)
    path = run.path / "results" / "calibration.parquet"
    table = pq.read_table(path).to_pylist()
    for row in table:
        row |= {"used": [row["temperature"]], "fit": None, "at_bound": False}
        if row["of"] == "config" and row["temperature"] == 4.0:
            row["at_bound"] = row["metric"] == "ece"
        if row["fitted"]:
            row |= {"fit": "others", "used": [0.698, 1.872]}
    shipped = [
        {**row, "fit": "halves", "used": [0.6, 20.0], "value": 0.3, "gain": 0.49, "at_bound": True}
        for row in table if row["fitted"]
    ]  # fmt: skip
    pq.write_table(pa.Table.from_pylist([*table, *shipped]), path)
    read = Report(report.write(run)[0])
    assert read.tables["probabilities"][0][1:] == [
        ["unet_vanilla/dice", "of the other folds", "0.698, 1.872",
         "0.7900", "0.3100", "0.7900", "0.3100"],
        ["unet_vanilla/dice", "its own", "0.600, 20.000*", "0.7900", "0.3000", "0.7900", "0.3000"],
    ]  # fmt: skip
    text = (run.path / "report.html").read_text()
    assert "No minimum was found: T is at its bound" in text
    assert "lowest at the grid&#39;s end, T = 4" in text
    point = read.figures["temperature-nll"]["data"][1]
    assert point["x"] == [FITTED]
