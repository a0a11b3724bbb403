"""Out of memory: half as many images a pass, the same batch size, and everybody is told."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import MethodType, SimpleNamespace
from typing import Any

import pyarrow.parquet as pq
import pytest
import torch
from ray.exceptions import OutOfMemoryError, RayActorError, RayTaskError, WorkerCrashedError
from typer.testing import CliRunner

from segsweep import engine, trial
from segsweep.cli import app
from segsweep.launching import Outcome, launch
from segsweep.runners.ray.adapters import WorkerLost, translate_losses
from tests.faults.launches import curves
from tests.helpers import events, tiny, write_sweep
from tests.runners.processes import PATIENCE_S

SMALL: dict[str, Any] = {"configs_per_cell": 1, "dataset__images": 20, "train__epochs": 3}


def memory_for(
    images: int, of: Callable[..., Any] = engine.prepare_images
) -> Callable[[torch.Tensor, torch.device], torch.Tensor]:
    """A device that holds so many images a pass."""

    def prepare(batch: torch.Tensor, device: torch.device) -> torch.Tensor:
        if len(batch) > images:
            raise torch.OutOfMemoryError(f"CUDA out of memory: {len(batch)} images")
        return of(batch, device)  # type: ignore[no-any-return]

    return prepare


def rows(outcome: Outcome) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = pq.read_table(
        outcome.run_directory / "results" / "trials.parquet"
    ).to_pylist()
    return found


def test_a_trial_that_runs_out_of_memory_takes_half_the_images_a_pass(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "prepare_images", memory_for(3))
    path = write_sweep(tmp_path, tiny(**SMALL, factors__loss=["bce"]))
    outcome = launch(path, runner="inline")
    assert outcome.exit_code == 0
    assert [(r["status"], r["micro_batch"], r["attempts"]) for r in rows(outcome)] == [
        ("finished", 2, 2)
    ] * 2
    lost = events(outcome.run_directory, "lost")
    assert [event["micro_batch"] for event in lost] == [2, 2]
    assert all("CUDA out of memory" in event["error"] for event in lost)
    starts = [event["micro_batch"] for event in events(outcome.run_directory, "start")]
    assert starts == [None, 2] * 2
    config = events(outcome.run_directory, "config")[0]["config"]
    assert config["train"]["batch_size"] == 4  # what the config says is what the step is
    told = CliRunner().invoke(app, ["compare", str(outcome.run_directory)]).output
    assert "2 trials ran out of memory" in told
    assert "2 images a pass" in told


def test_retries_are_bounded_and_the_sweep_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, tried = engine.train_epoch, []

    def starve(model: Any, batches: Any, loss: Any, *rest: Any, **options: Any) -> Any:
        if "dice" in loss.terms:
            tried.append(options["micro_batch"])
            raise torch.OutOfMemoryError("CUDA out of memory")
        return real(model, batches, loss, *rest, **options)

    path = write_sweep(tmp_path, tiny(**SMALL, train__batch_size=8, max_failures=2))
    with monkeypatch.context() as patch:
        patch.setattr(trial, "train_epoch", starve)
        outcome = launch(path, runner="inline")
    assert tried == [None, 4, 2]
    assert outcome.exit_code == 3
    assert [row.label for row in outcome.ranking] == ["unet_vanilla/bce"]
    assert {(r["loss"], r["status"], r["micro_batch"]) for r in rows(outcome)} == {
        ("bce", "finished", 8),
        ("dice", "out_of_memory", 2),
    }
    again = launch(path, runner="inline", retry_failed=True)  # with memory, as it should have been
    assert again.exit_code == 0
    assert {r["micro_batch"] for r in rows(again)} == {8}


def test_after_a_crash_a_trial_keeps_its_images_a_pass(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("whole", "parts"):
        (tmp_path / name).mkdir()
    sweep = tiny(**SMALL, factors__loss=["bce"], folds__run=1)
    with monkeypatch.context() as patch:
        patch.setattr(engine, "prepare_images", memory_for(3))
        whole = launch(write_sweep(tmp_path / "whole", sweep), runner="inline")
    path = write_sweep(tmp_path / "parts", sweep)
    real = engine.evaluate

    def interrupt(*args: Any, **options: Any) -> Any:
        os.kill(os.getpid(), signal.SIGINT)
        return real(*args, **options)

    with monkeypatch.context() as patch:
        patch.setattr(engine, "prepare_images", memory_for(3))
        patch.setattr(trial, "evaluate", interrupt)
        assert launch(path, runner="inline").exit_code == 130
    assert launch(path, runner="inline").exit_code == 0  # memory enough, all of a sudden
    starts = [event["micro_batch"] for event in events(tmp_path / "parts/runs/tiny", "start")]
    assert starts == [None, 2, 2]
    assert curves(tmp_path / "parts/runs/tiny") == curves(whole.run_directory)


def test_the_holdout_is_scored_in_smaller_batches_where_memory_is_scarce(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_sweep(tmp_path, tiny(**SMALL, factors__loss=["bce"], train__batch_size=4))
    monkeypatch.setattr(engine, "prepare_images", memory_for(1))
    outcome = launch(path, runner="inline")
    assert outcome.exit_code == 0
    assert outcome.ranking[0].holdout is not None


@pytest.mark.parametrize(
    ("error", "kind", "memory"),
    [
        (OutOfMemoryError("1 worker(s) were killed\ndetails"), WorkerLost, True),
        (WorkerCrashedError(), WorkerLost, False),
        (RayActorError(), RayActorError, None),
    ],
)
def test_tune_is_told_of_a_lost_worker_in_words_it_knows(
    error: Exception, kind: type[Exception], memory: bool | None
) -> None:
    from ray.air.execution._internal.actor_manager import RayActorManager

    assert not issubclass(OutOfMemoryError, (RayActorError, RayTaskError))  # why all this is
    heard: list[Exception] = []
    # the real method on as little of a manager as it needs
    manager: Any = SimpleNamespace(_failed_actor_ids=set(), _cleanup_actor=lambda **_: None)
    manager._actor_task_failed = MethodType(RayActorManager._actor_task_failed, manager)
    actor = SimpleNamespace(actor_id=0, _on_error=None)
    task = SimpleNamespace(
        _tracked_actor=actor, _on_error=lambda _, exception: heard.append(exception)
    )
    before: list[Any] = []
    translate_losses(manager, lambda who, why: before.append((who, why)))
    manager._actor_task_failed(task, error)
    (told,) = heard
    assert type(told) is kind
    assert before == [(actor, told)]
    if isinstance(told, WorkerLost):
        assert told.memory is memory
        assert "\n" not in told.reason
        function, arguments = told.__reduce__()
        assert function(*arguments).reason == told.reason


def test_on_ray_memory_that_runs_out_in_either_way_costs_a_retry(tmp_path: Path) -> None:
    sweep = tiny(**SMALL, factors__loss=["bce"], folds__run=1, dataset__holdout=0)
    path = write_sweep(tmp_path, sweep)
    script = [sys.executable, "-m", "tests.faults.starved", str(path)]
    # where a token lies, and with Ray imported before segsweep, as a notebook may do
    (tmp_path / "home/.ray").mkdir(parents=True)
    (tmp_path / "home/.ray/auth_token").write_text("a" * 64)
    home = {**os.environ, "HOME": str(tmp_path / "home")}
    done = subprocess.run(
        script, env=home, capture_output=True, text=True, timeout=PATIENCE_S, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    run = tmp_path / "runs/tiny"
    killed, starved = events(run, "lost")
    assert "killed" in killed["error"]
    assert killed["micro_batch"] == 2
    assert "CUDA out of memory" in starved["error"]
    assert starved["micro_batch"] == 1
    (end,) = events(run, "end")
    assert end["status"] == "finished"
    assert sorted(epoch for _, epoch in curves(run)) == [1, 2, 3]
    assert "tried again with 2 images a pass" in done.stdout
