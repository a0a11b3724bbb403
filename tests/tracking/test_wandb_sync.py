"""``segsweep sync`` against the double of W&B's server: everything arrives, and arrives once."""

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
from segsweep.tracking import wandb_records, wandb_runs, wandb_sync
from segsweep.tracking.wandb_runs import WandbRuns
from tests.doubles.wandb_server import ServedRun, WandbServer
from tests.helpers import events, tiny, write_sweep


@pytest.fixture(scope="module")
def offline(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished sweep of four trials with W&B's files, and a run that no ledger knows."""
    folder = tmp_path_factory.mktemp("offline")
    data = tiny(wandb={"mode": "offline"}, configs_per_cell=1)
    path = launch(write_sweep(folder, data), runner="inline").run_directory
    files = WandbRuns(rundir.load(path).spec, path, online=False)
    run = files.open("beside", name="beside", group="g", job_type="calibration", config={"a": 1})
    for step, value in enumerate((0.5, 0.25)):
        run.log({"temperature": 1.0 + step, "ece": value}, step)
    run.log({"bins": wandb.Table(columns=["x"], data=[[1], [2]])}, 2)
    run.run.summary["verdict"] = "fine"
    files.finish(run)
    return path


@pytest.fixture
def run(offline: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(offline, tmp_path / "tiny", symlinks=True))


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[WandbServer]:
    with WandbServer() as double:
        for name, value in double.environment.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setattr(wandb_runs, "INIT_S", 2.0)
        monkeypatch.setattr(wandb_runs, "FINISH_S", 2.0)
        wandb.teardown()  # it reads the environment once
        yield double
        wandb.teardown()


def sync(run: Path, **options: Any) -> wandb_sync.Synced:
    found = rundir.load(run)
    return wandb_sync.sync(found.spec, run, found.events, **options)


def of_trials(server: WandbServer) -> dict[str, ServedRun]:
    return {
        f"{one.facts['groupName']}-f{one.facts['jobType'][4:]}": one
        for one in server.runs.values()
        if one.facts["jobType"].startswith("fold")
    }


def assert_all_there(server: WandbServer, run: Path) -> None:
    assert server.refused == []
    steps: dict[str, list[int]] = {}
    for event in events(run, "epoch"):
        steps.setdefault(event["trial_id"], []).append(event["epoch"])
    trials = of_trials(server)
    assert {name: one.steps for name, one in trials.items()} == steps
    assert all(one.complete for one in server.runs.values())
    for event in events(run, "end"):
        arrived = trials[event["trial_id"]]
        assert arrived.summary["status"] == event["status"]
        best = max(e["val_iou"] for e in events(run, "epoch") if e["trial_id"] == event["trial_id"])
        assert arrived.summary["best/val/iou"] == pytest.approx(best)
        assert set(arrived.summary["best_epoch_examples"]["filenames"]) <= set(arrived.files)
    (beside,) = [one for one in server.runs.values() if one.facts["jobType"] == "calibration"]
    assert [row.get("ece") for row in beside.rows.values()] == [0.5, 0.25, None]
    assert beside.summary["verdict"] == "fine"
    assert beside.config["a"] == 1
    assert any(name.startswith("media/table/bins") for name in beside.files)
    (table,) = [one for one in server.runs.values() if one.facts["jobType"] == "sweep"]
    assert any(name.startswith("media/table/trials") for name in table.files)


def test_everything_arrives_once_and_the_second_sync_asks_for_nothing(
    server: WandbServer, run: Path
) -> None:
    done = CliRunner().invoke(app, ["sync", str(run), "--parallel", "3"])
    assert done.exit_code == 0, done.output
    assert "6 sent, 0 there before, 0 left" in done.output
    assert_all_there(server, run)
    before = len(server.requests)
    done = CliRunner().invoke(app, ["sync", str(run)])
    assert done.exit_code == 0
    assert "nothing to send: the server has all 6 runs" in done.output
    assert server.requests[before:] == []


def test_it_goes_on_above_the_steps_that_arrived(server: WandbServer, run: Path) -> None:
    sync(run)
    *cut, whole = list(of_trials(server).values())[:3]
    for one in cut:  # as if the server had gone away while they were sent
        del one.rows[max(one.rows)]
        one.summary = dict(one.rows[max(one.rows)])
        one.complete = False
    for name in [name for name in whole.files if name.startswith("media/images")]:
        del whole.files[name]  # their row is there, they are not
    for marker in (run / "wandb").glob("*/*.synced"):
        marker.unlink()
    done = sync(run)
    assert done.left == []
    assert sum(one.rows for one in done.runs if one.run in of_trials(server)) == len(cut)
    assert_all_there(server, run)


def test_a_server_that_goes_down_in_the_middle(server: WandbServer, run: Path) -> None:
    seen: list[wandb_sync.Sent] = []

    def fall(sent: wandb_sync.Sent, total: int) -> None:
        seen.append(sent)
        assert total == 6
        if len(seen) == 2:
            server.behave("down")

    done = sync(run, parallel=1, on_sent=fall)
    assert done.left
    assert all(one.problem for one in done.left)
    assert done.left[-1].problem == wandb_sync.LOST  # and nobody waited for it
    server.behave("up")
    wandb.teardown()
    again = sync(run)
    assert again.left == []
    assert again.before == 6 - len(done.left)
    assert_all_there(server, run)


def test_a_server_that_is_out_of_reach_is_exit_code_3(server: WandbServer, run: Path) -> None:
    server.behave("down")
    done = CliRunner().invoke(app, ["sync", str(run), "--json"])
    assert done.exit_code == 3
    told = json.loads(done.stdout)
    assert told["before"] == 0
    assert {one["problem"] for one in told["runs"]} == {"the server does not answer"}
    assert len(told["runs"]) == 6


@pytest.mark.parametrize("how", ["refused", "missing"])
def test_without_a_good_key_nothing_is_sent(
    server: WandbServer, run: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, how: str
) -> None:
    if how == "refused":
        server.behave("unauthorized")
    else:
        monkeypatch.delenv("WANDB_API_KEY")
        monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
        wandb.teardown()
    done = CliRunner().invoke(app, ["sync", str(run)])
    assert done.exit_code == 2
    assert "`wandb login`" in done.output
    assert "WANDB_BASE_URL" in done.output
    assert server.runs == {}


def test_a_sweep_that_is_being_launched_is_left_alone(server: WandbServer, run: Path) -> None:
    lock = rundir.Lock(run)
    done = CliRunner().invoke(app, ["sync", str(run)])
    lock.release()
    assert done.exit_code == 2
    assert "another launch is running here" in done.output


def test_trials_share_one_sweep_page_that_is_made_once(server: WandbServer, run: Path) -> None:
    sync(run)
    (made,) = server.sweeps.values()
    config = json.loads(made["config"])
    assert config["controller"] == {"type": "local"}
    assert config["metric"] == {"name": "val/iou", "goal": "maximize"}
    assert config["parameters"]["loss"] == {"values": ["bce", "dice"]}
    trials = of_trials(server)
    assert {one.facts.get("sweep") for one in trials.values()} == set(server.sweeps)
    assert {one.config["model"] for one in trials.values()} == set(
        config["parameters"]["model"]["values"]
    )
    (table,) = [one for one in server.runs.values() if one.facts["jobType"] == "sweep"]
    assert table.facts.get("sweep") is None
    for marker in (run / "wandb").glob("*/*.synced"):
        marker.unlink()
    sync(run)
    assert len(server.sweeps) == 1


NO_WANDB: list[dict[str, Any]] = [
    {"wandb": {"mode": "disabled"}},
    {"tracking": [], "wandb": {"mode": "offline"}},
    {"tracking": [], "wandb": {"mode": "disabled"}},
]


@pytest.mark.parametrize("said", NO_WANDB)
def test_a_sweep_that_wants_no_wandb_is_sent_on_demand_alone(
    server: WandbServer, tmp_path: Path, said: dict[str, Any]
) -> None:
    data = tiny(configs_per_cell=1, factors__loss=["bce"], **said)
    run = launch(write_sweep(tmp_path, data), runner="inline").run_directory
    done = CliRunner().invoke(app, ["sync", str(run), "--json"])
    assert done.exit_code == 2
    (problem,) = json.loads(done.stdout)["problems"]
    assert "nothing to send" in problem["what"]
    assert server.requests == []
    assert "--anyway` makes" in problem["hint"]
    done = CliRunner().invoke(app, ["sync", str(run), "--anyway"])
    assert done.exit_code == 0, done.output
    assert {name: len(one.steps) for name, one in of_trials(server).items()} == {
        event["trial_id"]: 2 for event in events(run, "end")
    }


def test_before_the_first_trial_there_is_nothing_to_send(server: WandbServer, run: Path) -> None:
    ledger = run / "ledger" / "events.jsonl"
    first = next(line for line in ledger.read_text().splitlines() if '"launch"' in line)
    ledger.write_text(first + "\n")
    shutil.rmtree(run / "wandb")
    done = CliRunner().invoke(app, ["sync", str(run)])
    assert done.exit_code == 0, done.output
    assert "nothing to send: no trial has begun" in done.output


def damage(run: Path) -> Path:
    """A byte that no record begins with, in the file of the run that no ledger knows."""
    found = WandbRuns(rundir.load(run).spec, run, online=False)
    (record,) = found.records(found.id_of("beside"))
    data = bytearray(record.read_bytes())
    data[14] = 0xFF  # after W&B's own seven bytes and a header of seven
    record.write_bytes(data)
    return record


def test_a_damaged_file_is_named_and_the_other_runs_are_sent(
    server: WandbServer, run: Path
) -> None:
    record = damage(run)
    done = CliRunner().invoke(app, ["sync", str(run), "--json"])
    assert done.exit_code == 3
    (left,) = [one for one in json.loads(done.stdout)["runs"] if one["problem"]]
    assert left["problem"].startswith(f"damaged, and left out: {record};")
    assert len(server.runs) == 5
    assert not record.with_name(f"{record.name}.synced").exists()
    assert wandb_records.last_step(record) == -1
    assert wandb_records.read([record]).damaged == [record]
    shutil.rmtree(record.parent)
    assert sync(run).left == []


def test_what_the_ledger_learnt_after_a_sync_is_sent_by_the_next(
    server: WandbServer, run: Path
) -> None:
    """A launch that went on was killed before W&B was told: no file says that anything is new."""
    path = run / "ledger" / "events.jsonl"
    whole = path.read_text()
    first = next(event["trial_id"] for event in events(run, "end"))

    def later(line: str) -> bool:
        event = json.loads(line)
        news = event["event"] == "end" or (event["event"] == "epoch" and event["epoch"] > 1)
        return bool(news and event.get("trial_id") == first)

    path.write_text("".join(line for line in whole.splitlines(True) if not later(line)))
    assert sync(run).left == []
    assert of_trials(server)[first].steps == [1]
    path.write_text(whole)
    done = sync(run)
    assert first in [one.run for one in done.runs]
    assert_all_there(server, run)
    assert sync(run).runs == []


def test_files_that_wandbs_own_sync_has_sent_count_as_far_as_they_go(
    server: WandbServer, run: Path
) -> None:
    sync(run)
    for marker in (run / "wandb").glob("*/*.synced"):
        marker.write_text("")  # as `wandb sync` leaves it
    assert [one.run for one in sync(run).runs] == ["sweep"]  # of whose age its rows say nothing
    assert sync(run).runs == []


def test_a_run_that_the_server_refuses_keeps_no_other_from_it(
    server: WandbServer, run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent = wandb_sync._Sender._send
    refused = [event["trial_id"] for event in events(run, "end")][:3]

    def send(self: wandb_sync._Sender, name: str, run_id: str) -> wandb_sync.Sent:
        if name in refused:
            raise TimeoutError("Timed out while retrying: HTTP 409: run was deleted")
        return sent(self, name, run_id)

    monkeypatch.setattr(wandb_sync._Sender, "_send", send)
    done = sync(run, parallel=1)
    assert [one.run for one in done.left] == refused
    assert all("HTTP 409" in str(one.problem) for one in done.left)
    assert len(server.runs) == 3
