"""MLflow's store holds what the ledger holds, once, also after a launch that was cut off."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from segsweep import check as check_module
from segsweep import tracking
from segsweep.errors import SpecError
from segsweep.launching import launch
from segsweep.runners import inline
from segsweep.runners import take as real_take
from tests.helpers import events, tiny, write_sweep

mlflow = pytest.importorskip("mlflow")


def runs_of(run: Path) -> dict[str, Any]:
    client = mlflow.MlflowClient(tracking_uri=f"sqlite:///{run / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("p")
    found = client.search_runs([experiment.experiment_id], max_results=1000)
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
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'store.db'}")
    changes: dict[str, Any] = {"parameters": {}, "configs_per_cell": None, "factors__loss": ["bce"]}
    for name in ("first", "second"):
        data = tiny(tracking=["mlflow"], project="p", name=name, **changes)
        assert launch(write_sweep(tmp_path, data), runner="inline").warnings == []
    client = mlflow.MlflowClient(tracking_uri=f"sqlite:///{tmp_path / 'store.db'}")
    found = client.search_runs([client.get_experiment_by_name("p").experiment_id])
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
