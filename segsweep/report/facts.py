"""All that a report is made of: the Parquet files of a run, its ledger's state, how it stands.

Parquet files that are missing, damaged or older than the ledger are built again from it before
anything is read (``compare.tables``), so that every number of a report stands in them.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from segsweep import rundir
from segsweep.compare import Comparison, Ranked, analyse, rank, tables
from segsweep.compare.tables import Tables
from segsweep.errors import RunError
from segsweep.identity import short_cells, short_params
from segsweep.ledger import Event
from segsweep.rundir import Run
from segsweep.spec import SweepSpec
from segsweep.state import UNDECIDED, SearchState

Row = dict[str, Any]


@dataclass(frozen=True)
class Facts:
    """A run as a report sees it.

    Attributes:
        trials: the rows of ``trials.parquet``.
        curves: by trial, its epochs and the compared metric at each (None: undefined).
        ranking: the cells, from best to worst, each by its best config.
        labels: of every cell, in short.
        standing: ``finished``, ``undecided``, ``interrupted``, ``running`` or ``killed``.
        comparison: what ``compare`` says; None where no config has finished all its folds yet.
        tables: its Parquet files.
    """

    run: Run
    state: SearchState
    trials: Sequence[Row]
    curves: Mapping[str, Sequence[tuple[int, float | None]]]
    ranking: Sequence[Ranked]
    labels: Mapping[str, str]
    standing: str
    comparison: Comparison | None
    tables: Tables

    @property
    def spec(self) -> SweepSpec:
        """The settings of the last launch."""
        return self.run.spec

    @property
    def score(self) -> str:
        """The compared metric for people, ``IoU``."""
        return self.spec.metric.name.removeprefix("val/").replace("iou", "IoU")

    @property
    def maximize(self) -> bool:
        """Larger values of the metric are better."""
        return self.spec.metric.goal == "maximize"

    def of(self, kind: str) -> list[Event]:
        """The ledger's events of one kind."""
        return [event for event in self.run.events if event["event"] == kind]

    def trials_of(self, config_id: str) -> list[Row]:
        """The trials of a config that count: those of the folds and seeds asked for."""
        slots = set(self.spec.slots)
        return [
            row
            for row in self.trials
            if row["config_id"] == config_id and (row["fold"], row["replicate"]) in slots
        ]

    def name_of(self, row: Row) -> str:
        """A trial for people: cell, parameters, fold."""
        params = short_params(json.loads(row["params"]))
        seed = f" seed {row['replicate']}" if row["replicate"] else ""
        return " ".join(f"{self.labels[row['cell']]} {params} fold {row['fold']}{seed}".split())

    @property
    def notes(self) -> Sequence[str]:
        """What was damaged. Files that were not there yet, or old, are nothing to worry about."""
        usual = ("is missing: rebuilt", "than the ledger: rebuilt", "what the ledger says: rebuilt")
        return [note for note in self.tables.notes if not any(text in note for text in usual)]

    def confusion(self, trial_ids: Iterable[str]) -> list[Row]:
        """The rows of ``confusion.parquet`` of some trials."""
        own = pa.array(list(trial_ids), pa.string())
        table = self.tables.confusion
        rows: list[Row] = table.filter(pc.is_in(table["trial_id"], own)).to_pylist()
        return rows


def gather(run: Run) -> Facts:
    """Read a run.

    Raises:
        RunError: its results are of a newer version.
    """
    found = tables.load(run)
    try:
        compared: Comparison | None = analyse([run], loaded=[found])
    except RunError:  # no config has finished all its folds yet
        compared = None
    state = SearchState(run.metric, run.events)
    return Facts(
        run,
        state,
        found.trials.to_pylist(),
        _curves(found.epochs, run.metric),
        rank(run.spec, run.events),
        short_cells({config.cell: config.levels for config in state.configs.values()}),
        _standing(run, state),
        compared,
        found,
    )


def _curves(epochs: pa.Table, metric: str) -> dict[str, list[tuple[int, float | None]]]:
    columns = epochs.select(["trial_id", "epoch", metric]).to_pydict()
    found: dict[str, list[tuple[int, float | None]]] = {}
    rows = zip(columns["trial_id"], columns["epoch"], columns[metric], strict=True)
    for trial_id, epoch, value in rows:
        found.setdefault(trial_id, []).append((epoch, value))
    return found


def _standing(run: Run, state: SearchState) -> str:
    """How the last launch ended."""
    last = max(i for i, event in enumerate(run.events) if event["event"] == "launch")
    close = next((e for e in run.events[last:] if e["event"] == "close"), None)
    if close is None:
        owner = rundir.holder(run.path)
        gone = owner is None or owner.alive is False or owner.what != rundir.LAUNCH
        return "killed" if gone else "running"
    if close["status"] == "interrupted":
        return "interrupted"
    slots = set(run.spec.slots)
    left = any(
        trial.status in UNDECIDED and (trial.fold, trial.replicate) in slots
        for trial in state.trials.values()
    )
    return "undecided" if left else "finished"
