"""Equals are told apart no more often than stated, with each source of noise; power is left."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from benchmarks.coverage import EQUAL, WORSE, measure, race
from benchmarks.crossvalidated import Truth, draw

ROOT = Path(__file__).parent.parent
SOME = {case.name: case for case in EQUAL}
ALLOWED = 0.06


@pytest.mark.parametrize(
    ("name", "races", "comparisons"),
    [
        ("3 folds", 25, 200),
        ("5 folds", 15, 200),
        ("one cell 5 times as noisy", 40, 200),
        ("one of 9, 5 times, 3 folds", 120, 100),
        ("the same, champions of 3", 0, 100),
        ("shared luck of a half", 25, 300),
        ("trained: one channel", 10, 60),
        ("groups of 1 to 60 images", 10, 100),
    ],
)
def test_equals_are_told_apart_no_more_often_than_stated(
    name: str, races: int, comparisons: int
) -> None:
    row = measure(replace(SOME[name], races=races, comparisons=comparisons), 1)
    for what in ("race", "compare", "holdout"):
        if row[what] is not None:
            assert row[what] <= ALLOWED + 2.5 * row[f"{what}_error"], what


def test_what_the_allowance_does_not_cover_is_told_apart() -> None:
    """Luck as large as the noise between folds: the output says that it is not covered."""
    row = measure(replace(SOME["shared luck as large"], races=15, comparisons=200), 1)
    assert row["race"] > 0.1
    assert row["compare"] > 0.1


def test_much_worse_configs_are_dropped_and_told_apart() -> None:
    row = measure(replace(WORSE[-1], races=8, comparisons=100), 1)
    assert row["race"] > 0.9
    assert row["compare"] > 0.9


def test_no_config_is_dropped_before_its_cell_has_shown_its_noise() -> None:
    """The first two configs on three folds: two of one cell leave one degree of freedom."""
    truth = Truth(folds=3, cells=6, configs=2, noisy=50)
    rng = np.random.default_rng(0)
    assert not any(race(truth, draw(truth, rng).scores) for _ in range(20))


def test_the_benchmark_writes_its_table(tmp_path: Path) -> None:
    place = tmp_path / "coverage.json"
    command = [sys.executable, "-m", "benchmarks.coverage", "--quick", "--json", str(place)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert "equals told apart" in done.stdout
    figures = json.loads(place.read_text())
    assert len(figures["cases"]) == len(EQUAL)
    assert {"case", "nominal", "race", "compare", "race_error"} <= figures["cases"][0].keys()
