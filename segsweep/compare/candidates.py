"""Who is compared: the configs of the runs with their scores, and each cell's best of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

import numpy as np

from segsweep.compare.scoring import Array
from segsweep.compare.tables import Tables
from segsweep.identity import short_cells
from segsweep.results import Timed, timings
from segsweep.rundir import Run
from segsweep.state import SearchState, Slot


@dataclass(frozen=True)
class Candidate:
    """A config and what ``trials.parquet`` says of it.

    Attributes:
        run: which of the runs, from 0.
        trials: slot → trial id, of the slots that the sweep asks for.
        scores: slot → the metric at the best epoch of a finished trial.
        holdout: slot → the same metric on the holdout.
        timed: what ``runtime_ms`` is worth.
    """

    run: int
    config_id: str
    cell: str
    levels: Mapping[str, str]
    params: Mapping[str, Any]
    trials: Mapping[Slot, str]
    scores: Mapping[Slot, float]
    holdout: Mapping[Slot, float]
    parameters: int | None
    runtime_ms: float | None
    timed: Timed | None = None

    @property
    def mean(self) -> float:
        """Over folds and replicates."""
        return fmean(self.scores.values())


@dataclass(frozen=True)
class Champion:
    """A cell's best config that has finished every fold, of ``finished`` and ``tried`` ones."""

    best: Candidate
    label: str
    finished: int
    tried: int


def candidates(index: int, run: Run, state: SearchState, tables: Tables) -> list[Candidate]:
    """Every config of a run in the order in which they were proposed."""
    slots, timed = set(run.spec.slots), timings(run.events)
    held = run.spec.metric.name.replace("val/", "holdout_")
    rows: dict[str, list[dict[str, Any]]] = {name: [] for name in state.configs}
    for row in tables.trials.to_pylist():
        if (row["fold"], row["replicate"]) in slots:
            rows[row["config_id"]].append(row)
    found = []
    for name, own in rows.items():
        config = state.configs[name]
        by_slot = {(row["fold"], row["replicate"]): row for row in own}
        ended = {s: row for s, row in by_slot.items() if row["status"] == "finished"}
        found.append(
            Candidate(
                run=index,
                config_id=name,
                cell=config.cell,
                levels=config.levels,
                params=config.params,
                trials={slot: row["trial_id"] for slot, row in by_slot.items()},
                scores={s: r["metric"] for s, r in ended.items() if r["metric"] is not None},
                holdout={s: r[held] for s, r in ended.items() if r.get(held) is not None},
                parameters=next((r["parameters"] for r in own if r["parameters"]), None),
                runtime_ms=next((r["runtime_ms"] for r in own if r["runtime_ms"]), None),
                timed=timed.get(name),
            )
        )
    return found


def champions(
    names: Sequence[str], slots: Sequence[Slot], everyone: Sequence[Candidate], goal: str
) -> list[Champion]:
    """The best of each cell, best first; of equals the one that came first.

    Args:
        names: of the runs.
        slots: folds and replicates of a whole config.
        everyone: configs of all runs.
        goal: maximize or minimize.
    """
    sign = 1 if goal == "maximize" else -1
    levels = {c.cell: c.levels for c in everyone}
    labels = short_cells(levels)
    found: dict[str, Champion] = {}
    for key in dict.fromkeys((c.run, c.cell) for c in everyone):
        own = [c for c in everyone if (c.run, c.cell) == key]
        done = [c for c in own if len(c.scores) == len(slots)]
        if done:
            best = max(done, key=lambda c: sign * c.mean)
            label = labels[best.cell]
            label = f"{names[best.run]}: {label}" if len(names) > 1 else label
            # the same config in two runs is one config
            found.setdefault(best.config_id, Champion(best, label, len(done), len(own)))
    return sorted(found.values(), key=lambda champion: -sign * champion.best.mean)


def unfinished(
    names: Sequence[str], slots: Sequence[Slot], everyone: Sequence[Candidate]
) -> list[str]:
    """Labels of the cells of any run of which no config has a score on every fold.

    A config that is the champion of several runs stands in the ranking once, and is all of theirs.
    """
    have = {(c.run, c.cell) for c in everyone if len(c.scores) == len(slots)}
    labels = short_cells({c.cell: c.levels for c in everyone})
    return [
        f"{names[run]}: {labels[cell]}" if len(names) > 1 else labels[cell]
        for run, cell in dict.fromkeys((c.run, c.cell) for c in everyone)
        if (run, cell) not in have
    ]


def grid(
    rows: Sequence[Candidate], folds: Sequence[int], replicates: int, *, holdout: bool = False
) -> Array | None:
    """(n, k, R) scores; None where one is missing."""
    whole = [
        [
            [(row.holdout if holdout else row.scores).get((fold, r)) for r in range(replicates)]
            for fold in folds
        ]
        for row in rows
    ]
    values = np.array(whole, dtype=np.float64)
    return None if np.isnan(values).any() else values


def fastest(rows: Sequence[Candidate]) -> list[str]:
    """Config ids of the one architecture that is faster than all others by more than the spread.

    Timings are held against each other where they were made in turn. Empty where there is nothing
    to compare, where one is missing or of another moment, or where turns differ as much.

    Args:
        rows: the candidates, best first; so are the ids.
    """
    rounds = {(row.run, row.timed.timing if row.timed else None) for row in rows}
    known = {row.timed.architecture: row.timed for row in rows if row.timed and row.timed.timing}
    if len(rounds) != 1 or len(known) < 2:
        return []
    quick, *others = sorted(known.values(), key=lambda one: one.milliseconds)
    for other in others:
        spread = max(quick.spread or 0.0, other.spread or 0.0)
        if other.milliseconds - quick.milliseconds <= spread:
            return []
    return [r.config_id for r in rows if r.timed and r.timed.architecture == quick.architecture]
