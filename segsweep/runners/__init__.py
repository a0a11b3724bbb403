"""Where trials run: in this process, or on a Ray cluster. Both give the same numbers."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:  # replay needs no torch
    from segsweep.interrupt import Interrupt
    from segsweep.search import Search
    from segsweep.spec import SweepSpec
    from segsweep.trial import Inputs

__all__ = ["Runner", "Task"]

Task = Callable[[Any, Any], Any]  # shared, item → result


class Runner(Protocol):
    """What a launch needs of the place where trials run."""

    def facts(self, spec: SweepSpec) -> dict[str, Any]:
        """What a trial would train on: ``device``, ``type``, ``precision``, ``gpu``, ``slots``.

        Raises:
            RunError: a trial does not fit anywhere.
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
    ) -> Iterator[Any]:
        """``function(shared, item)`` for each item, in order, with a trial's resources."""

    def close(self) -> None:
        """Give everything back."""
