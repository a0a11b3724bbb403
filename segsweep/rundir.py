"""The run directory: where its files are, how it is found again, and its lock."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import socket
import time
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from segsweep import ledger, spec, yamlfile
from segsweep.errors import Problem, RunError, UserError
from segsweep.ledger import Event
from segsweep.spec import SweepSpec

SWEEP, RESOLVED, JOURNAL, LOCK = "sweep.yaml", "resolved.yaml", "optuna.journal", ".lock"
LAUNCH = "launch"  # what holds the lock, where nothing else is said
FIRST_IDENTITY = 2  # of ledgers that do not say theirs
RUNS = "runs"  # where runs are kept, unless a sweep file says otherwise


@dataclass(frozen=True)
class Run:
    """A run directory with its settings and its whole ledger."""

    path: Path
    spec: SweepSpec
    events: list[Event]

    @property
    def metric(self) -> str:
        """The compared metric's name in ledger and columns, ``val_iou``."""
        return self.spec.metric.name.replace("/", "_")

    @property
    def last_launch(self) -> Event:
        """The event of the last launch."""
        return next(e for e in reversed(self.events) if e["event"] == "launch")

    @property
    def identity(self) -> int:
        """The version of what its ids and scores mean; see ``identity.MEANINGS``."""
        return int(self.last_launch.get("identity", FIRST_IDENTITY))

    def located(self, text: str) -> str:
        """A path of its settings, which begins where the sweep was last launched, made absolute.

        Where nothing is there, it begins in the working directory.
        """
        path = Path(self.last_launch.get("cwd", ".")) / text
        return str(path if path.exists() else Path(text).absolute())

    @property
    def split(self) -> Event:
        """Which images are in which fold; empty in a run that has begun nothing.

        The last word counts: what was split before anything was trained may be split anew.
        """
        return next((e for e in reversed(self.events) if e["event"] == "split"), {})


def names(storage_path: str = RUNS) -> list[str]:
    """Sweeps that have a run directory under ``storage_path``."""
    folders = sorted(Path(storage_path).glob("*"))
    return [folder.name for folder in folders if (folder / ledger.LEDGER).exists()]


def find(run: str, storage_path: str = RUNS) -> Path:
    """The run directory that ``run`` means.

    Args:
        run: a run directory, a sweep's name under ``storage_path``, or its sweep file.
        storage_path: where names are looked up.

    Raises:
        RunError: there is none; the message says where it was looked for.
    """
    path = Path(run)
    if path.is_dir() and (path / ledger.LEDGER).exists():
        return path
    looked = [path]
    if path.is_file():
        try:
            named = spec.load(path).run_directory
        except UserError as error:
            raise RunError(error.problems) from error
        if (named / ledger.LEDGER).exists():
            return named
        looked = [named]
    else:
        named = Path(storage_path) / run
        if (named / ledger.LEDGER).exists():
            return named
        looked.append(named)
    places = " and ".join(str(place) for place in looked)
    hint = f"looked in {places}; launching a sweep file makes one"
    raise RunError(Problem(f"no run {run!r}", hint=hint))


def load(path: Path) -> Run:
    """Read a run directory; its settings are those of the last launch in the ledger.

    Raises:
        RunError: the ledger cannot be read, or holds no launch.
    """
    try:
        events = ledger.read(path / ledger.LEDGER)
    except OSError as error:
        raise RunError(Problem(f"cannot be read: {error}", str(path / ledger.LEDGER))) from error
    last = next((event for event in reversed(events) if event["event"] == "launch"), None)
    if last is None:
        raise RunError(Problem("holds no launch", str(path / ledger.LEDGER)))
    where, version = str(path / ledger.LEDGER), str(last.get("version", "?"))
    return Run(path, spec.recorded(last.get("spec"), where, version), events)


def write_atomically(path: Path, text: str) -> None:
    """Write a small text file in one step."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        temporary.write_text(text, encoding="utf-8")
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def write_settings(path: Path, text: str, settings: SweepSpec) -> None:
    """The sweep file as given, and with everything filled in."""
    write_atomically(path / SWEEP, text)
    write_atomically(path / RESOLVED, yamlfile.dump(spec.to_plain(settings)))


@dataclass(frozen=True)
class Holder:
    """Who a run directory's lock names.

    Attributes:
        what: the command that holds it, ``launch``, ``calibrate``, ``sync``, …
        alive: its process lives; None where that cannot be seen, from another host.
        since: local time of its host, ``2026-01-31 12:00:00``.
    """

    pid: int
    host: str
    since: str
    alive: bool | None
    what: str = LAUNCH


def holder(path: Path) -> Holder | None:
    """Who holds the lock of a run directory, or held it and died; None: nobody.

    Looks without touching the lock: a launch that begins now must not find it taken.
    """
    file = path / LOCK
    try:
        facts: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        pid, host, since = int(facts["pid"]), str(facts["host"]), str(facts["since"])
        what = str(facts.get("what", LAUNCH))
        inode = file.stat().st_ino
    except (OSError, ValueError, KeyError, TypeError):
        return None
    if host != socket.gethostname():
        return Holder(pid, host, since, None, what)
    return Holder(pid, host, since, _lives(pid) and _is_locked(inode), what)


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # it is somebody else's
        return True
    return True


def _is_locked(inode: int) -> bool:
    """Does the system know a lock on this file? A process id may be another process's by now."""
    try:
        lines = Path("/proc/locks").read_text(encoding="ascii").splitlines()
    except OSError:
        return True  # it does not say: the process id must do
    return any(line.split()[5].endswith(f":{inode}") for line in lines if "FLOCK" in line)


class Lock:
    """One writer at a time in a run directory; the system lets go when the process ends.

    Args:
        path: the run directory.
        what: the command that holds it, for those who find it taken.

    Attributes:
        stale: who held it last and ended without giving it back; None where all was well.
    """

    def __init__(self, path: Path, what: str = LAUNCH) -> None:
        path.mkdir(parents=True, exist_ok=True)
        self._file: IO[str] = (path / LOCK).open("a+", encoding="utf-8")
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            holding, name = self._purpose(), self._holder()
            self._file.close()
            who = "another launch" if holding == LAUNCH else f"`segsweep {holding}`"
            taken = f"{who} is running here: {name}"
            raise RunError(
                Problem(taken, str(path), hint="wait for it, or stop that process")
            ) from error
        self.stale = self._holder() if os.fstat(self._file.fileno()).st_size else None
        self._file.truncate(0)
        now = time.strftime("%Y-%m-%d %H:%M:%S")
        facts = {"pid": os.getpid(), "host": socket.gethostname(), "since": now, "what": what}
        with contextlib.suppress(OSError):  # a full disk: the lock holds without a name on it
            os.write(self._file.fileno(), json.dumps(facts).encode())

    def _holder(self) -> str:
        self._file.seek(0)
        try:
            facts: dict[str, Any] = json.loads(self._file.read())
            return f"pid {facts['pid']} on {facts['host']} since {facts['since']}"
        except (ValueError, KeyError):
            return "its name cannot be read"

    def _purpose(self) -> str:
        self._file.seek(0)
        try:
            return str(json.loads(self._file.read()).get("what", LAUNCH))
        except (ValueError, AttributeError):
            return LAUNCH

    def release(self) -> None:
        """Let the next one in."""
        self._file.truncate(0)
        self._file.close()
