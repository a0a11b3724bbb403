"""The commands that look at a run: while it runs, and what it found."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from segsweep.cli import complete, show
from segsweep.cli.app import Json, Run, Runs, app, guarded, print_json
from segsweep.errors import UserError

PANEL = "About a run"


@app.command(rich_help_panel=PANEL)
@guarded
def status(
    run: Run,
    watch: Annotated[bool, typer.Option("--watch", help="Until the launch ends.")] = False,
    as_json: Json = False,
) -> None:
    """What a sweep is doing: what runs, how far it is, who leads so far, what has failed."""
    from segsweep import rundir
    from segsweep.status import read, watching

    path = rundir.find(run)
    if watch and as_json:
        raise UserError("--watch and --json cannot be had at once: choose one")
    if as_json:
        print_json(read(path).as_dict())
    elif watch:
        watching(Console(), path)
    else:
        show.status(Console(), read(path))


@app.command(rich_help_panel=PANEL)
@guarded
def stop(run: Run, as_json: Json = False) -> None:
    """End a running launch in good order, as Ctrl-C does; launching again goes on."""
    from segsweep import rundir, stopping

    path = rundir.find(run)
    console = Console(stderr=as_json)
    with console.status("waiting for the launch to end"):
        stopped = stopping.stop(path)
    if as_json:
        print_json({"stopped": asdict(stopped) if stopped else None})
    else:
        show.stopped(console, stopped, rundir.load(path))


@app.command(rich_help_panel=PANEL)
@guarded
def compare(
    runs: Runs,
    as_json: Json = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="One row a cell, in full.")] = False,
    markdown: Annotated[bool, typer.Option("--markdown", help="A table for a README.")] = False,
    latex: Annotated[bool, typer.Option("--latex", help="A table for a paper (booktabs).")] = False,
) -> None:
    """Which cell is best, which are tied with it, and what can be claimed."""
    from segsweep import compare as module
    from segsweep import rundir

    wanted = {"json": as_json, "csv": as_csv, "markdown": markdown, "latex": latex}
    chosen = [name for name, is_wanted in wanted.items() if is_wanted]
    if len(chosen) > 1:
        both = " and ".join(f"--{name}" for name in chosen)
        raise UserError(f"{both} cannot be had at once: choose one")
    found = [rundir.load(rundir.find(run)) for run in runs]
    made = module.analyse(found)
    looks = [look for run in found for look in module.races(run.events)]
    if as_json:
        names = {"name": made.runs[0], "races": looks}
        print_json({**names, **made.as_dict()})
    elif chosen:
        typer.echo(module.FORMATS[chosen[0]](made), nl=False)
    else:
        paths = [run.path for run in found]
        show.comparison(Console(), made, module.race_summary(looks), paths)


@app.command(rich_help_panel=PANEL)
@guarded
def report(
    run: Run,
    out: Annotated[
        Path | None, typer.Option(help="The file; report.html in the run directory without it.")
    ] = None,
    show_it: Annotated[bool, typer.Option("--open", help="Open it in a browser.")] = False,
    as_json: Json = False,
) -> None:
    """Write one HTML file about a run, finished or not, that opens offline."""
    from segsweep import report as module
    from segsweep import rundir

    console = Console(stderr=as_json)
    found = rundir.load(rundir.find(run))
    with console.status("reading the run"):
        path, facts = module.write(found, out)
    if as_json:
        told = {"report": str(path), "standing": facts.standing, "notes": list(facts.notes)}
        print_json({**told, "bytes": path.stat().st_size})
    else:
        show.report(console, path, facts)
    if show_it:
        typer.launch(path.resolve().as_uri())


@app.command(rich_help_panel=PANEL)
@guarded
def replay(
    run: Annotated[
        str,
        typer.Argument(
            help="A run without early stopping, or a CSV file with the columns "
            "cell, config, fold, epoch, metric.",
            show_default=False,
            autocompletion=complete.runs,
        ),
    ],
    orders: Annotated[int, typer.Option(min=1, help="Random orders of arrival.")] = 50,
    minimize: Annotated[bool, typer.Option(help="In a CSV file, lower is better.")] = False,
    as_json: Json = False,
) -> None:
    """Show what each early-stopping rule would have saved on recorded curves, and cost."""
    from segsweep import rundir
    from segsweep.runners import recorded
    from segsweep.runners import replay as module

    goal = "minimize" if minimize else "maximize"
    notes: list[str] = []
    if run.endswith(".csv"):
        curves = recorded.read_csv(Path(run))
    else:
        found = rundir.load(rundir.find(run))
        goal = found.spec.metric.goal
        curves, notes = recorded.read_run(found)
    console = Console(stderr=as_json)
    rows = []
    with console.status("replaying") as status:
        for rule in module.rules(module.longest(curves), module.folds_of(curves)):
            status.update(f"replaying {rule.name}")
            rows.append(module.replay(curves, rule, goal=goal, orders=orders))
    if as_json:
        print_json({"rules": [row.as_dict() for row in rows], "notes": notes})
    else:
        show.replay(console, rows, orders, notes)
