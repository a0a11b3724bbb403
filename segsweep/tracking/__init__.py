"""Where results stream to while the sweep runs: Weights & Biases, or nowhere.

A tracker listens to the ledger. It can be slow, offline or broken: it never costs a trial.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from segsweep.ledger import Event
from segsweep.spec import SweepSpec

__all__ = ["NullTracker", "Tracker", "make"]


class Tracker(Protocol):
    """What a launch needs of a tracker."""

    def remember(self, events: Sequence[Event]) -> None:
        """Know what earlier launches did; it has been tracked already."""

    def on_event(self, event: Event) -> None:
        """Take one ledger event in; returns at once and raises nothing."""

    def close(self) -> list[str]:
        """Write what is left; what went wrong, a line each."""


class NullTracker:
    """Tracks nothing."""

    def remember(self, events: Sequence[Event]) -> None:
        """See ``Tracker``."""

    def on_event(self, event: Event) -> None:
        """See ``Tracker``."""

    def close(self) -> list[str]:
        """See ``Tracker``."""
        return []


def make(spec: SweepSpec, run_directory: Path) -> Tracker:
    """The tracker that a sweep asks for."""
    if spec.wandb_mode == "disabled":
        return NullTracker()
    from segsweep.tracking.wandb import WandbTracker

    return WandbTracker(spec, run_directory)
