"""``Search``: hands out trials, judges them, and writes every decision to the ledger first.

Runners call ``next`` where a slot is free, ``on_epoch`` with each result and ``on_end`` when a
trial is over. The state is rebuilt from the ledger, so a new launch goes on where the last ended.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from segsweep.identity import trial_id
from segsweep.ledger import Book, Event
from segsweep.search.ladder import Ladder
from segsweep.search.race import Race
from segsweep.search.sampler import CellSampler, Sampler, journal
from segsweep.search.standings import Standings
from segsweep.space import Cell, decode
from segsweep.spec import SweepSpec
from segsweep.state import ConfigState, SearchState, Slot, Status, TrialState

MAX_REDRAWS = 60  # a cell in which so many draws in a row were tried before has no more to offer


@dataclass(frozen=True)
class Job:
    """One trial for a worker: plain values only."""

    trial_id: str
    config_id: str
    cell: str
    fold: int
    replicate: int
    attempt: int
    config: Mapping[str, Any]
    micro_batch: int | None = None


class Search:
    """The search of one sweep.

    Args:
        spec: the sweep, every default filled in.
        cells: in the order of the plan.
        ledger: open for writing; its events are taken in.
        identify: the ``config_id`` of a trial config.
        journal_path: where Optuna's journal goes; None keeps the studies in memory.
        samplers: what proposes each cell's configs; None is Optuna, as the sweep says.
    """

    def __init__(
        self,
        spec: SweepSpec,
        cells: Sequence[Cell],
        ledger: Book,
        identify: Callable[[Mapping[str, Any]], str],
        journal_path: Path | None = None,
        samplers: Mapping[str, Sampler] | None = None,
    ) -> None:
        self.spec, self.cells, self.ledger, self.identify = spec, cells, ledger, identify
        self.slots, self.goal = spec.slots, spec.metric.goal
        self.metric = spec.metric.name.replace("/", "_")
        self.state = SearchState(self.metric, ledger.events)
        self.samplers = dict(samplers) if samplers else self._optuna(journal_path)
        for config in self.state.configs.values():
            if config.cell in self.samplers:
                self.samplers[config.cell].add(config)
                self.samplers[config.cell].tell(config, self.slots, self.goal)
        self.ladder = Ladder(spec, cells, self.state)
        self.standings = Standings(spec)
        self.live: dict[str, Job] = {}
        self._open: dict[str, ConfigState] = {}  # configs that may have something to run
        for config in self.state.configs.values():
            self._review(config)

    def _optuna(self, journal_path: Path | None) -> dict[str, Sampler]:
        spec, storage = self.spec, journal(journal_path)
        return {
            cell.name: CellSampler(cell, spec.method, spec.seed, self.goal, storage, spec.sampler)
            for cell in self.cells
        }

    # what runners call

    def next(self) -> Job | None:
        """The next trial to start; None where none is ready (wait while ``live``, else done)."""
        trial = self._unfinished() or self._next_slot() or self._promoted() or self._proposed()
        if trial is not None:
            return self._start(*trial)
        if self._revive():
            return self.next()
        if not self.live:
            self._dismiss()
        return None

    def on_epoch(self, name: str, report: Mapping[str, Any]) -> bool:
        """Take an epoch's report in; False where the trial is to stop now.

        An epoch that the ledger has already is not written again: its verdict stands.
        """
        trial = self.state.trials[name]
        if name not in self.live or trial.status != "incomplete":
            return False
        config = self.state.configs[trial.config_id]
        epoch = int(report["epoch"])
        if epoch not in trial.values:
            self._write("epoch", **report, trial_id=name)
        if config.status(self.slots) not in ("incomplete", "finished"):
            # another fold has ended the config, or the race has
            raced_out = not all(config.raced.values())
            self._end(name, "stopped", stopped_by="race" if raced_out else "config")
            return False
        first = (trial.fold, trial.replicate) == self.slots[0]
        if not first or config.revived or self._passes(trial, config, epoch):
            return True
        if trial.parked:
            del self.live[name]
        else:
            self._end(name, "stopped", stopped_by="rung")
        return False

    def on_end(self, name: str, status: Status, error: str | None = None, **facts: Any) -> None:
        """A trial is over; said twice, the first word stands."""
        if name in self.live:
            self._end(name, status, error=error, **facts)

    def on_lost(self, name: str, error: str, *, memory: bool = False) -> None:
        """A worker died: the trial is handed out again, at most ``max_failures`` times.

        Where memory ran out, it is with half as many images a pass as before.
        """
        if name not in self.live:
            return
        trial = self.state.trials[name]
        facts: dict[str, Any] = {}
        again = trial.lost < self.spec.max_failures
        if memory and again:
            whole = self.state.configs[trial.config_id].config["train"]["batch_size"]
            facts["micro_batch"] = max(1, (trial.micro_batch or whole) // 2)
        self._write("lost", trial_id=name, error=error, **facts)
        if again:
            del self.live[name]
        else:
            self._end(name, "out_of_memory" if memory else "failed", error=error)

    def conclude(self) -> None:
        """Name the champions, once nothing is left to run."""
        for cell in self.cells:
            champion = self.best(cell.name)
            if champion and self.state.champions.get(cell.name) != champion.config_id:
                self._write("champion", cell=cell.name, config_id=champion.config_id)

    def best(self, cell: str) -> ConfigState | None:
        """The config of a cell with the best mean over all folds, so far."""
        return self.standings.leader(cell)

    # what runs next

    def _waiting(self) -> list[ConfigState]:
        """Configs that may have something to run, oldest first."""
        return sorted(self._open.values(), key=lambda config: config.order)

    def _unfinished(self) -> tuple[ConfigState, Slot] | None:
        """A trial that an earlier launch left, or that is revived."""
        for config in self._waiting():
            for slot, trial in sorted(config.trials.items()):
                waits = trial.status == "incomplete" and trial.trial_id not in self.live
                if not waits or slot not in self.slots:
                    continue
                if config.status(self.slots) == "incomplete":
                    return config, slot
                self._leave(trial, config)
        return None

    def _leave(self, trial: TrialState, config: ConfigState) -> None:
        """Close a trial that nobody runs and whose config is decided without it."""
        by = "config" if all(config.raced.values()) else "race"
        self._write("end", trial_id=trial.trial_id, status="stopped", stopped_by=by)
        self._review(config)

    def _next_slot(self) -> tuple[ConfigState, Slot] | None:
        """The next fold of a config that survived fold 0, oldest config first."""
        for config in self._waiting():
            first = config.trials.get(self.slots[0])
            if first is None:
                return config, self.slots[0]  # proposed by a launch that ended before it started
            if first.status == "finished" and config.status(self.slots) == "incomplete":
                for slot in self.slots:
                    if slot not in config.trials and self._deserves(config):
                        return config, slot
        return None

    def _promoted(self) -> tuple[ConfigState, Slot] | None:
        """A trial that waits at a rung and is due."""
        found = self.ladder.promotion()
        if found is None:
            return None
        trial, epoch, verdict = found
        config = self.state.configs[trial.config_id]
        self._write("promote", trial_id=trial.trial_id, epoch=epoch, **asdict(verdict))
        self.ladder.leave(trial.trial_id)
        self._review(config)
        return config, self.slots[0]

    def _proposed(self) -> tuple[ConfigState, Slot] | None:
        """A new config for the cell that has had the fewest."""
        counts = {cell.name: len(self.state.of_cell(cell.name)) for cell in self.cells}
        for cell in sorted(self.cells, key=lambda cell: counts[cell.name]):
            number = counts[cell.name]
            if number < cell.budget and cell.name not in self.ladder.exhausted:
                config = self._draw(cell, number)
                if config is not None:
                    return config, self.slots[0]
                self.ladder.exhausted.add(cell.name)
        return None

    def _draw(self, cell: Cell, number: int) -> ConfigState | None:
        sampler = self.samplers[cell.name]
        sampler.observe(self.state.of_cell(cell.name), self.slots, self.goal)
        for _ in range(MAX_REDRAWS):
            draws = sampler.draw(number)
            params = {path: decode(cell.parameters[path], raw) for path, raw in draws.items()}
            config = cell.fill(params)
            name = self.identify(config)
            if name not in self.state.configs:
                self._write(
                    "config",
                    config_id=name,
                    cell=cell.name,
                    number=number,
                    params=params,
                    draws=draws,
                    levels=dict(cell.levels),
                    config=config,
                )
                sampler.add(self.state.configs[name])
                self._review(self.state.configs[name])
                return self.state.configs[name]
        return None

    def _revive(self) -> bool:
        """Open the best config of a cell that is done and has no finished one; False: none is."""
        for cell in self.cells:
            if self.best(cell.name) is not None or not self._idle(cell):
                continue
            chosen = self._best_stopped(cell)
            if chosen is not None:
                self._write("revive", config_id=chosen.config_id, cell=cell.name)
                for trial in chosen.trials.values():
                    self.ladder.leave(trial.trial_id)
                self._review(chosen)
                return True
        return False

    def _idle(self, cell: Cell) -> bool:
        """Nothing of a cell is under way."""
        if self.spec.early_stopping.compare_within == "sweep":
            return not self.live  # a trial of another cell may yet promote one of this
        return not any(job.cell == cell.name for job in self.live.values())

    def _best_stopped(self, cell: Cell) -> ConfigState | None:
        """The config of a cell that got furthest of those that a rule has stopped or parked."""
        sign = 1 if self.goal == "maximize" else -1
        found = []
        for config in self.state.of_cell(cell.name):
            first = config.trials.get(self.slots[0])
            if first is None or config.revived or (value := first.best(self.goal)) is None:
                continue
            if first.parked or config.status(self.slots) == "stopped":
                found.append((len(config.trials), sign * value, -config.number, config))
        return max(found, key=lambda item: item[:3])[3] if found else None

    def _dismiss(self) -> None:
        """Nothing is left to run: trials that still wait at a rung have been stopped by it."""
        for config in list(self.state.configs.values()):
            trial = config.trials.get(self.slots[0])
            if trial is not None and trial.parked and config.cell in self.samplers:
                self._close(trial.trial_id, config, "stopped", stopped_by="rung")

    def _start(self, config: ConfigState, slot: Slot) -> Job:
        fold, replicate = slot
        name = trial_id(config.config_id, fold, replicate)
        known = self.state.trials.get(name)
        self._write(
            "start",
            trial_id=name,
            config_id=config.config_id,
            fold=fold,
            replicate=replicate,
            attempt=(known.attempts if known is not None else 0) + 1,
            micro_batch=known.micro_batch if known is not None else None,
        )
        self._review(config)
        trial = self.state.trials[name]
        job = Job(
            name, config.config_id, config.cell, fold, replicate, trial.attempts, config.config,
            trial.micro_batch,
        )  # fmt: skip
        self.live[name] = job
        return job

    # what stops

    def _passes(self, trial: TrialState, config: ConfigState, epoch: int) -> bool:
        if epoch in trial.rungs:
            return trial.rungs[epoch]
        fields = self.ladder.judge(trial, config, epoch)
        if fields is None:
            return True
        self._write("rung", trial_id=trial.trial_id, epoch=epoch, **fields)
        self._review(config)
        return bool(fields["keep"])

    def _deserves(self, config: ConfigState) -> bool:
        """The race's verdict on a config; asked once after each of its trials."""
        looks = len(config.scores(self.goal))
        incumbent = self.best(config.cell)
        if config.revived or not looks or incumbent is None or self.spec.race.rule == "none":
            return True
        if looks not in config.raced:
            rule = Race(
                self.spec.race.rule,
                self.spec.race.p,
                len(self.slots),
                self.goal == "maximize",
            )
            verdict = rule.judge(
                config.scores(self.goal),
                incumbent.scores(self.goal),
                len(self.state.of_cell(config.cell)),
                self.standings.noise(config.cell),
            )
            self._write(
                "race",
                config_id=config.config_id,
                incumbent=incumbent.config_id,
                **{**asdict(verdict), "looks": looks},
            )
            self._review(config)
        return config.raced[looks]

    def _end(self, name: str, status: Status, **facts: Any) -> None:
        job = self.live.pop(name)
        self._close(name, self.state.configs[job.config_id], status, **facts)

    def _close(self, name: str, config: ConfigState, status: Status, **facts: Any) -> None:
        self._write("end", trial_id=name, status=status, **facts)
        self.ladder.leave(name)
        self._review(config)
        if status == "finished" and config.status(self.slots) == "incomplete":
            self._deserves(config)
            self._review(config)
        if config.cell in self.samplers:
            self.samplers[config.cell].tell(config, self.slots, self.goal)

    def _review(self, config: ConfigState) -> None:
        """A config has changed: is there still something to run, and does it lead?"""
        self._open.pop(config.config_id, None)
        if config.cell not in self.samplers:
            return
        first = config.trials.get(self.slots[0])
        waits = first is not None and first.parked
        left = any(t.status == "incomplete" for t in config.trials.values())
        if not waits and (left or config.status(self.slots) == "incomplete"):
            self._open[config.config_id] = config
        self.standings.take(config)

    def _write(self, event: str, **fields: Any) -> Event:
        record = self.ledger.append(event, **fields)
        self.state.apply(record)
        return record
