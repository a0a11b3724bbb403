"""Sending the server what it lacks of a run directory: several runs at a time, each step once.

Trials and the table of the sweep come from the ledger, whatever form W&B's own files are in; runs
that the ledger does not know come from those files. Each goes on, under its own id, above the last
step that the server has, so that a sync that was cut off is finished by the next one.

W&B's own ``wandb sync`` (0.31) does neither: it sends a run from its first row again, marks a run
as sent whose rows were refused, and waits for a server that is gone without an end.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from segsweep.errors import Problem, RunError
from segsweep.ledger import Event
from segsweep.next_command import called, command
from segsweep.spec import SweepSpec
from segsweep.tracking import wandb_records, wandb_service
from segsweep.tracking.names import curves
from segsweep.tracking.wandb_rows import EXAMPLES, SWEEP, Known
from segsweep.tracking.wandb_runs import BEGUN, FINISH_S, OpenRun, WandbRuns
from segsweep.tracking.wandb_session import environment, is_refusal, is_silent
from segsweep.tracking.writer import describe

PARALLEL = 4
LOST = "not tried: the server was lost"
LOG_IN = "run `wandb login`, or set WANDB_API_KEY; for a server of your own also WANDB_BASE_URL"


@dataclass(frozen=True)
class Sent:
    """What became of one run.

    Attributes:
        run: the trial, ``sweep`` for the table, or the name of a run that no ledger knows.
        run_id: W&B's.
        rows: how many were sent now.
        problem: why it is not on the server in whole; None: it is.
    """

    run: str
    run_id: str
    rows: int = 0
    problem: str | None = None


@dataclass(frozen=True)
class Synced:
    """What a sync did.

    Attributes:
        runs: those that were to be sent.
        before: how many the server had already.
    """

    runs: list[Sent]
    before: int

    @property
    def left(self) -> list[Sent]:
        """Those that the server still lacks."""
        return [run for run in self.runs if run.problem is not None]


def sync(
    spec: SweepSpec,
    run_directory: Path,
    events: Sequence[Event],
    parallel: int = PARALLEL,
    on_sent: Callable[[Sent, int], None] = lambda _sent, _total: None,
    *,
    anyway: bool = False,
) -> Synced:
    """Send the server what it lacks; what is there already is not asked about.

    Args:
        spec: the sweep.
        run_directory: its W&B files are marked as they are delivered.
        events: the whole ledger.
        parallel: runs at a time.
        on_sent: told of every run, and of how many there are.
        anyway: also what the sweep file keeps from W&B.

    Raises:
        RunError: there is no key, or the server refuses it; or the sweep is kept from W&B.
    """
    if not anyway:
        _refuse_unwanted(spec, run_directory)
    sender = _Sender(spec, run_directory, events)
    waiting = sender.waiting()
    before = len(sender.all_runs()) - len(waiting)
    if not waiting:
        return Synced([], before)
    with environment("online"):
        lost = sender.log_in()
        if lost is not None:
            return Synced([Sent(*run, problem=lost) for run in waiting], before)
        return Synced(_in_parallel(sender, waiting, parallel, on_sent), before)


def _refuse_unwanted(spec: SweepSpec, run_directory: Path) -> None:
    reasons = []
    if "wandb" not in spec.tracking:
        reasons.append(f"tracking is [{', '.join(spec.tracking)}]")
    if spec.wandb_mode == "disabled":
        reasons.append("wandb.mode is disabled")
    if reasons:
        what = f"nothing to send: {' and '.join(reasons)}, so W&B is told nothing of this sweep"
        # launching again would not do: a sweep that is finished stays as it was launched
        again = command("sync", called(run_directory), "--anyway")
        hint = f"`{again}` makes its runs from the ledger and sends them"
        raise RunError(Problem(what, str(run_directory), hint=hint))


def _in_parallel(
    sender: _Sender,
    waiting: Sequence[tuple[str, str]],
    parallel: int,
    on_sent: Callable[[Sent, int], None],
) -> list[Sent]:
    pool = ThreadPoolExecutor(parallel, thread_name_prefix="wandb-sync")
    try:
        futures: dict[Future[Sent], int] = {
            pool.submit(sender.send, *run): place for place, run in enumerate(waiting)
        }
        for future in as_completed(futures):
            on_sent(future.result(), len(waiting))
        return [future.result() for future in futures]
    finally:
        pool.shutdown(cancel_futures=True)
        if sender.failures:
            wandb_service.end(FINISH_S)  # else each run that failed waits when this ends


class _Sender(Known):
    """Sends single runs; safe to use from several threads."""

    def __init__(self, spec: SweepSpec, run_directory: Path, events: Sequence[Event]) -> None:
        super().__init__(spec, run_directory)
        for event in events:
            self.note(event)
        self.files = WandbRuns(spec, run_directory, online=True)
        self.failures = 0
        self._in_a_row = 0
        self._lock = threading.Lock()

    def all_runs(self) -> list[tuple[str, str]]:
        """Name and id of every run: of the ledger's, and of W&B's files beside them."""
        trials = [name for name in self.trials if name not in self.parked or name in self.ends]
        known = {name: self.files.id_of(name) for name in [*trials, *([SWEEP] if trials else [])]}
        skipped = {self.files.id_of(name) for name in self.trials}
        others = [i for i in self.files.folders if i not in skipped and i not in known.values()]
        return [*known.items(), *((run_id, run_id) for run_id in others)]

    def waiting(self) -> list[tuple[str, str]]:
        """Those that the server lacks, in part or in whole."""
        return [run for run in self.all_runs() if not self._delivered(*run)]

    def _delivered(self, name: str, run_id: str) -> bool:
        own = name in self.trials or name == SWEEP
        return self.files.has_all_of(run_id, self.upto(name) if own else BEGUN)

    def log_in(self) -> str | None:
        """Find the key and ask whether it is good; what is wrong where nobody answers.

        Raises:
            RunError: there is none, or it is refused.
        """
        try:
            self.files.log_in(verify=True)
        except RunError as error:
            raise RunError(Problem("no API key of W&B is configured", hint=LOG_IN)) from error
        except Exception as error:
            wandb_service.end(FINISH_S)  # else it may wait for an answer when this ends
            if is_silent(error):
                return "the server does not answer"
            what = f"W&B refuses the key: {describe(error)}"
            raise RunError(Problem(what, hint=LOG_IN)) from error
        return None

    def send(self, name: str, run_id: str) -> Sent:
        """Send one run; raises nothing."""
        with self._lock:
            if self._in_a_row >= 2:
                return Sent(name, run_id, problem=LOST)
        try:
            sent = self._send(name, run_id)
        except Exception as error:
            with self._lock:
                self.failures += 1
                if not is_refusal(error):  # which costs one run, and not those after it
                    self._in_a_row += 1
            return Sent(name, run_id, problem=describe(error))
        with self._lock:
            self._in_a_row = 0
        return sent

    def _send(self, name: str, run_id: str) -> Sent:
        if name == SWEEP:
            opened = self.files.open_online(run_id, self.table_settings())
            opened.log(self.table() or {}, opened.first)
            self.files.deliver(opened, upto=self.upto(SWEEP))
            return Sent(name, run_id, rows=1)
        if name in self.trials:
            return self._send_trial(name, run_id)
        return self._send_recorded(run_id)

    def _send_trial(self, name: str, run_id: str) -> Sent:
        opened = self.files.open_online(run_id, self.settings(name))
        rows = [event for event in self.epochs.get(name, []) if event["epoch"] >= opened.first]
        for event in rows:
            opened.log(curves(event), event["epoch"])
        code = 0
        if name in self.ends:
            if EXAMPLES in opened.run.summary.keys():  # noqa: SIM118 - no dict
                self._send_media(opened)
            code = self.conclude(name, opened)
        self.files.deliver(opened, code, self.upto(name))
        return Sent(name, run_id, rows=len(rows))

    def _send_recorded(self, run_id: str) -> Sent:
        """A run that the ledger does not know, from its files."""
        records = self.files.records(run_id)
        found = wandb_records.read(records)
        if found.damaged:  # what is missing then would count as delivered
            names = ", ".join(str(record) for record in found.damaged)
            what = f"damaged, and left out: {names}; remove its folder to go on without it"
            return Sent(run_id, run_id, problem=what)
        opened = self.files.open_online(run_id, {**found.settings, "config": _own(found.config)})
        rows = {step: row for step, row in sorted(found.rows.items()) if step >= opened.first}
        folders = [record.parent / "files" for record in records]
        for step, row in rows.items():
            opened.log({key: _value(value, folders) for key, value in _own(row).items()}, step)
        self._send_media(opened)
        for key, value in _own(found.summary).items():
            if not isinstance(value, dict):  # files and tables came with their rows
                opened.run.summary[key] = value
        self.files.deliver(opened, found.exit_code or 0)
        return Sent(found.settings.get("name", run_id), run_id, rows=len(rows))

    def _send_media(self, opened: OpenRun) -> None:
        """Images whose rows the server has, and which may not have arrived themselves."""
        for record in self.files.records(opened.run.id):
            files = record.parent / "files"
            for path in (files / "media").rglob("*"):
                if path.is_file() and files != Path(opened.run.dir):
                    opened.run.save(str(path), base_path=str(files), policy="now")


def _own(values: dict[str, Any]) -> dict[str, Any]:
    """Without what W&B adds itself."""
    return {key: value for key, value in values.items() if not key.startswith("_")}


def _value(value: Any, folders: Sequence[Path]) -> Any:
    """A recorded value to be logged again; a table from its file."""
    import wandb

    if isinstance(value, dict) and value.get("_type") == "table-file":
        for folder in folders:
            if (folder / value["path"]).exists():
                table = json.loads((folder / value["path"]).read_text(encoding="utf-8"))
                return wandb.Table(columns=table["columns"], data=table["data"])
    return value
