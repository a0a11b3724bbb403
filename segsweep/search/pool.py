"""The pool: every config of a sweep, what is open of it, and where the next one comes from."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from segsweep.ledger import Book, Event
from segsweep.search.journal import journal
from segsweep.search.ladder import Ladder
from segsweep.search.sampler import CellSampler, Sampler
from segsweep.search.standings import Standings
from segsweep.space import Cell, decode
from segsweep.spec import SweepSpec
from segsweep.state import ConfigState, SearchState

MAX_REDRAWS = 60  # a cell in which so many draws in a row were tried before has no more to offer


class Pool:
    """Kept up to date with every event, so that no decision looks at all configs.

    Args:
        spec: the sweep, every default filled in.
        cells: in the order of the plan.
        ledger: open for writing; its events are taken in.
        identify: the ``config_id`` of a trial config.
        journal_path: where Optuna's journal goes; None keeps the studies in memory.
        samplers: what proposes each cell's configs; None is Optuna, as the sweep says.
        least: images that a training step of a trial config needs.
    """

    def __init__(
        self,
        spec: SweepSpec,
        cells: Sequence[Cell],
        ledger: Book,
        identify: Callable[[Mapping[str, Any]], str],
        journal_path: Path | None = None,
        samplers: Mapping[str, Sampler] | None = None,
        least: Callable[[Mapping[str, Any]], int] = lambda _: 1,
    ) -> None:
        self.spec, self.cells, self.ledger, self.identify = spec, cells, ledger, identify
        self.slots, self.goal, self.least = spec.slots, spec.metric.goal, least
        self.metric = spec.metric.name.replace("/", "_")
        self.state = SearchState(self.metric, ledger.events)
        self.samplers = dict(samplers) if samplers else self._optuna(journal_path)
        self._recall(ledger.events)
        for config in self.state.configs.values():
            if config.cell in self.samplers:
                self.samplers[config.cell].add(config)
                self.samplers[config.cell].tell(config, self.slots, self.goal)
        self.ladder = Ladder(spec, cells, self.state)
        self.standings = Standings(spec)
        self._open: dict[str, ConfigState] = {}  # configs that may have something to run
        for config in self.state.configs.values():
            self.review(config)

    def _optuna(self, journal_path: Path | None) -> dict[str, Sampler]:
        spec, storage = self.spec, journal(journal_path)
        return {
            cell.name: CellSampler(cell, spec.method, spec.seed, self.goal, storage, spec.sampler)
            for cell in self.cells
        }

    def _recall(self, events: Sequence[Event]) -> None:
        """Let samplers that remember their draws (CMA-ES) make the recorded ones once more.

        What they remember is a pickle, which must not come from a file that others may write to.
        """
        forgetful = {name for name, s in self.samplers.items() if not s.remembers}
        state = SearchState(self.metric)
        for event in events if len(forgetful) < len(self.samplers) else ():
            cell = event.get("cell", "")
            if event["event"] == "config" and cell in self.samplers and cell not in forgetful:
                sampler = self.samplers[cell]
                sampler.observe(state.of_cell(cell), self.slots, self.goal)
                if not sampler.recall(event["config_id"], event["number"], event["draws"]):
                    forgetful.add(cell)  # drawn from something else: it begins anew here
            state.apply(event)

    def write(self, event: str, **fields: Any) -> Event:
        """Record an event, and take it in."""
        record = self.ledger.append(event, **fields)
        self.state.apply(record)
        return record

    def review(self, config: ConfigState) -> None:
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

    def waiting(self) -> list[ConfigState]:
        """Configs that may have something to run, oldest first."""
        return sorted(self._open.values(), key=lambda config: config.order)

    def best_stopped(self, cell: Cell) -> ConfigState | None:
        """The config of a cell that got furthest of those that a rule has stopped or parked."""
        sign = 1 if self.goal == "maximize" else -1
        found = []
        for config in self.state.of_cell(cell.name):
            first = config.trials.get(self.slots[0])
            if first is None or config.revived:
                continue
            value = first.best(self.goal)
            standing = -math.inf if value is None else sign * value  # undefined: last of all
            if first.parked or config.status(self.slots) == "stopped":
                found.append((len(config.trials), standing, -config.number, config))
        return max(found, key=lambda item: item[:3])[3] if found else None

    def propose(self) -> ConfigState | None:
        """A new config for the cell that has had the fewest."""
        counts = {cell.name: len(self.state.of_cell(cell.name)) for cell in self.cells}
        for cell in sorted(self.cells, key=lambda cell: counts[cell.name]):
            number = counts[cell.name]
            if number < cell.budget and cell.name not in self.ladder.exhausted:
                config = self._draw(cell, number)
                if config is not None:
                    return config
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
                self.write(
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
                self.review(self.state.configs[name])
                return self.state.configs[name]
        return None
