"""The ledger: the append-only record of everything that happened, one JSON line an event.

Every line is on the disk before the decision that it records takes effect. Everything else
(Parquet files, the Optuna journal, W&B files) is a projection of it and can be rebuilt.

========== ====================================================================================
event      fields beside ``event`` and ``time`` (seconds since 1970)
========== ====================================================================================
launch     version, pid, host, cwd (which relative paths of the spec begin at), command, spec (every
           default filled in), device, cells (→ configs), versions (of Python and the libraries that
           numbers hang on)
split      fingerprint, folds_hash, classes, palette (RGB by class, or null), images, decodes,
           folds (image id → fold), holdout, groups (image id → group, where the sweep has group_by)
config     config_id, cell, levels, number (in its cell), params, draws (Optuna's), config
start      trial_id, config_id, fold, replicate, attempt, micro_batch (images a pass; null: all)
lost       trial_id, error: the worker died, the trial is handed out again; where memory ran out,
           micro_batch: with so many images a pass
damaged    what; of a checkpoint: trial_id, epoch from which the trial goes on (0: from the start)
epoch      trial_id, epoch, train_loss, val_*, lr, seconds, images, best_epoch, parameters
rung       trial_id, epoch, value, peers, threshold, keep, parked: it waits for a promotion
promote    trial_id, epoch of the rung, peers, threshold, keep
retry      trial_id: it had failed and is open again
race       config_id, incumbent, looks, gap, probability, sigma, dof, shared, keep
end        trial_id, status, stopped_by, error, node
revive     config_id, cell
champion   cell, config_id
holdout    trial_id, loss and scores, counts kept beside the checkpoint
close      status (how the launch ended), undecided
========== ====================================================================================
"""

from __future__ import annotations

import errno
import json
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Protocol

from segsweep.errors import Problem, RunError

Event = dict[str, Any]
Listener = Callable[[Event], None]

LEDGER = Path("ledger") / "events.jsonl"


def read(path: Path) -> list[Event]:
    """Every whole event of a ledger; a torn last line is dropped.

    Raises:
        RunError: a line before the last one is damaged.
    """
    return [event for event, _ in _scan(path)]


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
        yield event, end


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

    def listen(self, listener: Listener) -> None:
        """Call ``listener`` with every event from now on, after it is on the disk."""
        self._listeners.append(listener)

    def append(self, event: str, **fields: Any) -> Event:
        """Write one event, fsync it, and tell the listeners.

        Raises:
            ValueError: a field that JSON cannot hold, such as NaN.
            OSError: the disk is full or gone; the ledger stays valid.
        """
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
