"""``segsweep dashboard``: every key that a panel names is in the runs that the tracker wrote."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import wandb
from typer.testing import CliRunner

from segsweep import rundir
from segsweep.cli import app
from segsweep.launching import launch
from segsweep.tracking import dashboard, wandb_sync
from segsweep.tracking.wandb_runs import WandbRuns
from tests.doubles.wandb_file import OfflineRun, offline_runs
from tests.doubles.wandb_server import WandbServer
from tests.helpers import tiny, write_sweep

Panel = dict[str, Any]


@pytest.fixture(scope="module")
def tracked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sweep with a third factor, a logarithmic parameter, and a calibration's run."""
    folder = tmp_path_factory.mktemp("dashboard")
    changes: dict[str, Any] = {
        "factors": {
            "model": [{"name": "unet_vanilla", "width": 2}],
            "loss": ["bce"],
            "train.optimizer": ["adamw", "sgd"],
        },
        "parameters": {
            "train.lr": {"distribution": "log_uniform_values", "min": 0.001, "max": 0.01},
            "train.weight_decay": {"min": 0.0, "max": 0.1},
        },
    }
    data = tiny(wandb={"mode": "offline"}, configs_per_cell=1, **changes)
    path = launch(write_sweep(folder, data), runner="inline").run_directory
    files = WandbRuns(rundir.load(path).spec, path, online=False)
    run = files.open("calibration-x", name="c", group="x", job_type="calibration", config={})
    for step, temperature in enumerate((0.5, 1.0)):
        run.log({"temperature": temperature, "holdout/all/ece": 0.1 * step}, step)
    bins = wandb.Table(columns=["scaling", "confidence", "accuracy"], data=[["none", 0.5, 0.4]])
    run.log({"reliability": bins}, 2)
    files.finish(run)
    return path


@pytest.fixture
def run(tracked: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tracked, tmp_path / "tiny", symlinks=True))


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[WandbServer]:
    with WandbServer() as double:
        for name, value in double.environment.items():
            monkeypatch.setenv(name, value)
        wandb.teardown()
        yield double
        wandb.teardown()


def specification(run: Path, tmp_path: Path) -> dict[str, Any]:
    out = tmp_path / "specification.json"
    done = CliRunner().invoke(app, ["dashboard", str(run), "--out", str(out)])
    assert done.exit_code == 0, done.output
    assert str(out) in done.output
    return dict(json.loads(out.read_text()))


def panels(specification: dict[str, Any]) -> list[Panel]:
    """Those of the workspace, and those of the report."""
    sections = specification["workspace"]["section"]["panelBankConfig"]["sections"]
    found = [panel for section in sections for panel in section["panels"]]
    for block in specification["report"]["blocks"]:
        if block["type"] == "panel-grid":
            found += block["metadata"]["panelBankSectionConfig"]["panels"]
    return found


def of_kind(found: list[Panel], kind: str) -> list[dict[str, Any]]:
    return [panel["config"] for panel in found if panel["viewType"] == kind]


def in_config(run: OfflineRun, accessor: str) -> Any:
    """What ``trial.value.train.lr`` means in a run's config."""
    name, value, *rest = accessor.split(".")
    assert value == "value"
    node = run.config[name]
    for part in rest:
        node = node[part]
    return node


def test_parallel_coordinates_name_what_every_trial_has(run: Path, tmp_path: Path) -> None:
    shown = of_kind(panels(specification(run, tmp_path)), "Parallel Coordinates Plot")
    assert len(shown) == 2
    trials = [one for one in offline_runs(run / "wandb") if one.job_type.startswith("fold")]
    for plot in shown:
        columns = {column["accessor"]: column for column in plot["columns"]}
        assert columns["config:trial.value.train.lr"]["log"] is True
        assert "log" not in columns["config:trial.value.train.weight_decay"]
        for trial in trials:
            assert in_config(trial, "trial.value.train.lr") == trial.config["train.lr"]
            for accessor in columns:
                section, _, key = accessor.partition(":")
                if section == "config":
                    assert in_config(trial, key) is not None
                else:
                    assert section == "summary"
                    assert key in trial.summary
        assert list(columns)[:3] == [
            "config:model.value", "config:loss.value", "config:trial.value.train.optimizer",
        ]  # fmt: skip


def test_bars_are_grouped_by_cell_and_by_config_with_the_spread_of_folds(
    run: Path, tmp_path: Path
) -> None:
    bars = of_kind(panels(specification(run, tmp_path)), "Bar Chart")
    assert [bar["groupBy"] for bar in bars] == ["cell.value", "config_id.value"] * 2
    trials = [one for one in offline_runs(run / "wandb") if one.job_type.startswith("fold")]
    for bar in bars:
        assert (bar["groupAgg"], bar["groupArea"]) == ("mean", "stddev")
        assert bar["metrics"] == ["summary_metrics.best/val/iou"]
        for trial in trials:
            assert in_config(trial, bar["groupBy"])
            best = max(row["val/iou"] for row in trial.history.values() if "val/iou" in row)
            assert trial.summary["best/val/iou"] == pytest.approx(best)


def test_curves_overlays_and_calibration_name_what_was_logged(run: Path, tmp_path: Path) -> None:
    found = panels(specification(run, tmp_path))
    runs = offline_runs(run / "wandb")
    logged: dict[str, set[str]] = {}
    for one in runs:
        keys = logged.setdefault(one.job_type[:4], set())
        keys.update(key for row in one.history.values() for key in row)
    lines = of_kind(found, "Run History Line Plot")
    over_epochs = [line for line in lines if line["xAxis"] == "_step"]
    over_temperature = [line for line in lines if line["xAxis"] == "temperature"]
    assert len(over_epochs) + len(over_temperature) == len(lines)
    assert {key for line in over_epochs for key in line["metrics"]} == {
        key for key in logged["fold"] if key.startswith(("val/", "train/"))
    }
    assert {key for line in over_temperature for key in line["metrics"]} == {"holdout/all/ece"}
    assert "temperature" in logged["cali"]
    (media, _) = of_kind(found, "Media Browser")
    assert set(media["mediaKeys"]) <= logged["fold"]
    (chart, _) = of_kind(found, "Vega2")
    assert "reliability" in logged["cali"]
    (table,) = [one for one in runs if one.job_type == "calibration"]
    columns = json.loads(next(table.folder.rglob("*.table.json")).read_text())["columns"]
    assert set(chart["fieldSettings"].values()) <= set(columns)


def test_every_runset_is_of_this_sweep_and_of_the_right_runs(run: Path, tmp_path: Path) -> None:
    made = specification(run, tmp_path)
    sets = made["workspace"]["section"]["runSets"]
    for block in made["report"]["blocks"]:
        if block["type"] == "panel-grid":
            sets += block["metadata"]["runSets"]
    assert len(sets) == 1 + 5
    jobs = {one.job_type for one in offline_runs(run / "wandb")} - {"sweep"}
    named: set[str] = set()
    for one in sets:
        rules = {rule["key"]["name"]: rule["value"] for rule in one["filters"]["filters"]}
        assert rules["sweep_name"] == "tiny"
        named.update(rules.get("jobType", ()))
    assert named == jobs
    assert all(one.config["sweep_name"] == "tiny" for one in offline_runs(run / "wandb"))


def test_offline_it_is_written_to_a_file_and_a_dry_run_writes_nothing(run: Path) -> None:
    before = sorted(run.rglob("*"))
    done = CliRunner().invoke(app, ["dashboard", str(run), "--dry-run"])
    assert done.exit_code == 0
    assert "val/iou by config" in done.output
    assert sorted(run.rglob("*")) == before
    done = CliRunner().invoke(app, ["dashboard", str(run)])
    assert done.exit_code == 0, done.output
    assert f"not uploaded: the server has no run of it yet; `segsweep sync {run}`" in done.output
    assert set(json.loads((run / "dashboard.json").read_text())) == {"workspace", "report"}


def test_what_was_not_calibrated_is_said(run: Path) -> None:
    for one in offline_runs(run / "wandb"):
        if one.job_type == "calibration":
            shutil.rmtree(one.folder)
    done = CliRunner().invoke(app, ["dashboard", str(run), "--dry-run"])
    assert "no calibration curves" in done.output
    assert "Calibration:" not in done.output


def test_a_run_without_wandb_is_refused(run: Path) -> None:
    shutil.rmtree(run / "wandb")
    done = CliRunner().invoke(app, ["dashboard", str(run)])
    assert done.exit_code == 2
    assert "wandb.mode: offline" in done.output


def test_online_it_is_saved_and_saved_over(server: WandbServer, run: Path) -> None:
    found = rundir.load(run)
    assert wandb_sync.sync(found.spec, run, found.events).left == []
    for _ in range(2):
        done = CliRunner().invoke(app, ["dashboard", str(run)])
        assert done.exit_code == 0, done.output
    saved = {view["type"]: json.loads(view["spec"]) for view in server.views.values()}
    assert set(saved) == {"project-view", "runs"}
    assert len(server.views) == 2
    made = dashboard.build(found, dashboard.keys_of(found)).specification()
    shown, wanted = (
        [section["name"] for section in one["section"]["panelBankConfig"]["sections"]]
        for one in (saved["project-view"], made["workspace"])
    )
    assert shown == wanted


@pytest.fixture
def sent(server: WandbServer, run: Path) -> Path:
    found = rundir.load(run)
    assert wandb_sync.sync(found.spec, run, found.events).left == []
    return run


def test_a_report_that_fails_makes_no_second_workspace(
    server: WandbServer, sent: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import wandb_workspaces.reports.v2 as wr

    def lost(*_: Any, **__: Any) -> None:
        raise ConnectionError("the server went away")

    with monkeypatch.context() as patch:
        patch.setattr(wr.Report, "save", lost)
        done = CliRunner().invoke(app, ["dashboard", str(sent)])
    assert done.exit_code == 3, done.output
    assert "not all uploaded: W&B cannot be used (ConnectionError: the server went" in done.output
    assert set(json.loads((sent / "dashboard.json").read_text())) == {"workspace", "report"}
    assert [view["type"] for view in server.views.values()] == ["project-view"]
    done = CliRunner().invoke(app, ["dashboard", str(sent)])
    assert done.exit_code == 0, done.output
    assert sorted(view["type"] for view in server.views.values()) == ["project-view", "runs"]


def test_a_lost_server_leaves_the_specification_in_a_file(server: WandbServer, sent: Path) -> None:
    server.behave("unauthorized")
    wandb.teardown()
    done = CliRunner().invoke(app, ["dashboard", str(sent), "--json"])
    assert done.exit_code == 3, done.output
    told = json.loads(done.stdout)
    assert told["addresses"] == []
    assert "W&B cannot be used" in told["not_uploaded"]
    assert json.loads((sent / "dashboard.json").read_text()) == told["specification"]


def test_what_is_remembered_is_of_one_project_and_entity(server: WandbServer, sent: Path) -> None:
    assert CliRunner().invoke(app, ["dashboard", str(sent)]).exit_code == 0
    memory = sent / "wandb" / "dashboard.json"
    known = json.loads(memory.read_text())
    assert (known["project"], known["entity"]) == ("segsweep", "double")
    memory.write_text(json.dumps({**known, "entity": "another"}))
    assert CliRunner().invoke(app, ["dashboard", str(sent)]).exit_code == 0
    assert len(server.views) == 4


def test_a_damaged_file_is_named(run: Path) -> None:
    (record,) = [one.folder for one in offline_runs(run / "wandb") if one.job_type == "calibration"]
    (file,) = record.glob("*.wandb")
    data = bytearray(file.read_bytes())
    data[14] = 0xFF
    file.write_bytes(data)
    done = CliRunner().invoke(app, ["dashboard", str(run), "--dry-run"])
    assert done.exit_code == 0, done.output
    assert f"{file} is damaged: what it holds is not shown" in done.output
    assert "no calibration curves" in done.output
