"""``launch``: makes the run directory match the sweep file, from checking to the holdout."""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from segsweep import __version__, fulldisk, identity, models, results, rundir, tracking
from segsweep import spec as spec_module
from segsweep.champions import Closing
from segsweep.check import Checked, check
from segsweep.compare import Ranked, rank
from segsweep.continuation import (
    bring_up_to_date,
    complete,
    earlier,
    filled,
    mended,
    refuse_other_sweep,
    reopen_failed,
    undecided,
)
from segsweep.display import Display
from segsweep.errors import (
    EXIT_INTERRUPTED,
    EXIT_OK,
    EXIT_UNDECIDED,
    disk_is_full,
)
from segsweep.events import LEDGER_VERSION
from segsweep.interrupt import Interrupt
from segsweep.ledger import LEDGER, Event, Ledger
from segsweep.opening import groups_of
from segsweep.progress import LAST, PREVIOUS
from segsweep.runners import Runner
from segsweep.runners.start import start
from segsweep.search import Pool, Search
from segsweep.spec import SweepSpec
from segsweep.state import SearchState
from segsweep.trial import Inputs, directory
from segsweep.versions import installed
from segsweep.workload import mean_epochs


@dataclass(frozen=True)
class Outcome:
    """How a launch ended.

    Attributes:
        exit_code: 0 all is decided, 3 something is not, 130 interrupted.
        ranking: cells from best to worst.
        undecided: trials that ended without a verdict, and why.
        without_champion: cells none of whose configs finished all folds.
        started: how many trials this launch started.
        warnings: what went wrong beside the trials, such as W&B.
        notes: damage that was found and how it was made good.
    """

    exit_code: int
    run_directory: Path
    spec: SweepSpec
    ranking: list[Ranked]
    undecided: Mapping[str, str]
    without_champion: Sequence[str]
    started: int
    warnings: Sequence[str]
    notes: Sequence[str] = ()

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for ``--json``."""
        return {
            "name": self.spec.name,
            "run_directory": str(self.run_directory),
            "exit_code": self.exit_code,
            "started": self.started,
            "undecided": dict(self.undecided),
            "without_champion": list(self.without_champion),
            "ranking": [row.as_dict() for row in self.ranking],
            "notes": list(self.notes),
            "warnings": list(self.warnings),
        }


def launch(
    path: Path,
    overrides: Sequence[str] = (),
    *,
    runner: str | Runner = "ray",
    address: str | None = None,
    retry_failed: bool = False,
    console: Console | None = None,
) -> Outcome:
    """Run what a sweep file asks for and is not there yet.

    Args:
        path: the sweep file.
        overrides: ``dotted.key=value`` strings.
        runner: ``ray``, ``inline``, or one of the caller's own, which is closed at the end.
        address: of a running Ray cluster.
        retry_failed: hand failed trials out again.
        console: where progress is shown; None shows nothing.

    Raises:
        UserError: refused, nothing was started.
        DiskFull: no more can be written; a later launch goes on.
    """
    console = console or Console(quiet=True)
    with console.status("checking the sweep file and decoding images"):
        checked = check(path, overrides)
    for notice in checked.notices:
        console.print(f"note: {notice}", style="yellow", markup=False, soft_wrap=True)
    place = checked.spec.run_directory.resolve()
    before = earlier(place)
    if before is not None:
        refuse_other_sweep(before, checked)
        if not retry_failed and complete(before.spec, checked, before.events):
            left = undecided(SearchState(before.metric, before.events), checked)
            warnings = bring_up_to_date(before)
            code = EXIT_UNDECIDED if left else EXIT_OK
            ranking = rank(before.spec, before.events)
            return Outcome(code, place, before.spec, ranking, left, [], 0, warnings)
    encoders = _fetch_encoders(checked)
    lock = rundir.Lock(place)
    try:
        with Interrupt() as interrupt:
            workers = start(runner, address, console)
            interrupt.again()  # Ray has put a handler of its own on SIGTERM
            try:
                launched = _Launch(place, checked, workers, encoders, console, lock.stale)
                return launched.run(retry_failed, interrupt)
            finally:
                workers.close()
    except Exception as error:
        if disk_is_full(error):
            raise fulldisk.explain(error, place) from error
        raise
    finally:
        lock.release()


class _Launch:
    """One launch, after everything was found sound."""

    def __init__(
        self,
        place: Path,
        checked: Checked,
        runner: Runner,
        encoders: Mapping[str, Mapping[str, Any]],
        console: Console,
        stale: str | None,
    ) -> None:
        self.place, self.runner, self.console, self.stale = place, runner, console, stale
        self.facts = runner.facts(checked.spec)
        self.begun = earlier(place)
        self.checked = checked.with_spec(filled(checked.spec, self.facts, self.begun))
        self.spec = self.checked.spec
        self.encoders = encoders
        self.started: dict[str, Event] = {}
        self.metric = self.spec.metric.name.replace("/", "_")

    def run(self, retry_failed: bool, interrupt: Interrupt) -> Outcome:
        self.runner.require(self.place, self.spec)
        rundir.write_settings(self.place, self.checked.text, self.spec)
        ledger = Ledger(self.place / LEDGER)
        display = Display(self.console, self.spec, self.checked.cells, ledger.events)
        tracker = tracking.make(self.spec, self.place)
        tracker.remember(ledger.events)
        ledger.listen(tracker.on_event)
        ledger.listen(display.on_event)
        ledger.listen(self._forget_last)
        before = len(ledger.events)
        try:
            self._announce(ledger)
            notes = mended(self.place, ledger, self.stale)
            if retry_failed:
                reopen_failed(ledger, self.metric)
            search = self._search(ledger)
            closing = Closing(
                self.checked, search.state, ledger, self.place, self.runner, self.facts["gpu"],
                interrupt,
            )  # fmt: skip
            with display:
                interrupted = self._work(search, closing, interrupt)
            notes += closing.notes
            notes += results.write(self.place, ledger.events, self.metric, self.spec.metric.goal)
            left = {**undecided(search.state, self.checked), **closing.unscored}
            status = "interrupted" if interrupted else "done"
            ledger.append("close", status=status, undecided=left)
        finally:
            ledger.close()
            warnings = tracker.close()
        news = ledger.events[before:]
        notes += [display.damage(event) for event in news if event["event"] == "damaged"]
        return Outcome(
            EXIT_INTERRUPTED if interrupted else EXIT_UNDECIDED if left else EXIT_OK,
            self.place,
            self.spec,
            rank(self.spec, ledger.events),
            left,
            [c.name for c in self.checked.cells if c.name not in search.state.champions],
            sum(event["event"] == "start" for event in news),
            warnings,
            notes,
        )

    def _work(self, search: Search, closing: Closing, interrupt: Interrupt) -> bool:
        """Run what is missing; was it interrupted?"""
        try:
            interrupt.check()
            self.runner.run(search, self._inputs(), interrupt)
            search.conclude()
            closing.run()
        except KeyboardInterrupt:
            return True
        return False

    def _announce(self, ledger: Ledger) -> None:
        ledger.append(
            "launch",
            ledger=LEDGER_VERSION,
            identity=identity.IDENTITY_VERSION,
            version=__version__,
            pid=os.getpid(),
            host=socket.gethostname(),
            cwd=str(Path.cwd()),
            command=" ".join(
                Path(part).name if i == 0 else part for i, part in enumerate(sys.argv)
            ),
            spec=spec_module.to_plain(self.spec),
            device=self.facts["device"],
            cells={cell.name: cell.budget for cell in self.checked.cells},
            epochs={cell.name: mean_epochs(cell) for cell in self.checked.cells},
            versions=installed(),
        )
        checked = self.checked
        group_by = self.spec.folds.group_by
        if self.begun is None or not self.begun.split:
            ledger.append(
                "split",
                fingerprint=checked.prepared.fingerprint,
                folds_hash=checked.folds.hash,
                classes=list(checked.data.classes),
                palette=checked.palette,
                images=checked.prepared.images,
                decodes=checked.prepared.decodes,
                depth=checked.prepared.depth,
                folds=dict(zip(checked.data.image_ids, checked.folds.assignment, strict=True)),
                holdout=list(checked.holdout.image_ids) if checked.holdout else [],
                groups=groups_of(group_by, [checked.data, checked.holdout]) if group_by else {},
            )

    def _search(self, ledger: Ledger) -> Search:
        fingerprint, folds = self.checked.prepared.fingerprint, self.checked.folds.hash
        pool = Pool(
            self.spec,
            self.checked.cells,
            ledger,
            lambda config: identity.config_id(config, fingerprint, folds),
            self.place / rundir.JOURNAL,
            least=lambda config: self.checked.tried.of(config["model"]).least,
        )
        return Search(pool)

    def _inputs(self) -> Inputs:
        return Inputs(
            data=self.checked.data.for_trials(),
            folds=self.checked.folds,
            run_directory=str(self.place),
            encoders=self.encoders,
            cpus=self.spec.resources.cpu,
            gpu=self.facts["gpu"],
        )

    def _forget_last(self, event: Event) -> None:
        """A finished trial goes on no more: its last checkpoints make room."""
        if event["event"] == "start":
            self.started[event["trial_id"]] = event
        elif event["event"] == "end" and (start := self.started.get(event["trial_id"])):
            place = directory(self.place, start["config_id"], start["fold"], start["replicate"])
            if event["status"] in ("finished", "stopped"):  # others may be tried again
                (place / PREVIOUS).unlink(missing_ok=True)
            if event["status"] == "finished":
                (place / LAST).unlink(missing_ok=True)


def _fetch_encoders(checked: Checked) -> dict[str, dict[str, Any]]:
    """Pretrained encoder weights, each once.

    Raises:
        WeightsError: they cannot be had.
    """
    found: dict[str, dict[str, Any]] = {}
    for cell in checked.cells:
        key = models.encoder_key(cell.config["model"])
        if key and key not in found:
            state = models.fetch_encoder(cell.config["model"])
            found[key] = {name: tensor.numpy() for name, tensor in state.items()}
    return found
