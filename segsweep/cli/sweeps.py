"""The commands that begin with a sweep file: checking, planning, launching it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer
from rich.console import Console

from segsweep.cli import complete, show
from segsweep.cli.app import Json, Set, Sweep, app, guarded, print_json
from segsweep.errors import EXIT_REFUSED

PANEL = "From a sweep file"


def _called(sweep: Path, overrides: list[str] | None) -> list[str]:
    """The sweep file as it stands on the command line, for the next command."""
    return [str(sweep), *(part for one in overrides or [] for part in ("--set", one))]


@app.command(rich_help_panel=PANEL)
@guarded
def validate(sweep: Sweep, overrides: Set = None, as_json: Json = False) -> None:
    """Check a sweep file and its data; start nothing."""
    from segsweep.check import check

    console = Console(stderr=as_json)
    with console.status("checking the sweep file and decoding images"):
        checked = check(sweep, overrides or [])
    if as_json:
        print_json(checked.as_dict())
    else:
        show.checked(console, checked, _called(sweep, overrides))


@app.command(rich_help_panel=PANEL)
@guarded
def plan(sweep: Sweep, overrides: Set = None, as_json: Json = False) -> None:
    """Show what a sweep would run and cost, from one timed step a cell."""
    _plan(sweep, overrides or [], as_json)


def _plan(sweep: Path, overrides: list[str], as_json: bool) -> None:
    from segsweep.check import check
    from segsweep.plan import plan as make_plan

    console = Console(stderr=as_json)
    with console.status("checking the sweep file and decoding images") as status:
        checked = check(sweep, overrides)
        made = make_plan(checked, lambda cell: status.update(f"timing one step of {cell}"))
    if as_json:
        print_json(made.as_dict())
    else:
        show.plan(console, made, _called(sweep, overrides))


@app.command(rich_help_panel=PANEL)
@guarded
def launch(
    sweep: Sweep,
    overrides: Set = None,
    address: Annotated[
        str | None, typer.Option(help="Of a running Ray cluster; without it, one starts here.")
    ] = None,
    runner: Annotated[
        Literal["ray", "inline"], typer.Option(help="inline: in this process, one at a time.")
    ] = "ray",
    retry: Annotated[
        Literal["failed"] | None, typer.Option(help="Run trials that failed once more.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="The same as plan.")] = False,
    as_json: Json = False,
) -> None:
    """Run a sweep, or go on with one: only what is missing is started."""
    if dry_run:
        _plan(sweep, overrides or [], as_json)
        return
    from segsweep.launching import launch as run

    console = Console(stderr=as_json)
    outcome = run(
        sweep,
        overrides or [],
        runner=runner,
        address=address,
        retry_failed=retry == "failed",
        console=console,
    )
    if as_json:
        print_json(outcome.as_dict())
    else:
        where = ["--runner", runner] if runner != "ray" else []
        where += ["--address", address] if address else []
        show.outcome(console, outcome, [*_called(sweep, overrides), *where])
    raise typer.Exit(outcome.exit_code)


@app.command(rich_help_panel=PANEL)
@guarded
def schema(
    _as_json: Annotated[bool, typer.Option("--json", help="It prints nothing else.")] = False,
) -> None:
    """Print a JSON Schema of sweep files, for editors."""
    from segsweep.schema import json_schema

    print_json(json_schema())


@app.command(rich_help_panel=PANEL)
@guarded
def doctor(
    sweep: Annotated[
        Path | None,
        typer.Argument(
            help="Look at what this sweep file needs, too.", autocompletion=complete.sweeps
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Say what this machine lacks, and how to get it."""
    from segsweep import doctor as module

    found = module.examine(sweep)
    if as_json:
        print_json([finding.as_dict() for finding in found])
    else:
        show.doctor(Console(), found)
    if any(finding.state == "missing" for finding in found):
        raise typer.Exit(EXIT_REFUSED)
