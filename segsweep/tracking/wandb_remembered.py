"""What W&B has made for a sweep once, by its id, so that it is not made again."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from segsweep.rundir import write_atomically


def read(path: Path, project: str, entity: str | None) -> dict[str, Any]:
    """What was remembered of the same project and entity; nothing where that is another's."""
    try:
        known = json.loads(path.read_text(encoding="utf-8"))
        if (known["project"], known["entity"]) == (project, entity):
            return dict(known)
    except (OSError, ValueError, KeyError, TypeError):
        pass  # nothing yet
    return {}


def write(path: Path, project: str, entity: str | None, ids: Mapping[str, Any]) -> None:
    """Remember ``ids`` until they are another project's."""
    path.parent.mkdir(exist_ok=True)
    write_atomically(path, json.dumps({**ids, "project": project, "entity": entity}))
