"""What a sweep survives, on the real Ray, with real signals."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

from segsweep.launch import launch
from tests.helpers import events, tiny, write_sweep
from tests.runners.processes import wait_for

CANARY = "canary-0123456789abcdef-0123456789abcdef"
SWEEP: dict[str, Any] = {
    "train__epochs": 6,
    "configs_per_cell": 4,
    "factors__loss": ["bce"],
    "early_stopping": {"grace_period": 1, "reduction_factor": 2},
    "race": {"rule": "predictive"},
    "folds": {"k": 3},
    "max_concurrent": 1,
}


def start(path: Path, **environment: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "segsweep", "launch", str(path)],
        cwd=path.parent,
        env={**os.environ, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def decisions(run: Path) -> list[tuple[Any, ...]]:
    kinds = ("config", "rung", "race", "end", "champion")
    names = ("event", "config_id", "trial_id", "epoch", "keep", "probability", "status", "cell")
    return [tuple(e.get(n) for n in names) for e in events(run) if e["event"] in kinds]


def test_a_killed_driver_goes_on_to_the_same_end(tmp_path: Path) -> None:
    for name in ("whole", "killed"):
        (tmp_path / name).mkdir()
    launch(write_sweep(tmp_path / "whole", tiny(**SWEEP)), runner="inline")
    path = write_sweep(tmp_path / "killed", tiny(**SWEEP))
    ledger = tmp_path / "killed/runs/tiny/ledger/events.jsonl"
    for count in (9, 25):  # twice, in the middle of trials
        process = start(path)
        wait_for(
            lambda n=count: ledger.exists() and ledger.read_text().count('"epoch"') >= n,  # type: ignore[misc]
            90,
            f"{count} epochs",
        )
        process.kill()
        process.wait()
        assert process.stdout is not None
        process.stdout.close()
    process = start(path)
    output, _ = process.communicate(timeout=180)
    assert process.returncode == 0, output
    run = tmp_path / "killed/runs/tiny"
    assert decisions(run) == decisions(tmp_path / "whole/runs/tiny")
    ends = [event["trial_id"] for event in events(run, "end")]
    assert len(ends) == len(set(ends))
    epochs = [(event["trial_id"], event["epoch"]) for event in events(run, "epoch")]
    assert len(epochs) == len(set(epochs))


def test_a_secret_of_the_environment_is_in_no_file_and_no_output(tmp_path: Path) -> None:
    changes = {"configs_per_cell": 1, "wandb": {"mode": "offline"}}
    path = write_sweep(tmp_path, tiny(**changes))
    process = start(path, WANDB_API_KEY=CANARY)
    ledger = tmp_path / "runs/tiny/ledger/events.jsonl"
    wait_for(lambda: ledger.exists() and '"epoch":1,' in ledger.read_text(), 90, "an epoch")
    told = [pid for pid in workers(process.pid) if CANARY in environment_of(pid)]
    output, _ = process.communicate(timeout=120)
    assert process.returncode == 0, output
    assert told == []  # nor in the environment of any process of Ray
    assert CANARY not in output
    files = [p for p in tmp_path.rglob("*") if p.is_file()]
    assert len(files) > 20
    assert [p for p in files if CANARY.encode() in p.read_bytes()] == []


def workers(root: int) -> list[int]:
    from tests.runners.processes import descendants

    return descendants(root, "ray::")


def environment_of(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/environ").read_bytes().decode(errors="replace")
    except OSError:
        return ""


def test_sigterm_ends_a_sweep_as_ctrl_c_does(tmp_path: Path) -> None:
    path = write_sweep(tmp_path, tiny(train__epochs=500, configs_per_cell=1))
    ledger = tmp_path / "runs/tiny/ledger/events.jsonl"
    process = start(path)
    wait_for(lambda: ledger.exists() and '"epoch":2,' in ledger.read_text(), 90, "epoch 2")
    process.send_signal(signal.SIGTERM)
    output, _ = process.communicate(timeout=30)
    assert process.returncode == 130, output
    assert "segsweep launch" in output
    assert events(tmp_path / "runs/tiny")[-1]["status"] == "interrupted"
