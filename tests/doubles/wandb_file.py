"""Reads W&B's offline files: a LevelDB log of protobuf records."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from wandb.proto import wandb_internal_pb2

BLOCK, FILE_HEADER, HEADER = 32768, 7, 7
FULL, FIRST, _MIDDLE, LAST = 1, 2, 3, 4


@dataclass
class OfflineRun:
    """One offline run: what its file says."""

    folder: Path
    run_id: str = ""
    name: str = ""
    project: str = ""
    group: str = ""
    job_type: str = ""
    config: dict[str, Any] = field(default_factory=dict)
    history: dict[int, dict[str, Any]] = field(default_factory=dict)
    summary: dict[str, Any] = field(default_factory=dict)

    @property
    def last(self) -> dict[str, Any]:
        """The row of the last step."""
        return self.history[max(self.history)]


def offline_runs(folder: Path) -> list[OfflineRun]:
    """All offline runs below W&B's folder."""
    return [_read(path.parent, path) for path in sorted(folder.glob("offline-run-*/*.wandb"))]


def _read(folder: Path, path: Path) -> OfflineRun:
    found = OfflineRun(folder)
    for raw in _records(path.read_bytes()):
        record: Any = wandb_internal_pb2.Record()  # type: ignore[attr-defined]
        record.ParseFromString(raw)
        kind = record.WhichOneof("record_type")
        if kind == "run":
            run = record.run
            found.run_id, found.name, found.project = run.run_id, run.display_name, run.project
            found.group, found.job_type = run.run_group, run.job_type
            for item in run.config.update:
                found.config[item.key] = json.loads(item.value_json)
        elif kind == "history":
            row: dict[str, Any] = {}
            for item in record.history.item:
                *parents, last = item.nested_key or [item.key]
                node = row
                for parent in parents:
                    node = node.setdefault(parent, {})
                node[last] = json.loads(item.value_json)
            found.history.setdefault(int(row["_step"]), {}).update(row)
        elif kind == "summary":
            for item in record.summary.update:
                found.summary[item.key or ".".join(item.nested_key)] = json.loads(item.value_json)
    return found


def _records(data: bytes) -> Iterator[bytes]:
    position, parts = FILE_HEADER, b""
    while position + HEADER <= len(data):
        room = BLOCK - position % BLOCK
        if room < HEADER:
            position += room
            continue
        size = int.from_bytes(data[position + 4 : position + 6], "little")
        kind = data[position + 6]
        if kind == 0:
            position += room
            continue
        chunk = data[position + HEADER : position + HEADER + size]
        position += HEADER + size
        parts = chunk if kind in (FULL, FIRST) else parts + chunk
        if kind in (FULL, LAST):
            yield parts
