"""How results look on a terminal."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.padding import Padding
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from segsweep.cli.following import following, go_on
from segsweep.errors import EXIT_INTERRUPTED, UserError
from segsweep.fulldisk import human
from segsweep.identity import counted
from segsweep.next_command import called, command, relaunch, short
from segsweep.spec import SweepSpec

if TYPE_CHECKING:
    from segsweep.check import Checked
    from segsweep.compare import Comparison, Ranked
    from segsweep.doctor import Finding
    from segsweep.export.exporting import Exported
    from segsweep.export.predicting import Predicted
    from segsweep.launching import Outcome
    from segsweep.plan import Plan
    from segsweep.report import Facts
    from segsweep.rundir import Holder, Run
    from segsweep.runners.replay import Score
    from segsweep.status import Status

LISTED = 50  # problems shown in full
MLFLOW = "mlflow.db"  # the local store, in the run directory


def problems(console: Console, error: UserError) -> None:
    """Every mistake, each with its place and what to do."""
    count = len(error.problems)
    console.print(f"refused: {counted(count, 'problem')}, nothing was started", style="red")
    for problem in error.problems[:LISTED]:
        text = Text("  ")
        place = ": ".join(part for part in (problem.where, problem.key) if part)
        text.append(f"{place}: " if place else "", style="bold")
        text.append(problem.what)
        if problem.hint:
            text.append(f"\n      {problem.hint}", style="dim")
        console.print(text, soft_wrap=True)
    if count > LISTED:
        console.print(f"  … and {count - LISTED} more of the same kind")


def checked(console: Console, found: Checked, sweep: Sequence[str]) -> None:
    """What a sound sweep file holds; ``sweep`` is how it was called, for the next command."""
    held = found.as_dict()
    for notice in found.notices:
        console.print(f"note: {notice}", style="yellow", markup=False, soft_wrap=True)
    console.print(
        f"[green]valid[/green]: {len(found.cells)} cells, {held['configs']} configs, "
        f"{counted(held['folds'], 'fold')}; {held['images']} images and "
        f"{held['holdout_images']} held out",
        highlight=False,
    )
    content(console, held["content"])
    following(console, command("plan", *sweep))


def content(console: Console, held: dict[str, Any]) -> None:
    """A line a class: its share of labelled pixels and of images, and the folds without it."""
    parts = {name: held[name] for name in ("search", "holdout") if held[name] is not None}
    grid = Table(box=None, pad_edge=False, header_style="bold")
    grid.add_column("class", overflow="fold")
    for name in parts:
        grid.add_column("pixels" if name == "search" else "held out: pixels", justify="right")
        grid.add_column("images", justify="right")
    missing = held["missing_in_folds"]
    if missing:
        grid.add_column("not in fold", overflow="fold")
    for name in held["search"]["classes"]:
        shares = [part["classes"][name] for part in parts.values()]
        row = [percent(share[of]) for share in shares for of in ("pixels", "images")]
        folds = ", ".join(map(str, missing.get(name, [])))
        grid.add_row(Text(name), *row, *([folds] if missing else []))
    if any(part["ignored"] for part in parts.values()):
        row = [cell for part in parts.values() for cell in (percent(part["ignored"]), "")]
        grid.add_row(Text("ignored, of all pixels", style="dim"), *row)
    console.print(grid)


def percent(share: float | None) -> str:
    """``12.3 %``, with two digits that count where it is small."""
    if share is None:
        return "-"
    if share in (0, 1):
        return f"{share:.0%}".replace("%", " %")
    return f"{100 * share:.1f} %" if share >= 0.01 else f"{100 * share:#.2g} %"


def plan(console: Console, made: Plan, sweep: Sequence[str]) -> None:
    """The plan as a table; ``sweep`` is how it was called, for the next command."""
    from segsweep.display import duration

    for notice in made.notices:
        console.print(f"note: {notice}", style="yellow", markup=False, soft_wrap=True)
    grid = Table(box=None, pad_edge=False, header_style="bold")
    grid.add_column("cell", no_wrap=True)
    for name in ("configs", "trials", "weights", "ms/image", "training"):
        grid.add_column(name, justify="right")
    for cell in made.cells:
        grid.add_row(
            cell.cell,
            str(cell.configs),
            str(cell.trials),
            _range(cell.parameters_least, cell.parameters),
            f"{cell.train_ms:.1f}",
            duration(cell.seconds),
        )
    console.print(grid)
    console.print()
    console.print(
        f"{len(made.cells)} cells · {made.configs} configs · {made.trials} trials · "
        f"{_epochs(made)}, on {made.images} images in {counted(made.folds, 'fold')} "
        f"({made.holdout_images} held out)",
        highlight=False,
    )
    console.print(
        f"about {duration(made.seconds)} of training with {made.concurrent} at a time on "
        f"{made.device}, and the start of the workers; {human(made.bytes)} of checkpoints and "
        f"{human(made.logits_bytes)} of validation logits on disk; early stopping makes all less",
        highlight=False,
    )
    following(console, command("launch", *sweep))


def _range(least: int, most: int) -> str:
    return f"{most:,}" if least == most else f"{least:,}–{most:,}"


def _epochs(made: Plan) -> str:
    if made.epochs == made.epochs_most:
        return f"{made.epochs} epochs"
    return f"about {made.epochs} epochs ({made.epochs_most} at most)"


def ranking(console: Console, spec: SweepSpec, rows: list[Ranked]) -> None:
    """The ranking, and where a score was chosen and measured on the same images."""
    from segsweep.compare import reduced, table

    if not rows:
        console.print("no trial has finished yet")
        return
    console.print(table(spec, rows))
    for line in reduced(rows):
        console.print(f"note: {line}", style="yellow", markup=False, soft_wrap=True)
    if any(not row.final for row in rows):
        console.print("dim rows have not finished all folds yet", style="dim")


def comparison(console: Console, found: Comparison, race: str | None, runs: Sequence[Path]) -> None:
    """The answer, the ranking, and what can be claimed of these run directories."""
    from segsweep.compare import terminal

    terminal.show(console, found)
    if race is not None:
        console.print(f"\n{race}", highlight=False)
    if found.final and len(runs) == 1:
        console.print()
        name = called(runs[0])
        following(console, command("calibrate", name), command("export", name, "--out", "DIR"))


def status(console: Console, found: Status) -> None:
    """What a sweep is doing."""
    console.print(found.picture())


def stopped(console: Console, was: Holder | None, run: Run) -> None:
    """Whom ``stop`` has stopped, and how to go on."""
    if was is None:
        console.print("no launch is running there")
        return
    console.print(f"stopped the launch of {was.since} (pid {was.pid})", highlight=False)
    following(console, relaunch(run))


def replay(console: Console, rows: list[Score], orders: int, notes: list[str]) -> None:
    """A row a rule: what it saves, and what it costs."""
    for note in notes:
        console.print(f"note: {note}", style="yellow", markup=False, soft_wrap=True)
    grid = Table(box=None, pad_edge=False, header_style="bold")
    grid.add_column("rule", no_wrap=True)
    for name in ("epochs", "regret", "90 %", "rank of the choice", "90 %"):
        grid.add_column(name, justify="right")
    for row in rows:
        grid.add_row(
            row.rule,
            f"{100 * row.share_of_epochs:.1f} %",
            f"{row.regret:.4f}",
            f"{row.regret_p90:.4f}",
            f"{row.rank:.1f}",
            f"{row.rank_p90:.0f}",
        )
    console.print(grid)
    console.print(
        f"{orders} random orders of arrival; regret is how much worse the chosen config is than "
        "the best; asha grace/factor stops on fold 0, the race on the others",
        style="dim",
    )


def report(console: Console, path: Path, facts: Facts) -> None:
    """Where the report lies, and what it could not take for granted."""
    for note in facts.notes:
        console.print(f"note: {note}", style="yellow", markup=False, soft_wrap=True)
    from segsweep.report.answer import BADGES

    if facts.standing != "finished":
        console.print(f"note: {BADGES[facts.standing]}; the report says so", style="yellow")
    size = human(path.stat().st_size)
    console.print(f"report      {short(path)} ({size})", highlight=False, soft_wrap=True)


def outcome(console: Console, ended: Outcome, sweep: Sequence[str]) -> None:
    """The end of a launch: ranking, where results lie, what to try next."""
    name = called(ended.run_directory)
    console.print()
    ranking(console, ended.spec, ended.ranking)
    interrupted = ended.exit_code == EXIT_INTERRUPTED
    if ended.undecided and not interrupted:
        console.print()
        console.print(f"{len(ended.undecided)} undecided:", style="red")
        for cause, count in Counter(ended.undecided.values()).most_common(10):
            console.print(f"  {count} × {cause}", markup=False, highlight=False)
    for cell in () if interrupted else ended.without_champion:
        text = f"note: {cell} has no champion: none of its configs finished all folds"
        console.print(text, style="yellow", markup=False)
    for note in ended.notes:
        console.print(f"note: {note}", style="yellow", markup=False, soft_wrap=True)
    for warning in ended.warnings:
        console.print(f"note: {warning}", style="yellow", markup=False, soft_wrap=True)
    console.print()
    if not ended.started and not interrupted:
        console.print("nothing was missing: every trial of it is there")
    if ended.ranking or not interrupted:
        text = f"results     {short(ended.run_directory)}/results/*.parquet"
        console.print(text, highlight=False)
    if interrupted:
        go_on(console, command("launch", *sweep))
        return
    if ended.undecided:
        following(console, command("launch", *sweep, "--retry", "failed"))
    following(console, command("compare", name), command("report", name))
    online, lost = ended.spec.wandb_mode == "online", any("W&B" in one for one in ended.warnings)
    if "wandb" in ended.spec.tracking and (lost if online else ended.spec.wandb_mode == "offline"):
        following(console, command("sync", name), head="")
    store = ended.run_directory / MLFLOW
    if "mlflow" in ended.spec.tracking and store.exists():
        uri = shlex.quote(f"sqlite:///{short(store)}")
        following(console, f"mlflow ui --backend-store-uri {uri}", head="")


def exported(console: Console, found: Exported) -> None:
    """What lies in an export folder, and what can be done with it."""
    words = {
        "fold": "one fold's model",
        "ensemble": "the ensemble of its fold models",
        "retrained": "fitted once more on all images",
    }
    head = f"{found.cell}, config {found.config_id}: {words[found.kind]}"
    console.print(head, markup=False, highlight=False)
    if (graph := found.graph) is not None:
        size = "any size" if graph.any_size else "one size"
        console.print(
            f"model.onnx  opset {graph.opset}, {size}; within {graph.difference:.1e} of torch, "
            f"logits up to {graph.largest:.3g}",
            highlight=False,
        )
    for note in found.notes:
        console.print(f"note: {note}", style="yellow", markup=False, soft_wrap=True)
    following(console, command("predict", short(found.out), "IMAGES", "--out", "OUT"))


@contextmanager
def bar(console: Console, what: str) -> Iterator[Callable[[int, int], None]]:
    """A progress bar; what it yields is called with the number done and of all."""
    columns = (BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(what, *columns, console=console, transient=True) as progress:
        task = progress.add_task(what, total=None)
        yield lambda done, of: progress.update(task, completed=done, total=of)


def predicted(console: Console, found: Predicted) -> None:
    """How many images are done, and each that is not."""
    there = f" ({found.already} were there already)" if found.already else ""
    place = shlex.quote(str(short(found.out)))
    head = f"{counted(found.done, 'image')} by {found.runtime}{there}, results in {place}"
    console.print(head, markup=False, highlight=False, soft_wrap=True)
    for note in found.notes:
        console.print(f"note: {note}", style="yellow", markup=False, soft_wrap=True)
    if found.failed:
        console.print(f"{len(found.failed)} not predicted:", style="red")
        for problem in found.failed:
            console.print(f"  {problem}", markup=False, highlight=False, soft_wrap=True)


def doctor(console: Console, found: Sequence[Finding]) -> None:
    """A line a finding, below it how to get what is not there; at the end, what is missing."""
    marks = {"ok": ("✓", "green"), "note": ("•", "yellow"), "missing": ("✗", "red")}
    width = max(len(finding.what) for finding in found if len(finding.what) <= 27)
    for finding in found:
        grid = Table.grid(padding=(0, 2, 0, 0))
        grid.add_column(width=1)
        grid.add_column(min_width=width)
        mark, colour = marks[finding.state]
        grid.add_row(Text(mark, style=colour), Text(finding.what), Text(finding.found))
        console.print(grid)
        if finding.hint:
            console.print(Padding(Text(finding.hint, style="dim"), (0, 0, 0, 6)))
    lacking = list(dict.fromkeys(f.what for f in found if f.state == "missing"))
    text = f"missing: {', '.join(lacking)}" if lacking else "nothing that is needed is missing"
    console.print(Text(f"\n{text}", style="red" if lacking else "green"))
