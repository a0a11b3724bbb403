"""What a shell proposes, asked as bash asks: the words typed so far, and which is being typed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from segsweep import rundir
from segsweep.cli import app
from segsweep.launching import launch
from tests.helpers import events, tiny, write_sweep


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A working directory with a run, a folder that is none, and sweep files."""
    folder = tmp_path_factory.mktemp("completion")
    launch(write_sweep(folder, tiny(configs_per_cell=1)), runner="inline")
    (folder / "runs" / "tidy").mkdir()
    (folder / "sweeps").mkdir()
    (folder / "sweeps" / "small.yaml").write_text("name: small")
    (folder / "notes.txt").write_text("")
    return folder


@pytest.fixture(autouse=True)
def _in_place(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(place)


def asked(line: str) -> dict[str, str]:
    words = line.split(" ")
    return {
        "_SEGSWEEP_COMPLETE": "complete_bash",
        "COMP_WORDS": line,
        "COMP_CWORD": str(len(words) - 1),
    }


def proposed(line: str) -> list[str]:
    done = CliRunner().invoke(app, [], prog_name="segsweep", env=asked(line))
    assert done.exit_code == 0, done.output
    return done.output.split()


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("segsweep status t", ["tiny"]),
        ("segsweep status ", ["tiny"]),
        ("segsweep compare runs/", ["runs/tiny"]),
        ("segsweep compare tiny t", ["tiny"]),
        ("segsweep replay t", ["tiny"]),
        ("segsweep sync ti", ["tiny"]),
        ("segsweep status x", []),
        ("segsweep launch s", ["sweep.yaml", "sweeps/small.yaml"]),
        ("segsweep plan sweeps/", ["sweeps/small.yaml"]),
        ("segsweep doctor sweep.", ["sweep.yaml"]),
    ],
)
def test_runs_and_sweep_files_are_proposed(line: str, words: list[str]) -> None:
    assert proposed(line) == words


def test_finished_configs_of_the_run_that_was_named(place: Path) -> None:
    known = [event["config_id"] for event in events(place / "runs" / "tiny", "config")]
    assert sorted(proposed("segsweep export tiny --config ")) == sorted(known)
    assert proposed(f"segsweep export tiny --out there --config {known[0]}") == [known[0]]
    assert proposed(f"segsweep export tiny --config {known[0][:6]}") == [known[0]]
    assert proposed("segsweep export --config ") == []
    assert proposed("segsweep export nothing --config ") == []


def test_without_runs_nothing_is_proposed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert proposed("segsweep status ") == []
    assert rundir.names() == []


def test_a_shell_waits_for_nothing_heavy() -> None:
    line = "segsweep export tiny --config "
    code = (
        "import atexit, json, sys; atexit.register(lambda: print(json.dumps(sorted(sys.modules)), "
        "file=sys.stderr)); from segsweep.cli import app; app(prog_name='segsweep')"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, **asked(line)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert len(done.stdout.split()) == 2
    loaded = {name.split(".")[0] for name in json.loads(done.stderr)}
    assert not loaded & {"torch", "ray", "wandb", "optuna", "scipy", "pyarrow"}
