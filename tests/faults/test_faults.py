"""What a sweep survives, on the real Ray, with real signals."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import optuna
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend

from segsweep.interrupt import below
from segsweep.launching import launch
from tests.faults.launches import curves, decisions, finish, flip, running, start
from tests.helpers import events, tiny, write_sweep
from tests.runners.processes import PATIENCE_S, trial_workers, wait_for

CANARY = "canary-0123456789abcdef-0123456789abcdef"
SWEEP: dict[str, Any] = {
    "train__epochs": 6,
    "configs_per_cell": 4,
    "factors__loss": ["bce"],
    "early_stopping": {"grace_period": 1, "reduction_factor": 2},
    "race": {"rule": "predictive"},
    "folds": {"k": 3},
    "max_concurrent": 1,
    "method": "bayes",
}


def test_a_killed_driver_and_damage_on_its_disk_change_no_decision(tmp_path: Path) -> None:
    for name in ("whole", "killed"):
        (tmp_path / name).mkdir()
    launch(write_sweep(tmp_path / "whole", tiny(**SWEEP)), runner="inline")
    path = write_sweep(tmp_path / "killed", tiny(**SWEEP))
    run = tmp_path / "killed/runs/tiny"
    ledger = run / "ledger/events.jsonl"
    for count in (9, 25, 37, 49):  # twice, in the middle of trials
        process = start(path)
        wait_for(
            lambda n=count: ledger.exists() and ledger.read_text().count('"epoch"') >= n,  # type: ignore[misc]
            PATIENCE_S,
            f"{count} epochs",
        )
        workers, family = trial_workers(process.pid), below(process.pid)
        process.kill()
        process.wait()
        assert process.stdout is not None
        process.stdout.close()
        wait_for(lambda w=workers: not any(map(running, w)), 20, "the end of orphans")  # type: ignore[misc]
        for pid in filter(running, family):  # Ray's agents live on for a minute
            os.kill(pid, signal.SIGKILL)
        if count > 9 and list((run / "trials").glob("*/fold*/last.safetensors")):
            break  # else it was killed between two trials
    (run / "optuna.journal").unlink()
    with ledger.open("ab") as file:
        file.write(b'{"event":"epoch","trial_id":')
    (last,) = (run / "trials").glob("*/fold*/last.safetensors")  # of the trial that ran
    flip(last)
    litter = last.with_name(f".{last.name}.4194303.tmp")
    litter.write_bytes(b"half a checkpoint")
    output = finish(start(path))
    assert decisions(run) == decisions(tmp_path / "whole/runs/tiny")
    assert curves(run) == curves(tmp_path / "whole/runs/tiny")
    ends = [event["trial_id"] for event in events(run, "end")]
    assert len(ends) == len(set(ends))
    torn, checkpoint = (event["what"] for event in events(run, "damaged"))
    assert "events.jsonl was cut short" in torn
    assert "last.safetensors cannot be used: its checksum does not match" in checkpoint
    assert torn in output
    assert checkpoint in output
    assert not litter.exists()
    studies = optuna.load_study(
        study_name=None, storage=JournalStorage(JournalFileBackend(str(run / "optuna.journal")))
    )
    assert len(studies.trials) >= len(events(run, "config")) == 4


def test_a_secret_of_the_environment_is_in_no_file_and_no_output(tmp_path: Path) -> None:
    changes = {"configs_per_cell": 1, "wandb": {"mode": "offline"}}
    path = write_sweep(tmp_path, tiny(**changes))
    process = start(path, WANDB_API_KEY=CANARY)
    ledger = tmp_path / "runs/tiny/ledger/events.jsonl"
    wait_for(lambda: ledger.exists() and '"epoch":1,' in ledger.read_text(), PATIENCE_S, "an epoch")
    told = [pid for pid in workers(process.pid) if CANARY in environment_of(pid)]
    output, _ = process.communicate(timeout=PATIENCE_S)
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
    wait_for(lambda: ledger.exists() and '"epoch":2,' in ledger.read_text(), PATIENCE_S, "epoch 2")
    process.send_signal(signal.SIGTERM)
    output, _ = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 130, output
    assert "segsweep launch" in output
    assert events(tmp_path / "runs/tiny")[-1]["status"] == "interrupted"
