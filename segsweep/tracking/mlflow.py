"""MLflow as a tracker: one run a trial, and one for the sweep, written by a thread of the driver.

The store is ``mlflow.db`` in the run directory, or the server that ``MLFLOW_TRACKING_URI`` names.
What it lacks of the ledger, a trial or its last epochs or its end, is written when it can be: at a
later event, at the end of the launch, or by the next launch. Again and again is the same as once.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from segsweep import pixelcounts, results
from segsweep.data import palette
from segsweep.identity import counted
from segsweep.ledger import Event
from segsweep.spec import SweepSpec
from segsweep.tracking import CalibratedModel, examples, mlflow_calibration
from segsweep.tracking.mlflow_runs import (
    CONFIG,
    EPOCH,
    OF,
    TAG,
    Kept,
    MlflowRuns,
    brisk,
    reason,
    refused,
    table,
)
from segsweep.tracking.names import curves
from segsweep.tracking.wandb_rows import BEST, PAINTED, SWEEP, TRIALS, Known
from segsweep.tracking.writer import Writer, describe

PATIENCE_S = 60.0  # how long `close` waits where nothing is written any more
GIVE_UP = 3  # requests in a row that MLflow did not answer
PAUSE_S = 60.0  # and how long it is left alone then
STATUS = {"finished": "FINISHED", "stopped": "FINISHED"}  # all else that has ended is FAILED


class MlflowTracker(Known):
    """Listens to the ledger and writes in a thread of its own.

    Args:
        spec: the sweep.
        run_directory: where the store lies, and ``trials/``.
    """

    def __init__(self, spec: SweepSpec, run_directory: Path) -> None:
        super().__init__(spec, run_directory)
        self.runs = MlflowRuns(spec, run_directory)
        self.begun: set[str] = set()  # trials that this launch goes on with
        self.closing = False
        self.lost = ""  # why MLflow did not answer the last time
        self.failures = 0  # requests in a row that it did not answer
        self._again = 0.0
        self.writer = Writer("MLflow", self._finish)

    def remember(self, events: Sequence[Event]) -> None:
        """See ``Tracker``. What the store lacks of it is written."""
        for event in events:
            self.note(event)
        if self.trials:
            self.writer.put(self._catch_up)

    def on_event(self, event: Event) -> None:
        """See ``Tracker``."""
        self.writer.put(lambda: self._take(event))

    def calibrated(self, models: Sequence[CalibratedModel]) -> list[str]:
        """See ``Tracker``."""
        return mlflow_calibration.log(self.spec, self.place, models)

    def close(self) -> list[str]:
        """See ``Tracker``. Waits as long as something is written, else ``PATIENCE_S``."""
        return self.writer.close(PATIENCE_S)

    # the thread

    def _catch_up(self) -> None:
        for event in self.history:
            self._name(event)
        if self._attempt(lambda: None):
            self._write_all()

    def _take(self, event: Event) -> None:
        self.note(event)
        self._name(event)
        if event["event"] not in ("start", "epoch", "end"):
            return
        name = event["trial_id"]
        if event["event"] != "end":
            self.begun.add(name)
        if self.failures < GIVE_UP or time.monotonic() >= self._again:
            self._attempt(lambda: self._write(name))

    def _name(self, event: Event) -> None:
        """Names are given in the ledger's order, so that each launch gives the same."""
        if event["event"] == "epoch":
            for key in curves(event):
                self.runs.names.of(key)

    def _attempt(self, action: Callable[[], None]) -> bool:
        """Do something; False where MLflow does not answer, and it is to be done again."""
        try:
            with brisk():
                if not self.runs.found:
                    self.runs.find()
                action()
            self.failures = 0
        except Exception as error:
            if isinstance(error, ImportError) or not refused(error):
                self.lost, self.failures = reason(error), self.failures + 1
                self._again = time.monotonic() + PAUSE_S
                self.runs.found = False  # it may have done what it did not answer
                return False
            self.writer.say(describe(error))
        finally:
            self.writer.done += 1
        return True

    def _insist(self, action: Callable[[], None]) -> bool:
        while self.failures < GIVE_UP:
            if self._attempt(action):
                return True
        return False

    def _finish(self) -> None:
        """All that is behind; where MLflow has been given up it is asked just once more."""
        if not self.trials:
            return
        self.closing = True
        self.failures = min(self.failures, GIVE_UP - 1)
        if self._insist(lambda: None) and self._write_all() and self._insist(self._table):
            return
        missing = counted(sum(self._behind(name) for name in self.trials), "trial")
        text = f"it was lost ({self.lost}): what it may lack of {missing} is written by the"
        self.writer.say(f"{text} next launch")

    def _write_all(self) -> bool:
        for name in list(self.trials):
            if self._behind(name) and not self._insist(lambda name=name: self._write(name)):  # type: ignore[misc]
                return False
        return True

    # a trial

    def _wanted(self, name: str) -> str:
        """The status that a trial's run is to have."""
        if name in self.ends:
            return STATUS.get(self.ends[name]["status"], "FAILED")
        return "RUNNING" if name in self.begun and not self.closing else "KILLED"

    def _behind(self, name: str) -> bool:
        kept = self.runs.trials.get(name)
        if kept is None or not kept.params or kept.status != self._wanted(name):
            return True
        told = self.ends[name]["status"] if name in self.ends else kept.told
        return kept.epoch < self._last(name) or kept.told != told

    def _last(self, name: str) -> int:
        epochs = self.epochs.get(name)
        return int(epochs[-1]["epoch"]) if epochs else 0

    def _write(self, name: str) -> None:
        """Bring a trial's run up to what is known of the trial."""
        kept = self.runs.trials.get(name) or self._open(name)
        client, run, news = self.runs.client, kept.run_id, kept.epoch < self._last(name)
        if not kept.params:
            config = self.configs[self.trials[name]["config_id"]]
            self._allow(lambda: self.runs.params(run, {**config["levels"], **config["params"]}))
            kept.params = True
        if news:
            self._allow(lambda: self._rows(name, kept))
        wanted, end = self._wanted(name), self.ends.get(name)
        if end is not None and (news or (kept.status, kept.told) != (wanted, end["status"])):
            self._end(name, run)
        if kept.status == wanted and (end is None or kept.told == end["status"]):
            return
        if wanted == "RUNNING":
            client.update_run(run, status=wanted)
            if kept.told:  # it goes on after all
                client.set_tag(run, "status", "running")
        else:
            when = end["time"] if end is not None and "time" in end else time.time()
            client.set_terminated(run, wanted, int(when * 1000))
        kept.status, kept.told = wanted, end["status"] if end is not None else ""

    def _allow(self, action: Callable[[], None]) -> None:
        """What MLflow refuses keeps nothing else from being written."""
        try:
            action()
        except Exception as error:
            if not refused(error):
                raise
            self.writer.say(describe(error))

    def _open(self, name: str) -> Kept:
        start, made = self.trials[name], self.settings(name)
        config = made["config"]
        tags = {TAG: name, CONFIG: start["config_id"], "cell": config["cell"][:500]}
        tags |= {"fold": str(config["fold"]), "replicate": str(config["replicate"])}
        run = self.runs.create(made["name"][:500], tags, start.get("time"))
        kept = self.runs.trials[name] = Kept(run)
        return kept

    def _rows(self, name: str, kept: Kept) -> None:
        """The epochs that its run lacks."""
        last, rows = self._last(name), []
        for event in self.epochs.get(name, []):
            if event["epoch"] > kept.epoch:
                own = {**curves(event, besides=[EPOCH]), EPOCH: event["epoch"]}
                rows += self.runs.row(own, event.get("time", 0), event["epoch"])
        try:
            self.runs.write(kept.run_id, rows)
        except Exception as error:
            if refused(error):
                kept.epoch = last  # the others are there
            raise
        kept.epoch = last

    def _end(self, name: str, run: str) -> None:
        """How it ended, its best epoch, and what that predicts, painted."""
        end, client = self.ends[name], self.runs.client
        if (best := self.best(name)) is not None:
            of = [one["epoch"] for one in self.epochs[name] if one.get(self.metric) == best]
            own = {f"{BEST}{self.spec.metric.name}": best, "best_epoch": of[0]}
            rows = self.runs.row(own, end.get("time", 0), self._last(name))
            self._allow(lambda: self.runs.write(run, rows))
        problem = ""
        try:
            self._paint(name, run)
        except Exception as error:  # if the server is gone, so it is for the next request
            problem = f"it took no pictures: {describe(error)}"
        client.set_tag(run, "status", end["status"])
        client.set_tag(run, "stopped_by", end.get("stopped_by") or "")
        if problem:
            self.writer.say(problem)

    def _paint(self, name: str, run: str) -> None:
        """Image, truth and prediction side by side, as W&B's are."""
        start = self.trials[name]
        folder = self.place / "trials" / start["config_id"] / pixelcounts.fold_name(start)
        for number, one in enumerate(examples.read(folder / "evidence.safetensors") or []):
            own = {label: self.colours[label] for label in one.classes}
            shown = palette.panel(one.image, one.truth, one.prediction, own)
            image = re.sub(r"[^\w.-]", "_", one.caption.rpartition(", epoch ")[0])[:100]
            self.runs.client.log_image(run, shown, artifact_file=f"{PAINTED}/{number}_{image}.png")

    # the sweep

    def _table(self) -> None:
        """A run for the sweep, which holds the table of all trials."""
        rows = results.trial_rows(self.history, self.metric, self.spec.metric.goal)
        if not rows:
            return
        made = self.runs.others.get((SWEEP, ""))
        run = made[0] if made else self.runs.create(self.spec.name, {OF: SWEEP})
        self.runs.others[SWEEP, ""] = [run]
        self.runs.client.log_text(run, table(rows, list(rows[0])), f"{TRIALS}.csv")
        self.runs.client.log_text(run, self.spec.model_dump_json(indent=1), f"{SWEEP}.json")
        self.runs.client.set_terminated(run, "FINISHED")
