"""The commands as a shell sees them: exit codes, messages, JSON."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from typer.testing import CliRunner

from segsweep import __version__
from segsweep.cli import app, show
from segsweep.errors import DiskFull
from segsweep.launching import Outcome
from segsweep.rundir import load
from tests.helpers import events, tiny, write_sweep
from tests.runners.processes import wait_for

runner = CliRunner()


def call(*arguments: object) -> Any:
    return runner.invoke(app, [str(argument) for argument in arguments])


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cli")
    path = write_sweep(folder, tiny())
    done = call("launch", path, "--runner", "inline")
    assert done.exit_code == 0, done.output
    return path


def test_version_and_help() -> None:
    assert __version__ in call("--version").output
    text = call("--help").output
    for command in ("validate", "schema", "plan", "launch", "compare", "report", "status"):
        assert command in text


def test_validate_says_what_the_file_holds(tmp_path: Path) -> None:
    done = call("validate", write_sweep(tmp_path, tiny()))
    assert done.exit_code == 0
    assert "2 cells, 4 configs, 2 folds; 9 images and 3 held out" in done.output
    assert not (tmp_path / "runs/tiny").exists()


@pytest.mark.parametrize("command", ["validate", "plan", "launch"])
def test_a_bad_file_is_refused_with_2_and_nothing_started(tmp_path: Path, command: str) -> None:
    path = write_sweep(tmp_path, tiny(factors__model=["segnett"], train__epochs=0))
    done = call(command, path)
    assert done.exit_code == 2
    assert "2 problems" in done.output
    assert "did you mean 'segnet'" in done.output
    assert "factors.model[0]" in done.output
    assert "Traceback" not in done.output
    assert not (tmp_path / "runs").exists()


def test_plan_counts_and_prices(tmp_path: Path) -> None:
    path = write_sweep(tmp_path, tiny())
    shown = call("plan", path)
    assert shown.exit_code == 0
    assert "2 cells · 4 configs · 8 trials · 16 epochs" in shown.output
    made = json.loads(call("plan", path, "--json").stdout)
    assert (made["configs"], made["trials"], made["epochs"]) == (4, 8, 16)
    assert (made["images"], made["holdout_images"], made["folds"]) == (9, 3, 2)
    assert made["seconds"] > 0
    assert all(cell["train_ms"] > 0 and cell["parameters"] > 0 for cell in made["cells"])
    assert made["bytes"] >= 8 * 4 * made["cells"][0]["parameters"]
    assert json.loads(call("plan", path, "--json", "--set", "folds.k=3").stdout)["trials"] == 12
    assert call("launch", path, "--dry-run").exit_code == 0
    assert not (tmp_path / "runs/tiny").exists()


def test_the_estimate_is_near_what_it_takes(finished: Path) -> None:
    made = json.loads(call("plan", finished, "--json").stdout)
    import pyarrow.parquet as pq

    trials = pq.read_table(finished.parent / "runs/tiny/results/trials.parquet").to_pylist()
    took = sum(row["train_seconds"] for row in trials)
    estimated = sum(cell["seconds"] for cell in made["cells"])
    assert 0.1 < estimated / took < 10  # a machine under load, a sweep of a second


def test_schema_knows_keys_and_names() -> None:
    schema = json.loads(call("schema").output)
    assert schema["additionalProperties"] is False
    assert {"name", "factors"} <= set(schema["required"])
    assert "ph2" in schema["$defs"]["Dataset"]["properties"]["name"]["enum"]
    models = schema["properties"]["factors"]["properties"]["model"]["items"]["anyOf"][0]["enum"]
    assert "segnet" in models


def test_compare_prints_the_ranking_and_json(finished: Path) -> None:
    run = finished.parent / "runs" / "tiny"
    for name in (run, finished):
        shown = call("compare", name)
        assert shown.exit_code == 0
        assert "unet_vanilla/bce" in shown.output
    ranking = json.loads(call("compare", run, "--json").output)
    assert ranking["final"]
    means = [cell["mean"] for cell in ranking["cells"]]
    assert means == sorted(means, reverse=True)


def test_report_is_written_where_it_is_asked_for(finished: Path, tmp_path: Path) -> None:
    run = finished.parent / "runs" / "tiny"
    done = call("report", finished)
    assert done.exit_code == 0, done.output
    assert "report.html" in done.output
    made = (run / "report.html").read_text(encoding="utf-8")
    assert "Use unet_vanilla/" in made
    out = tmp_path / "mine.html"
    assert call("report", run, "--out", out).exit_code == 0
    assert len(out.read_text(encoding="utf-8")) == pytest.approx(len(made), rel=0.01)
    assert "torch " in made  # versions are recorded
    assert call("launch", run / "resolved.yaml", "--runner", "inline").exit_code == 0  # nothing new


def test_report_opens_a_browser_when_asked(finished: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[str] = []
    monkeypatch.setattr("typer.launch", lambda url: opened.append(url) or 0)  # type: ignore[func-returns-value]
    assert call("report", finished, "--open").exit_code == 0
    assert opened == [(finished.parent / "runs/tiny/report.html").resolve().as_uri()]


def test_report_of_nothing_or_into_nowhere_is_refused(finished: Path, tmp_path: Path) -> None:
    for arguments in (("none",), (finished, "--out", tmp_path), (finished, "--out", "no/where")):
        done = call("report", *arguments)
        assert done.exit_code == 2
        assert "refused: 1 problem" in done.output
    assert list(tmp_path.iterdir()) == []


def test_compare_of_nothing_says_where_it_looked(tmp_path: Path) -> None:
    done = call("compare", tmp_path / "none")
    assert done.exit_code == 2
    assert "looked in" in done.output


def test_launch_ends_with_ranking_results_and_the_next_commands(finished: Path) -> None:
    done = call("launch", finished, "--runner", "inline")
    assert done.exit_code == 0
    for text in ("± ", "holdout", "results/*.parquet", "segsweep compare "):
        assert text in done.output


def test_stop_ends_a_launch_in_good_order(tmp_path: Path) -> None:
    """``stop`` sends what Ctrl-C sends."""
    path = write_sweep(tmp_path, tiny(train__epochs=500, configs_per_cell=1))
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(
        [sys.executable, "-m", "segsweep", "launch", str(path), "--runner", "inline"],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment,
    )  # fmt: skip
    ledger = tmp_path / "runs/tiny/ledger/events.jsonl"
    wait_for(lambda: ledger.exists() and '"epoch":3' in ledger.read_text(), 180, "epoch 3")
    done = call("stop", tmp_path / "runs/tiny", "--json")
    assert json.loads(done.stdout)["stopped"]["pid"] == process.pid
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 130
    assert events(tmp_path / "runs/tiny")[-1]["status"] == "interrupted"
    assert "segsweep launch" in output
    assert "Traceback" not in output
    again = call("stop", tmp_path / "runs/tiny")
    assert (again.exit_code, again.output) == (0, "no launch is running there\n")


def test_a_launch_on_another_host_is_not_stopped_from_here(finished: Path) -> None:
    lock = finished.parent / "runs/tiny/.lock"
    facts = {"pid": os.getpid(), "host": "elsewhere", "since": "2026-01-31 12:00:00"}
    lock.write_text(json.dumps(facts))
    try:
        done = call("stop", lock.parent)
    finally:
        lock.write_text("")
    assert done.exit_code == 2
    assert f"on elsewhere: segsweep stop {lock.parent}" in done.output


def test_what_a_person_reads_a_program_can_read(finished: Path, tmp_path: Path) -> None:
    sweep, run = finished, finished.parent / "runs/tiny"
    held = json.loads(call("validate", sweep, "--json").stdout)
    assert (len(held["cells"]), held["configs"], held["images"]) == (2, 4, 9)
    ended = json.loads(call("launch", sweep, "--runner", "inline", "--json").stdout)
    assert (ended["exit_code"], ended["started"], ended["undecided"]) == (0, 0, {})
    assert len(ended["ranking"]) == 2
    told = json.loads(call("report", run, "--json").stdout)
    assert Path(told["report"]).stat().st_size == told["bytes"]
    assert json.loads(call("launch", sweep, "--dry-run", "--json").stdout)["configs"] == 4


@pytest.mark.parametrize("command", ["validate", "plan", "launch", "compare", "status", "export"])
def test_refusals_are_json_too(tmp_path: Path, command: str) -> None:
    path = write_sweep(tmp_path, tiny(train__epohcs=2, train__batch_size=0))
    extra = ("--out", tmp_path / "out") if command == "export" else ()
    done = call(command, path, *extra, "--json")
    assert done.exit_code == 2
    keys = {problem["key"] for problem in json.loads(done.stdout)["problems"]}
    assert keys == {"train.epohcs", "train.batch_size"}
    assert "did you mean 'epochs'" in done.stderr


def test_each_command_names_the_next_one(finished: Path) -> None:
    """With what was overridden."""
    for command, then in (("validate", "plan"), ("plan", "launch")):
        done = call(command, finished, "--set", "train.lr=1e-3")
        assert f"segsweep {then} {finished} --set train.lr=1e-3" in done.output.replace("\n", "")
    run = finished.parent / "runs/tiny"
    told = call("compare", run).output
    assert f"next        segsweep calibrate {run}\n" in told
    assert f"            segsweep export {run} --out DIR\n" in told
    told = call("calibrate", run, "--runner", "inline").output
    assert f"next        segsweep export {run} --out DIR" in told


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (KeyboardInterrupt(), 130, "interrupted; the same command goes on"),
        (OSError(errno.ENOSPC, "No space left on device"), 3, "the disk is full"),
        (DiskFull("nothing more can be written"), 3, "nothing more can be written"),
    ],
)
def test_what_ends_a_command_early_is_said_and_is_json_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException, code: int, said: str
) -> None:
    def end(*_: object) -> None:
        raise error

    monkeypatch.setattr("segsweep.check.check", end)
    path = write_sweep(tmp_path, tiny())
    done = call("validate", path, "--json")
    assert done.exit_code == code
    (problem,) = json.loads(done.stdout)["problems"]
    assert said in problem["what"]
    assert said in done.stderr
    assert call("validate", path).stdout == ""


def test_where_the_server_was_lost_the_next_command_is_sync(finished: Path) -> None:
    spec = load(finished.parent / "runs/tiny").spec
    wandb = spec.wandb.model_copy(update={"mode": "online"})
    online = spec.model_copy(update={"wandb": wandb, "tracking": ["wandb"]})

    def told(*warnings: str) -> str:
        console = Console(record=True, width=200)
        place = finished.parent / "runs/tiny"
        show.outcome(console, Outcome(0, place, online, [], {}, [], 1, warnings), ["my.yaml"])
        return console.export_text()

    assert "segsweep sync" not in told()
    assert "note: W&B: the server was lost" in told("W&B: the server was lost")
    assert f"            segsweep sync {finished.parent / 'runs/tiny'}\n" in told(
        "W&B: the server was lost"
    )
