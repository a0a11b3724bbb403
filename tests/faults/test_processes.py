"""Processes that are killed, that hang, or that run side by side."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from segsweep.errors import RunError
from segsweep.interrupt import below
from segsweep.launching import launch
from segsweep.rundir import Lock
from tests.faults.launches import curves, decisions, finish, running, start
from tests.helpers import events, tiny, write_sweep
from tests.runners.processes import PATIENCE_S, alive, wait_for

HOLD = """
import sys, time
from pathlib import Path
from segsweep.rundir import Lock
lock = Lock(Path(sys.argv[1]))
print("held", flush=True)
time.sleep(600)
"""
HANG = """
import ctypes, subprocess
from segsweep.interrupt import Interrupt
with Interrupt():
    child = subprocess.Popen(["sh", "-c", "sleep 600 & wait"])
    print(child.pid, flush=True)
    lock = ctypes.create_string_buffer(64)  # a mutex: no signal wakes who waits for it
    libc = ctypes.CDLL(None)
    libc.pthread_mutex_lock(lock)
    libc.pthread_mutex_lock(lock)
"""


def python(code: str, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", code, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        text=True,
    )  # fmt: skip


def line_of(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def test_a_lock_is_respected_while_its_holder_lives_and_taken_over_afterwards(
    tmp_path: Path,
) -> None:
    holder = python(HOLD, str(tmp_path))
    assert line_of(holder) == "held"
    with pytest.raises(RunError, match=f"pid {holder.pid} "):
        Lock(tmp_path)
    assert alive(holder.pid)
    holder.kill()
    holder.communicate()
    lock = Lock(tmp_path)
    assert f"pid {holder.pid} " in str(lock.stale)
    with pytest.raises(RunError, match=f"pid {os.getpid()} "):
        Lock(tmp_path)
    lock.release()
    orderly = Lock(tmp_path)
    assert orderly.stale is None
    orderly.release()


def test_a_second_signal_ends_a_process_that_hangs_and_all_below_it(tmp_path: Path) -> None:
    process = python(HANG)
    child = int(line_of(process))
    wait_for(lambda: len(below(process.pid)) == 2, 10, "the grandchild")
    family = below(process.pid)
    assert family[0] == child
    process.send_signal(signal.SIGINT)
    time.sleep(0.2)
    assert process.poll() is None
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=2)
    assert process.returncode == 130
    assert "interrupted twice" in errors
    wait_for(lambda: not [p for p in family if running(p)], 10, "the end of all below it")


def test_ctrl_c_twice_ends_at_once_and_a_third_launch_goes_on(tmp_path: Path) -> None:
    for name in ("whole", "parts"):
        (tmp_path / name).mkdir()
    sweep = tiny(
        train__epochs=60, configs_per_cell=1, factors__loss=["bce"], wandb={"mode": "offline"}
    )
    launch(write_sweep(tmp_path / "whole", sweep), runner="inline")
    path = write_sweep(tmp_path / "parts", sweep)
    ledger = tmp_path / "parts/runs/tiny/ledger/events.jsonl"
    process = start(path)
    wait_for(lambda: ledger.exists() and '"epoch":5,' in ledger.read_text(), PATIENCE_S, "epoch 5")
    family = below(process.pid)
    assert len(family) > 3
    process.send_signal(signal.SIGINT)
    time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    output = finish(process, code=130, seconds=2)
    assert "interrupted twice" in output
    wait_for(lambda: not [p for p in family if running(p)], 10, "the end of every process")
    output = finish(start(path, "--runner", "inline"))  # it makes no difference, and is quicker
    assert "ended without a word" in output
    run = tmp_path / "parts/runs/tiny"
    assert curves(run) == curves(tmp_path / "whole/runs/tiny")
    assert len(events(run, "launch")) == 2


def test_two_sweeps_at_once_do_not_touch_each_other(tmp_path: Path) -> None:
    sweeps: dict[str, dict[str, Any]] = {
        name: {**tiny(configs_per_cell=2, max_concurrent=1, **changes), "name": name}
        for name, changes in (
            ("first", {"factors__loss": ["bce"]}),
            ("second", {"factors__loss": ["dice"], "train__epochs": 3}),
        )
    }
    (tmp_path / "alone").mkdir()
    started = []
    for name, data in sweeps.items():
        launch(write_sweep(tmp_path / "alone", data, f"{name}.yaml"), runner="inline")
        started.append(start(write_sweep(tmp_path, data, f"{name}.yaml")))
    for process in started:
        finish(process)
    for name in sweeps:
        together, alone = (tmp_path / "runs" / name, tmp_path / "alone/runs" / name)
        assert curves(together) == curves(alone)
        assert decisions(together) == decisions(alone)
        assert len(events(together, "holdout")) == 2
