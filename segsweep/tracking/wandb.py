"""The one writer to Weights & Biases: a thread of the driver, a W&B run a trial.

Workers need neither key nor network. Runs are grouped by config, their job type is the fold,
and factors and parameters stand in their config. A last run holds the table of the sweep.
Examples are there twice: with masks that W&B's viewer switches on and off, in colours that it
picks itself, and painted in those of the data (``colours`` of a run's config says which is which).

Rows come from the ledger, so what a killed driver did not write is written by the next launch,
and ``sync`` sends whatever the server lacks. The sweep never waits for this thread but at its end.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from segsweep import results
from segsweep.data import palette
from segsweep.identity import short_params
from segsweep.ledger import Event
from segsweep.spec import SweepSpec
from segsweep.tracking import examples
from segsweep.tracking.wandb_runs import FINISH_S, INIT_S, OpenRun, WandbRuns, describe

PATIENCE_S = 2 * (INIT_S + FINISH_S)  # `close` gives up after so long without any progress
SWEEP = "sweep"  # the key of the run that holds the table
EXAMPLES = "best_epoch_examples"
PAINTED = "best_epoch_painted"  # image, truth and prediction side by side
TABLE = (
    "trial_id", "config_id", "cell", "fold", "params", "status", "stopped_by", "epochs",
    "best_epoch", "metric", "train_seconds", "champion",
)  # fmt: skip


class WandbTracker:
    """Listens to the ledger and writes in a thread of its own.

    Args:
        spec: the sweep.
        run_directory: W&B's files go to its ``wandb/``.
        online: send runs to the server; None does as the sweep says.
    """

    def __init__(self, spec: SweepSpec, run_directory: Path, online: bool | None = None) -> None:
        self.spec, self.place = spec, run_directory
        self.metric = spec.metric.name.replace("/", "_")
        self.configs: dict[str, Event] = {}
        self.trials: dict[str, Event] = {}  # by trial: its last start
        self.epochs: dict[str, list[Event]] = {}
        self.parked: set[str] = set()  # trials that wait at a rung: their runs are closed
        self.ends: dict[str, Event] = {}
        self.open: dict[str, OpenRun] = {}
        self.history: list[Event] = []
        self.errors: list[str] = []
        self.files = WandbRuns(
            spec, run_directory, spec.wandb_mode == "online" if online is None else online
        )
        self.done = 0  # actions of the thread
        self._actions: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._work, name="wandb-writer", daemon=True)
        self._thread.start()

    def remember(self, events: Sequence[Event]) -> None:
        """See ``Tracker``. What a launch did that never closed is written where it is missing."""
        stale: dict[str, None] = {}
        for event in events:
            self._note(event)
            if event["event"] == "close":
                stale.clear()
            elif event["event"] in ("start", "epoch", "end"):
                stale[event["trial_id"]] = None
        for name in stale:
            self._actions.put(lambda name=name: self._catch_up(name))  # type: ignore[misc]

    def send(self, events: Sequence[Event]) -> None:
        """Write every trial of a ledger that the server has not in whole."""
        for event in events:
            self._note(event)
        for name in self.trials:
            self._actions.put(lambda name=name: self._catch_up(name))  # type: ignore[misc]

    def on_event(self, event: Event) -> None:
        """See ``Tracker``."""
        self._actions.put(lambda: self._take(event))

    def close(self) -> list[str]:
        """See ``Tracker``. Waits as long as something is written, else ``PATIENCE_S``."""
        self._actions.put(None)
        before = -1
        while self._thread.is_alive() and self.done != before:
            before = self.done
            self._thread.join(PATIENCE_S)
        if self._thread.is_alive():
            self.errors.append(f"W&B did not finish within {PATIENCE_S:.0f} s")
        if self.files.problem is not None:
            where = f"{self.place.name}/wandb"
            text = f"the server was lost ({self.files.problem}); runs are kept offline in {where}"
            return [text, *self.errors]
        return self.errors

    # the thread

    def _work(self) -> None:
        while (action := self._actions.get()) is not None:
            self._guarded(action)
        for name in list(self.open):
            self._guarded(lambda name=name: self.files.finish(self._current(name)))  # type: ignore[misc]
        self._guarded(self._summarise)

    def _guarded(self, action: Callable[[], None]) -> None:
        try:
            action()
        except Exception as error:  # losing W&B never costs a trial
            text = describe(error)
            if text not in self.errors:
                self.errors.append(text)
        self.done += 1

    def _take(self, event: Event) -> None:
        again = self._note(event)
        if event["event"] == "start" and event["trial_id"] not in self.open:
            self._begin(event["trial_id"])
        elif event["event"] == "epoch" and not again and event["trial_id"] in self.open:
            self._current(event["trial_id"]).log(_row(event), event["epoch"])
        elif event["event"] == "rung" and event["trial_id"] in self.parked & set(self.open):
            self.files.finish(self._current(event["trial_id"]))  # begun again when it goes on
            del self.open[event["trial_id"]]
        elif event["event"] == "end" and event["trial_id"] in self.trials:
            if event["trial_id"] not in self.open:
                self._begin(event["trial_id"])
            self._end(event["trial_id"])

    def _note(self, event: Event) -> bool:
        """Keep an event; True where it is an epoch that the ledger had before."""
        self.history.append(event)
        if event["event"] == "config":
            self.configs[event["config_id"]] = event
        elif event["event"] == "start":
            self.trials[event["trial_id"]] = event
            self.ends.pop(event["trial_id"], None)
            self.parked.discard(event["trial_id"])
        elif event["event"] == "rung" and event.get("parked"):
            self.parked.add(event["trial_id"])
        elif event["event"] == "end":
            self.ends[event["trial_id"]] = event
        elif event["event"] == "epoch":
            earlier = self.epochs.setdefault(event["trial_id"], [])
            if earlier and earlier[-1]["epoch"] >= event["epoch"]:
                return True
            earlier.append(event)
        return False

    def _begin(self, name: str) -> None:
        """Open a trial's run, and write what the ledger has of it already."""
        start = self.trials[name]
        config = self.configs[start["config_id"]]
        seed = f"r{start['replicate']}" if start["replicate"] else ""
        title = [config["cell"], short_params(config["params"]), f"f{start['fold']}", seed]
        opened = self.open[name] = self.files.open(
            name,
            name=" ".join(" ".join(title).split()),
            group=start["config_id"],
            job_type=f"fold{start['fold']}",
            tags=[config["cell"][:64]],  # W&B takes no longer ones
            config={
                **config["levels"],
                **config["params"],
                "cell": config["cell"],
                "fold": start["fold"],
                "replicate": start["replicate"],
                "config_id": start["config_id"],
                "colours": self.colours,
                "trial": config["config"],
            },
        )
        for event in self.epochs.get(name, []):
            opened.log(_row(event), event["epoch"])

    def _current(self, name: str) -> OpenRun:
        """A trial's run; where it was online and the server is lost, it goes on offline."""
        if self.open[name].online and not self.files.online:
            self._begin(name)
        return self.open[name]

    def _catch_up(self, name: str) -> None:
        """A trial of an earlier launch, in whole; where it has not ended it stays open."""
        waits = name in self.parked and name not in self.ends
        if name in self.open or waits or self.files.delivered(name):
            return
        self._begin(name)
        if name in self.ends:
            self._end(name)

    def _end(self, name: str) -> None:
        opened, event = self._current(name), self.ends[name]
        del self.open[name]
        run, start = opened.run, self.trials[name]
        run.summary["status"] = event["status"]
        run.summary["stopped_by"] = event.get("stopped_by")
        folder = self.place / "trials" / start["config_id"] / results.fold_name(start)
        found = examples.read(folder / "evidence.safetensors")
        if found is not None and EXAMPLES not in run.summary.keys():  # noqa: SIM118 - no dict
            last = self.epochs[name][-1]["epoch"] if name in self.epochs else 0
            shown = {
                EXAMPLES: [examples.with_masks(one) for one in found],
                PAINTED: [examples.painted(one, self.colours) for one in found],
            }
            opened.log(shown, max(opened.first, last))
        self.files.finish(opened, 0 if event["status"] in ("finished", "stopped") else 1)

    def _summarise(self) -> None:
        import wandb

        rows = results.trial_rows(self.history, self.metric, self.spec.metric.goal)
        if not rows:
            return
        settings = self.spec.model_dump(mode="json")
        opened = self.files.open(SWEEP, name=self.spec.name, job_type=SWEEP, config=settings)
        table = wandb.Table(columns=list(TABLE), data=[[row[c] for c in TABLE] for row in rows])
        opened.log({"trials": table}, opened.first)
        self.files.finish(opened)

    @cached_property
    def colours(self) -> dict[str, str]:
        """Class → colour, of the sweep's data."""
        dataset = self.spec.dataset
        return palette.of(dataset.name, dataset.options, dataset.leave_out)


def sync(spec: SweepSpec, run_directory: Path, events: Sequence[Event]) -> list[str]:
    """Send the server what it lacks of a run directory, from the ledger.

    Works whatever form W&B's own files are in: each run goes on above the last step that the
    server has. Runs that it has in whole are passed over.

    Returns:
        What went wrong, a line each.
    """
    tracker = WandbTracker(spec, run_directory, online=True)
    tracker.send(events)
    return tracker.close()


def _row(event: Event) -> dict[str, Any]:
    """What of an epoch is drawn over steps."""
    return {
        name.replace("val_", "val/").replace("train_loss", "train/loss"): value
        for name, value in event.items()
        if isinstance(value, (int, float)) and name not in ("time", "best_epoch")
    }
