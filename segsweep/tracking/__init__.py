"""Where results stream to while the sweep runs: Weights & Biases, MLflow, both or nowhere.

A tracker listens to the ledger. It can be slow, offline or broken: it never costs a trial.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol

from segsweep.errors import Problem
from segsweep.ledger import Event
from segsweep.spec import SweepSpec

__all__ = ["CalibratedModel", "NullTracker", "Tracker", "catch_up", "make"]


@dataclass(frozen=True)
class CalibratedModel:
    """What a calibration found about one config, for a tracker.

    Attributes:
        calibration: rows of ``calibration.parquet``.
        anomaly: rows of ``anomaly.parquet``.
        diagrams: reliability diagrams, ``scaling`` with lists of 15 numbers.
    """

    config_id: str
    name: str
    temperature: float
    calibration: Sequence[Mapping[str, Any]]
    anomaly: Sequence[Mapping[str, Any]]
    diagrams: Sequence[Mapping[str, Any]]


class Tracker(Protocol):
    """What a launch, and a calibration, needs of a tracker."""

    def remember(self, events: Sequence[Event]) -> None:
        """Know what earlier launches did; what has not been tracked of it is written."""

    def on_event(self, event: Event) -> None:
        """Take one ledger event in; returns at once and raises nothing."""

    def calibrated(self, models: Sequence[CalibratedModel]) -> list[str]:
        """Write what a calibration found, in place of an earlier one; as ``close`` otherwise."""

    def close(self) -> list[str]:
        """Write what is left; what went wrong, a line each."""


class NullTracker:
    """Tracks nothing."""

    def remember(self, events: Sequence[Event]) -> None:
        """See ``Tracker``."""

    def on_event(self, event: Event) -> None:
        """See ``Tracker``."""

    def calibrated(self, models: Sequence[CalibratedModel]) -> list[str]:
        """See ``Tracker``."""
        return []

    def close(self) -> list[str]:
        """See ``Tracker``."""
        return []


class Several:
    """Passes on to each of several trackers."""

    def __init__(self, trackers: Sequence[Tracker]) -> None:
        self.trackers = list(trackers)

    def remember(self, events: Sequence[Event]) -> None:
        """See ``Tracker``."""
        for tracker in self.trackers:
            tracker.remember(events)

    def on_event(self, event: Event) -> None:
        """See ``Tracker``."""
        for tracker in self.trackers:
            tracker.on_event(event)

    def calibrated(self, models: Sequence[CalibratedModel]) -> list[str]:
        """See ``Tracker``."""
        return [text for tracker in self.trackers for text in tracker.calibrated(models)]

    def close(self) -> list[str]:
        """See ``Tracker``."""
        return [text for tracker in self.trackers for text in tracker.close()]


def problems(spec: SweepSpec) -> list[Problem]:
    """Trackers that a sweep asks for and that are not installed."""
    if "mlflow" in spec.tracking and find_spec("mlflow") is None:
        hint = 'pip install "segsweep[mlflow]", or remove it'
        return [Problem("MLflow is not installed", hint=hint)]
    return []


def make(spec: SweepSpec, run_directory: Path) -> Tracker:
    """The trackers that a sweep asks for."""
    trackers: list[Tracker] = []
    if "mlflow" in spec.tracking:
        from segsweep.tracking.mlflow import MlflowTracker

        trackers.append(MlflowTracker(spec, run_directory))
    if "wandb" in spec.tracking and spec.wandb_mode != "disabled":
        from segsweep.tracking.wandb import WandbTracker

        trackers.append(WandbTracker(spec, run_directory))
    if not trackers:
        return NullTracker()
    return trackers[0] if len(trackers) == 1 else Several(trackers)


def catch_up(spec: SweepSpec, run_directory: Path, events: Sequence[Event]) -> list[str]:
    """Bring the trackers up to a sweep that has nothing left to run; as ``Tracker.close``.

    W&B is left alone where the last launch closed: it kept offline what it could not send.
    """
    closed = bool(events) and events[-1]["event"] == "close"
    kept = [name for name in spec.tracking if not (name == "wandb" and closed)]
    tracker = make(spec.model_copy(update={"tracking": kept}), run_directory)
    tracker.remember(events)
    return tracker.close()
