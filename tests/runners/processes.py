"""Processes of a test: those that it started, and nothing else."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable
from pathlib import Path

PATIENCE_S = 600.0  # for what comes in seconds where nothing else keeps the machine busy


def free_port() -> int:
    """A port on the loopback that nobody uses."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_for(condition: Callable[[], bool], seconds: float, what: str) -> None:
    """Until it holds, or fail."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"{what} did not come within {seconds} s"
        time.sleep(0.05)


def _parents() -> dict[int, int]:
    found: dict[int, int] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                stat = (entry / "stat").read_text()
            except OSError:
                continue
            found[int(entry.name)] = int(stat.rpartition(")")[2].split()[1])
    return found


def trial_workers(root: int) -> list[int]:
    """The processes below ``root`` in which trials run; Tune gives the actor its wrapper's name."""
    return descendants(root, "ray::ResourceTrainable")


def descendants(root: int, title: str) -> list[int]:
    """Processes below ``root`` whose command line begins with ``title``."""
    parents = _parents()

    def below(pid: int) -> bool:
        while pid > 1:
            if pid == root:
                return True
            pid = parents.get(pid, 0)
        return False

    return [pid for pid in parents if below(pid) and _title(pid).startswith(title)]


def _title(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
    except OSError:
        return ""


def alive(pid: int) -> bool:
    """Is it still there?"""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True
