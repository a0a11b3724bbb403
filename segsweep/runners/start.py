"""A runner by its name."""

from __future__ import annotations

from collections.abc import Callable

from rich.console import Console

from segsweep.registry import lookup
from segsweep.runners import Runner
from segsweep.runners.inline import InlineRunner


def start(runner: str | Runner, address: str | None, console: Console) -> Runner:
    """The runner called ``inline`` or ``ray``, or the caller's own.

    Raises:
        UnknownName: no runner is called so.
        RunError: no cluster is at ``address``.
    """
    return named(runner)(address, console) if isinstance(runner, str) else runner


def named(runner: str) -> Callable[[str | None, Console], Runner]:
    """What starts the runner of this name.

    Raises:
        UnknownName: no runner is called so.
    """
    return lookup(RUNNERS, runner, "runner")


def _inline(_address: str | None, _console: Console) -> Runner:
    return InlineRunner()


def _ray(address: str | None, console: Console) -> Runner:
    with console.status("starting Ray"):
        from segsweep.runners.ray import RayRunner

        return RayRunner(address)


RUNNERS: dict[str, Callable[[str | None, Console], Runner]] = {"ray": _ray, "inline": _inline}
