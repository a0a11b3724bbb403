"""What a shell proposes where a run, a sweep file or a config is to be named."""

from __future__ import annotations

from pathlib import Path

import typer

from segsweep import rundir
from segsweep.errors import SegsweepError
from segsweep.state import SearchState

SWEEPS = ("", "sweeps")  # folders in which sweep files are looked for


def runs(incomplete: str) -> list[str]:
    """Names of runs; as directories where what is typed begins like one."""
    names = rundir.names()
    paths = [f"{rundir.RUNS}/{name}" for name in names] if "/" in incomplete else []
    return [one for one in [*names, *paths] if one.startswith(incomplete)]


def sweeps(incomplete: str) -> list[str]:
    """Sweep files here and in ``sweeps/``."""
    found = [str(path) for folder in SWEEPS for path in sorted(Path(folder).glob("*.yaml"))]
    return [one for one in found if one.startswith(incomplete)]


def configs(ctx: typer.Context, incomplete: str) -> list[tuple[str, str]]:
    """Ids of the finished configs of the run that was named before, each with its cell."""
    # an option without its value ends the parsing before arguments get their names
    named = ctx.params.get("run") or next(iter(ctx.args), None)
    try:
        run = rundir.load(rundir.find(str(named)))
    except (SegsweepError, OSError):  # none yet, or none that can be read
        return []
    state = SearchState(run.metric, run.events)
    return [
        (name, config.cell)
        for name, config in state.configs.items()
        if name.startswith(incomplete) and config.status(run.spec.slots) == "finished"
    ]
