"""What a sweep is doing, from its ledger and its lock alone: nothing of it is disturbed.

The same numbers as the live picture of ``launch``, for another terminal. A ranking of what is not
finished is no result: it says of how many folds it speaks, and leads with what all have in common.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from segsweep import rundir
from segsweep.compare import Ranked, rank_state, table
from segsweep.compare.ranking import undefined, unscored
from segsweep.display import duration
from segsweep.errors import RunError
from segsweep.identity import counted, short_cells, short_params, since
from segsweep.next_command import called, command
from segsweep.rundir import Holder, Run
from segsweep.spec import SweepSpec
from segsweep.state import SearchState
from segsweep.workload import Workload, epochs_of

State = Literal["running", "done", "interrupted", "dead", "unknown"]
WORDS: dict[State, str] = {
    "running": "running",
    "done": "done",
    "interrupted": "interrupted",
    "dead": "its launch ended without a word",
    "unknown": "a launch on another host holds it, which cannot be seen from here",
}
AGAIN = "; launch again to go on"
RANKED = 12
LISTED = 5
EVERY = 2.0  # seconds between two looks
AT_LEAST = 5.0  # seconds of a launch before anything is said about how long it will take


@dataclass(frozen=True)
class Running:
    """A trial that is under way: its epochs so far and of how many, and its last value."""

    trial_id: str
    cell: str
    params: str
    fold: int
    epoch: int
    epochs: int
    value: float | None


@dataclass(frozen=True)
class Status:
    """A look at a sweep.

    Attributes:
        run: how its directory is called in the working directory.
        state: of the launch; ``dead``: its lock names a process that is no more.
        holder: who holds the lock, a launch or another command, or held it when it died.
        share: of the epochs that the sweep asks for, run or saved by stopping, from 0 to 1.
        trials: how many there are by status; open ones are running or wait for a worker.
        elapsed: seconds since this launch began, up to now or to its end.
        left: about how many seconds are left at this launch's pace; None where nobody can say.
        ranking: best config of each cell so far; ``final`` where all its folds are finished.
        failures: causes of trials that failed or ran out of memory, most frequent first.
        undefined: folds on which finished trials have no score, and why.
        unscored: how many of ``configs`` have no final score for it.
        older: what numbers mean otherwise since the run was made; empty where they mean the same.
    """

    name: str
    run: str
    metric: str
    state: State
    holder: Holder | None
    share: float
    trials: Mapping[str, int]
    elapsed: float
    left: float | None
    running: Sequence[Running]
    ranking: Sequence[Ranked]
    failures: Sequence[tuple[str, int]]
    undefined: str | None
    unscored: int
    configs: int
    older: str
    spec: SweepSpec

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for ``--json``."""
        plain = asdict(self)
        del plain["spec"]
        return plain

    def picture(self) -> RenderableType:
        """All of it, for a terminal."""
        return _picture(self)


def read(path: Path, now: float | None = None) -> Status:
    """Look at a run directory.

    Args:
        path: of the run.
        now: seconds since 1970; None asks the clock.

    Raises:
        RunError: the ledger cannot be read.
    """
    run = rundir.load(path)
    state = SearchState(run.metric, run.events)
    holder = rundir.holder(path)
    launch = max(i for i, event in enumerate(run.events) if event["event"] == "launch")
    close = next((e for e in run.events[launch:] if e["event"] == "close"), None)
    word = _state(holder, close)
    last = run.events[-1]["time"]
    until = (time.time() if now is None else now) if word == "running" else last
    elapsed = max(0.0, until - run.events[launch]["time"])
    work = _work(run, state, state)
    before = _work(run, state, SearchState(run.metric, run.events[:launch])).done
    failed = [t for t in state.trials.values() if t.status in ("failed", "out_of_memory")]
    causes = Counter(t.error or t.status for t in failed)
    return Status(
        name=run.spec.name,
        run=called(path),
        metric=run.spec.metric.name,
        state=word,
        holder=holder,
        share=work.share,
        trials=dict(Counter(trial.status for trial in state.trials.values())),
        elapsed=elapsed,
        left=_left(word, work.done, before, work.total, elapsed),
        running=_running(state) if word in ("running", "unknown") else [],
        ranking=rank_state(run.spec, state),
        failures=causes.most_common(),
        undefined=undefined(run.spec, state),
        unscored=unscored(run.spec, state),
        configs=len(state.configs),
        older=since(run.identity),
        spec=run.spec,
    )


def watching(console: Console, path: Path, every: float = EVERY) -> None:
    """Look again and again until the launch has ended; where nobody looks on, once.

    Args:
        console: where to.
        path: of the run.
        every: seconds between two looks.
    """
    found = read(path)
    if console.is_terminal and found.state in ("running", "unknown"):
        with Live(found.picture(), console=console, auto_refresh=False, transient=True) as live:
            while found.state in ("running", "unknown"):
                time.sleep(every)
                try:
                    found = read(path)
                except RunError:  # caught in the middle of a write
                    continue
                live.update(found.picture(), refresh=True)
    console.print(found.picture())


def _state(holder: Holder | None, close: Mapping[str, Any] | None) -> State:
    if holder is not None and holder.what != rundir.LAUNCH:
        holder = None  # a command that reads what a launch has left
    if holder is not None and holder.alive:
        return "running"
    if close is not None:
        return "done" if close["status"] == "done" else "interrupted"
    if holder is not None and holder.alive is None:
        return "unknown"
    return "dead"


def _left(word: State, done: float, before: float, total: float, elapsed: float) -> float | None:
    if word != "running" or done <= before or elapsed < AT_LEAST or not total:
        return None
    return elapsed * max(0.0, total - done) / (done - before)


def _work(run: Run, now: SearchState, then: SearchState) -> Workload:
    """What the sweep asks for as is known ``now``, and what of it was done ``then``."""
    work = Workload.of_run(run.spec, run.events, now)
    for config in then.configs.values():
        work.take(config)
    return work


def _running(state: SearchState) -> list[Running]:
    labels = short_cells({c.cell: c.levels for c in state.configs.values()})
    found = []
    for trial in state.trials.values():
        if trial.status == "incomplete" and not trial.parked:
            config = state.configs[trial.config_id]
            last = list(trial.values.values())[-1] if trial.values else None
            name, params = labels[config.cell], short_params(config.params)
            epochs = epochs_of(config)
            found.append(
                Running(trial.trial_id, name, params, trial.fold, len(trial.values), epochs, last)
            )
    return found


def _picture(found: Status) -> RenderableType:
    ended = found.state in ("interrupted", "dead")
    word = WORDS[found.state] + (AGAIN if ended and not found.older else "")
    bar = Table.grid(padding=(0, 1))
    bar.add_row(
        Text(found.name, style="bold"),
        ProgressBar(total=1.0, completed=found.share, width=40),
        Text(f"{100 * found.share:.0f} %", style="bold"),
        Text(word, style="green" if found.state in ("running", "done") else "yellow"),
    )
    parts: list[RenderableType] = [bar, Text(_facts(found), style="dim")]
    if found.running:
        parts += [Text(), _trials(found)]
    for cause, count in found.failures[:LISTED]:
        parts.append(Text(f"{count} × {cause}", style="red"))
    if found.undefined:
        without = f"{found.unscored} of {counted(found.configs, 'config')} have no final score"
        parts.append(Text(f"{found.undefined}: {without}", style="yellow"))
    if found.older:
        told = "An earlier segsweep recorded this run, and only that one goes on with it. Since: "
        parts.append(Text(f"{told}{found.older}.", style="yellow"))
    if found.ranking:
        parts += [Text(), Text(_heading(found), style="dim")]
        parts += [table(found.spec, list(found.ranking), RANKED)]
    else:
        parts.append(Text("no trial has finished yet", style="dim"))
    return Group(*parts)


def _facts(found: Status) -> str:
    trials = [f"{count} {status.replace('_', ' ')}" for status, count in found.trials.items()]
    facts = [f"trials: {', '.join(trials)}" if trials else "no trial has begun"]
    facts.append(f"{duration(found.elapsed)} in this launch")
    if found.left is not None:
        last = found.share >= 1
        facts.append("scoring the champions" if last else f"about {duration(found.left)} left")
    holder = found.holder
    if holder is not None and holder.what != rundir.LAUNCH:
        if holder.alive is not False:
            facts.append(f"held by `segsweep {holder.what}`, pid {holder.pid} on {holder.host}")
    elif holder is not None and found.state != "done":
        facts.append(f"pid {holder.pid} on {holder.host}")
    return " · ".join(facts)


def _heading(found: Status) -> str:
    if found.state == "done" and all(row.final for row in found.ranking):
        return f"ranking; `{command('compare', found.run)}` says what can be claimed"
    whole = sum(row.final for row in found.ranking)
    total = len(found.ranking)
    return f"ranking so far, not a result: {whole} of {total} cells have a config with all folds"


def _trials(found: Status) -> Table:
    grid = Table.grid(padding=(0, 2))
    score = found.metric.split("/")[-1]
    for trial in found.running:
        value = f"{score} {trial.value:.4f}" if trial.value is not None else ""
        at = f"epoch {trial.epoch}/{trial.epochs}" if trial.epoch else "starting"
        grid.add_row("▸", trial.cell, trial.params, f"fold {trial.fold}", at, value)
    return grid
