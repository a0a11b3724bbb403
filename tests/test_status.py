"""``status``: what a sweep is doing, from its ledger and its lock alone."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from typer.testing import CliRunner

from segsweep import rundir, status
from segsweep.cli import app
from segsweep.errors import RunError
from tests.compare.runs import make_run
from tests.compare.simulated import Truth

TRUTH = Truth(truths=(0.8, 0.6, 0.79, 0.5), folds=2, images=4)


def call(*arguments: object) -> Any:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


@pytest.fixture
def unfinished(tmp_path: Path) -> Path:
    """Of each of four configs the second fold has run its two epochs, and has not ended."""
    return make_run(tmp_path / "simulated", TRUTH, finished=False, closed=False).path


def add(run: Path, **event: Any) -> None:
    ledger = run / "ledger/events.jsonl"
    ledger.write_text(ledger.read_text() + json.dumps({"time": 2000.0, **event}) + "\n")


def test_a_running_sweep(unfinished: Path) -> None:
    add(unfinished, event="end", trial_id="c3-f1-r0", status="failed", error="ValueError: bad")
    lock = rundir.Lock(unfinished)
    try:
        found = status.read(unfinished, now=1000.0 + 60)
    finally:
        lock.release()
    assert found.state == "running"
    assert found.holder is not None
    assert found.holder.pid == os.getpid()
    assert found.trials == {"finished": 4, "incomplete": 3, "failed": 1}
    assert found.failures == [("ValueError: bad", 1)]
    assert [row.trial_id for row in found.running] == ["c0-f1-r0", "c1-f1-r0", "c2-f1-r0"]
    assert all((row.epoch, row.epochs) == (2, 2) for row in found.running)
    # all of 4 configs x 2 folds x 2 epochs have been run or will never be
    assert (found.share, found.elapsed) == (1.0, 60)
    assert not any(row.final for row in found.ranking)
    assert "not a result: 0 of 4 cells" in _text(found)


def test_how_long_it_will_take_goes_by_what_this_launch_has_done(unfinished: Path) -> None:
    ledger = unfinished / "ledger/events.jsonl"
    lines = [json.loads(line) for line in ledger.read_text().splitlines()]
    lines[0]["cells"] = dict.fromkeys(lines[0]["cells"], 2)  # as many configs are to come
    again = {**lines[0], "time": 1500.0}
    half = next(i for i, e in enumerate(lines) if e.get("config_id") == "c2")
    both = [*lines[:half], again, *({**e, "time": 1600.0} for e in lines[half:])]
    ledger.write_text("".join(json.dumps(e) + "\n" for e in both))
    lock = rundir.Lock(unfinished)
    try:
        found = status.read(unfinished, now=1600.0)
    finally:
        lock.release()
    assert found.share == 0.5
    # 8 of 32 epochs before this launch, 8 in its 100 seconds: 16 more take 200
    assert found.left == pytest.approx(200)


def test_a_launch_that_died_and_one_that_ended(unfinished: Path, tmp_path: Path) -> None:
    assert status.read(unfinished).state == "dead"
    code = (
        "import os, sys; from pathlib import Path; from segsweep.rundir import Lock; "
        "lock = Lock(Path(sys.argv[1])); os._exit(9)"
    )
    subprocess.run([sys.executable, "-c", code, str(unfinished)], check=False)
    found = status.read(unfinished)
    assert found.state == "dead"
    assert found.holder is not None
    assert found.holder.alive is False
    assert found.left is None
    assert found.running == []
    add(unfinished, event="close", status="interrupted")
    assert status.read(unfinished).state == "interrupted"
    done = make_run(tmp_path / "done", TRUTH)
    assert status.read(done.path).state == "done"
    assert "says what can be claimed" in _text(status.read(done.path))


def test_a_process_id_that_is_somebody_elses_by_now_is_not_the_launch(unfinished: Path) -> None:
    facts = {"pid": os.getpid(), "host": os.uname().nodename, "since": "2026-01-01 00:00:00"}
    (unfinished / ".lock").write_text(json.dumps(facts))
    found = status.read(unfinished)
    assert found.state == "dead"
    (unfinished / ".lock").write_text(json.dumps({**facts, "host": "elsewhere"}))
    assert status.read(unfinished).state == "unknown"


def test_another_command_that_holds_the_lock_is_no_launch(unfinished: Path) -> None:
    add(unfinished, event="close", status="done")
    lock = rundir.Lock(unfinished, "calibrate")
    try:
        found = status.read(unfinished)
        stopped = call("stop", unfinished)
        with pytest.raises(RunError, match="`segsweep calibrate` is running here"):
            rundir.Lock(unfinished)
    finally:
        lock.release()
    assert found.state == "done"
    assert "held by `segsweep calibrate`, pid" in _text(found)
    assert stopped.exit_code == 2
    assert "no launch is running here, but `segsweep calibrate`" in stopped.output


def test_looking_does_not_stand_in_a_launchs_way(unfinished: Path) -> None:
    rundir.Lock(unfinished).release()
    before = sorted(p.name for p in unfinished.rglob("*"))
    status.read(unfinished)
    rundir.Lock(unfinished).release()
    assert sorted(p.name for p in unfinished.rglob("*")) == before


def test_watching_ends_with_the_launch(unfinished: Path) -> None:
    lock = rundir.Lock(unfinished)
    text = io.StringIO()
    console = Console(file=text, force_terminal=True, width=120)
    watcher = threading.Thread(target=status.watching, args=(console, unfinished, 0.05))
    watcher.start()
    time.sleep(0.2)
    assert watcher.is_alive()
    add(unfinished, event="close", status="done")
    lock.release()
    watcher.join(timeout=20)
    assert not watcher.is_alive()
    assert "simulated" in text.getvalue()


def test_the_command(unfinished: Path) -> None:
    told = json.loads(call("status", unfinished, "--json").stdout)
    assert told["trials"] == {"finished": 4, "incomplete": 4}
    assert told["state"] == "dead"
    assert call("status", unfinished, "--watch").exit_code == 0
    assert call("status", unfinished, "--watch", "--json").exit_code == 2
    assert call("status", unfinished / "none").exit_code == 2


def _text(found: status.Status) -> str:
    console = Console(file=io.StringIO(), width=150, record=True)
    console.print(found.picture())
    return console.export_text()
