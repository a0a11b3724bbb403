"""Losing W&B: the sweep is the same, everything can be sent later, and no step is sent twice."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import wandb
from wandb.sdk import wandb_setup

from segsweep import ledger, spec
from segsweep.launching import Outcome, launch
from segsweep.tracking import wandb as tracker
from segsweep.tracking import wandb_runs, wandb_service, wandb_sync
from tests.doubles.wandb_file import offline_runs
from tests.doubles.wandb_server import Behaviour, ServedRun, WandbServer
from tests.helpers import events, tiny, write_sweep
from tests.runners.processes import PATIENCE_S, trial_workers, wait_for

SWEEP: dict[str, Any] = {
    "train__epochs": 4,
    "configs_per_cell": 4,
    "factors__loss": ["bce"],
    "early_stopping": {"grace_period": 1, "reduction_factor": 2},
    "race": {"rule": "predictive"},
    "max_concurrent": 1,
}
LOST: list[Behaviour] = ["down", "unauthorized", "silent"]


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[WandbServer]:
    with WandbServer() as double:
        for name, value in double.environment.items():
            monkeypatch.setenv(name, value)
        give(monkeypatch, 60.0)  # a busy machine is no lost server
        wandb.teardown()  # it reads the environment once
        yield double
        wandb.teardown()


def give(monkeypatch: pytest.MonkeyPatch, seconds: float) -> None:
    """How long the writer waits for a server."""
    monkeypatch.setattr(wandb_runs, "INIT_S", seconds)
    monkeypatch.setattr(wandb_runs, "FINISH_S", seconds)


def sweep(folder: Path, mode: str = "online", **changes: Any) -> Path:
    folder.mkdir(exist_ok=True)
    return write_sweep(folder, tiny(**{**SWEEP, **changes}, wandb={"mode": mode}))


@pytest.fixture(scope="module")
def untracked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = sweep(tmp_path_factory.mktemp("untracked"), "disabled")
    return launch(path, runner="inline").run_directory


def told(run: Path) -> list[dict[str, Any]]:
    """Every decision and number, but what a clock says and where."""
    kinds = ("config", "epoch", "rung", "race", "end", "champion", "holdout")
    return [
        {k: v for k, v in e.items() if "seconds" not in k and k not in ("time", "node")}
        for e in events(run)
        if e["event"] in kinds
    ]


def steps(run: Path) -> dict[tuple[str, str], list[int]]:
    """What W&B is to have of each trial: its steps by config and fold, from the ledger."""
    found: dict[tuple[str, str], list[int]] = {}
    for event in events(run, "epoch"):
        config_id, fold = event["trial_id"].split("-f")
        found.setdefault((config_id, f"fold{fold}"), []).append(event["epoch"])
    return found


def served(server: WandbServer) -> dict[tuple[str, str], list[int]]:
    return {(r.facts["groupName"], r.facts["jobType"]): r.steps for r in trials(server)}


def trials(server: WandbServer) -> list[ServedRun]:
    return [run for run in server.runs.values() if run.facts["jobType"] != "sweep"]


def sync(run: Path) -> list[str]:
    """Send what the server lacks."""
    found, problems = spec.parse(spec.read(run / "resolved.yaml", []))
    assert found is not None, problems
    left = wandb_sync.sync(found, run, ledger.read(run / ledger.LEDGER)).left
    return [f"{one.run}: {one.problem}" for one in left]


def assert_synced(server: WandbServer, run: Path) -> None:
    """The server has every epoch of the ledger once, and the verdicts, and took nothing amiss."""
    assert served(server) == steps(run)
    assert server.refused == []
    by_trial = {(r.facts["groupName"], r.facts["jobType"]): r for r in trials(server)}
    for event in events(run, "end"):
        config_id, fold = event["trial_id"].split("-f")
        arrived = by_trial[config_id, f"fold{fold}"]
        assert arrived.summary["status"] == event["status"]
        assert arrived.complete
    for event in events(run, "epoch"):
        config_id, fold = event["trial_id"].split("-f")
        arrived = by_trial[config_id, f"fold{fold}"]
        rows = {row["_step"]: row for row in arrived.rows.values()}
        assert rows[event["epoch"]]["train/loss"] == pytest.approx(event["train_loss"])


def test_online_every_epoch_arrives_once(
    server: WandbServer, tmp_path: Path, untracked: Path
) -> None:
    outcome = launch(sweep(tmp_path), runner="inline")
    assert outcome.warnings == []
    assert told(outcome.run_directory) == told(untracked)
    assert_synced(server, outcome.run_directory)
    (table,) = [run for run in server.runs.values() if run.facts["jobType"] == "sweep"]
    assert any(name.startswith("media/table/") for name in table.files)
    assert all("best_epoch_examples" in run.summary for run in trials(server))
    before = len(server.requests)
    assert sync(outcome.run_directory) == []
    assert server.requests[before:] == []  # it is all there
    assert_synced(server, outcome.run_directory)


def assert_same_and_syncable(
    outcome: Outcome, server: WandbServer, untracked: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = outcome.run_directory
    assert outcome.exit_code == 0
    assert told(run) == told(untracked)
    (line,) = outcome.warnings
    assert line.startswith("W&B: the server was lost")
    assert "\n" not in line
    assert list((run / "wandb").glob("offline-run-*"))
    server.behave("up")
    give(monkeypatch, 60.0)
    wandb.teardown()
    assert sync(run) == []
    assert_synced(server, run)


@pytest.mark.parametrize("how", LOST)
def test_no_server_at_the_start(
    server: WandbServer,
    tmp_path: Path,
    untracked: Path,
    how: Behaviour,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    server.behave(how)
    give(monkeypatch, 2.0)
    outcome = launch(sweep(tmp_path), runner="inline")
    assert server.runs == {}
    offline = {
        (run.group, run.job_type): sorted(run.history)
        for run in offline_runs(outcome.run_directory / "wandb")
        if run.job_type != "sweep"
    }
    assert offline == steps(outcome.run_directory)
    assert_same_and_syncable(outcome, server, untracked, monkeypatch)


@pytest.mark.parametrize("how", LOST)
def test_no_server_from_the_middle_on(
    server: WandbServer,
    tmp_path: Path,
    untracked: Path,
    how: Behaviour,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    take, epochs = tracker.WandbTracker._take, iter(range(1000))

    def fail_later(self: tracker.WandbTracker, event: dict[str, Any]) -> None:
        take(self, event)
        if event["event"] == "epoch" and next(epochs) == 5:  # in the second trial
            server.behave(how)

    monkeypatch.setattr(tracker.WandbTracker, "_take", fail_later)
    give(monkeypatch, 6.0)
    outcome = launch(sweep(tmp_path), runner="inline")
    assert any(run.complete for run in trials(server))
    assert_same_and_syncable(outcome, server, untracked, monkeypatch)


def test_a_process_of_wandb_that_hangs_is_ended(server: WandbServer) -> None:
    wandb.setup()
    service: Any = wandb_setup.singleton().ensure_service()
    process = service._proc._process
    process.send_signal(signal.SIGSTOP)  # it hears nothing
    begun = time.monotonic()
    wandb_service.end(1.0)
    assert process.poll() == -signal.SIGKILL
    assert time.monotonic() - begun < 20
    assert wandb_setup.singleton().ensure_service()._proc is not service._proc  # and another begins


def test_a_key_that_is_missing_is_told_and_not_asked_for(
    server: WandbServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("WANDB_API_KEY")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    wandb.teardown()
    outcome = launch(sweep(tmp_path, configs_per_cell=1), runner="inline")
    assert outcome.exit_code == 0
    (line,) = outcome.warnings
    assert "no API key" in line


# with real processes


def start(path: Path, server: WandbServer, runner: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "segsweep", "launch", str(path), "--runner", runner],
        cwd=path.parent,
        env={**os.environ, **server.environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def wait_for_epochs(run: Path, count: int) -> None:
    path = run / ledger.LEDGER
    wait_for(
        lambda: path.exists() and path.read_text().count('"event":"epoch"') >= count,
        PATIENCE_S,
        f"{count} epochs",
    )


def kill(process: subprocess.Popen[str]) -> None:
    process.kill()
    process.wait()
    assert process.stdout is not None
    process.stdout.close()


def test_no_server_is_one_line_of_the_output(
    server: WandbServer, tmp_path: Path, untracked: Path
) -> None:
    server.behave("down")
    process = start(sweep(tmp_path), server, "inline")
    output, _ = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 0, output
    assert output.count("W&B") == 1, output
    assert "wandb:" not in output
    assert told(tmp_path / "runs/tiny") == told(untracked)


def test_killed_workers_and_drivers_send_no_step_twice(server: WandbServer, tmp_path: Path) -> None:
    path, run = sweep(tmp_path, train__epochs=60, configs_per_cell=2), tmp_path / "runs/tiny"
    process = start(path, server, "ray")
    wait_for_epochs(run, 4)
    for _ in range(10):  # one that is killed between two trials is not lost by any
        for pid in trial_workers(process.pid):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(2)
        if events(run, "lost"):
            break
    assert events(run, "lost")
    wait_for_epochs(run, 40)
    kill(process)
    process = start(path, server, "inline")
    output, _ = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 0, output
    assert "W&B" not in output
    assert_synced(server, run)


def test_offline_files_of_a_killed_driver_are_whole(server: WandbServer, tmp_path: Path) -> None:
    path = sweep(tmp_path, "offline", train__epochs=20, configs_per_cell=2)
    run = tmp_path / "runs/tiny"
    for count in (8, 30):
        process = start(path, server, "inline")
        wait_for_epochs(run, count)
        kill(process)
    process = start(path, server, "inline")
    output, _ = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 0, output
    found = [r for r in offline_runs(run / "wandb") if r.job_type != "sweep"]
    assert len(found) == len(steps(run))  # one file a trial
    assert {(r.group, r.job_type): list(r.history) for r in found} == steps(run)
    assert server.requests == []
