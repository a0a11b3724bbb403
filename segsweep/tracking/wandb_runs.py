"""W&B's runs and their files: opening, going on, finishing; what to do where the server is gone.

A run is *delivered* once the server has all of it. A file ``<run>.wandb.synced`` beside its record
says up to where; ``wandb sync`` leaves an empty one, and heeds it. Where the server does not
answer within ``INIT_S``, or does not take a run's rows within ``FINISH_S``, this and all later runs
of the launch are kept in W&B's offline form. A row is written to one place only: a run goes on
above the last step that the server has, or that is in files a server may have seen.
"""

from __future__ import annotations

import json
import re
import shutil
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from segsweep.identity import digest
from segsweep.spec import SweepSpec
from segsweep.tracking import wandb_service, wandb_session, wandb_sweep
from segsweep.tracking.wandb_records import last_step, read
from segsweep.tracking.wandb_session import environment, is_silent
from segsweep.tracking.writer import describe

INIT_S = 10.0  # for the server to answer when a run begins
FINISH_S = 15.0  # for the server to take what is left when a run ends
FOLDER = re.compile(r"(offline-)?run-\d{8}_\d{6}-(?P<id>[0-9a-f]{16})(-\d+)?")


@dataclass(frozen=True)
class Upto:
    """How far a run has come.

    Attributes:
        step: its last one; -1: it has no rows.
        ended: how it ended is told.
    """

    step: int = -1
    ended: bool = False

    def covers(self, other: Upto) -> bool:
        """Is ``other`` no further?"""
        return self.step >= other.step and (self.ended or not other.ended)


BEGUN = Upto()


@dataclass
class OpenRun:
    """A run that rows go to.

    Attributes:
        run: W&B's own.
        online: it is sent while it is written.
        first: the lowest step that may still be written.
    """

    run: Any
    online: bool
    first: int

    def log(self, row: dict[str, Any], step: int) -> None:
        """Write a row, unless that step was written before."""
        if step >= self.first:
            self.run.log(row, step=step)


class WandbRuns:
    """The runs of one sweep.

    Args:
        spec: the sweep.
        run_directory: W&B's files go to its ``wandb/``.
        online: send runs to the server; else keep them in offline form.

    Attributes:
        online: whether runs are sent; once the server is lost, no more.
        problem: how the server was lost; None: it was not.
        sweep: the id of the page that trials are shown on; None: offline, or it cannot be had.
    """

    def __init__(self, spec: SweepSpec, run_directory: Path, online: bool) -> None:
        self.spec, self.place, self.online = spec, run_directory, online
        self.problem: str | None = None
        self.folders: dict[str, list[Path]] = {}
        self.sweep: str | None = None
        self._logged_in = False
        for folder in sorted((run_directory / "wandb").glob("*run-*")):
            self._remember(folder)

    def _remember(self, folder: Path) -> None:
        named = FOLDER.fullmatch(folder.name)
        if named is not None:
            self.folders.setdefault(named["id"], []).append(folder)

    def id_of(self, key: str) -> str:
        """The run id of a trial, the same in every launch."""
        return digest([self.spec.name, key])[:16]

    def has_all_of(self, run_id: str, upto: Upto = BEGUN) -> bool:
        """Has the server all of it, ``upto`` where it has come by the ledger?"""
        folders = self.folders.get(run_id, [])
        if not folders or not all(_synced(folder).exists() for folder in folders):
            return False
        return upto == BEGUN or any(_delivered(folder).covers(upto) for folder in folders)

    def discard(self, run_id: str) -> None:
        """Forget a run of which the server has nothing."""
        folders = self.folders.get(run_id, [])
        if all(one.name.startswith("offline-") and not _synced(one).exists() for one in folders):
            for one in self.folders.pop(run_id, []):
                shutil.rmtree(one, ignore_errors=True)

    def records(self, run_id: str) -> list[Path]:
        """A run's record files, the oldest first."""
        folders = self.folders.get(run_id, [])
        return [_record(one) for one in sorted(folders, key=lambda at: at.name.split("run-")[1])]

    def open(self, key: str, **settings: Any) -> OpenRun:
        """Begin a run, or go on with it.

        Raises:
            Exception: whatever W&B raises where not even files can be written.
        """
        if self.online:
            try:
                return self.open_online(self.id_of(key), settings)
            except Exception as error:
                self._lost(error)
        return self._open_offline(key, settings)

    def log_in(self, verify: bool = False) -> None:
        """Find the key, once; ``verify`` asks the server whether it is good.

        Raises:
            RunError: there is none.
            Exception: what W&B raises where the server refuses it, or does not answer.
        """
        if not self._logged_in:
            if wandb_service.is_offline():  # an earlier launch in this process
                wandb_service.end(FINISH_S)
            wandb_session.log_in(verify)
            self._logged_in = True
            self._find_page()

    def _find_page(self) -> None:
        try:
            self.sweep = wandb_sweep.page(self.spec, self.place, INIT_S)
        except Exception as error:  # runs are the same without
            if is_silent(error):
                raise

    def open_online(self, run_id: str, settings: dict[str, Any]) -> OpenRun:
        """Begin a run on the server, or go on with it above the last step that it has.

        Raises:
            Exception: whatever W&B raises where the server cannot be used.
        """
        with environment("online"):
            self.log_in()
            run = self._init(run_id, "online", resume="allow", **settings)
        return OpenRun(run, True, int(run.starting_step))

    def _open_offline(self, key: str, settings: dict[str, Any]) -> OpenRun:
        first = 0
        for folder in list(self.folders.get(self.id_of(key), [])):
            if folder.name.startswith("offline-") and not _synced(folder).exists():
                shutil.rmtree(folder, ignore_errors=True)  # written again, in one piece
                self.folders[self.id_of(key)].remove(folder)
            else:
                first = max(first, last_step(_record(folder)) + 1)
        with environment("offline"):
            return OpenRun(self._init(self.id_of(key), "offline", **settings), False, first)

    def _init(self, run_id: str, mode: str, config: dict[str, Any], **settings: Any) -> Any:
        import wandb

        # not by WANDB_SWEEP_ID: where that is set, W&B ignores a run's own id and project
        page = self.sweep if settings.get("job_type", "").startswith("fold") else None
        run = wandb.init(
            project=self.spec.project,
            entity=self.spec.entity,
            dir=str(self.place),
            id=run_id,
            reinit="create_new",
            config={"sweep_name": self.spec.name, **config},
            mode=mode,  # type: ignore[arg-type]
            settings=wandb.Settings(
                silent=True,
                console="off",
                x_disable_stats=True,
                x_save_requirements=False,  # would read every installed package, 0.06 s a run
                init_timeout=INIT_S,
                finish_timeout=FINISH_S if mode == "online" else 0,  # 0: as long as it takes
                finish_timeout_raises=True,
                sweep_id=page if mode == "online" else None,
            ),
            **settings,
        )
        self._remember(Path(run.dir).parent)
        return run

    def finish(self, opened: OpenRun, exit_code: int = 0, upto: Upto = BEGUN) -> None:
        """End a run; one that the server does not take in time is not delivered.

        Args:
            opened: the run.
            exit_code: that it ends with.
            upto: how far it has come with what was written to it.

        Raises:
            Exception: whatever W&B raises where a file cannot be written.
        """
        try:
            self.deliver(opened, exit_code, upto)
        except Exception as error:
            if not opened.online:
                raise
            self._lost(error)

    def deliver(self, opened: OpenRun, exit_code: int = 0, upto: Upto = BEGUN) -> None:
        """As ``finish``.

        Raises:
            Exception: where the server did not take it, too.
        """
        opened.run.finish(exit_code=exit_code)
        if opened.online:
            if not _taken(opened.run):
                raise ConnectionError("the server took nothing of a run")
            for folder in self.folders.get(opened.run.id, []):
                _synced(folder).write_text(json.dumps(asdict(upto)), encoding="utf-8")
        else:
            _await_end(_record(Path(opened.run.dir).parent))

    def _lost(self, error: Exception) -> None:
        """Go on offline. W&B's own process is ended, and all online runs with it.

        It would keep their ids, and each would wait for the same server in vain when it ends;
        ended together they take ``FINISH_S`` at most.
        """
        self.online = False
        self.problem = describe(error)
        wandb_service.end(FINISH_S)


def _await_end(record: Path) -> None:
    """Wait until a run's file holds its end: W&B goes on writing it after ``finish``.

    Who would take the file away before, or end the process, would lose what is still to come.
    """
    deadline = time.monotonic() + FINISH_S
    while time.monotonic() < deadline and read([record]).exit_code is None:
        time.sleep(0.01)


def _record(folder: Path) -> Path:
    named = FOLDER.fullmatch(folder.name)
    return folder / f"run-{named['id'] if named else ''}.wandb"


def _synced(folder: Path) -> Path:
    record = _record(folder)
    return record.with_name(f"{record.name}.synced")


def _delivered(folder: Path) -> Upto:
    """Up to where the server has a run, of which ``folder`` was delivered."""
    try:
        return Upto(**json.loads(_synced(folder).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):  # of `wandb sync`: all that the record holds
        found = read([_record(folder)])
        return Upto(max(found.rows, default=-1), "status" in found.summary)


def _taken(run: Any) -> bool:
    """Did the server take anything? W&B ends a run that was refused without a word."""
    ended = getattr(run, "_poll_exit_response", None)
    return ended is None or ended.file_counts.wandb_count > 0
