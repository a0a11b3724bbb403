"""What a person sees while a sweep runs: live on a terminal, plain lines elsewhere."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from typing import Self

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from segsweep.compare import rank_state, table
from segsweep.identity import counted, short_cells, short_params
from segsweep.ledger import Event
from segsweep.space import Cell
from segsweep.spec import SweepSpec
from segsweep.state import ConfigState, SearchState
from segsweep.workload import Workload, epochs_of

RANKED = 12  # rows of the live ranking


def duration(seconds: float) -> str:
    """``45 s``, ``12 min``, ``3 h 05 min``."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60:02d} min"


class Display:
    """Listens to the ledger.

    Args:
        console: where to.
        spec: the sweep.
        cells: its cells.
        events: what earlier launches have done.
    """

    def __init__(
        self, console: Console, spec: SweepSpec, cells: Sequence[Cell], events: Sequence[Event]
    ) -> None:
        self.console, self.spec, self.cells = console, spec, cells
        self.state = SearchState(spec.metric.name.replace("/", "_"), events)
        self.score = spec.metric.name.split("/")[-1]
        self.began = time.monotonic()
        self.work = Workload.of_cells(spec, cells)
        for config in self.state.configs.values():
            self.work.take(config)
        self.at_start = self.work.done
        self.live: Live | None = None
        self._lock = threading.Lock()  # the picture is drawn in a thread of its own
        self.labels = short_cells({cell.name: cell.levels for cell in cells})

    def __enter__(self) -> Self:
        """Begin to show."""
        if self.console.is_terminal:
            self.live = Live(get_renderable=self.render, console=self.console, refresh_per_second=2)
            self.live.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Leave the terminal as it was; the last picture is wiped."""
        if self.live is not None:
            self.live.transient = True
            self.live.stop()
            self.live = None

    def on_event(self, event: Event) -> None:
        """Take one ledger event in."""
        with self._lock:
            self.state.apply(event)
            name = event.get("config_id")
            if name is None and "trial_id" in event:
                name = self.state.trials[event["trial_id"]].config_id
            if name in self.state.configs:  # nothing but this config has changed
                self.work.take(self.state.configs[name])
        if self.live is None and not self.console.is_terminal:
            line = self._line(event)
            if line is not None:
                self.console.print(line, highlight=False, soft_wrap=True, markup=False)

    # plain lines

    def _line(self, event: Event) -> str | None:
        if event["event"] == "revive":
            return f"revived: the best config of {event['cell']}, which has no finished one"
        if event["event"] == "race" and not event["keep"]:
            config = self.state.configs[event["config_id"]]
            name = f"{self._cell(config)} {short_params(config.params)}".strip()
            after = counted(event["looks"], "fold")
            return f"{name}: out of the race after {after}, gap {event['gap']:.4f}"
        if event["event"] == "lost":
            less = event.get("micro_batch")
            how = f" with {less} images a pass" if less else ""
            return f"{self._trial(event['trial_id'])}: {event['error']}; tried again{how}"
        if event["event"] == "damaged":
            return self.damage(event)
        if event["event"] == "rung" and event.get("parked"):
            value = f", {self.score} {event['value']:.4f}" if event["value"] is not None else ""
            return f"{self._trial(event['trial_id'])}: waits at epoch {event['epoch']}{value}"
        if event["event"] != "end":
            return None
        trial = self.state.trials[event["trial_id"]]
        ended = event["status"]
        if event.get("stopped_by"):
            ended += f" by {event['stopped_by']}"
        best = trial.best(self.spec.metric.goal)
        value = f", {self.score} {best:.4f}" if best is not None else ""
        error = f", {event['error']}" if event.get("error") else ""
        share = 100 * self.work.share
        name = self._trial(trial.trial_id)
        return f"[{share:3.0f} %] {name}: {ended}{value} after {len(trial.values)} epochs{error}"

    def damage(self, event: Event) -> str:
        """What was damaged, and what was done."""
        if "trial_id" not in event:
            return str(event["what"])
        goes = f"epoch {event['epoch'] + 1}" if event["epoch"] else "the start"
        return f"{self._trial(event['trial_id'])}: {event['what']}; goes on from {goes}"

    def _cell(self, config: ConfigState) -> str:
        return self.labels.get(config.cell, config.cell)

    def _trial(self, name: str) -> str:
        trial = self.state.trials[name]
        config = self.state.configs[trial.config_id]
        parts = [self._cell(config), short_params(config.params), f"fold {trial.fold}"]
        return " ".join(part for part in parts if part)

    # the live picture

    def render(self) -> RenderableType:
        """The whole picture: bar, running trials, ranking so far."""
        with self._lock:
            return self._picture()

    def _picture(self) -> RenderableType:
        finished = sum(t.status == "finished" for t in self.state.trials.values())
        running = self._running()
        elapsed = time.monotonic() - self.began
        left = self._left(elapsed)
        facts = f"{finished} trials finished · {duration(elapsed)} so far"
        if self.state.parked:
            facts += f" · {len(self.state.parked)} wait at a rung"
        if self.work.over:
            facts += " · scoring the champions"
        elif left is not None:
            facts += f" · about {duration(left)} left"
        bar = Table.grid(padding=(0, 1))
        bar.add_row(
            Text(self.spec.name, style="bold"),
            ProgressBar(total=1.0, completed=self.work.share, width=40),
            Text(f"{100 * self.work.share:.0f} %", style="bold"),
        )
        parts: list[RenderableType] = [bar, Text(facts, style="dim"), Text(), running]
        rows = rank_state(self.spec, self.state)
        if rows:
            parts += [Text(), Text("ranking so far", style="dim")]
            parts += [table(self.spec, rows, RANKED)]
        return Group(*parts)

    def _running(self) -> Table:
        grid = Table.grid(padding=(0, 2))
        for trial in self.state.running():
            config = self.state.configs[trial.config_id]
            epochs = epochs_of(config)
            last = list(trial.values.values())[-1] if trial.values else None
            value = f"{self.score} {last:.4f}" if last is not None else ""
            state = f"epoch {len(trial.values)}/{epochs}" if trial.values else "starting"
            grid.add_row(
                "▸",
                self._cell(config),
                short_params(config.params),
                f"fold {trial.fold}",
                state,
                value,
            )
        return grid

    def _left(self, elapsed: float) -> float | None:
        here = self.work.done - self.at_start
        if here <= 0 or elapsed < 5:
            return None
        return elapsed * (self.work.total - self.work.done) / here
