"""The ledger: the append-only record of everything that happened, one JSON line an event.

Every line is on the disk before the decision that it records takes effect. Everything else
(Parquet files, the Optuna journal, W&B files) is a projection of it and can be rebuilt.

A line has ``event``, ``time`` (seconds since 1970) and the fields that ``events.EVENTS`` lists.
Each launch says the version of the format that it writes.
"""

from __future__ import annotations

import errno
import json
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Protocol

from segsweep import events as schema
from segsweep.errors import Problem, RunError
from segsweep.identity import with_neutral

Event = dict[str, Any]
Listener = Callable[[Event], None]

LEDGER = Path("ledger") / "events.jsonl"
CHECKED = "SEGSWEEP_CHECK_LEDGER"
"""Where this environment variable is set, an event that is not as ``events`` says is an error."""


def read(path: Path) -> list[Event]:
    """Every whole event of a ledger; a torn last line is dropped.

    Raises:
        RunError: a line before the last one is damaged, or a newer segsweep wrote the ledger.
    """
    return [event for event, _ in _scan(path)]


def _as_today(event: Event, path: Path) -> Event:
    """An event of this format or an older one, with the keys that came later.

    Raises:
        RunError: the launch wrote a newer format, which may mean what nobody here knows.
    """
    for kind, key in (("launch", "spec"), ("config", "config")):
        if event["event"] == kind and isinstance(event.get(key), dict):
            event[key] = with_neutral(event[key])
    if event["event"] == "launch":
        _refuse_newer(event, path)
    return event


def _refuse_newer(event: Event, path: Path) -> None:
    version = event.get("ledger", 1)
    if isinstance(version, int) and version <= schema.LEDGER_VERSION:
        return
    what = f"has version {version} of the ledger, and this segsweep reads up to "
    by = f"segsweep {event.get('version', '?')} wrote it: use that one or a newer one"
    raise RunError(Problem(f"{what}{schema.LEDGER_VERSION}", str(path), "", by))


def _scan(path: Path) -> Iterator[tuple[Event, int]]:
    """Events with the offset of each one's end."""
    try:
        raw = path.read_bytes()
    except FileNotFoundError:
        return
    end = 0
    lines = raw.split(b"\n")
    for number, line in enumerate(lines, start=1):
        end += len(line) + 1
        last = number >= len(lines) - 1
        if not line:
            continue
        try:
            event = json.loads(line)
            if not isinstance(event, dict) or "event" not in event:
                raise ValueError("this is no event")
            if end > len(raw):  # no newline: the write was cut short
                return
        except ValueError as error:
            if last:
                return
            hint = "restore the file from a backup"
            raise RunError(Problem(f"is damaged: {error}", f"{path}:{number}", "", hint)) from error
        yield _as_today(event, path), end


class Book(Protocol):
    """What a search needs of a ledger."""

    events: list[Event]

    def append(self, event: str, **fields: Any) -> Event:
        """Record one event before what it says takes effect."""


class MemoryLedger:
    """A ledger that nobody needs afterwards: for searches over recorded curves."""

    def __init__(self) -> None:
        self.events: list[Event] = []

    def append(self, event: str, **fields: Any) -> Event:
        """See ``Book``."""
        record: Event = {"event": event, **fields}
        self.events.append(record)
        return record


class Ledger:
    """An open ledger of one launch; the only writer of its file.

    Args:
        path: ``ledger/events.jsonl`` of a run directory; made where there is none.

    Attributes:
        events: all events so far, older launches included.
        torn: bytes of a last line that was cut short and has been dropped.
    """

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self.events: list[Event] = []
        whole = 0
        for event, end in _scan(path):
            self.events.append(event)
            whole = end
        self._file = path.open("ab", buffering=0)
        self.torn = self._file.tell() - whole
        self._file.truncate(whole)
        self._file.seek(whole)
        self._listeners: list[Listener] = []
        self._checks = bool(os.environ.get(CHECKED))

    def listen(self, listener: Listener) -> None:
        """Call ``listener`` with every event from now on, after it is on the disk."""
        self._listeners.append(listener)

    def append(self, event: str, **fields: Any) -> Event:
        """Write one event, fsync it, and tell the listeners.

        Raises:
            ValueError: a field that JSON cannot hold, such as NaN.
            OSError: the disk is full or gone; the ledger stays valid.
        """
        if self._checks and (wrong := schema.mistakes(event, fields)):
            raise ValueError("; ".join(wrong))
        record: Event = {"event": event, "time": round(time.time(), 3), **fields}
        line = json.dumps(record, allow_nan=False, separators=(",", ":")).encode() + b"\n"
        start = self._file.tell()
        try:
            if self._file.write(line) != len(line):
                raise OSError(errno.ENOSPC, "the line was not written in full")
            os.fsync(self._file.fileno())
        except OSError:
            self._file.truncate(start)
            self._file.seek(start)  # where the next line is said to begin, should it fail as well
            raise
        self.events.append(record)
        for listener in self._listeners:
            listener(record)
        return record

    def close(self) -> None:
        """Close the file; no more events can be written."""
        self._file.close()
