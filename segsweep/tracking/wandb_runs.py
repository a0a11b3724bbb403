"""W&B's runs and their files: opening, going on, finishing; what to do where the server is gone.

A run is *delivered* once the server has all of it; an empty file ``<run>.wandb.synced`` beside its
record says so, which is also what ``wandb sync`` leaves and heeds. Where the server does not
answer within ``INIT_S``, or does not take a run's rows within ``FINISH_S``, this and all later
runs of the launch are kept in W&B's offline form. A row is written to one place only: a run goes
on above the last step that the server has, or that is in files a server may have seen.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from segsweep.errors import Problem, RunError
from segsweep.identity import digest
from segsweep.spec import SweepSpec

INIT_S = 10.0  # for the server to answer when a run begins
FINISH_S = 15.0  # for the server to take what is left when a run ends
FOLDER = re.compile(r"(offline-)?run-\d{8}_\d{6}-(?P<id>[0-9a-f]{16})(-\d+)?")
# of W&B's record files: a LevelDB log
BLOCK, HEADER, MIDDLE_KINDS = 32768, 7, (3, 4)


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
    """

    def __init__(self, spec: SweepSpec, run_directory: Path, online: bool) -> None:
        self.spec, self.place, self.online = spec, run_directory, online
        self.problem: str | None = None
        self.folders: dict[str, list[Path]] = {}
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

    def delivered(self, key: str) -> bool:
        """Has the server all of it?"""
        folders = self.folders.get(self.id_of(key), [])
        return bool(folders) and all(_synced(folder).exists() for folder in folders)

    def open(self, key: str, **settings: Any) -> OpenRun:
        """Begin a run, or go on with it.

        Raises:
            Exception: whatever W&B raises where not even files can be written.
        """
        if self.online:
            try:
                return self._open_online(key, settings)
            except Exception as error:
                self._lost(error)
        return self._open_offline(key, settings)

    def _open_online(self, key: str, settings: dict[str, Any]) -> OpenRun:
        with _environment("online"):
            if not self._logged_in:
                _log_in()
                self._logged_in = True
            run = self._init(key, "online", resume="allow", **settings)
        return OpenRun(run, True, int(run.starting_step))

    def _open_offline(self, key: str, settings: dict[str, Any]) -> OpenRun:
        first = 0
        for folder in list(self.folders.get(self.id_of(key), [])):
            if folder.name.startswith("offline-") and not _synced(folder).exists():
                shutil.rmtree(folder, ignore_errors=True)  # written again, in one piece
                self.folders[self.id_of(key)].remove(folder)
            else:
                first = max(first, last_step(_record(folder)) + 1)
        with _environment("offline"):
            return OpenRun(self._init(key, "offline", **settings), False, first)

    def _init(self, key: str, mode: str, **settings: Any) -> Any:
        import wandb

        run = wandb.init(
            project=self.spec.project,
            entity=self.spec.entity,
            dir=str(self.place),
            id=self.id_of(key),
            reinit="create_new",
            mode=mode,  # type: ignore[arg-type]
            settings=wandb.Settings(
                silent=True,
                console="off",
                x_disable_stats=True,
                x_save_requirements=False,  # would read every installed package, 0.06 s a run
                init_timeout=INIT_S,
                finish_timeout=FINISH_S if mode == "online" else 0,  # 0: as long as it takes
                finish_timeout_raises=True,
            ),
            **settings,
        )
        self._remember(Path(run.dir).parent)
        return run

    def finish(self, opened: OpenRun, exit_code: int = 0) -> None:
        """End a run; one that the server does not take in time is not delivered.

        Raises:
            Exception: whatever W&B raises where a file cannot be written.
        """
        try:
            opened.run.finish(exit_code=exit_code)
            if opened.online and not _taken(opened.run):
                raise ConnectionError("the server took nothing of a run")
        except Exception as error:
            if not opened.online:
                raise
            self._lost(error)
        else:
            if opened.online:
                for folder in self.folders.get(opened.run.id, []):
                    _synced(folder).touch()
            else:
                _await_end(_record(Path(opened.run.dir).parent))

    def _lost(self, error: Exception) -> None:
        """Go on offline. W&B's own process is ended, and all online runs with it.

        It would keep their ids, and each would wait for the same server in vain when it ends;
        ended together they take ``FINISH_S``.
        """
        import wandb

        self.online = False
        self.problem = describe(error)
        wandb.teardown()


def describe(error: Exception) -> str:
    """An error in one line."""
    return " ".join(f"{type(error).__name__}: {error}".split())[:200]


def last_step(record: Path) -> int:
    """The last step of a run's record file; -1 where it holds no rows. A torn end is no error."""
    rows = [e for e in _entries(record) if e.WhichOneof("record_type") == "history"]
    return max((int(entry.history.step.num) for entry in rows), default=-1)


def _await_end(record: Path) -> None:
    """Wait until a run's file holds its end: W&B goes on writing it after ``finish``.

    Who would take the file away before, or end the process, would lose what is still to come.
    """
    deadline = time.monotonic() + FINISH_S
    while time.monotonic() < deadline:
        if any(entry.WhichOneof("record_type") == "exit" for entry in _entries(record)):
            return
        time.sleep(0.01)


def _entries(record: Path) -> Iterator[Any]:
    """The whole records of a run's file."""
    from wandb.proto import wandb_internal_pb2

    with contextlib.suppress(OSError):
        for raw in _records(record.read_bytes()):
            entry: Any = wandb_internal_pb2.Record()  # type: ignore[attr-defined]
            entry.ParseFromString(raw)
            yield entry


def _records(data: bytes) -> Iterator[bytes]:
    """Whole records of a LevelDB log, whose first seven bytes are W&B's own."""
    at, whole = HEADER, b""
    while at + HEADER <= len(data):
        left = BLOCK - at % BLOCK
        size, kind = int.from_bytes(data[at + 4 : at + 6], "little"), data[at + 6]
        if left < HEADER or kind == 0:  # padding
            at += left
            continue
        part = data[at + HEADER : at + HEADER + size]
        if len(part) < size:
            return
        whole = whole + part if kind in MIDDLE_KINDS else part
        at += HEADER + size
        if kind in (1, 4):  # full, last
            yield whole


def _record(folder: Path) -> Path:
    named = FOLDER.fullmatch(folder.name)
    return folder / f"run-{named['id'] if named else ''}.wandb"


def _synced(folder: Path) -> Path:
    record = _record(folder)
    return record.with_name(f"{record.name}.synced")


def _taken(run: Any) -> bool:
    """Did the server take anything? W&B ends a run that was refused without a word."""
    ended = getattr(run, "_poll_exit_response", None)
    return ended is None or ended.file_counts.wandb_count > 0


def _log_in() -> None:
    """Find the key without asking for it: a sweep has nobody to ask.

    Raises:
        RunError: there is none.
    """
    import wandb

    if not wandb.login(prompt=False, verify=False):
        hint = "run `wandb login`, set WANDB_API_KEY, or use wandb.mode: offline"
        raise RunError(Problem("no API key of W&B is configured", key="wandb.mode", hint=hint))


@contextlib.contextmanager
def _environment(mode: str) -> Iterator[None]:
    """The sweep's word wins over WANDB_MODE, which W&B would prefer; and W&B keeps quiet."""
    wanted = {"WANDB_MODE": mode, "WANDB_SILENT": "true"}
    before = {name: os.environ.get(name) for name in wanted}
    os.environ.update(wanted)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
