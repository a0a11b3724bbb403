"""Does every node of a cluster see the run directory? Asked before anything is trained."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from segsweep.errors import Problem, RunError

MARKER = ".seen.tmp"  # cleared away with other temporary files, should this process be killed


def sees(marker: str) -> str:
    """What a node reads there; empty where it reads nothing."""
    try:
        return Path(marker).read_text(encoding="utf-8")
    except OSError:
        return ""


def on_node(node: dict[str, Any], marker: str) -> str:
    """``sees`` on that node."""
    where = NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
    task: Any = ray.remote(num_cpus=0)(sees)
    return str(ray.get(task.options(scheduling_strategy=where).remote(marker)))


def require(
    nodes: Sequence[dict[str, Any]],
    place: Path,
    ask: Callable[[dict[str, Any], str], str] = on_node,
) -> None:
    """Refuse nodes whose trials would write where the driver cannot read.

    Args:
        nodes: as ``ray.nodes()`` gives them, alive.
        place: the run directory, absolute.
        ask: reads a file on a node.

    Raises:
        RunError: the nodes that do not see it.
    """
    marker, text = place / MARKER, uuid.uuid4().hex
    try:
        marker.write_text(text, encoding="utf-8")
        blind = [n["NodeManagerHostname"] for n in nodes if ask(n, str(marker)) != text]
    finally:
        marker.unlink(missing_ok=True)
    if blind:
        what = f"{place} is not the same folder on {', '.join(sorted(blind))}"
        hint = "use a storage_path on a disk that every node of the cluster mounts at that place"
        raise RunError(Problem(what, key="storage_path", hint=hint))
