"""One HTML file about a run that opens offline. Imports neither torch nor Ray."""

from __future__ import annotations

from pathlib import Path

from segsweep.errors import Problem, RunError
from segsweep.report.facts import Facts, gather
from segsweep.rundir import Run, write_atomically

__all__ = ["Facts", "gather", "write"]

REPORT = "report.html"


def write(run: Run, out: Path | None = None) -> tuple[Path, Facts]:
    """Write a run's report in one step; an older one stands until the new one is whole.

    Args:
        run: finished or not; what is not final is marked as such.
        out: the file; None writes ``report.html`` into the run directory.

    Raises:
        RunError: ``out`` cannot be written, or the results are of a newer version.
    """
    path = out if out is not None else run.path / REPORT
    if path.is_dir():
        hint = f"name a file, such as {path / REPORT}"
        raise RunError(Problem("is a directory", str(path), "--out", hint))
    if not path.parent.is_dir():
        raise RunError(Problem("its directory does not exist", str(path), "--out", "make it first"))
    from segsweep.report.page import render

    facts = gather(run)
    page = render(facts)
    try:
        write_atomically(path, page)
    except PermissionError as error:
        hint = "name another file with --out"
        raise RunError(Problem(f"cannot be written: {error}", str(path), "", hint)) from error
    return path, facts
