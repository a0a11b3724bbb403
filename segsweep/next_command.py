"""Commands that a person is told to type: whole, quoted, and right in the working directory.

Every command that a message names is made here, so that each works as it is printed.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from pathlib import Path

from segsweep import rundir
from segsweep.errors import RunError
from segsweep.identity import since
from segsweep.rundir import Run


def command(name: str, *words: object) -> str:
    """A command of segsweep as a shell reads it.

    Args:
        name: of the command, ``compare``.
        words: its arguments and options; each is quoted where it must be.
    """
    return shlex.join(["segsweep", name, *map(str, words)])


def called(run: Path) -> str:
    """How a run directory is called in the working directory: by its name where that finds it.

    Args:
        run: the directory.
    """
    for text in _calls(run):
        if _finds(text, run):
            return text
    return str(run.absolute())


def relaunch(run: Run, *options: str, storage_path: str | None = None) -> str:
    """The command that launches a run again, with the settings of its last launch.

    Relative paths of the settings begin where that launch was made, so it is made there again.

    Args:
        run: the run.
        options: further ones of ``launch``.
        storage_path: where another run of the same settings goes; None goes on with this one.
    """
    launch = next(e for e in reversed(run.events) if e["event"] == "launch")
    began, there = Path(str(launch.get("cwd", "."))), Path.cwd()
    moves = began.is_dir() and began.resolve() != there.resolve()
    place, origin = (run.path.absolute(), began) if moves else (short(run.path), there)
    changed = {} if storage_path is None else {"storage_path": storage_path}
    if not changed and (origin / run.spec.run_directory).resolve() != run.path.resolve():
        changed = {"storage_path": str(run.path.absolute().parent)}  # it was moved
        changed |= {} if run.path.absolute().name == run.spec.name else {"name": run.path.name}
    given = [part for key, value in changed.items() for part in ("--set", f"{key}={value}")]
    text = command("launch", place / rundir.RESOLVED, *given, *options)
    return f"cd {shlex.quote(str(began))} && {text}" if moves else text


def goes_on(run: Run) -> str:
    """How a run is finished, for a hint: launch adds nothing where numbers mean something else."""
    if since(run.identity):
        version = run.last_launch.get("version", "?")
        return f"segsweep {version} began this run, and can finish it; a newer one cannot"
    return f"`{relaunch(run)}` goes on with the sweep"


def short(path: Path) -> Path:
    """A path from the working directory where it lies below it, else the whole one."""
    try:
        inside = path.absolute().relative_to(Path.cwd())
    except ValueError:
        return path
    return inside


def _calls(run: Path) -> Iterator[str]:
    yield run.absolute().name
    text = str(short(run))
    yield f"./{text}" if text.startswith("-") else text


def _finds(text: str, run: Path) -> bool:
    try:
        return rundir.find(text).resolve() == run.resolve()
    except RunError:
        return False
