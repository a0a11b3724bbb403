"""A disk that is full: what a launch says when it can write no more."""

from __future__ import annotations

import contextlib
import shutil
from pathlib import Path

from segsweep.errors import DiskFull

LISTED = 3  # the largest things that somebody could delete


def explain(error: BaseException, run_directory: Path) -> DiskFull:
    """One message: where, how much is left, what takes the most room, what to do then."""
    storage = run_directory.parent
    text = f"the disk of {storage} is full: {error}"
    with contextlib.suppress(OSError):
        text += f"\n    {human(shutil.disk_usage(storage).free)} are left"
        sizes = sorted(((size(p), p) for p in _candidates(run_directory)), reverse=True)
        held = [f"{path} ({human(count)})" for count, path in sizes[:LISTED] if count]
        if held:
            text += f"; the most is held by {', '.join(held)}"
    text += "\n    free some space and launch again: nothing is lost, and it goes on from here"
    return DiskFull(text)


def _candidates(run_directory: Path) -> list[Path]:
    """Other runs, the cache that is made again, and what of this run can be spared."""
    others = [path for path in run_directory.parent.iterdir() if path != run_directory]
    return [*others, run_directory / "wandb"]


def size(path: Path) -> int:
    """Bytes of a file, or of all below a folder; what vanishes meanwhile counts nothing."""
    if not path.is_dir():
        return path.stat().st_size if path.exists() else 0
    total = 0
    for inner in path.rglob("*"):
        with contextlib.suppress(OSError):
            total += 0 if inner.is_dir() else inner.lstat().st_size
    return total


def human(count: float) -> str:
    """Bytes in the unit that fits."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:.3g} TB"
