"""Where trials run: in this process, or on a Ray cluster. Both give the same numbers."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from segsweep.errors import DiskFull

if TYPE_CHECKING:  # replay needs no torch
    from pathlib import Path

    from segsweep.interrupt import Interrupt
    from segsweep.search import Search
    from segsweep.spec import SweepSpec
    from segsweep.trial import Inputs

__all__ = ["Runner", "Task", "take"]

Task = Callable[[Any, Any], Any]  # shared, item → result


class Runner(Protocol):
    """What a launch needs of the place where trials run."""

    def facts(self, spec: SweepSpec) -> dict[str, Any]:
        """What a trial would train on: ``device``, ``type``, ``precision``, ``gpu``, ``slots``.

        Raises:
            RunError: a trial does not fit anywhere.
        """

    def require(self, place: Path, spec: SweepSpec) -> None:
        """Can trials write to a run directory? Asked before a launch has written anything.

        Raises:
            RunError: from somewhere they cannot.
        """

    def run(self, search: Search, inputs: Inputs, interrupt: Interrupt) -> None:
        """Run trials until the search has no more.

        Raises:
            KeyboardInterrupt: the user asked for the end.
        """

    def map(
        self,
        function: Callable[[Any, Any], Any],
        shared: Any,
        items: Sequence[Any],
        spec: SweepSpec,
        *,
        alone: bool = False,
    ) -> Iterator[Any]:
        """``function(shared, item)`` for each item, in order, with a trial's resources.

        Where the process dies that computes an item, ``{"error": …}`` stands for what it gives.

        Args:
            alone: one item at a time, so that none disturbs another.
        """

    def close(self) -> None:
        """Give everything back."""


def take(search: Search, trial_id: str, report: Mapping[str, Any], **facts: Any) -> bool:
    """Give a report of ``run_trial`` to the search; False where the trial is to end or has.

    Args:
        search: judges it.
        trial_id: whose report it is.
        report: of an epoch, of damage, or with ``status``.
        facts: for the ledger beside how the trial ended, such as ``node``.

    Raises:
        DiskFull: the trial could not write, and so no other can.
    """
    status, error = report.get("status"), report.get("error")
    if "damaged" in report:
        for what in report["damaged"]:
            search.ledger.append("damaged", what=what, trial_id=trial_id, epoch=report["epoch"])
        return True
    if status is None:
        return search.on_epoch(trial_id, report)
    if status == "incomplete":
        raise DiskFull(f"{error}")
    if status in ("out_of_memory", "lost"):
        search.on_lost(trial_id, error or status, memory=status == "out_of_memory")
    else:
        search.on_end(trial_id, status, error, **facts)
    return False
