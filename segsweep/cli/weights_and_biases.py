"""The commands for those who use Weights & Biases: ``sync``, ``dashboard``, ``import-wandb``."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from segsweep.cli.app import Json, Run, Set, app, guarded, print_json
from segsweep.cli.following import go_on
from segsweep.errors import EXIT_UNDECIDED, Problem, RunError
from segsweep.next_command import command

if TYPE_CHECKING:
    from segsweep.importing import Imported
    from segsweep.tracking.dashboard import Dashboard
    from segsweep.tracking.dashboard_upload import Upload
    from segsweep.tracking.wandb_sync import Synced

__all__ = ["dashboard", "import_wandb", "sync"]

PANEL = "Weights & Biases"


@app.command(rich_help_panel=PANEL)
@guarded
def sync(
    run: Run,
    parallel: Annotated[int, typer.Option(min=1, max=64, help="Runs sent at a time.")] = 4,
    anyway: Annotated[
        bool, typer.Option("--anyway", help="Send a sweep that its file keeps from W&B, too.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Send a sweep's offline W&B runs to the server, or go on where an earlier sync stopped."""
    from segsweep import rundir
    from segsweep.tracking import wandb_sync

    path = rundir.find(run)
    lock = rundir.Lock(path, "sync")  # a launch would write to the same runs
    console = Console(stderr=as_json)
    try:
        found = rundir.load(path)
        with Progress(console=console, transient=True) as progress:
            task = progress.add_task("sending", total=None)
            done = wandb_sync.sync(
                found.spec,
                path,
                found.events,
                parallel,
                lambda _, total: progress.update(task, total=total, advance=1),
                anyway=anyway,
            )
    finally:
        lock.release()
    if as_json:
        print_json({"before": done.before, "runs": [asdict(r) for r in done.runs]})
    else:
        _show_synced(console, done, run)
    if done.left:
        raise typer.Exit(EXIT_UNDECIDED)


def _show_synced(console: Console, done: Synced, run: str) -> None:
    if not done.runs:
        what = f"the server has all {done.before} runs" if done.before else "no trial has begun"
        console.print(f"nothing to send: {what}", highlight=False)
        return
    grid = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("run", "W&B id"):
        grid.add_column(name, no_wrap=True)
    grid.add_column("rows sent", justify="right")
    grid.add_column("what happened")
    for one in done.runs:
        grid.add_row(one.run, one.run_id, str(one.rows), one.problem or "sent")
    console.print(grid)
    sent = len(done.runs) - len(done.left)
    console.print(f"\n{sent} sent, {done.before} there before, {len(done.left)} left")
    if done.left:
        go_on(console, command("sync", run), why="go on")


@app.command(rich_help_panel=PANEL)
@guarded
def dashboard(
    run: Run,
    file: Annotated[
        Path | None, typer.Option("--out", help="Write the specification to this file.")
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what it would show; write and send nothing.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Build a W&B workspace and report of a sweep; offline, their specification in a file.

    Exit code 3: the server was lost before both were there; the same command goes on.
    """
    from segsweep import rundir
    from segsweep.tracking import dashboard as module
    from segsweep.tracking.dashboard_upload import Upload, upload

    found = rundir.load(rundir.find(run))
    keys = module.keys_of(found)
    made = module.build(found, keys)
    if dry_run or file is not None:
        done = Upload(why="--dry-run was given" if dry_run else "--out was given")
    else:
        done = upload(found, keys)
    specification = made.specification()
    out = (file or found.path / module.FILE) if done.why and not dry_run else None
    if out is not None:
        _write(out, json.dumps(specification, indent=2))
    if as_json:
        told = {"panels": made.panels, "notes": made.notes, "addresses": done.addresses}
        print_json({**told, "not_uploaded": done.why, "specification": specification})
    else:
        _show_dashboard(made, done, out)
    if done.failed:
        raise typer.Exit(EXIT_UNDECIDED)


def _show_dashboard(made: Dashboard, done: Upload, out: Path | None) -> None:
    console = Console(soft_wrap=True, highlight=False, markup=False)
    for name, panels in made.panels.items():
        console.print(f"{name}: {', '.join(panels)}")
    for note in made.notes:
        console.print(f"note: {note}", style="yellow")
    for line in done.addresses:
        console.print(line)
    if done.why:
        console.print(f"{'not all' if done.addresses else 'not'} uploaded: {done.why}")
    if out is not None:
        console.print(f"wrote the specification to {out}")


@app.command("import-wandb", rich_help_panel=PANEL)
@guarded
def import_wandb(
    file: Annotated[Path, typer.Argument(help="A W&B sweep file.", show_default=False)],
    out: Annotated[
        Path | None, typer.Option(help="The file to write; without it, it is printed.")
    ] = None,
    overrides: Set = None,
    as_json: Json = False,
) -> None:
    """Turn a W&B sweep file into one of segsweep's, and say what could not be taken over.

    Exit code 0: nothing is left to fill in or mend (`validate` looks at the images, too); 3:
    something is. The same command with more --set writes the file anew while nobody changed it.
    """
    from segsweep.importing import convert, untouched

    if out is not None and out.exists() and not untouched(out):
        hint = "name another file with --out, or remove it"
        what = "exists already, and is not as import-wandb wrote it"
        raise RunError(Problem(what, str(out), hint=hint))
    made = convert(file, overrides or [])
    if out is not None:
        _write(out, made.text)
    if as_json:
        told = {
            "left": [asdict(p) for p in made.left],
            "missing": [asdict(p) for p in made.missing],
        }
        print_json({"sweep": made.data, **told})
    else:
        if out is None:
            typer.echo(made.text, nl=False)
        _show_imported(Console(stderr=True), made, out, file, overrides or [])
    if made.missing:
        raise typer.Exit(EXIT_UNDECIDED)


def _show_imported(
    console: Console, made: Imported, out: Path | None, file: Path, overrides: list[str]
) -> None:
    """What became of W&B's file, and the command that goes on."""
    told = (("not as it was", made.left), ("to fill in or mend", made.missing))
    for title, problems in told:
        if problems:
            console.print(f"{title}:", style="yellow")
        for problem in problems:
            console.print(f"  {problem}", markup=False, highlight=False, soft_wrap=True)
    if out is None:
        return
    then, when = command("validate", out), ""
    if made.missing:
        given = [part for one in [*overrides, *made.fill] for part in ("--set", one)]
        given += [] if made.fill else ["--set", "KEY=VALUE"]
        then, when = command("import-wandb", file, "--out", out, *given), ", with your values,"
    line = f"wrote {out}; next{when}   {then}"
    console.print(line, markup=False, highlight=False, soft_wrap=True)


def _write(out: Path, text: str) -> None:
    from segsweep.rundir import write_atomically

    try:
        write_atomically(out, text)
    except OSError as error:
        what = f"cannot be written: {error.strerror}"
        raise RunError(Problem(what, str(out), hint="name a file in another folder")) from error
