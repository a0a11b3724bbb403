"""A sweep under SIGKILLs of its workers and its driver, until it is done: is anything lost?

    python -m benchmarks.soak [--json FILE] [--seed N] [--configs N]

A sweep of 60 short trials runs on the real Ray in a process of its own. After a random number of
further epochs a random one of its workers is killed, or the driver, which is then launched again.
At the end the ledger is held against the same sweep that nobody disturbed. Keys:

kills          worker_kills + driver_kills
lost           trials that are not finished with all their epochs in the ledger
run_twice      trials that were started again after they had finished, or ended twice, or that
               have an epoch in the ledger twice
epochs_redone  whole epochs that were in the ledger but not in the checkpoint when their trial's
               process was killed, so that they were trained again; the part of an epoch that was
               running is lost in any case
different      trials that have another number in any epoch than the undisturbed sweep
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

from benchmarks.common import arguments, report
from segsweep import checkpoint, ledger, yamlfile
from segsweep.errors import TrialError
from segsweep.progress import LAST
from segsweep.trial import directory
from tests.runners.processes import trial_workers

EPOCHS, FOLDS = 4, 2
GAP = (2, 12)  # epochs between two kills
DRIVER = 0.2  # share of the kills
STUCK_S = 240.0  # without a new epoch: something hangs
CLOCK = ("time", "seconds", "train_seconds")


def sweep(folder: Path, configs: int) -> Path:
    data = {
        "name": "soak",
        "storage_path": str(folder / "runs"),
        "dataset": {"name": "synthetic_lesions", "images": 24, "image_size": [32, 32]},
        "folds": {"k": FOLDS},
        "factors": {"model": [{"name": "unet_vanilla", "width": 2}], "loss": ["bce"]},
        "parameters": {"train.lr": {"min": 0.001, "max": 0.01}},
        "method": "random",
        "configs_per_cell": configs,
        "train": {"epochs": EPOCHS, "batch_size": 4, "augment": "light", "precision": "fp32"},
        "early_stopping": {"type": "none"},
        "race": {"rule": "none"},
        "max_failures": 1000,
        "wandb": {"mode": "offline"},
    }
    folder.mkdir()
    path = folder / "sweep.yaml"
    path.write_text(yamlfile.dump(data))
    return path


def start(path: Path, runner: str) -> subprocess.Popen[bytes]:
    with path.with_name("output.txt").open("ab") as output:
        return subprocess.Popen(
            [sys.executable, "-m", "segsweep", "launch", str(path), "--runner", runner],
            env={**os.environ, "PYTHONPATH": str(Path.cwd())}, stdout=output, stderr=output,
        )  # fmt: skip


class Soak:
    """One sweep and its killer."""

    def __init__(self, path: Path, seed: int) -> None:
        self.path, self.run = path, path.parent / "runs" / "soak"
        self.random = random.Random(seed)  # noqa: S311 - reproducible, no secret
        self.kills: Counter[str] = Counter()
        self.epochs_redone = 0
        self.process = start(path, "ray")

    def epochs(self) -> int:
        """How many the ledger has."""
        try:
            return (self.run / ledger.LEDGER).read_bytes().count(b'"event":"epoch"')
        except FileNotFoundError:
            return 0

    def until_done(self) -> None:
        """Kill and launch again until a launch ends by itself."""
        while self.wait(self.epochs() + self.random.randint(*GAP)):
            if self.random.random() < DRIVER:
                self.kill_driver()
            else:
                self.kill_worker()
            self.look_back()
        if self.process.returncode != 0:
            raise SystemExit(self.path.with_name("output.txt").read_text()[-4000:])

    def wait(self, wanted: int) -> bool:
        """Until there are so many epochs; False where the launch ended first."""
        seen, since = -1, time.monotonic()
        while self.process.poll() is None:
            if (now := self.epochs()) >= wanted:
                return True
            if now > seen:
                seen, since = now, time.monotonic()
            if time.monotonic() - since > STUCK_S:
                self.process.kill()
                raise SystemExit(f"no epoch in {STUCK_S:.0f} s")
            time.sleep(0.02)
        return False

    def kill_worker(self) -> None:
        """One process of the launch in which trials run."""
        found = sorted(trial_workers(self.process.pid))
        if found:  # else the workers of a fresh launch have no title yet
            os.kill(self.random.choice(found), signal.SIGKILL)
            self.kills["worker"] += 1

    def kill_driver(self) -> None:
        """The launch itself, and begin the next one."""
        self.process.kill()
        self.process.wait()
        self.kills["driver"] += 1
        self.process = start(self.path, "ray")

    def look_back(self) -> None:
        """Has every open trial the epochs in its checkpoint that the ledger has?"""
        path = self.run / ledger.LEDGER
        events = ledger.read(path)
        starts = {e["trial_id"]: e for e in events if e["event"] == "start"}
        done: Counter[str] = Counter(e["trial_id"] for e in events if e["event"] == "epoch")
        behind: dict[str, int] = {}
        for name, event in starts.items():
            try:
                place = directory(self.run, event["config_id"], event["fold"])
                kept = int(checkpoint.load(place / LAST)[1]["report"]["epoch"])
            except (OSError, TrialError):
                kept = 0
            behind[name] = max(0, done[name] - kept)
        # a trial that has ended, perhaps while we looked, goes on no more
        ended = {event["trial_id"] for event in ledger.read(path) if event["event"] == "end"}
        self.epochs_redone += sum(n for name, n in behind.items() if name not in ended)


def curves(run: Path) -> dict[str, list[dict[str, Any]]]:
    found: dict[str, list[dict[str, Any]]] = {}
    for event in ledger.read(run / ledger.LEDGER):
        if event["event"] == "epoch":
            kept = {key: value for key, value in event.items() if key not in CLOCK}
            found.setdefault(event["trial_id"], []).append(kept)
    return found


def judge(run: Path, whole: Path) -> dict[str, int]:
    """What the ledger says of the killed sweep, beside the undisturbed one."""
    events = ledger.read(run / ledger.LEDGER)
    ours, theirs = curves(run), curves(whole)
    ends = [e for e in events if e["event"] == "end"]
    finished = {e["trial_id"] for e in ends if e["status"] == "finished"}
    whole_curves = {name for name, rows in ours.items() if len(rows) >= EPOCHS}
    twice = {name for name, count in Counter(e["trial_id"] for e in ends).items() if count > 1}
    over: set[str] = set()
    for event in events:
        if event["event"] == "start" and event["trial_id"] in over:
            twice.add(event["trial_id"])
        elif event["event"] == "end" and event["status"] == "finished":
            over.add(event["trial_id"])
    for name, rows in ours.items():
        if [row["epoch"] for row in rows] != list(range(1, len(rows) + 1)):
            twice.add(name)
    return {
        "trials": len(theirs),
        "lost": len(theirs.keys() - (finished & whole_curves)),
        "run_twice": len(twice),
        "different": sum(ours.get(name) != rows for name, rows in theirs.items()),
        "starts": sum(event["event"] == "start" for event in events),
    }


def soak(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    began = time.monotonic()
    found = Soak(sweep(folder / "killed", options.configs), options.seed)
    try:
        found.until_done()
    finally:
        if found.process.poll() is None:
            found.process.kill()
            found.process.wait()
    seconds = time.monotonic() - began
    reference = start(sweep(folder / "whole", options.configs), "inline")
    if reference.wait() != 0:
        raise SystemExit((folder / "whole" / "output.txt").read_text()[-4000:])
    kills = found.kills
    return {
        "kills": kills.total(),
        "worker_kills": kills["worker"],
        "driver_kills": kills["driver"],
        **judge(found.run, folder / "whole" / "runs" / "soak"),
        "epochs_redone": found.epochs_redone,
        "seconds": round(seconds, 1),
        "seed": options.seed,
    }


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--configs", type=int, default=30, help=f"each runs {FOLDS} trials")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        figures = soak(options, Path(folder))
    rows = [["", "count"], *([key, str(value)] for key, value in figures.items())]
    title = f"{figures['trials']} trials of {EPOCHS} epochs under SIGKILL"
    report(title, rows, figures, options.json)
    if figures["lost"] or figures["run_twice"] or figures["different"]:
        raise SystemExit("the sweep did not survive whole")


if __name__ == "__main__":
    main()
