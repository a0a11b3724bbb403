"""MLflow's store holds what the ledger holds, once, also after a launch that was cut off."""

from __future__ import annotations

import csv
import io
import os
import shutil
import socket
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from segsweep import check as check_module
from segsweep import tracking
from segsweep.calibrate import run as calibrate_run
from segsweep.data import palette
from segsweep.errors import SpecError
from segsweep.launching import launch
from segsweep.ledger import Event
from segsweep.runners import inline
from segsweep.runners import take as real_take
from segsweep.spec import SweepSpec
from segsweep.tracking import examples, mlflow_names
from segsweep.tracking.mlflow import MlflowTracker
from segsweep.tracking.mlflow_runs import MlflowRuns, brisk
from tests.helpers import events, tiny, write_sweep

mlflow = pytest.importorskip("mlflow")

README = Path(__file__).parents[2] / "README.md"


def runs_of(run: Path) -> dict[str, Any]:
    client = mlflow.MlflowClient(tracking_uri=f"sqlite:///{run / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("p")
    found = client.search_runs([experiment.experiment_id], max_results=1000)
    found = [run for run in found if "segsweep.of" not in run.data.tags]
    assert len({r.data.tags["segsweep.trial"] for r in found}) == len(found)
    return {r.data.tags["segsweep.trial"]: (client, r) for r in found}


def agree(run: Path) -> None:
    """Every epoch of every trial is in the store, once, and nothing else."""
    found = runs_of(run)
    ends = {e["trial_id"]: e["status"] for e in events(run, "end")}
    assert set(found) == set(ends)
    for name, (client, kept) in found.items():
        own = {e["epoch"]: e["val_loss"] for e in events(run, "epoch") if e["trial_id"] == name}
        history = client.get_metric_history(kept.info.run_id, "val/loss")
        assert sorted(m.step for m in history) == sorted(own)
        assert {m.step: m.value for m in history} == pytest.approx(own)
        assert kept.data.tags["status"] == ends[name]
        assert kept.info.status == "FINISHED"


@pytest.fixture
def sweep(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    data = tiny(tracking=["mlflow"], project="p", factors__loss=["bce"])
    return write_sweep(tmp_path, data)


@pytest.fixture(scope="module")
def empty_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Making one takes seconds."""
    path = tmp_path_factory.mktemp("store") / "mlflow.db"
    mlflow.MlflowClient(tracking_uri=f"sqlite:///{path}").search_experiments()
    return path


def test_a_launch_that_is_cut_off_goes_on_in_the_same_runs(
    sweep: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken = 0

    def take(*arguments: Any, **facts: Any) -> bool:
        nonlocal taken
        taken += 1
        if taken == 5:
            raise KeyboardInterrupt
        return real_take(*arguments, **facts)

    with monkeypatch.context() as patch:
        patch.setattr(inline, "take", take)
        assert launch(sweep, runner="inline").exit_code == 130
    outcome = launch(sweep, runner="inline")
    assert outcome.warnings == []
    agree(outcome.run_directory)
    _, kept = next(iter(runs_of(outcome.run_directory).values()))
    assert kept.data.params["loss"] == "bce"
    assert float(kept.data.params["train.lr"]) > 0


def test_two_sweeps_with_a_config_in_common_share_a_store(
    empty_store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copy(empty_store, tmp_path / "store.db")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'store.db'}")
    changes: dict[str, Any] = {"parameters": {}, "configs_per_cell": None, "factors__loss": ["bce"]}
    for name in ("first", "second"):
        data = tiny(tracking=["mlflow"], project="p", name=name, **changes)
        assert launch(write_sweep(tmp_path, data), runner="inline").warnings == []
    client = mlflow.MlflowClient(tracking_uri=f"sqlite:///{tmp_path / 'store.db'}")
    found = client.search_runs([client.get_experiment_by_name("p").experiment_id])
    found = [run for run in found if "segsweep.of" not in run.data.tags]
    kept = {(run.data.tags["sweep"], run.data.tags["segsweep.trial"]) for run in found}
    trials = {event["trial_id"] for event in events(tmp_path / "runs" / "first", "end")}
    assert trials == {event["trial_id"] for event in events(tmp_path / "runs" / "second", "end")}
    assert kept == {(sweep, name) for sweep in ("first", "second") for name in trials}
    assert len(found) == len(kept)


def test_losing_mlflow_never_costs_a_trial(sweep: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:////dev/null/mlflow.db")
    outcome = launch(sweep, runner="inline")
    assert outcome.exit_code == 0
    assert any("MLflow" in text for text in outcome.warnings)
    assert {e["status"] for e in events(outcome.run_directory, "end")} == {"finished"}


def test_it_is_refused_where_it_is_not_installed(
    sweep: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tracking, "find_spec", lambda name: None)
    with pytest.raises(SpecError, match="MLflow is not installed"):
        check_module.check(sweep)


# from here on a recorded ledger is played to trackers, over copies of an empty store


@dataclass
class Recorded:
    """A sweep that has run, and what its ledger says."""

    spec: SweepSpec
    run: Path
    events: list[Event]


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Recorded:
    folder = tmp_path_factory.mktemp("recorded")
    data = tiny(tracking=[], project="p", factors__loss=["bce"], replicates=2, configs_per_cell=1)
    outcome = launch(write_sweep(folder, data), runner="inline")
    spec = outcome.spec.model_copy(update={"tracking": ["mlflow"]})
    return Recorded(spec, outcome.run_directory, events(outcome.run_directory))


@pytest.fixture
def played(
    recorded: Recorded, empty_store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Recorded:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    run = tmp_path / "run"
    shutil.copytree(recorded.run, run)
    shutil.copy(empty_store, run / "mlflow.db")
    return Recorded(recorded.spec, run, [dict(event) for event in recorded.events])


def play(
    sweep: Recorded, before: list[Event], now: list[Event], killed: bool = False
) -> tuple[MlflowTracker, list[str]]:
    """A launch, which does not close where it is killed."""
    tracker = MlflowTracker(sweep.spec, sweep.run)
    tracker.remember(before)
    for event in now:
        tracker.on_event(event)
    if killed:
        tracker.writer.last = lambda: None
    return tracker, tracker.close()


def of_kind(sweep: Recorded, kind: str) -> list[Any]:
    client = mlflow.MlflowClient(tracking_uri=f"sqlite:///{sweep.run / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("p")
    found = client.search_runs([experiment.experiment_id], f"tags.`segsweep.of` = '{kind}'")
    return [(client, one) for one in found]


def nobody() -> str:
    """An address where nobody listens."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{one.getsockname()[1]}"


def test_what_a_killed_launch_did_not_write_is_written_by_the_next_at_one_look(
    played: Recorded, monkeypatch: pytest.MonkeyPatch
) -> None:
    cut = [n for n, event in enumerate(played.events) if event["event"] == "epoch"][2]
    play(played, [], played.events[:cut], killed=True)
    assert len(runs_of(played.run)) < len({e["trial_id"] for e in events(played.run, "end")})
    searches: list[str] = []
    real = mlflow.MlflowClient.search_runs

    def search(self: Any, *arguments: Any, **named: Any) -> Any:
        searches.append(named.get("filter_string", ""))
        return real(self, *arguments, **named)

    with monkeypatch.context() as patch:
        patch.setattr(mlflow.MlflowClient, "search_runs", search)
        patch.setattr(mlflow.MlflowClient, "get_metric_history", None)
        assert tracking.catch_up(played.spec, played.run, played.events) == []
        assert len(searches) == 1
        patch.setattr(mlflow.MlflowClient, "create_run", None)  # nothing is left to be made
        patch.setattr(mlflow.MlflowClient, "log_batch", None)
        assert tracking.catch_up(played.spec, played.run, played.events) == []
    agree(played.run)


def test_a_server_that_refuses_connections_is_given_up_soon_and_has_all_later(
    played: Recorded, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", nobody())
    monkeypatch.delenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", raising=False)
    requests = 0
    real = MlflowRuns.find

    def find(self: MlflowRuns) -> None:
        nonlocal requests
        requests += 1
        real(self)

    monkeypatch.setattr(MlflowRuns, "find", find)
    began = time.monotonic()
    _, (warning,) = play(played, [], played.events)
    assert time.monotonic() - began < 20
    assert requests == 3 + 1  # and once more at the end
    assert warning.startswith("MLflow: it was lost (ConnectionRefusedError: ")
    assert "4 trials" in warning
    assert "next launch" in warning
    assert "MLFLOW_HTTP_REQUEST_MAX_RETRIES" not in os.environ
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    assert tracking.catch_up(played.spec, played.run, played.events) == []
    agree(played.run)


def test_a_user_may_have_mlflow_try_longer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "5")
    with brisk():
        assert os.environ["MLFLOW_HTTP_REQUEST_MAX_RETRIES"] == "5"
        assert int(os.environ["MLFLOW_HTTP_REQUEST_TIMEOUT"]) < 60
    assert os.environ["MLFLOW_HTTP_REQUEST_MAX_RETRIES"] == "5"


def test_a_failed_write_is_tried_again_at_the_end(
    played: Recorded, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, count = mlflow.MlflowClient.set_terminated, 0

    def fail(self: Any, *arguments: Any, **named: Any) -> None:
        nonlocal count
        count += 1
        if count == 1:
            raise ConnectionError("gone")
        real(self, *arguments, **named)

    monkeypatch.setattr(mlflow.MlflowClient, "set_terminated", fail)
    _, warnings = play(played, [], played.events)
    assert warnings == []
    agree(played.run)


def test_an_answer_that_is_lost_makes_no_second_run(
    played: Recorded, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, count = mlflow.MlflowClient.create_run, 0

    def fail(self: Any, *arguments: Any, **named: Any) -> Any:
        nonlocal count
        made, count = real(self, *arguments, **named), count + 1
        if count == 1:
            raise ConnectionError("the answer is lost")
        return made

    monkeypatch.setattr(mlflow.MlflowClient, "create_run", fail)
    assert play(played, [], played.events)[1] == []
    agree(played.run)  # each trial has one


def test_class_names_that_mlflow_refuses_cost_nothing(played: Recorded) -> None:
    for event in played.events:
        if event["event"] == "epoch":
            event |= {"val_iou_road+kerb (wet)": 0.5, "val_iou_road_kerb (wet)": 0.25}
            event |= {"val_iou_a//b": 0.75, f"val_iou_{'x' * 300}": 1.0}
    _, warnings = play(played, [], played.events)
    assert warnings == []
    agree(played.run)
    for _, kept in runs_of(played.run).values():
        assert kept.data.metrics["val/iou_road_kerb _wet_"] == 0.5
        (other,) = [
            v for k, v in kept.data.metrics.items() if k.startswith("val/iou_road_kerb _wet__")
        ]
        assert other == 0.25
        assert kept.data.metrics["val_iou_a__b"] == 0.75


@pytest.mark.parametrize(
    "name", ["val/iou", "a//b", "../x", "..", ".", "/x", "x/", "ä ß", "%" * 400, ""]
)
def test_mlflow_takes_every_name(name: str) -> None:
    from mlflow.utils import validation

    given = mlflow_names.plain(name)
    validation._validate_metric_name(given)  # type: ignore[no-untyped-call]
    assert 0 < len(given) <= validation.MAX_ENTITY_KEY_LENGTH


def test_a_number_that_is_refused_takes_neither_others_nor_the_end_with_it(
    played: Recorded, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mlflow_names, "plain", lambda name: name)  # a rule that is not known here
    for event in played.events:
        if event["event"] == "epoch":
            event["val_iou_wet%"] = 0.5
    _, warnings = play(played, [], played.events)
    assert warnings
    assert all(text.startswith("MLflow: MlflowException") for text in warnings)
    agree(played.run)


def test_a_run_shows_best_epoch_title_tags_and_painted_overlays(played: Recorded) -> None:
    assert play(played, [], played.events)[1] == []
    shown = set()
    for name, (client, kept) in runs_of(played.run).items():
        own = [e for e in played.events if e["event"] == "epoch" and e["trial_id"] == name]
        best = max(own, key=lambda event: event["val_iou"])
        assert kept.data.metrics["best/val/iou"] == pytest.approx(best["val_iou"])
        assert kept.data.metrics["best_epoch"] == best["epoch"]
        replicate = kept.data.tags["replicate"]
        shown.add(replicate)
        assert kept.info.run_name.endswith(" r1") == (replicate == "1")
        pictures = client.list_artifacts(kept.info.run_id, "best_epoch_painted")
        folder = played.run / "trials" / kept.data.tags["config"] / name.split("-", 1)[1]
        folder = folder.with_name(folder.name.replace("f", "fold", 1))
        found = examples.read(folder / "evidence.safetensors")
        assert found is not None
        assert len(pictures) == len(found) > 0
        path = client.download_artifacts(kept.info.run_id, sorted(p.path for p in pictures)[0])
        own_colours = palette.of("synthetic_lesions", {})
        panel = palette.panel(found[0].image, found[0].truth, found[0].prediction, own_colours)
        np.testing.assert_array_equal(np.asarray(Image.open(path)), panel)
    assert shown == {"0", "1"}


def test_the_sweep_has_a_run_with_a_table_of_its_trials(played: Recorded) -> None:
    for _ in range(2):
        assert play(played, played.events, [])[1] == []
    ((client, kept),) = of_kind(played, "sweep")
    text = Path(client.download_artifacts(kept.info.run_id, "trials.csv")).read_text()
    rows = list(csv.DictReader(io.StringIO(text)))
    assert {row["trial_id"] for row in rows} == set(runs_of(played.run))
    assert {row["status"] for row in rows} == {"finished"}
    assert kept.info.run_name == played.spec.name


def test_lost_pictures_cost_no_trial_its_end(
    played: Recorded, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise ImportError("no boto3")

    monkeypatch.setattr(mlflow.MlflowClient, "log_image", fail)
    assert play(played, [], played.events)[1] == [
        "MLflow: it took no pictures: ImportError: no boto3"
    ]
    agree(played.run)


def test_open_runs_are_killed_at_the_end_and_run_again_when_they_go_on(played: Recorded) -> None:
    first = next(n for n, event in enumerate(played.events) if event["event"] == "epoch")
    begun = played.events[: first + 1]
    play(played, [], begun)
    ((name, (client, kept)),) = runs_of(played.run).items()
    assert kept.info.status == "KILLED"
    start = next(e for e in begun if e["event"] == "start")
    play(played, begun, [start], killed=True)
    assert client.get_run(kept.info.run_id).info.status == "RUNNING"
    assert play(played, begun, played.events[first + 1 :])[1] == []
    agree(played.run)
    assert runs_of(played.run)[name][1].info.run_id == kept.info.run_id


def model(value: float) -> tracking.CalibratedModel:
    row = {
        "of": "config",
        "fold": None,
        "dataset": "val",
        "region": "all",
        "scaling": "temperature",
    }
    curve = [
        {
            **row,
            "temperature": 0.5 * (step + 1),
            "fitted": False,
            "metric": "ece",
            "value": value + step,
        }
        for step in range(1200)
    ]
    diagram = {
        "scaling": "none",
        "pixels": [3, 4],
        "confidence": [0.1, 0.9],
        "accuracy": [0.2, 0.8],
    }
    return tracking.CalibratedModel("abc", "unet", 1.5, curve, [], [diagram])


def test_calibrating_again_replaces_what_was_there(played: Recorded) -> None:
    tracker = tracking.make(played.spec, played.run)
    for value in (1.0, 2.0):
        assert tracker.calibrated([model(value)]) == []
    assert tracker.close() == []
    ((client, kept),) = of_kind(played, "calibration")
    assert kept.data.params == {"config_id": "abc", "fitted_temperature": "1.5"}
    curve = client.get_metric_history(kept.info.run_id, "val/all/ece")
    scale = client.get_metric_history(kept.info.run_id, "temperature")
    assert {m.step: m.value for m in curve} == {step: 2.0 + step for step in range(1200)}
    assert {m.step: m.value for m in scale} == {step: 0.5 * (step + 1) for step in range(1200)}
    for name, length in {"calibration.csv": 1200, "reliability.csv": 2}.items():
        text = Path(client.download_artifacts(kept.info.run_id, name)).read_text()
        assert len(list(csv.DictReader(io.StringIO(text)))) == length
    assert runs_of(played.run) == {}  # no trial


def test_losing_mlflow_costs_no_calibration(
    played: Recorded, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", nobody())
    tracker = tracking.make(played.spec, played.run)
    (warning,) = tracker.calibrated([model(1.0), model(2.0)])
    assert warning.startswith("MLflow: it was lost (")
    assert tracker.close() == []


def test_calibrate_gives_its_models_to_every_tracker(monkeypatch: pytest.MonkeyPatch) -> None:
    class Told(tracking.NullTracker):
        def calibrated(self, models: Sequence[tracking.CalibratedModel]) -> list[str]:
            return [f"{len(models)} models"]

        def close(self) -> list[str]:
            return ["closed"]

    both = tracking.Several([Told(), Told()])
    monkeypatch.setattr(tracking, "make", lambda spec, run_directory: both)
    spec = SweepSpec(name="x", factors={"model": ["segnet"], "loss": ["bce"]})
    assert calibrate_run.track(spec, Path(), []) == ["0 models"] * 2 + ["closed"] * 2


def test_the_readme_says_what_mlflows_pages_need() -> None:
    # mlflow-skinny has the command but not the pages
    (row,) = [line for line in README.read_text().splitlines() if line.startswith("| `tracking`")]
    assert "pip install mlflow`" in row
