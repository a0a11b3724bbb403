"""Runs that an earlier segsweep recorded stay readable, and nothing is added to them.

``tests/recorded`` holds three, made with version 1 of the ledger: ``binary`` (two classes, a
holdout and a calibration), ``classes`` (three classes and an ignored value, rungs and the race)
and ``interrupted`` (ended by Ctrl-C in its second trial). W&B's files and the checkpoints that no
command reads are left out.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

import segsweep
from segsweep import yamlfile
from segsweep.cli import app

RECORDED = Path(__file__).parent / "recorded"
NAMES = ("binary", "classes", "interrupted")


@pytest.fixture
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The recorded runs where a user would have them, with the data of ``classes``."""
    shutil.copytree(RECORDED, tmp_path / "runs")
    shapes(tmp_path / "shapes")
    monkeypatch.chdir(tmp_path)
    return tmp_path / "runs"


def shapes(root: Path) -> None:
    """The images of ``classes``: a disk and a square, the last two columns ignored."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:32, :32]
    for folder in ("images", "masks"):
        (root / folder).mkdir(parents=True)
    for number in range(16):
        image = rng.integers(0, 90, (32, 32, 3)).astype(np.uint8)
        mask = np.zeros((32, 32), np.uint8)
        cy, cx = rng.integers(8, 24, 2)
        disk = (y - cy) ** 2 + (x - cx) ** 2 < 36
        top, left = rng.integers(2, 20, 2)
        square = (y >= top) & (y < top + 9) & (x >= left) & (x < left + 9)
        image[disk] += np.uint8(140)
        mask[disk] = 1
        image[square, 0] = 200
        mask[square] = 2
        mask[:, 30:] = 255
        Image.fromarray(image).save(root / "images" / f"s{number:02}.png")
        Image.fromarray(mask).save(root / "masks" / f"s{number:02}.png")


def call(*words: str) -> tuple[int, str]:
    """Exit code and output of a command; an exception is a failure."""
    found = CliRunner().invoke(app, list(words))
    if found.exception is not None and not isinstance(found.exception, SystemExit):
        raise found.exception
    assert "Traceback" not in found.output
    assert "pydantic" not in found.output
    assert "validation error" not in found.output
    return found.exit_code, found.output


@pytest.mark.parametrize("name", NAMES)
def test_a_look_at_it(runs: Path, name: str) -> None:
    code, output = call("status", name, "--json")
    assert code == 0
    assert json.loads(output)["name"] == name
    code, output = call("status", name)
    assert code == 0
    assert "An earlier segsweep recorded this run" in output
    assert "launch again" not in output


@pytest.mark.parametrize("form", [[], ["--json"], ["--csv"], ["--markdown"], ["--latex"]])
@pytest.mark.parametrize("name", ["binary", "classes"])
def test_its_comparison(runs: Path, name: str, form: list[str]) -> None:
    code, output = call("compare", name, *form)
    assert code == 0
    assert "vanilla" in output


def test_scores_stay_as_they_were_recorded(runs: Path) -> None:
    shutil.rmtree(runs / "classes" / "results")
    _, output = call("compare", "classes", "--json")
    found = json.loads(output)
    best = found["cells"][0]
    assert best["mean"] == pytest.approx(0.3953, abs=5e-5)
    assert best["holdout"] == pytest.approx(0.3948, abs=5e-5)
    assert any("defined them otherwise" in text for text in found["warnings"])


def test_an_interrupted_run_has_nothing_to_compare_and_says_so(runs: Path) -> None:
    code, output = call("compare", "interrupted")
    assert code == 2
    assert "no config" in output


@pytest.mark.parametrize("command", ["calibrate", "replay"])
def test_no_command_is_named_that_would_be_refused(runs: Path, command: str) -> None:
    code, output = call(command, "interrupted")
    assert code == 2
    assert "segsweep launch" not in output
    assert "segsweep 0.1.0 began this run, and can finish it" in output


@pytest.mark.parametrize("name", NAMES)
def test_its_report(runs: Path, name: str) -> None:
    assert call("report", name)[0] == 0
    assert (runs / name / "report.html").stat().st_size > 10_000


@pytest.mark.parametrize("name", ["binary", "classes"])
def test_its_calibration(runs: Path, name: str) -> None:
    code, output = call("calibrate", name, "--json")
    assert code == 0
    assert json.loads(output)["models"]


def test_its_export_and_what_that_predicts(runs: Path, tmp_path: Path) -> None:
    assert call("export", "binary", "--out", "model")[0] == 0
    assert call("predict", "model", "shapes/images", "--out", "masks")[0] == 0
    assert len(list((tmp_path / "masks").rglob("s*.png"))) >= 16


@pytest.mark.parametrize("way", [["--ensemble"], ["--retrain", "all"]])
def test_its_images_are_still_those_of_the_run(runs: Path, way: list[str]) -> None:
    (runs / "binary" / "calibration.json").unlink()
    code, output = call("export", "binary", *way, "--out", "model")
    assert code == 0
    assert "not those of the run" not in output
    assert "defined them otherwise" in Path("model/MODEL_CARD.md").read_text()


def test_its_dashboard(runs: Path) -> None:
    assert call("dashboard", "binary", "--dry-run", "--out", "dashboard.json")[0] in (0, 2)


@pytest.mark.parametrize("name", NAMES)
def test_python_opens_it(runs: Path, name: str) -> None:
    run = segsweep.load(runs / name)
    assert run.trials.num_rows


@pytest.mark.parametrize("name", NAMES)
def test_launch_adds_nothing_and_says_why(runs: Path, name: str) -> None:
    ledger = runs / name / "ledger" / "events.jsonl"
    before = ledger.read_bytes()
    shutil.copy(runs / name / "sweep.yaml", "sweep.yaml")
    code, output = call("launch", "sweep.yaml", "--runner", "inline")
    assert code == 2
    assert "segsweep 0.1.0 began this run, and numbers mean something else since" in output
    assert ledger.read_bytes() == before


def test_two_definitions_of_a_score_are_not_compared(runs: Path) -> None:
    other = runs / "newer"
    shutil.copytree(runs / "binary", other)
    ledger = other / "ledger" / "events.jsonl"
    ledger.write_text(
        ledger.read_text().replace('"event":"launch",', '"event":"launch","identity":3,', 1)
    )
    code, output = call("compare", "binary", str(other))
    assert code == 2
    assert "definitions of scores" in output


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"train": {"optimiser": "adam"}}, "train.optimiser: "),
        ({"train": {"epochs": "many"}}, "train.epochs: "),
        ({"colour": 1}, "colour: "),
    ],
)
def test_settings_that_cannot_be_read_are_named(
    runs: Path, change: dict[str, object], said: str
) -> None:
    ledger = runs / "binary" / "ledger" / "events.jsonl"
    first, rest = ledger.read_text().split("\n", 1)
    event = json.loads(first)
    for key, value in change.items():
        event["spec"][key] = {**event["spec"][key], **value} if isinstance(value, dict) else value
    ledger.write_text(json.dumps(event) + "\n" + rest)
    for command in ("status", "compare", "report"):
        code, output = call(command, "binary")
        assert code == 2
        assert "cannot read a recorded setting" in output
        assert said in output
        assert "segsweep 0.1.0 recorded them" in output


def test_a_sweep_file_in_the_recording_still_means_what_it_did(runs: Path) -> None:
    for name in NAMES:
        yamlfile.read(runs / name / "sweep.yaml")
