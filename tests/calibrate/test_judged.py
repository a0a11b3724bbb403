"""A config judged as a whole: what is flagged, what is said, and how it looks on a terminal."""

from __future__ import annotations

import io
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from segsweep.calibrate import redraw, sweep
from segsweep.calibrate.logits_file import Logits
from segsweep.calibrate.model import Judged, Subject, Trained, judge, notes_of
from segsweep.calibrate.run import Outcome
from segsweep.calibrate.temperatures import grid
from segsweep.cli.show_calibration import as_dict, outcome
from segsweep.spec.shape import Temperatures
from tests.calibrate.test_sweep import logits

LABEL = "unet/resnet18 · bce+dice lr=0.00301 weight_decay=0.0001 batch_size=8"
GRID = grid(Temperatures(steps=5))


@pytest.fixture(autouse=True)
def few_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sweep, "RESAMPLES", 40)
    monkeypatch.setattr(redraw, "DRAWS", 20)


def trained(
    fold: int, replicate: int = 0, *, scale: float = 1.0, images: int = 6, **facts: Any
) -> Trained:
    """A fold model: logits ``scale`` times as large, of its own images and of a holdout."""
    own = logits(images=images, pixels=150, seed=3 * fold + replicate, first=100 * fold)
    held = logits(images=5, pixels=300, seed=77, first=1000)
    for part, name in ((own, "validation"), (held, "holdout")):
        part.values[:] *= scale
        part.facts.update(  # type: ignore[attr-defined]
            anomalies=["dog"] if name == "validation" else [], classes=list("abcd"), dataset=name,
            sampling={"pixels": 1, "of": 1}, **facts,
        )  # fmt: skip
    largest = own.values.max(axis=1)
    odd = np.random.default_rng(fold).random(len(largest)) < 0.2
    own.anomaly[:] = odd & (largest < np.quantile(largest, 0.6))
    return Trained(fold, replicate, "sha", {"validation": own, "holdout": held})


def judged(models: list[Trained], **groups: Any) -> Judged:
    subject = Subject("c1", "unet/dice", "unet", LABEL, models, **groups)
    return judge(subject, GRID, ["msp", "max_logit", "energy"], asked=[], seed=0)


def shown(one: Judged, width: int = 80) -> str:
    out = io.StringIO()
    ended = Outcome(Path("runs/x"), [one], 3, 3, list(notes_of([one])), GRID)
    outcome(Console(file=out, width=width), ended)
    return out.getvalue()


def sure(part: Logits) -> None:
    """Every pixel right: the surer, the better, and no T is best."""
    part.values[:] = 0
    part.values[np.arange(len(part.labels)), part.labels] = 1


def test_a_temperature_at_its_bound_is_flagged_for_fold_models_too() -> None:
    models = [trained(fold) for fold in range(3)]
    sure(models[1].logits["validation"])
    found = judged(models)
    folds = found.entry["folds"]
    assert [fold["at_bound"] for fold in folds] == [False, True, False]
    assert not found.entry["at_bound"]
    notes = list(notes_of([found]))
    assert f"{LABEL}: T = 0.05 of fold 1 is at its bound: the NLL has no minimum between" in notes
    own = [r for r in found.calibration if r["fit"] == "halves" and r["of"] == "fold"]
    assert {(r["fold"], r["at_bound"]) for r in own} == {(0, False), (1, True), (2, False)}
    text = shown(found)
    assert "0.05*" in text
    assert "* T is at the end of what was looked at" in text
    ended = Outcome(Path("x"), [found], 0, 0, notes, GRID)
    rows = as_dict(ended)["best"]
    assert any(row["own_at_bound"] for row in rows)


def test_a_grid_is_widened_and_both_are_said_and_what_is_at_its_end_is_flagged() -> None:
    found = judged([trained(fold, scale=4.0) for fold in range(3)])  # T = 10
    assert found.entry["temperature"] == pytest.approx(10, rel=0.05)
    notes = list(notes_of([found]))
    assert any("the grid of T, which was widened up to 16" in note for note in notes)
    nll = [r for r in found.calibration if r["metric"] == "nll" and r["of"] == "config"]
    swept = [r for r in nll if not r["fitted"] and r["region"] == "all"]
    assert max(r["temperature"] for r in swept) == pytest.approx(16)
    assert not any(r["at_bound"] for r in swept)
    ends = [r for r in found.anomaly if r["at_bound"] and r["of"] == "config"]
    assert ends  # a ranking may be best however high T is
    assert all(r["temperature"] > 15 or r["temperature"] < 0.07 for r in ends)
    assert re.search(r"16\.00\*", shown(found))


@pytest.mark.parametrize("scale", [1.0, 60.0])
def test_no_digit_is_cut_at_80_columns(scale: float) -> None:
    found = judged([trained(fold, scale=scale) for fold in range(8)])
    text = shown(found)
    assert "…" not in text
    assert "-0.000" not in text
    assert len(found.entry["folds"]) == 8
    for fold in found.entry["folds"]:
        assert f"{fold['temperature']:.2f}" in text
    for row in as_dict(Outcome(Path("x"), [found], 0, 0, [], GRID))["best"]:
        assert f"{row['value_at_1']:.3f}" in text


def test_an_image_of_two_replicates_is_one_image() -> None:
    models = [trained(fold, replicate) for fold in range(2) for replicate in range(2)]
    for model in models:
        model.logits["validation"].facts["sampling"]["of"] = 2
        model.logits["validation"].histogram[:] = 1
    found = judged(models)
    (whole,) = (r for r in found.calibration if r["metric"] == "ece_all_pixels")
    assert whole["images"] == 12
    assert {r["images"] for r in found.calibration
            if r["of"] == "config" and r["dataset"] == "validation"} == {12}  # fmt: skip


def test_few_images_are_said_and_fewer_have_no_interval_and_a_reason() -> None:
    found = judged([trained(fold, images=2) for fold in range(3)])
    notes = list(notes_of([found]))
    assert f"{LABEL} on validation: intervals rest on 6 images, and are rough" in notes
    groups = {f"i{fold * 100 + i:03d}": f"p{fold}" for fold in range(3) for i in range(2)}
    grouped = judged([trained(fold, images=2) for fold in range(3)], groups=groups)
    why = "it rests on 3 groups, and an interval needs 4"
    notes = list(notes_of([grouped]))
    assert f"{LABEL} on validation: no intervals: {why}" in notes
    rows = [r for r in grouped.calibration if r["of"] == "config"]
    assert {(r["low"], r["gain_low"], r["no_interval"]) for r in rows} == {(None, None, why)}
    told = as_dict(Outcome(Path("x"), [grouped], 0, 0, notes, GRID))["best"]
    assert {row["no_interval"] for row in told if row["of"] == "config"} >= {why}


def test_an_error_that_shows_stands_beside_its_number() -> None:
    found = judged([trained(fold) for fold in range(3)])
    for row in found.calibration:
        if row["metric"] == "ece_adaptive" and row["of"] == "config" and not row["fitted"]:
            row["error"] = 0.002
    text = shown(found)
    assert re.search(r"ece_adaptive ↓ +0\.\d{3} ±0\.002", text)
    assert "±0.0001" not in text
