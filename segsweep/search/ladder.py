"""The ladder: which trials stand at which rung, and which of those that wait is promoted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from segsweep.search.rungs import RULES, Rule, Verdict
from segsweep.space import EPOCHS, Cell, get_path
from segsweep.spec import SweepSpec
from segsweep.state import ConfigState, SearchState, Slot, TrialState

Place = tuple[str, int, int]  # scope (a cell's name, or "" for the sweep), bracket, epochs a trial


@dataclass
class Rung:
    """One rung: what the trials that came there show, and who of them waits."""

    epoch: int
    shown: dict[str, float | None] = field(default_factory=dict)  # by trial_id
    waiting: dict[str, float | None] = field(default_factory=dict)

    def others(self, name: str) -> list[float | None]:
        """What the trials beside ``name`` show."""
        return [value for trial, value in self.shown.items() if trial != name]


class Ladder:
    """The rungs of one sweep; acts on the first slot of each config only.

    Args:
        spec: the sweep.
        cells: with their budgets.
        state: what happened so far; trials that wait take their place again.
    """

    def __init__(self, spec: SweepSpec, cells: Sequence[Cell], state: SearchState) -> None:
        self.spec, self.cells, self.state = spec, {cell.name: cell for cell in cells}, state
        self.exhausted: set[str] = set()  # cells that have no more configs to offer
        self.first: Slot = spec.slots[0]
        self.rungs: dict[Place, list[Rung]] = {}
        self._rules: dict[int, Rule] = {}
        self._shares: dict[str, dict[int, float]] = {}  # of a cell's configs, by their epochs
        self._counted: dict[str, Counter[int]] = {}  # of a cell's proposed configs, the same
        for config in state.configs.values():
            trial = config.trials.get(self.first)
            if trial is None or config.cell not in self.cells:
                continue
            for epoch in trial.rungs:
                self._enter(trial, config, epoch)

    def rule(self, config: ConfigState) -> Rule:
        """The sweep's rule for trials as long as this config's."""
        epochs = int(get_path(config.config, EPOCHS))
        if epochs not in self._rules:
            stopping = self.spec.early_stopping
            self._rules[epochs] = RULES[stopping.type](
                stopping.grace_period,
                stopping.reduction_factor,
                epochs,
                self.spec.metric.goal == "maximize",
                # over several folds a leader needs a rival, or there is no race
                least=2 if len(self.spec.slots) > 1 else 1,
            )
        return self._rules[epochs]

    def judge(self, trial: TrialState, config: ConfigState, epoch: int) -> dict[str, Any] | None:
        """Fields of the ``rung`` event for a trial that has come to ``epoch``; None: no rung."""
        rule = self.rule(config)
        if epoch not in rule.rungs(rule.bracket(config.number)):
            return None
        rung = self._enter(trial, config, epoch)
        value = rule.value(trial.values, epoch)
        place = self._place(config)
        closed = rule.parks and self._closed(place, arriving=trial.trial_id)[rung.epoch]
        expected = self._expected(place, rung, closed)
        verdict = rule.judge(value, rung.others(trial.trial_id), expected)
        if rule.parks and not verdict.keep:
            rung.waiting[trial.trial_id] = value
        return {"value": value, **asdict(verdict), "parked": rule.parks and not verdict.keep}

    def promotion(self) -> tuple[TrialState, int, Verdict] | None:
        """A trial that waits and is due, the one at the highest rung first, with its epoch."""
        due: list[tuple[int, TrialState, Verdict]] = []
        for place, rungs in self.rungs.items():
            if not any(rung.waiting for rung in rungs):
                continue
            closed = self._closed(place)
            for rung in reversed(rungs):
                found = self._best(place, rung, closed[rung.epoch])
                if found is not None and found[1].keep:
                    due.append((rung.epoch, *found))
                    break
        if not due:
            return None
        epoch, trial, verdict = max(due, key=lambda item: item[0])
        return trial, epoch, verdict

    def leave(self, name: str) -> None:
        """A trial waits no longer: it is promoted, revived or over."""
        for rungs in self.rungs.values():
            for rung in rungs:
                rung.waiting.pop(name, None)

    # who stands where

    def _place(self, config: ConfigState) -> Place:
        rule = self.rule(config)
        scope = config.cell if self.spec.early_stopping.compare_within == "cell" else ""
        return scope, rule.bracket(config.number), rule.epochs

    def _enter(self, trial: TrialState, config: ConfigState, epoch: int) -> Rung:
        rule, place = self.rule(config), self._place(config)
        if place not in self.rungs:
            self.rungs[place] = [Rung(epoch) for epoch in rule.rungs(place[1])]
        found = [rung for rung in self.rungs[place] if rung.epoch == epoch]
        rung = found[0] if found else Rung(epoch)  # a rung of an earlier launch's rule
        rung.shown[trial.trial_id] = rule.shown(trial.values, epoch)
        if trial.parked and epoch == max(trial.rungs):
            rung.waiting[trial.trial_id] = rule.value(trial.values, epoch)
        return rung

    def _best(self, place: Place, rung: Rung, closed: bool) -> tuple[TrialState, Verdict] | None:
        """The best trial that waits at a rung, and what the rung says about it now."""
        if not rung.waiting:
            return None
        sign = 1 if self.spec.metric.goal == "maximize" else -1
        known = {n: -float("inf") if v is None else sign * v for n, v in rung.waiting.items()}
        name = max(known, key=lambda n: known[n])
        trial = self.state.trials[name]
        rule = self.rule(self.state.configs[trial.config_id])
        expected = self._expected(place, rung, closed)
        return trial, rule.judge(rung.waiting[name], rung.others(name), expected)

    # how many are still to come

    def _expected(self, place: Place, rung: Rung, closed: bool) -> int:
        """How many trials will have come to a rung in the end."""
        if closed:
            return len(rung.shown)
        step = [other.epoch for other in self.rungs[place]].index(rung.epoch)
        planned = self._budget(place) // int(self.spec.early_stopping.reduction_factor**step)
        return max(planned, len(rung.shown))

    def _closed(self, place: Place, arriving: str = "") -> Mapping[int, bool]:
        """Of every rung of a place: can nobody come to it any more, but for who is arriving?"""
        running = [t for t in self.state.running(self.first) if t.trial_id != arriving]
        below = [self._stands(trial, place) for trial in running]
        found: dict[int, bool] = {}
        closed = self._all_proposed(place)
        for rung in self.rungs[place]:
            closed = closed and not any(epoch is not None and epoch < rung.epoch for epoch in below)
            found[rung.epoch] = closed
            best = self._best(place, rung, closed) if closed else None
            closed = closed and not (best is not None and best[1].keep)
        return found

    def _stands(self, trial: TrialState, place: Place) -> int | None:
        """The last rung that a running trial has passed; None where it is of another place."""
        config = self.state.configs[trial.config_id]
        if config.cell not in self.cells or self._place(config) != place:
            return None
        return max(trial.rungs, default=0)

    def _all_proposed(self, place: Place) -> bool:
        for cell in self._cells(place):
            configs = self.state.of_cell(cell.name)
            if len(configs) < cell.budget and cell.name not in self.exhausted:
                return False
            if configs and self.first not in configs[-1].trials:
                return False
        return True

    def _budget(self, place: Place) -> int:
        """Configs of a place: those that were proposed, and those still to be, as is likely."""
        total = 0.0
        for cell in self._cells(place):
            proposed, here = self._proposed(cell.name, place)
            left = 0 if cell.name in self.exhausted else max(0, cell.budget - proposed)
            total += here + left * self._likely(cell, place[2])
        return round(total)

    def _cells(self, place: Place) -> list[Cell]:
        """Cells that can have configs at a place."""
        cells = [self.cells[place[0]]] if place[0] else list(self.cells.values())
        return [c for c in cells if self._likely(c, place[2]) or self._proposed(c.name, place)[1]]

    def _likely(self, cell: Cell, epochs: int) -> float:
        """The share of a cell's configs that have so many epochs."""
        if cell.name not in self._shares:
            drawn = Counter(int(value) for value in cell.own(EPOCHS))  # type: ignore[arg-type]
            self._shares[cell.name] = {e: n / drawn.total() for e, n in drawn.items()}
        return self._shares[cell.name].get(epochs, 0.0)

    def _proposed(self, cell: str, place: Place) -> tuple[int, int]:
        """Configs that were proposed of a cell, and those of them that are of a place."""
        configs, counted = self.state.of_cell(cell), self._counted.setdefault(cell, Counter())
        for config in configs[counted.total() :]:  # they only become more
            counted[self.rule(config).epochs] += 1
        return len(configs), counted[place[2]]
