"""The state of a search: a fold over ledger events, and nothing else."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean
from typing import Any, Literal

from segsweep.errors import Problem, RunError
from segsweep.ledger import Event

Status = Literal["finished", "stopped", "diverged", "failed", "out_of_memory", "incomplete"]
Slot = tuple[int, int]  # fold, replicate
CAUSES: tuple[Status, ...] = ("failed", "out_of_memory", "diverged", "stopped")  # worst first
UNDECIDED: frozenset[Status] = frozenset({"failed", "out_of_memory", "incomplete"})


@dataclass
class TrialState:
    """One config on one fold, as far as it is known.

    Attributes:
        values: the compared metric of each epoch (from 1); None where it is undefined.
        rungs: epochs at which the trial has been compared, with the verdict.
        parked: it waits at its last rung for a promotion.
        attempts: how often it was handed to a worker.
        lost: how often that worker died, or ran out of memory.
        micro_batch: images a pass, where memory ran out with whole batches.
    """

    trial_id: str
    config_id: str
    fold: int
    replicate: int = 0
    status: Status = "incomplete"
    stopped_by: str | None = None
    values: dict[int, float | None] = field(default_factory=dict)
    rungs: dict[int, bool] = field(default_factory=dict)
    parked: bool = False
    attempts: int = 0
    lost: int = 0
    micro_batch: int | None = None
    error: str | None = None

    def best(self, goal: str) -> float | None:
        """The best value of any epoch so far."""
        known = [value for value in self.values.values() if value is not None]
        if not known:
            return None
        return max(known) if goal == "maximize" else min(known)


@dataclass
class ConfigState:
    """One config of a cell and its trials.

    Attributes:
        trials: by fold and replicate.
        raced: after how many finished trials the race looked at it, with the verdict.
        revived: stopped once, and finished all the same because its cell had no other.
        order: among the configs of the sweep, oldest first.
    """

    config_id: str
    cell: str
    number: int
    params: Mapping[str, Any]
    config: Mapping[str, Any]
    draws: Mapping[str, Any]
    levels: Mapping[str, str]
    trials: dict[Slot, TrialState] = field(default_factory=dict)
    raced: dict[int, bool] = field(default_factory=dict)
    revived: bool = False
    order: int = 0

    def scores(self, goal: str) -> dict[Slot, float]:
        """The best value of each finished trial."""
        return {
            slot: value
            for slot, trial in sorted(self.trials.items())
            if trial.status == "finished" and (value := trial.best(goal)) is not None
        }

    def status(self, slots: Sequence[Slot]) -> Status:
        """Finished with all of ``slots``; else the status of the trial or race that ended it."""
        ended = {trial.status for slot, trial in self.trials.items() if slot in slots}
        for cause in CAUSES:
            if cause in ended:
                return cause
        done = sum(t.status == "finished" for slot, t in self.trials.items() if slot in slots)
        if done == len(slots):
            return "finished"
        return "incomplete" if all(self.raced.values()) or self.revived else "stopped"

    def mean(self, slots: Sequence[Slot], goal: str) -> float | None:
        """The mean over all of ``slots``; None before they are all finished."""
        if self.status(slots) != "finished":
            return None
        known = [value for slot, value in self.scores(goal).items() if slot in slots]
        return fmean(known) if len(known) == len(slots) else None


class SearchState:
    """Configs and trials of a sweep.

    Args:
        metric: ledger name of the compared metric, ``val_iou``.
        events: what happened so far.
    """

    def __init__(self, metric: str, events: Iterable[Event] = ()) -> None:
        self.metric = metric
        self.configs: dict[str, ConfigState] = {}
        self._cells: dict[str, list[ConfigState]] = {}
        self._open: dict[str, TrialState] = {}  # incomplete, and not parked
        self.parked: dict[str, TrialState] = {}
        self.trials: dict[str, TrialState] = {}
        self.champions: dict[str, str] = {}
        self.holdout: dict[str, Event] = {}
        for event in events:
            self.apply(event)

    def of_cell(self, cell: str) -> list[ConfigState]:
        """The configs of one cell in the order they were proposed."""
        return self._cells.get(cell, [])

    def running(self, slot: Slot | None = None) -> list[TrialState]:
        """The trials, of one slot or of all, that are under way or wait for a worker."""
        trials = list(self._open.values())
        return [t for t in trials if (t.fold, t.replicate) == slot] if slot else trials

    def apply(self, event: Event) -> None:
        """Take one event in; kinds that do not concern the search are passed over."""
        handler = getattr(self, f"_on_{event['event']}", None)
        if handler is None:
            return
        try:
            handler(event)
        except KeyError as error:
            what = f"a {event['event']!r} event refers to what is not there: {error}"
            hint = "a line before it is missing: restore the ledger from a backup"
            raise RunError(Problem(what, "ledger/events.jsonl", "", hint)) from error

    def _on_config(self, event: Event) -> None:
        config = ConfigState(
            event["config_id"],
            event["cell"],
            event["number"],
            event["params"],
            event["config"],
            event["draws"],
            event["levels"],
            order=len(self.configs),
        )
        self.configs[config.config_id] = config
        self._cells.setdefault(config.cell, []).append(config)

    def _on_start(self, event: Event) -> None:
        trial = self.trials.get(event["trial_id"])
        if trial is None:
            config = self.configs[event["config_id"]]
            trial = TrialState(
                event["trial_id"], config.config_id, event["fold"], event["replicate"]
            )
            self.trials[trial.trial_id] = trial
            config.trials[trial.fold, trial.replicate] = trial
        self._reopen(trial)
        trial.attempts += 1

    def _reopen(self, trial: TrialState) -> None:
        trial.status, trial.stopped_by, trial.error = "incomplete", None, None
        trial.parked = False
        self.parked.pop(trial.trial_id, None)
        self._open[trial.trial_id] = trial

    def _on_retry(self, event: Event) -> None:
        trial = self.trials[event["trial_id"]]
        self._reopen(trial)
        trial.lost = 0
        if not trial.values:
            trial.micro_batch = None  # perhaps there is more memory now

    def _on_lost(self, event: Event) -> None:
        trial = self.trials[event["trial_id"]]
        trial.lost += 1
        trial.micro_batch = event.get("micro_batch", trial.micro_batch)

    def _on_epoch(self, event: Event) -> None:
        self.trials[event["trial_id"]].values[event["epoch"]] = event[self.metric]

    def _on_rung(self, event: Event) -> None:
        trial = self.trials[event["trial_id"]]
        trial.rungs[event["epoch"]] = event["keep"]
        if event.get("parked"):
            trial.parked = True
            self.parked[trial.trial_id] = trial
            self._open.pop(trial.trial_id, None)

    def _on_promote(self, event: Event) -> None:
        trial = self.trials[event["trial_id"]]
        trial.rungs[event["epoch"]] = True
        self._reopen(trial)

    def _on_race(self, event: Event) -> None:
        self.configs[event["config_id"]].raced[event["looks"]] = event["keep"]

    def _on_end(self, event: Event) -> None:
        trial = self.trials[event["trial_id"]]
        trial.status, trial.stopped_by = event["status"], event.get("stopped_by")
        trial.error, trial.parked = event.get("error"), False
        self._open.pop(trial.trial_id, None)
        self.parked.pop(trial.trial_id, None)

    def _on_revive(self, event: Event) -> None:
        config = self.configs[event["config_id"]]
        config.revived = True
        for trial in config.trials.values():
            if trial.status == "stopped" or trial.parked:
                self._reopen(trial)

    def _on_champion(self, event: Event) -> None:
        self.champions[event["cell"]] = event["config_id"]

    def _on_holdout(self, event: Event) -> None:
        self.holdout[event["trial_id"]] = event
