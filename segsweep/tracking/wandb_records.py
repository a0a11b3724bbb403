"""Reading W&B's record files: a LevelDB log of protobuf records, seven bytes of W&B's own first."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

BLOCK, HEADER, LATER_KINDS = 32768, 7, (3, 4)


@dataclass
class Recorded:
    """What record files hold of one run, files taken together.

    Attributes:
        settings: ``name``, ``group`` and ``job_type``, where the run has them.
        rows: history by step; values as W&B's JSON has them.
        exit_code: that the run ended with; None: no file says.
        damaged: files of which nothing was taken; a torn end is no damage.
    """

    settings: dict[str, str] = field(default_factory=dict)
    config: dict[str, Any] = field(default_factory=dict)
    rows: dict[int, dict[str, Any]] = field(default_factory=dict)
    summary: dict[str, Any] = field(default_factory=dict)
    exit_code: int | None = None
    damaged: list[Path] = field(default_factory=list)


class Damaged(Exception):
    """A record file that holds something that is no record."""


def last_step(record: Path) -> int:
    """The last step of a run's record file; -1 where it holds no rows. A torn end is no error.

    Of a damaged file it is the last before the damage: the server is asked before it is sent more.
    """
    last = -1
    with contextlib.suppress(Damaged):
        for kind, entry in _entries(record):
            if kind == "history":
                last = max(last, int(entry.history.step.num))
    return last


def read(records: Sequence[Path]) -> Recorded:
    """A run from its record files; later ones add to earlier ones."""
    found = Recorded()
    for record in records:
        try:
            entries = list(_entries(record))
        except Damaged:
            found.damaged.append(record)
            continue
        for kind, entry in entries:
            _take(found, kind, entry)
    return found


def _take(found: Recorded, kind: str, entry: Any) -> None:
    if kind == "run":
        run = entry.run
        given = {"name": run.display_name, "group": run.run_group, "job_type": run.job_type}
        found.settings.update({key: value for key, value in given.items() if value})
        _update(found.config, run.config.update)
    elif kind == "config":
        _update(found.config, entry.config.update)
    elif kind == "summary":
        _update(found.summary, entry.summary.update)
    elif kind == "history":
        _update(found.rows.setdefault(int(entry.history.step.num), {}), entry.history.item)
    elif kind == "exit":
        found.exit_code = int(entry.exit.exit_code)


def _update(target: dict[str, Any], items: Any) -> None:
    for item in items:
        *parents, last = item.nested_key or [item.key]
        node = target
        for parent in parents:
            node = node.setdefault(parent, {})
        node[last] = json.loads(item.value_json)


def _entries(record: Path) -> Iterator[tuple[str, Any]]:
    """Every record of a file; none where it cannot be read.

    Raises:
        Damaged: what comes next is no record.
    """
    from google.protobuf.message import DecodeError
    from wandb.proto import wandb_internal_pb2

    try:
        data = record.read_bytes()
    except OSError:
        return
    for raw in _records(data):
        entry: Any = wandb_internal_pb2.Record()  # type: ignore[attr-defined]
        try:
            entry.ParseFromString(raw)
        except DecodeError as error:
            raise Damaged(str(record)) from error
        yield entry.WhichOneof("record_type"), entry


def _records(data: bytes) -> Iterator[bytes]:
    """Whole records of the log."""
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
        whole = whole + part if kind in LATER_KINDS else part
        at += HEADER + size
        if kind in (1, 4):  # full, last
            yield whole
