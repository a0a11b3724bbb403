"""The one writer to Weights & Biases: a thread of the driver, a W&B run a trial.

Workers need neither key nor network. Runs are grouped by config, their job type is the fold,
and factors and parameters stand in their config. A last run holds the table of the sweep.
Examples are there twice: with masks that W&B's viewer switches on and off, in colours that it
picks itself, and painted in those of the data (``colours`` of a run's config says which is which).

Rows come from the ledger, so what a killed driver did not write is written by the next launch.
The sweep never waits for this thread but at its end.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from segsweep.ledger import Event
from segsweep.spec import SweepSpec
from segsweep.tracking import CalibratedModel, calibration
from segsweep.tracking.names import curves
from segsweep.tracking.wandb_rows import SWEEP, Known
from segsweep.tracking.wandb_runs import FINISH_S, INIT_S, OpenRun, WandbRuns
from segsweep.tracking.writer import Writer

PATIENCE_S = 2 * (INIT_S + FINISH_S)  # `close` gives up after so long without any progress


class WandbTracker(Known):
    """Listens to the ledger and writes in a thread of its own.

    Args:
        spec: the sweep.
        run_directory: W&B's files go to its ``wandb/``.
    """

    def __init__(self, spec: SweepSpec, run_directory: Path) -> None:
        super().__init__(spec, run_directory)
        self.open: dict[str, OpenRun] = {}
        self.files = WandbRuns(spec, run_directory, spec.wandb_mode == "online")
        self.writer = Writer("W&B", self._finish)

    def remember(self, events: Sequence[Event]) -> None:
        """See ``Tracker``. What a launch did that never closed is written where it is missing."""
        stale: dict[str, None] = {}
        for event in events:
            self.note(event)
            if event["event"] == "close":
                stale.clear()
            elif event["event"] in ("start", "epoch", "end"):
                stale[event["trial_id"]] = None
        for name in stale:
            self.writer.put(lambda name=name: self._catch_up(name))  # type: ignore[misc]

    def on_event(self, event: Event) -> None:
        """See ``Tracker``."""
        self.writer.put(lambda: self._take(event))

    def calibrated(self, models: Sequence[CalibratedModel]) -> list[str]:
        """See ``Tracker``."""
        return calibration.log(self.spec, self.place, models)

    def close(self) -> list[str]:
        """See ``Tracker``. Waits as long as something is written, else ``PATIENCE_S``."""
        errors = self.writer.close(PATIENCE_S)
        if self.files.problem is not None:
            where = f"{self.place.name}/wandb"
            text = f"the server was lost ({self.files.problem}); runs are kept offline in {where}"
            return [f"W&B: {text}", *errors]
        return errors

    # the thread

    def _finish(self) -> None:
        for name in list(self.open):
            self.writer.guarded(lambda name=name: self._close(name))  # type: ignore[misc]
        self._summarise()

    def _take(self, event: Event) -> None:
        again = self.note(event)
        if event["event"] == "start" and event["trial_id"] not in self.open:
            self._begin(event["trial_id"])
        elif event["event"] == "epoch" and not again and event["trial_id"] in self.open:
            self._current(event["trial_id"]).log(curves(event), event["epoch"])
        elif event["event"] == "rung" and event["trial_id"] in self.parked & set(self.open):
            self._close(event["trial_id"])  # begun again when it goes on
        elif event["event"] == "end" and event["trial_id"] in self.trials:
            if event["trial_id"] not in self.open:
                self._begin(event["trial_id"])
            self._end(event["trial_id"])

    def _begin(self, name: str) -> None:
        """Open a trial's run, and write what the ledger has of it already."""
        opened = self.open[name] = self.files.open(name, **self.settings(name))
        for event in self.epochs.get(name, []):
            opened.log(curves(event), event["epoch"])

    def _current(self, name: str) -> OpenRun:
        """A trial's run; where it was online and the server is lost, it goes on offline."""
        if self.open[name].online and not self.files.online:
            self._begin(name)
        return self.open[name]

    def _catch_up(self, name: str) -> None:
        """A trial of an earlier launch, in whole; where it has not ended it stays open."""
        waits = name in self.parked and name not in self.ends
        if name in self.open or waits or self._delivered(name):
            return
        self._begin(name)
        if name in self.ends:
            self._end(name)

    def _delivered(self, name: str) -> bool:
        return self.files.has_all_of(self.files.id_of(name), self.upto(name))

    def _close(self, name: str) -> None:
        """Close the run of a trial that may go on."""
        opened = self._current(name)
        del self.open[name]
        self.files.finish(opened, upto=self.upto(name))

    def _end(self, name: str) -> None:
        opened = self._current(name)
        del self.open[name]
        self.files.finish(opened, self.conclude(name, opened), self.upto(name))

    def _summarise(self) -> None:
        if (row := self.table()) is not None:
            opened = self.files.open(SWEEP, **self.table_settings())
            opened.log(row, opened.first)
            self.files.finish(opened, upto=self.upto(SWEEP))
