"""Does every node of a cluster see the run directory? Asked before anything is trained."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import ray
from ray.exceptions import RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from segsweep.errors import Problem, RunError, first_line

MARKER = ".seen.tmp"  # cleared away with other temporary files, should this process be killed
PATIENCE_S = 60.0  # for all nodes together: a fresh worker takes seconds to start

Node = dict[str, Any]
Answer = tuple[str, str]  # what a node reads, and why it could not be asked


def sees(marker: str) -> str:
    """What a node reads there; empty where it reads nothing."""
    try:
        return Path(marker).read_text(encoding="utf-8")
    except OSError:
        return ""


def on_nodes(nodes: Sequence[Node], marker: str, patience: float = PATIENCE_S) -> list[Answer]:
    """``sees`` on each of the nodes, all at once."""
    task: Any = ray.remote(num_cpus=0, max_retries=0)(sees)
    asked: list[Any] = []
    for node in nodes:
        where = NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
        asked.append(task.options(scheduling_strategy=where).remote(marker))
    _, late = ray.wait(asked, num_returns=len(asked), timeout=patience)
    for one in late:
        ray.cancel(one)
    silent = f"no answer within {patience:g} s"
    return [("", silent) if one in late else _answer(one) for one in asked]


def _answer(one: Any) -> Answer:
    try:
        return str(ray.get(one)), ""
    except RayError as error:
        return "", first_line(error)


def require(
    nodes: Sequence[Node],
    place: Path,
    ask: Callable[[Sequence[Node], str], list[Answer]] = on_nodes,
) -> None:
    """Refuse nodes whose trials would write where the driver cannot read.

    Args:
        nodes: as ``ray.nodes()`` gives them, alive.
        place: the run directory, absolute.
        ask: reads a file on all of them.

    Raises:
        RunError: the nodes that do not see it, and those that could not be asked.
    """
    if not nodes:
        return
    marker, text = place / MARKER, uuid.uuid4().hex
    try:
        marker.write_text(text, encoding="utf-8")
        answers = ask(nodes, str(marker))
    finally:
        marker.unlink(missing_ok=True)
    hosts = [str(node["NodeManagerHostname"]) for node in nodes]
    failed = {host: why for host, (_, why) in zip(hosts, answers, strict=True) if why}
    problems = [
        Problem(f"{host} could not be asked whether it sees {place}: {why}", key="storage_path",
                hint="is the node well? `ray status` says; launch again when it is, or without it")
        for host, why in sorted(failed.items())
    ]  # fmt: skip
    blind = {
        host
        for host, (read, _) in zip(hosts, answers, strict=True)
        if host not in failed and read != text
    }
    if blind:
        what = f"{place} is not the same folder on {', '.join(sorted(blind))}"
        hint = "use a storage_path on a disk that every node of the cluster mounts at that place"
        problems.insert(0, Problem(what, key="storage_path", hint=hint))
    if problems:
        raise RunError(problems)
