"""What a sweep has cost, and what its stopping rules have saved."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

from segsweep.report.facts import Facts, Row
from segsweep.state import ConfigState
from segsweep.workload import Workload, epochs_of

# why an epoch that the budget had was not run
RUNG, RACE, PATIENCE, TROUBLE, LEFT = "rungs", "race", "patience", "trouble", "left"
RULES = {
    RUNG: "rungs: trials behind their peers on fold 0",
    RACE: "race: configs unlikely to beat their cell's leader",
    PATIENCE: "patience: trials that had stopped getting better",
}


@dataclass(frozen=True)
class Saving:
    """Epochs not run for one reason.

    Attributes:
        rule: in words.
        trials: cut short, or never begun.
        epochs: not run.
        seconds: what they would have taken at the pace of the same cell's other epochs.
    """

    rule: str
    trials: int
    epochs: int
    seconds: float


@dataclass(frozen=True)
class Spent:
    """The bill.

    Attributes:
        planned: epochs of every config on every fold and seed, were nothing stopped.
        configs: proposed, or in an open run still to be.
        run: epochs in the ledger.
        seconds: of all trials, training and validation, one after the other.
        wall: from the start of each launch to its last event, summed.
        savings: a row a stopping rule that has stopped something.
        trouble: epochs not run because a trial failed, ran out of memory or diverged.
        left: epochs still to run.
    """

    planned: int
    configs: int
    run: int
    seconds: float
    wall: float
    launches: int
    savings: list[Saving]
    trouble: int
    left: int

    @property
    def saved(self) -> int:
        """Epochs that stopping rules have saved."""
        return sum(row.epochs for row in self.savings)


def bill(facts: Facts) -> Spent:
    """Add it all up, over the configs that were proposed or, in an open run, are still to be."""
    slots = facts.spec.slots
    to_come, still = _to_come(facts)
    pace = _pace(facts)
    epochs, trials = Counter[str](), Counter[str]()
    seconds: dict[str, float] = dict.fromkeys((*RULES, TROUBLE, LEFT), 0.0)
    by_config: dict[str, list[Row]] = {}
    for row in facts.trials:
        by_config.setdefault(row["config_id"], []).append(row)
    for config in facts.state.configs.values():
        rows = {(row["fold"], row["replicate"]): row for row in by_config.get(config.config_id, [])}
        for slot in slots:
            trial = rows.get(slot)
            rest = epochs_of(config) - (trial["epochs"] if trial else 0)
            if rest <= 0:
                continue
            cause = _cause(facts, config, trial)
            epochs[cause] += rest
            trials[cause] += 1
            seconds[cause] += rest * pace.get(config.cell, 0.0)
    return Spent(
        planned=sum(map(epochs_of, facts.state.configs.values())) * len(slots) + still,
        configs=len(facts.state.configs) + to_come,
        run=sum(row["epochs"] for row in facts.trials),
        seconds=sum(_seconds(facts).values()),
        wall=_wall(facts),
        launches=len(facts.of("launch")),
        savings=[
            Saving(text, trials[rule], epochs[rule], seconds[rule])
            for rule, text in RULES.items()
            if epochs[rule]
        ],
        trouble=epochs[TROUBLE],
        left=epochs[LEFT] + still,
    )


def rungs(facts: Facts) -> list[dict[str, Any]]:
    """By epoch of a rung: how many trials were compared there, and how many stopped or parked."""
    found: dict[int, dict[str, Any]] = {}
    for event in facts.of("rung"):
        row = found.setdefault(
            event["epoch"], {"epoch": event["epoch"], "seen": 0, "stopped": 0, "parked": 0}
        )
        row["seen"] += 1
        if not event["keep"]:
            row["parked" if event.get("parked") else "stopped"] += 1
    return [found[epoch] for epoch in sorted(found)]


def _to_come(facts: Facts) -> tuple[int, int]:
    """Configs that a launch which has not come to its end will still propose, and their epochs."""
    if facts.standing in ("finished", "undecided"):
        return 0, 0
    work = Workload.of_run(facts.spec, facts.run.events, facts.state)
    for config in facts.state.configs.values():
        work.take(config)
    counts = {cell: work.to_come(cell) for cell in work.budgets}
    slots = len(facts.spec.slots)
    return sum(counts.values()), round(
        sum(count * slots * work.epochs[cell] for cell, count in counts.items())
    )


def _cause(facts: Facts, config: ConfigState, row: Row | None) -> str:
    """Why a trial has fewer epochs than planned."""
    status = row["status"] if row else config.status(facts.spec.slots)
    if status == "finished":
        return PATIENCE
    if status in ("diverged", "failed", "out_of_memory"):
        return TROUBLE
    if status == "incomplete":
        return LEFT
    by = {trial.stopped_by for trial in config.trials.values()}
    if "rung" in by:
        return RUNG
    if "race" in by or not all(config.raced.values()):
        return RACE
    return TROUBLE  # stopped with another of its folds, which failed


def _seconds(facts: Facts) -> dict[str, float]:
    """Seconds of every trial's epochs, validation included."""
    found: dict[str, float] = {}
    for event in facts.of("epoch"):
        name = event["trial_id"]
        found[name] = found.get(name, 0.0) + (event.get("seconds") or 0.0)
    return found


def _pace(facts: Facts) -> dict[str, float]:
    """Seconds an epoch of each cell."""
    seconds: dict[str, float] = {}
    epochs, spent = Counter[str](), _seconds(facts)
    for row in facts.trials:
        own = spent.get(row["trial_id"], 0.0)
        seconds[row["cell"]] = seconds.get(row["cell"], 0.0) + own
        epochs[row["cell"]] += row["epochs"]
    return {cell: seconds[cell] / count for cell, count in epochs.items() if count}


def _wall(facts: Facts) -> float:
    """Seconds from the beginning of each launch to the last that is heard of it."""
    total, began, last = 0.0, None, None
    for event in facts.run.events:
        if event["event"] == "launch":
            if began is not None and last is not None:
                total += last - began
            began = event.get("time")
        last = event.get("time", last)
    if began is not None and last is not None:
        total += last - began
    return float(total)
