"""What W&B is given, read back from its own offline files; and that losing it costs nothing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import wandb
from PIL import Image

from segsweep.data import palette
from segsweep.launching import Outcome, launch
from segsweep.tracking import examples
from tests.data.builders import make_camvid
from tests.doubles.wandb_file import OfflineRun, offline_runs
from tests.helpers import events, tiny, write_sweep


@pytest.fixture(scope="module")
def tracked(tmp_path_factory: pytest.TempPathFactory) -> tuple[Outcome, list[OfflineRun]]:
    folder = tmp_path_factory.mktemp("wandb")
    data = tiny(wandb={"mode": "offline"}, project="p", configs_per_cell=1)
    outcome = launch(write_sweep(folder, data), runner="inline")
    return outcome, offline_runs(outcome.run_directory / "wandb")


def test_one_run_a_trial_and_one_for_the_sweep(tracked: tuple[Outcome, list[OfflineRun]]) -> None:
    outcome, runs = tracked
    assert outcome.warnings == []
    trials = [run for run in runs if run.job_type.startswith("fold")]
    assert len(trials) == 4
    assert [run.job_type for run in runs if run not in trials] == ["sweep"]
    assert {run.project for run in runs} == {"p"}


def test_runs_are_grouped_by_config_and_carry_factors_and_parameters(
    tracked: tuple[Outcome, list[OfflineRun]],
) -> None:
    outcome, runs = tracked
    configs = {event["config_id"]: event for event in events(outcome.run_directory, "config")}
    groups: dict[str, set[str]] = {}
    for run in runs:
        if run.job_type == "sweep":
            continue
        groups.setdefault(run.group, set()).add(run.job_type)
        config = configs[run.group]
        assert run.config["model"] == "unet_vanilla(width=2)"
        assert run.config["loss"] == config["levels"]["loss"]
        assert run.config["train.lr"] == pytest.approx(config["params"]["train.lr"])
        assert run.config["trial"]["train"]["epochs"] == 2
    assert groups == {name: {"fold0", "fold1"} for name in configs}


def test_metrics_stream_by_epoch_and_equal_the_ledgers(
    tracked: tuple[Outcome, list[OfflineRun]],
) -> None:
    outcome, runs = tracked
    by_name = {(run.group, run.job_type): run for run in runs}
    for event in events(outcome.run_directory, "epoch"):
        config_id, fold = event["trial_id"].split("-f")
        row = by_name[config_id, f"fold{fold}"].history[event["epoch"]]
        assert row["val/loss"] == pytest.approx(event["val_loss"])
        assert row["train/loss"] == pytest.approx(event["train_loss"])
        assert row.get("val/iou") == event["val_iou"]


def test_overlays_of_the_best_epoch_are_there(tracked: tuple[Outcome, list[OfflineRun]]) -> None:
    _, runs = tracked
    for run in runs:
        if run.job_type != "sweep":
            shown = run.last["best_epoch_examples"]
            assert shown["count"] == 4
            assert set(shown["all_masks"][0]) == {"prediction", "truth"}
            assert all((run.folder / "files" / name).exists() for name in shown["filenames"])


def test_overlays_are_painted_in_the_colours_of_the_data(tmp_path: Path) -> None:
    root = make_camvid(tmp_path / "CamVid", 12)
    dataset = {"name": "camvid", "root": str(root), "image_size": [32, 32], "holdout": 0.25,
               "leave_out": ["sky"]}  # fmt: skip
    data = tiny(
        wandb={"mode": "offline"},
        configs_per_cell=1,
        dataset=dataset,
        factors__loss=["cross_entropy"],
        metric={"name": "val/miou", "goal": "maximize"},
    )
    outcome = launch(write_sweep(tmp_path, data), runner="inline")
    assert outcome.warnings == []
    runs = [r for r in offline_runs(outcome.run_directory / "wandb") if r.job_type != "sweep"]
    assert len(runs) == 2
    colours = palette.of("camvid", {}, ["sky"])
    for run in runs:
        assert run.config["colours"] == colours
        masks = run.last["best_epoch_examples"]["all_masks"][0]["truth"]["path"]
        assert (run.folder / "files" / masks).exists()
        place = outcome.run_directory / "trials" / run.group / run.job_type
        kept = examples.read(place / "evidence.safetensors")
        assert kept is not None
        files = run.last["best_epoch_painted"]["filenames"]
        for name, one in zip(files, kept, strict=True):
            assert one.classes == tuple(colours)
            shown = np.asarray(Image.open(run.folder / "files" / name).convert("RGB"))
            panel = palette.panel(one.image, one.truth, one.prediction, colours)
            np.testing.assert_array_equal(shown, panel)


def test_the_sweep_run_holds_a_table_of_all_trials(
    tracked: tuple[Outcome, list[OfflineRun]],
) -> None:
    _, runs = tracked
    (sweep,) = [run for run in runs if run.job_type == "sweep"]
    path = sweep.folder / "files" / sweep.last["trials"]["path"]
    table = json.loads(path.read_text())
    assert len(table["data"]) == 4
    assert {"cell", "fold", "metric", "status"} <= set(table["columns"])


@pytest.mark.parametrize("when", ["init", "log", "finish"])
def test_losing_wandb_never_costs_a_trial(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, when: str
) -> None:
    class Broken:
        summary: dict[str, Any] = {}  # noqa: RUF012 - a stand-in
        dir = "nowhere/files"

        def log(self, *_: Any, **__: Any) -> None:
            if when == "log":
                raise ConnectionError("gone")

        def finish(self, **_: Any) -> None:
            if when == "finish":
                raise ConnectionError("gone")

    def init(**_: Any) -> Broken:
        if when == "init":
            raise ConnectionError("gone")
        return Broken()

    monkeypatch.setattr(wandb, "init", init)
    data = tiny(wandb={"mode": "offline"}, configs_per_cell=1)
    outcome = launch(write_sweep(tmp_path, data), runner="inline")
    assert outcome.exit_code == 0
    assert len(outcome.ranking) == 2
    assert outcome.warnings == ["W&B: ConnectionError: gone"]


def test_the_sweep_files_mode_wins_over_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB_MODE", "offline")
    outcome = launch(write_sweep(tmp_path, tiny(configs_per_cell=1)), runner="inline")
    assert not (outcome.run_directory / "wandb").exists()


def test_a_trial_that_waits_at_a_rung_has_one_run_with_every_epoch_once(tmp_path: Path) -> None:
    stopping = {"type": "halving", "grace_period": 1, "reduction_factor": 2}
    changes = {"configs_per_cell": 4, "factors__loss": ["bce"], "train__epochs": 4}
    data = tiny(wandb={"mode": "offline"}, early_stopping=stopping, **changes)
    outcome = launch(write_sweep(tmp_path, data), runner="inline")
    assert outcome.warnings == []
    recorded: dict[str, list[int]] = {}
    for event in events(outcome.run_directory, "epoch"):
        recorded.setdefault(event["trial_id"], []).append(event["epoch"])
    assert events(outcome.run_directory, "promote")
    runs = [r for r in offline_runs(outcome.run_directory / "wandb") if r.job_type != "sweep"]
    found = {
        f"{r.group}-f{r.job_type[4:]}": [s for s in r.history if s in range(1, 5)] for r in runs
    }
    assert len(found) == len(runs)
    assert found == recorded
    ends = {e["trial_id"]: e for e in events(outcome.run_directory, "end")}
    for run in runs:
        assert run.summary["status"] == ends[f"{run.group}-f{run.job_type[4:]}"]["status"]
