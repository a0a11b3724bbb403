"""A full disk: a clean end that says what to free, and the same sweep afterwards."""

from __future__ import annotations

import errno
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from segsweep import fulldisk, ledger
from segsweep.errors import DiskFull
from segsweep.launching import launch
from tests.faults.launches import curves, finish, start
from tests.helpers import events, tiny, write_sweep

MB = 1_000_000
SWEEP: dict[str, Any] = {"factors__model": [{"name": "unet_vanilla", "width": 4}]}


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 16 MB."""
    place = tmp_path / "disk"
    place.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=16m", "tmpfs", str(place)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError as error:
        pytest.skip(f"a small disk cannot be mounted: {error}")
    if done.returncode:
        pytest.skip(f"a small disk cannot be mounted: {done.stderr.strip()}")
    try:
        yield place
    finally:
        subprocess.run(["umount", "-l", str(place)], check=True)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run directory of the same sweep with room enough."""
    folder = tmp_path_factory.mktemp("whole")
    return launch(write_sweep(folder, tiny(**SWEEP)), runner="inline").run_directory


def sound(run: Path) -> None:
    """Whatever is there is whole."""
    assert ledger.read(run / ledger.LEDGER)
    assert (run / ledger.LEDGER).read_bytes().endswith(b"\n")
    for path in (run / "results").glob("*.parquet"):
        pq.read_table(path)
    assert not list(run.rglob(".*.tmp"))
    assert {e["status"] for e in events(run, "end")} <= {"finished"}
    assert events(run, "lost") == []  # it is not the trial's fault


@pytest.mark.parametrize("runner", ["inline", "ray"])
def test_a_full_disk_ends_cleanly_and_with_space_it_goes_on(
    small_disk: Path, tmp_path: Path, whole: Path, runner: str
) -> None:
    data = {**tiny(**SWEEP), "storage_path": str(small_disk)}
    path = write_sweep(tmp_path, data)
    ballast = small_disk / "old_results"
    ballast.write_bytes(b"\0" * 10 * MB)  # what is left does for some trials and not for all
    output = finish(start(path, "--runner", runner), code=3)
    (message,) = [line for line in output.splitlines() if "is full" in line]
    assert str(small_disk) in message
    assert "No space left" in message
    assert str(ballast) in output
    assert "launch again" in output
    run = small_disk / "tiny"
    sound(run)
    done = len(curves(run))
    assert 0 < done < len(curves(whole))
    if runner == "inline":
        finish(start(path, "--runner", runner), code=3)  # nothing was freed
        sound(run)
    ballast.unlink()
    finish(start(path, "--runner", runner))
    sound(run)
    assert curves(run) == curves(whole)
    assert len(list((run / "results").iterdir())) == 4


def test_a_ledger_that_cannot_grow_ends_the_launch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, whole: Path
) -> None:
    path = write_sweep(tmp_path, tiny(**SWEEP))
    count, real = 0, os.fsync

    def fsync(number: int) -> None:
        nonlocal count
        count += 1
        if count > 20:
            raise OSError(errno.ENOSPC, "No space left on device")
        real(number)

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fsync)
        with pytest.raises(DiskFull, match="launch again"):
            launch(path, runner="inline")
    run = tmp_path / "runs/tiny"
    assert 0 < len(curves(run)) < len(curves(whole))
    sound(run)
    assert launch(path, runner="inline").exit_code == 0
    assert curves(run) == curves(whole)


def test_what_could_be_freed_is_named_largest_first(tmp_path: Path) -> None:
    for name, count in (("old", 3000), ("older", 5000), ("a", 10), ("b", 20), ("mine", 9999)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "x").write_bytes(b"\0" * count)
    text = str(fulldisk.explain(OSError(errno.ENOSPC, "no room"), tmp_path / "mine"))
    assert text.index("older (5 kB)") < text.index("old (3 kB)") < text.index("b (20 B)")
    assert "mine (" not in text
    assert "no room" in text
