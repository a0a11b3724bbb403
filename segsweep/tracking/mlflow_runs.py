"""MLflow's runs of one sweep: finding them all at once, opening one, writing to it.

Everything written twice is there once: a number has the time of its ledger event, and one of the
same step and time is not stored again; files of a name are replaced.

MLflow tries a request again for minutes. Here it fails soon (``brisk``); who writes tries again.
"""

from __future__ import annotations

import contextlib
import csv
import io
import logging
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from segsweep.spec import SweepSpec
from segsweep.tracking.mlflow_names import Names
from segsweep.tracking.writer import describe

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Metric, Run

# together they name a trial's run; ``OF`` and ``CONFIG`` one that is no trial's
TAG, SWEEP, OF, CONFIG = "segsweep.trial", "sweep", "segsweep.of", "config"
EPOCH = "epoch"  # the last metric of a row: how far a run is, among its latest values
BATCH = 1000  # metrics of a request: MLflow takes no more
PAGE = 500  # runs of a search
# no tries but our own, which are fewer, and 10 s for an answer; the user's settings win
LIMITS = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0", "MLFLOW_HTTP_REQUEST_TIMEOUT": "10"}


@dataclass
class Kept:
    """What the store has of a trial.

    Attributes:
        epoch: the last one that it has.
        status: MLflow's.
        told: the trial's own, once that is there.
        params: whether factors and parameters are there.
    """

    run_id: str
    epoch: int = 0
    status: str = "RUNNING"
    told: str = ""
    params: bool = False


class MlflowRuns:
    """The runs of one sweep in the store, which is asked when it is first needed.

    Args:
        spec: the sweep; its project is the experiment.
        run_directory: where the store lies, unless ``MLFLOW_TRACKING_URI`` names another.

    Attributes:
        trials: by trial, what the store has of it.
        others: by kind (sweep, calibration) and config, runs that are no trial's.
        found: whether both say what the store says.
    """

    def __init__(self, spec: SweepSpec, run_directory: Path) -> None:
        self.spec = spec
        here = run_directory.absolute()
        local = f"sqlite:///{here / 'mlflow.db'}"
        self.uri = os.environ.get("MLFLOW_TRACKING_URI") or local
        self._artifacts = here / "mlflow"
        if self.uri != local:  # one store of many sweeps, each of which may be deleted
            self._artifacts = Path(self.uri.removeprefix("sqlite:///")).absolute().parent / "mlflow"
        self.names, self._params = Names(), Names()
        self.trials: dict[str, Kept] = {}
        self.others: dict[tuple[str, str], list[str]] = {}
        self.found = False

    @cached_property
    def client(self) -> MlflowClient:
        """MLflow's own."""
        from mlflow import MlflowClient

        for name in ("mlflow", "alembic"):
            logging.getLogger(name).setLevel(logging.ERROR)
        return MlflowClient(tracking_uri=self.uri)

    @cached_property
    def experiment(self) -> str:
        """The id of the project's; made where there is none."""
        known = self.client.get_experiment_by_name(self.spec.project)
        if known is not None:
            return str(known.experiment_id)
        place = self._artifacts.as_uri() if self.uri.startswith("sqlite") else None
        return str(self.client.create_experiment(self.spec.project, artifact_location=place))

    def find(self) -> None:
        """Ask the store what it has: a page of runs a request, and no run's history."""
        self.trials, self.others = {}, {}
        # sweeps of one project may have a config, and so a trial, in common
        mine, token = f"tags.`{SWEEP}` = '{self.spec.name}'", None
        while True:
            page = self.client.search_runs(
                [self.experiment], filter_string=mine, max_results=PAGE, page_token=token
            )
            for run in page:
                self._remember(run)
            token = page.token
            if not token:
                break
        self.found = True

    def _remember(self, run: Run) -> None:
        tags, run_id = run.data.tags, run.info.run_id
        if OF in tags:
            self.others.setdefault((tags[OF], tags.get(CONFIG, "")), []).append(run_id)
        elif TAG in tags:
            epoch = int(run.data.metrics.get(EPOCH, 0))
            kept = Kept(
                run_id, epoch, run.info.status, tags.get("status", ""), bool(run.data.params)
            )
            before = self.trials.get(tags[TAG])
            if before is None or before.epoch < epoch:
                self.trials[tags[TAG]] = kept

    def create(self, title: str, tags: Mapping[str, str], start: float | None = None) -> str:
        """Begin a run; its id.

        Args:
            title: what people see.
            tags: beside the sweep's.
            start: when it began, in seconds since 1970; now, if that is not said.
        """
        own = {SWEEP: self.spec.name, **tags}
        when = None if start is None else int(start * 1000)
        run = self.client.create_run(self.experiment, when, tags=own, run_name=title)
        return str(run.info.run_id)

    def params(self, run_id: str, values: Mapping[str, Any]) -> None:
        """Write factors and parameters."""
        from mlflow.entities import Param

        named = [Param(self._params.of(key), str(value)[:500]) for key, value in values.items()]
        self.client.log_batch(run_id, params=named)

    def row(self, values: Mapping[str, float], time: float, step: int) -> list[Metric]:
        """Numbers of one step, for ``write``."""
        from mlflow.entities import Metric

        when = int(time * 1000)
        named = {self.names.of(key): float(value) for key, value in values.items()}
        return [Metric(name, value, when, step) for name, value in named.items()]

    def write(self, run_id: str, metrics: Sequence[Metric]) -> None:
        """Write numbers, as many a request as MLflow takes, in this order.

        Raises:
            Exception: they are not there. One that is ``refused`` comes after all others.
        """
        from mlflow.exceptions import MlflowException

        problem: Exception | None = None
        for first in range(0, len(metrics), BATCH):
            batch = metrics[first : first + BATCH]
            try:
                self.client.log_batch(run_id, metrics=batch)
            except MlflowException as error:
                if not refused(error):
                    raise
                problem = self._singly(run_id, batch) or problem
        if problem is not None:
            raise problem

    def _singly(self, run_id: str, metrics: Sequence[Metric]) -> Exception | None:
        """All that MLflow takes of a batch that it refused, and why not the last of the others."""
        problem = None
        for metric in metrics:
            try:
                self.client.log_batch(run_id, metrics=[metric])
            except Exception as error:
                if not refused(error):
                    raise
                problem = error
        return problem


def refused(error: Exception) -> bool:
    """Would MLflow say the same again? Where it does not answer or is broken, it may not."""
    from mlflow.exceptions import MlflowException

    if not isinstance(error, MlflowException):
        return False
    status: int = error.get_http_status_code()  # type: ignore[no-untyped-call]
    return 400 <= status < 500


def reason(error: Exception) -> str:
    """Why it did not answer: what MLflow says begins with addresses, the first cause does not."""
    while isinstance(error.__context__, Exception):
        error = error.__context__
    return describe(error)


def table(rows: Iterable[Mapping[str, Any]], columns: Sequence[str]) -> str:
    """Rows as CSV, which MLflow's pages show as a table."""
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


@contextlib.contextmanager
def brisk() -> Iterator[None]:
    """A request that is not answered fails soon."""
    unset = {name: value for name, value in LIMITS.items() if name not in os.environ}
    os.environ.update(unset)
    try:
        yield
    finally:
        for name in unset:
            os.environ.pop(name, None)
