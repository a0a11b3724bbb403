"""A runner by its name."""

from __future__ import annotations

from rich.console import Console

from segsweep.runners import Runner
from segsweep.runners.inline import InlineRunner


def start(runner: str | Runner, address: str | None, console: Console) -> Runner:
    """The runner called ``inline`` or ``ray``, or the caller's own.

    Raises:
        RunError: no cluster is at ``address``.
    """
    if not isinstance(runner, str):
        return runner
    if runner == "inline":
        return InlineRunner()
    with console.status("starting Ray"):
        from segsweep.runners.ray import RayRunner

        return RayRunner(address)
