"""``evaluate``: a model that was trained elsewhere; its keys, its data, its command line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import torch
from typer.testing import CliRunner

from segsweep import models
from segsweep.calibrate import redraw, sweep
from segsweep.calibrate.options import parse_datasets, parse_model
from segsweep.cli import app
from segsweep.errors import SpecError
from tests.data.builders import make_camvid, make_smiyc
from tests.doubles.wandb_file import offline_runs

ODD = "anomaly=bicyclist+pedestrian"


@pytest.fixture(autouse=True)
def few_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sweep, "RESAMPLES", 40)
    monkeypatch.setattr(redraw, "DRAWS", 20)


def weights(folder: Path, classes: int = 9, **options: Any) -> Path:
    torch.manual_seed(0)
    model = models.build(models.resolve({"name": "erfnet", "width": 4, **options}), classes=classes)
    path = folder / "w.pth"
    torch.save(model.state_dict(), path)
    return path


def call(*arguments: object) -> Any:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


@pytest.mark.parametrize("steps", [3])
def test_a_model_from_a_file_is_calibrated_and_judged(tmp_path: Path, steps: int) -> None:
    camvid, smiyc = make_camvid(tmp_path / "c", 6), make_smiyc(tmp_path / "s", n=3)
    arguments = (
        "evaluate", "--model", "erfnet,width=4", "--weights", weights(tmp_path),
        "--dataset", f"name=camvid,root={camvid},image_size=32x48,{ODD}",
        "--dataset", f"name=smiyc,root={smiyc},called=odd",
        "--out", tmp_path / "out", "--set", f"calibration.temperatures.steps={steps}", "--json",
    )  # fmt: skip
    done = call(*arguments)
    assert done.exit_code == 0, done.output
    said = json.loads(done.stdout)
    assert (said["computed"], said["found"]) == (2, 0)
    assert {row["dataset"] for row in said["best"]} == {"camvid", "odd"}
    assert said["models"][0]["folds"][0]["fold"] is None
    found = pq.read_table(tmp_path / "out/results/calibration.parquet").to_pylist()
    assert {row["dataset"] for row in found} == {"camvid"}
    odd = pq.read_table(tmp_path / "out/results/anomaly.parquet").to_pylist()
    assert {row["dataset"] for row in odd} == {"camvid", "odd"}
    (run,) = offline_runs(tmp_path / "out/wandb")
    assert run.job_type == "calibration"
    assert run.group == said["models"][0]["config_id"]
    curve = [row for row in run.history.values() if "temperature" in row]
    assert len(curve) >= steps
    assert any("camvid/all/ece" in row for row in curve)
    assert any("odd/msp/auroc" in row for row in curve)
    again = json.loads(call(*arguments).stdout)
    assert (again["computed"], again["found"]) == (0, 2)
    assert again["best"] == said["best"]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"classes": 5}, "has other shapes"),
        ({"width": 8}, "has other shapes"),
    ],
)
def test_keys_that_do_not_fit_are_an_error(
    tmp_path: Path, change: dict[str, Any], reason: str
) -> None:
    camvid = make_camvid(tmp_path / "c", 6)
    done = call(
        "evaluate", "--model", "erfnet,width=4", "--weights", weights(tmp_path, **change),
        "--dataset", f"name=camvid,root={camvid},image_size=32x48,{ODD}",
        "--out", tmp_path / "out",
    )  # fmt: skip
    assert done.exit_code == 2
    assert reason in done.output
    assert not (tmp_path / "out/results").exists()


def test_missing_and_unexpected_keys_are_named(tmp_path: Path) -> None:
    path = weights(tmp_path)
    state = torch.load(path, weights_only=True)
    first = next(iter(state))
    state["strange"] = state.pop(first)
    torch.save(state, path)
    camvid = make_camvid(tmp_path / "c", 6)
    done = call(
        "evaluate", "--model", "erfnet,width=4", "--weights", path,
        "--dataset", f"name=camvid,root={camvid},image_size=32x48,{ODD}",
        "--out", tmp_path / "out",
    )  # fmt: skip
    assert done.exit_code == 2
    assert first in done.output
    assert "strange" in done.output


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("smiyc", "not key=value"),
        ("name=smiyc,called=holdout", "cannot be the name"),
        ("name=smiyc,image_size=0x4", "greater than or equal to 1"),
        ("root=x", "cannot be the name"),
    ],
)
def test_a_dataset_that_is_not_understood(text: str, what: str) -> None:
    with pytest.raises(SpecError, match=what):
        parse_datasets([text])


def test_datasets_and_models_on_the_command_line() -> None:
    found = parse_datasets(["name=smiyc,root=a/b,layout=fishyscapes,called=laf,anomaly=x+y"])
    assert found["laf"].options == {"layout": "fishyscapes"}
    assert found["laf"].anomaly == ["x", "y"]
    assert found["laf"].root == "a/b"
    assert parse_model("erfnet,width=8") == {"name": "erfnet", "width": 8}
    assert parse_model("unet/resnet34") == {"name": "unet/resnet34"}
    with pytest.raises(SpecError, match="two datasets"):
        parse_datasets(["name=smiyc", "name=smiyc"])
    with pytest.raises(SpecError, match="is missing"):
        parse_datasets([], at_least=1)
