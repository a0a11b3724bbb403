"""``Search``: hands out trials, judges them, and writes every decision to the ledger first.

Runners call ``next`` where a slot is free, ``on_epoch`` with each result and ``on_end`` when a
trial is over. The state is rebuilt from the ledger, so a new launch goes on where the last ended.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from segsweep import noise
from segsweep.batches import fewer
from segsweep.identity import trial_id
from segsweep.search.pool import Pool
from segsweep.search.race import Race
from segsweep.space import Cell
from segsweep.state import ConfigState, Slot, Status, TrialState


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
        pool: its configs, and what proposes them.
    """

    def __init__(self, pool: Pool) -> None:
        self.pool, self.spec, self.cells, self.ledger = pool, pool.spec, pool.cells, pool.ledger
        self.slots, self.goal = pool.slots, pool.goal
        self.state, self.samplers = pool.state, pool.samplers
        self.ladder, self.standings = pool.ladder, pool.standings
        self._write, self._review = pool.write, pool.review
        self.live: dict[str, Job] = {}

    # what runners call

    def next(self) -> Job | None:
        """The next trial to start; None where none is ready (wait while ``live``, else done)."""
        trial = self._unfinished() or self._next_slot() or self._promoted() or self._new()
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

        Where memory ran out, it is with half as many images a pass as before; where it cannot be
        trained with fewer, it is over.
        """
        if name not in self.live:
            return
        trial = self.state.trials[name]
        facts: dict[str, Any] = {}
        again = trial.lost < self.spec.max_failures
        if memory and again:
            config = self.state.configs[trial.config_id].config
            whole = int(config["train"]["batch_size"])
            less = fewer(whole, trial.micro_batch, self.pool.least(config))
            facts, again = ({}, False) if less is None else ({"micro_batch": less}, True)
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

    def _unfinished(self) -> tuple[ConfigState, Slot] | None:
        """A trial that an earlier launch left, or that is revived."""
        for config in self.pool.waiting():
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
        for config in self.pool.waiting():
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

    def _new(self) -> tuple[ConfigState, Slot] | None:
        config = self.pool.propose()
        return (config, self.slots[0]) if config is not None else None

    def _revive(self) -> bool:
        """Open the best config of a cell that is done and has no finished one; False: none is."""
        for cell in self.cells:
            if self.best(cell.name) is not None or not self._idle(cell):
                continue
            chosen = self.pool.best_stopped(cell)
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

    def _dismiss(self) -> None:
        """Nothing is left to run: trials that still wait at a rung have been stopped by it."""
        for trial in list(self.state.parked.values()):
            config = self.state.configs[trial.config_id]
            if config.cell in self.samplers:
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
        scores = self._scores(config)
        looks = len(scores)
        incumbent = self.best(config.cell)
        if config.revived or not looks or incumbent is None or self.spec.race.rule == "none":
            return True
        if looks not in config.raced:
            rule = Race(
                self.spec.race.rule,
                self.spec.race.p,
                len(self.slots),
                self.goal == "maximize",
                noise.overlap(self.spec.folds.k),
            )
            verdict = rule.judge(
                scores,
                self._scores(incumbent),
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

    def _scores(self, config: ConfigState) -> dict[Slot, float]:
        """Of the folds that are asked for: an earlier launch may have run others."""
        known = config.scores(self.goal)
        return {slot: value for slot, value in known.items() if slot in self.slots}

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
