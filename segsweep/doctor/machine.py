"""The machine itself: driver, disk, shared memory, and the Ray cluster that it would join."""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
from collections.abc import Iterable
from pathlib import Path

from segsweep.doctor import reach
from segsweep.doctor.finding import Finding
from segsweep.fulldisk import human

LEAST_DISK = 2_000_000_000  # bytes; less is worth a word before checkpoints are written
LEAST_SHARED = 500_000_000  # bytes of /dev/shm, where Ray keeps the images
LONGEST = 40  # characters of Ray's directory; its sockets' paths may have 107


def driver() -> str | None:
    """The NVIDIA driver's version; None where there is none."""
    program = shutil.which("nvidia-smi")
    return _ask(program) if program is not None else None


@functools.cache
def _ask(program: str) -> str | None:
    query = [program, "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        done = subprocess.run(query, capture_output=True, text=True, timeout=20, check=False)  # noqa: S603
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip().splitlines()[0] if done.returncode == 0 and done.stdout else None


def joined() -> str:
    """Where the cluster is that launch joins without ``--address``; empty where it starts one."""
    address = os.environ.get("RAY_ADDRESS", "")
    return "" if address == "local" else address


def ray_cluster() -> Iterable[Finding]:
    """What keeps Ray from starting, or a cluster from being joined."""
    if address := joined():
        yield _cluster(address)
    # Ray's sockets lie below it, in a path of which the system allows 107 characters
    place = os.environ.get("RAY_TMPDIR") or os.environ.get("TMPDIR") or "/tmp"  # noqa: S108
    if len(place) > LONGEST:
        hint = "set RAY_TMPDIR to a short path, /tmp for one"
        yield Finding("Ray", "missing", f"{place} is too long for Ray's sockets", hint)


def _cluster(address: str) -> Finding:
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not host or not port.isdigit():  # auto, for one, which only Ray can look up
        hint = "`ray status` says whether one is there"
        return Finding("Ray cluster", "note", f"RAY_ADDRESS is {address}: launch looks", hint)
    if why := reach.silence(host.strip("[]"), int(port)):
        hint = "unset RAY_ADDRESS, or begin there with: ray start --head"
        what = f"RAY_ADDRESS is {address}: nobody answers ({why})"
        return Finding("Ray cluster", "missing", what, hint)
    return Finding("Ray cluster", "ok", f"RAY_ADDRESS is {address}: launch will join it")


def disk(storage_path: Path) -> Finding:
    """Room for runs."""
    place = storage_path.absolute()
    while not place.exists():
        place = place.parent
    if not os.access(place, os.W_OK):
        hint = "choose another with storage_path:"
        return Finding("disk", "missing", f"{place} cannot be written to", hint)
    free = shutil.disk_usage(place).free
    if free < LEAST_DISK:
        hint = "free some, or set storage_path:; plan says how much a sweep takes"
        return Finding("disk", "note", f"{human(free)} free at {place}", hint)
    return Finding("disk", "ok", f"{human(free)} free at {place}")


def shared_memory() -> Finding:
    """Room for the images that Ray's workers share."""
    place = Path("/dev/shm")  # noqa: S108 - looked at, not written to
    if not place.is_dir():
        return Finding("shared memory", "ok", "this system has no /dev/shm; Ray uses files")
    size = shutil.disk_usage(place).total
    if size < LEAST_SHARED:
        hint = "start the container with --shm-size=2g, or Ray falls back to slow files"
        return Finding("shared memory", "note", f"{human(size)} in /dev/shm", hint)
    return Finding("shared memory", "ok", f"{human(size)} in /dev/shm")
