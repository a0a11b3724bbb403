"""A search without training: curves from a function, trials one after the other."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from segsweep.identity import config_id
from segsweep.ledger import Ledger
from segsweep.search import Job, Pool, Search
from segsweep.space import Cell, Parameter
from segsweep.spec import SweepSpec

Curve = Callable[
    [Mapping[str, Any], int, int], float | str
]  # config, fold, epoch → value or status


SLOTS = [(0, 0), (1, 0), (2, 0)]  # of the three folds below


def report(epoch: int, value: float | None) -> dict[str, Any]:
    """What a trial reports of an epoch."""
    rest = {"train_loss": 0.0, "lr": 0.001, "images": 9, "parameters": 10}
    seconds = {"train_seconds": 0.1, "seconds": 0.1}
    return {"epoch": epoch, "val_iou": value, **rest, **seconds, "best_epoch": epoch}


def make_spec(**changes: Any) -> SweepSpec:
    data: dict[str, Any] = {
        "name": "simulated",
        "factors": {"model": ["a"], "loss": ["b"]},
        "folds": {"k": 3},
        "train": {"epochs": 9},
        "early_stopping": {"grace_period": 1, "reduction_factor": 3},
        "race": {"rule": "none"},
    }
    return SweepSpec.model_validate({**data, **changes})


def make_cell(name: str = "a/b", budget: int = 8, **parameters: dict[str, Any]) -> Cell:
    given = parameters or {"lr": {"min": 0.0, "max": 1.0}}
    config = {
        "model": {"name": name.split("/")[0]},
        "loss": {"b": {}},
        "train": {"epochs": 9, **dict.fromkeys(given, 0.5)},
        "dataset": {},
        "folds": {},
        "metric": {},
        "seed": 0,
    }
    chosen = {f"train.{key}": Parameter.model_validate(value) for key, value in given.items()}
    return Cell(name, {"model": name, "loss": "b"}, config, chosen, budget)


def make_search(path: Path, spec: SweepSpec, cells: list[Cell], journal: bool = False) -> Search:
    ledger = Ledger(path / "events.jsonl")
    place = path / "optuna.journal" if journal else None
    return Search(
        Pool(spec, cells, ledger, lambda config: config_id(config, "data", "folds"), place)
    )


def book(search: Search) -> Ledger:
    """The search's ledger, which is a real one here."""
    assert isinstance(search.ledger, Ledger)
    return search.ledger


def bowl(config: Mapping[str, Any], fold: int, epoch: int) -> float:
    """Best at lr 0.7; rises with epochs; folds differ a little."""
    height = 0.9 - (float(config["train"]["lr"]) - 0.7) ** 2
    return height * (1 - math.exp(-epoch / 3)) - 0.01 * fold


def run(search: Search, curve: Curve = bowl, limit: int | None = None) -> list[Job]:
    """Run trials until nothing is left, or ``limit`` reports were made (a crash)."""
    jobs: list[Job] = []
    reports = 0
    while (job := search.next()) is not None:
        jobs.append(job)
        epochs = int(job.config["train"]["epochs"])
        for epoch in range(1, epochs + 1):
            if limit is not None and reports >= limit:
                return jobs
            reports += 1
            value = curve(job.config, job.fold, epoch)
            if isinstance(value, str):
                search.on_end(job.trial_id, value, "made to")  # type: ignore[arg-type]
                break
            if not search.on_epoch(job.trial_id, report(epoch, value)):
                break
        else:
            search.on_end(job.trial_id, "finished")
    search.conclude()
    return jobs
