"""Launches as a person makes them: processes with real signals and real disks."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.helpers import events
from tests.runners.processes import PATIENCE_S


def start(path: Path, *arguments: str, **environment: str) -> subprocess.Popen[str]:
    """``segsweep launch``, output and errors in one stream."""
    return subprocess.Popen(
        [sys.executable, "-m", "segsweep", "launch", str(path), *arguments],
        cwd=path.parent,
        env={**os.environ, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def finish(process: subprocess.Popen[str], code: int = 0, seconds: float = PATIENCE_S) -> str:
    """Its output, once it has ended with ``code``; it is killed where it does not."""
    try:
        output, _ = process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        process.kill()  # else it would be left to the tests after this one
        output, _ = process.communicate()
        raise AssertionError(f"did not end within {seconds} s:\n{output}") from None
    assert process.returncode == code, output
    assert "Traceback" not in output
    return output


def running(pid: int) -> bool:
    """Alive, and not only waiting to be reaped."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


def decisions(run: Path) -> list[tuple[Any, ...]]:
    """Everything that was decided, in order."""
    kinds = ("config", "rung", "race", "end", "champion")
    names = ("event", "config_id", "trial_id", "epoch", "keep", "probability", "status", "cell")
    return [tuple(e.get(n) for n in names) for e in events(run) if e["event"] in kinds]


def curves(run: Path) -> dict[tuple[str, int], dict[str, Any]]:
    """Everything reported about each epoch, but what a clock says; none may be there twice."""
    found = events(run, "epoch")
    result = {
        (e["trial_id"], e["epoch"]): {
            k: v for k, v in e.items() if "seconds" not in k and k != "time"
        }
        for e in found
    }
    assert len(result) == len(found)
    return result


def flip(path: Path) -> None:
    """One bit of a file."""
    raw = bytearray(path.read_bytes())
    raw[-len(raw) // 3] ^= 4
    path.write_bytes(raw)
