"""MLflow as a tracker: one run a trial in a local store, written by a thread of the driver.

The store is ``mlflow.db`` in the run directory; ``mlflow ui --backend-store-uri sqlite:///…`` shows
it. ``MLFLOW_TRACKING_URI`` names a server instead. A run is known by the tags ``segsweep.trial``
and ``sweep``, so that a later launch goes on with it; an epoch is written once.
"""

from __future__ import annotations

import logging
import os
import queue
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from segsweep.identity import short_params
from segsweep.ledger import Event
from segsweep.spec import SweepSpec
from segsweep.tracking.names import curves

if TYPE_CHECKING:
    from mlflow import MlflowClient

PATIENCE_S = 60.0  # how long `close` waits where nothing is written any more
TAG, SWEEP = "segsweep.trial", "sweep"  # together they name a run
STATUS = {"finished": "FINISHED", "stopped": "FINISHED"}  # all else is FAILED


class MlflowTracker:
    """Listens to the ledger.

    Args:
        spec: the sweep; its project is the experiment.
        run_directory: where the store lies.
    """

    def __init__(self, spec: SweepSpec, run_directory: Path) -> None:
        self.spec = spec
        local = f"sqlite:///{run_directory.absolute() / 'mlflow.db'}"
        self.uri = os.environ.get("MLFLOW_TRACKING_URI") or local
        self.artifacts = (run_directory.absolute() / "mlflow").as_uri()
        self.configs: dict[str, Event] = {}
        self.starts: dict[str, Event] = {}
        self.epochs: dict[str, dict[int, Event]] = {}
        self.ends: dict[str, Event] = {}
        self.runs: dict[str, str] = {}  # trial → MLflow's run
        self.written: dict[str, int] = {}  # trial → its last epoch there
        self.errors: list[str] = []
        self.done = 0
        self._events: queue.SimpleQueue[Event | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._work, name="mlflow-writer", daemon=True)
        self._thread.start()

    def remember(self, events: Sequence[Event]) -> None:
        """See ``Tracker``."""
        for event in events:
            self._note(event)

    def on_event(self, event: Event) -> None:
        """See ``Tracker``."""
        self._events.put(event)

    def close(self) -> list[str]:
        """See ``Tracker``."""
        self._events.put(None)
        before = -1
        while self._thread.is_alive() and self.done != before:
            before = self.done
            self._thread.join(PATIENCE_S)
        if self._thread.is_alive():
            self.errors.append(f"MLflow did not finish within {PATIENCE_S:.0f} s")
        return self.errors

    # the thread

    def _work(self) -> None:
        client: MlflowClient | None = None
        experiment = ""
        while (event := self._events.get()) is not None:
            try:
                self._note(event)
                if event["event"] in ("start", "epoch", "end"):
                    if client is None:
                        client, experiment = self._connect()
                    self._write(client, experiment, event["trial_id"])
            except Exception as error:  # losing MLflow never costs a trial
                text = f"MLflow: {type(error).__name__}: {str(error).strip().splitlines()[0]}"
                if text not in self.errors:
                    self.errors.append(text)
            self.done += 1

    def _note(self, event: Event) -> None:
        kind = event["event"]
        if kind == "config":
            self.configs[event["config_id"]] = event
        elif kind == "start":
            self.starts[event["trial_id"]] = event
            self.ends.pop(event["trial_id"], None)
        elif kind == "epoch":
            self.epochs.setdefault(event["trial_id"], {}).setdefault(event["epoch"], event)
        elif kind == "end":
            self.ends[event["trial_id"]] = event

    def _connect(self) -> tuple[MlflowClient, str]:
        from mlflow import MlflowClient

        for name in ("mlflow", "alembic"):
            logging.getLogger(name).setLevel(logging.ERROR)
        client = MlflowClient(tracking_uri=self.uri)
        known = client.get_experiment_by_name(self.spec.project)
        if known is not None:
            return client, str(known.experiment_id)
        place = self.artifacts if self.uri.startswith("sqlite") else None
        return client, str(client.create_experiment(self.spec.project, artifact_location=place))

    def _write(self, client: MlflowClient, experiment: str, name: str) -> None:
        """Bring a trial's run up to what is known of the trial."""
        from mlflow.entities import Metric

        if name not in self.runs:
            self._open(client, experiment, name)
        run, since = self.runs[name], self.written[name]
        for epoch, event in sorted(self.epochs.get(name, {}).items()):
            if epoch > since:
                now = int(event.get("time", time.time()) * 1000)
                drawn = curves(event, besides=["epoch"])
                rows = [Metric(key, float(value), now, epoch) for key, value in drawn.items()]
                client.log_batch(run, metrics=rows)
                self.written[name] = epoch
        end = self.ends.get(name)
        if end is not None:
            client.set_tag(run, "status", end["status"])
            client.set_tag(run, "stopped_by", end.get("stopped_by") or "")
            client.set_terminated(run, STATUS.get(end["status"], "FAILED"))

    def _open(self, client: MlflowClient, experiment: str, name: str) -> None:
        from mlflow.entities import Param

        # sweeps of one project may have a config, and so a trial, in common
        mine = f"tags.`{TAG}` = '{name}' and tags.`{SWEEP}` = '{self.spec.name}'"
        found = client.search_runs([experiment], filter_string=mine)
        for run in found:
            self.runs[name] = run.info.run_id
            steps = client.get_metric_history(run.info.run_id, "train/loss")
            self.written[name] = max((metric.step for metric in steps), default=0)
            client.update_run(run.info.run_id, status="RUNNING")
            return
        start = self.starts[name]
        config = self.configs[start["config_id"]]
        title = f"{config['cell']} {short_params(config['params'])} f{start['fold']}"
        tags = {TAG: name, "config": start["config_id"], "cell": config["cell"]}
        tags |= {SWEEP: self.spec.name, "fold": str(start["fold"])}
        run = client.create_run(experiment, tags=tags, run_name=" ".join(title.split()))
        self.runs[name], self.written[name] = run.info.run_id, 0
        values: Mapping[str, Any] = {**config["levels"], **config["params"]}
        params = [Param(key, str(value)[:500]) for key, value in values.items()]
        client.log_batch(run.info.run_id, params=params)
