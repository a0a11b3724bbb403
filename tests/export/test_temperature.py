"""The temperature of an export: whose it is, and what is said about it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.optimize import minimize_scalar

from segsweep.calibration.temperature import fit_temperature
from segsweep.check import check
from segsweep.engine import prepare_images
from segsweep.errors import CalibrationError, RunError
from segsweep.export import folder, members, scoring, sweepfile, temperature
from segsweep.export.choosing import best_slot
from segsweep.export.exporting import export
from segsweep.launching import launch
from segsweep.progress import BEST
from tests.export.conftest import Launched
from tests.helpers import tiny, write_sweep


def content(out: Path, name: str) -> Any:
    return json.loads((out / name).read_text())


def test_no_temperature_where_nothing_can_be_fitted() -> None:
    found = temperature.of_holdout(CalibrationError("no valid pixel"))
    assert (found.value, found.fitted) == (1, False)
    assert "no valid pixel" in found.source


def calibrate(launched: Launched, **changes: Any) -> None:
    """The file that a calibration leaves in the run directory."""
    split = next(event for event in launched.run.events if event["event"] == "split")
    entry = {
        "config_id": launched.champion.config_id,
        "temperature": 1.7,
        "at_bound": False,
        "ensemble": {"temperature": 0.6, "at_bound": False},
        "folds": [],
        **changes,
    }
    text = json.dumps({"version": 1, "data": split["fingerprint"], "models": [entry]})
    (launched.path / temperature.FITTED).write_text(text)


def test_the_temperature_is_the_calibrations(own: Launched, tmp_path: Path) -> None:
    calibrate(own)
    found = export(own.path, tmp_path / "out", onnx=False)
    assert found.temperature.value == 1.7
    assert content(tmp_path / "out", folder.CALIBRATION)["value"] == 1.7
    both = export(own.path, tmp_path / "both", onnx=False, ensemble=True)
    assert both.temperature.value == 0.6


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"config_id": "another"}, "leaves this config out"),
        ({"folds": [{"fold": 0, "replicate": 0, "checkpoint": "0"}]}, "other checkpoints"),
        ({"temperature": -1}, "cannot be used"),
        ({"temperature": "warm"}, "cannot be used"),
    ],
)
def test_a_calibration_that_is_not_of_this_model_is_not_used(
    own: Launched, changes: dict[str, Any], why: str
) -> None:
    calibrate(own, **changes)
    found = temperature.of_run(own.run, own.champion, "fold")
    assert (found.value, found.fitted) == (1.0, False)
    assert why in found.source


@pytest.mark.parametrize("kind", ["fold", "ensemble"])
def test_a_temperature_at_its_bound_is_told(own: Launched, tmp_path: Path, kind: str) -> None:
    edge = {"temperature": 20.0, "at_bound": True}
    calibrate(own, **(edge if kind == "fold" else {"ensemble": edge}))
    found = export(own.path, tmp_path / "out", onnx=False, ensemble=kind == "ensemble")
    assert content(tmp_path / "out", folder.CALIBRATION)["at_bound"] is True
    assert [note for note in found.notes if "T = 20 is at the end" in note]
    beware = (tmp_path / "out" / folder.CARD).read_text().split("## Beware")[1]
    assert "T = 20 is at the end" in beware
    other = "ensemble" if kind == "fold" else "fold"
    assert not temperature.of_run(own.run, own.champion, other).at_bound  # type: ignore[arg-type]


def test_our_own_fit_at_its_bound_is_told(own: Launched, tmp_path: Path) -> None:
    real = fit_temperature
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            scoring, "fit_temperature", lambda *a, **k: replace(real(*a, **k), at_bound=True)
        )
        found = export(own.path, tmp_path / "out", onnx=False, ensemble=True)
    assert content(tmp_path / "out", folder.CALIBRATION)["at_bound"] is True
    assert [note for note in found.notes if "is at the end of what was looked at" in note]


def test_a_fold_models_temperature_is_its_own(own: Launched, tmp_path: Path) -> None:
    """Fitted on the validation images of its fold; all folds' where that found no minimum."""
    fold, replicate = best_slot(own.run, own.champion)
    mine = {
        "fold": fold, "replicate": replicate, "temperature": 1.3, "at_bound": False,
        "checkpoint": folder.sha256(own.trial / BEST),
    }  # fmt: skip
    other = {"fold": 1 - fold, "replicate": 0, "temperature": 9.0, "at_bound": False}
    calibrate(own, folds=[other, mine])
    found = export(own.path, tmp_path / "out", onnx=False).temperature
    assert (found.value, "of its own fold" in found.source) == (1.3, True)
    both = temperature.of_run(own.run, own.champion, "retrained")
    assert both.value == 1.7
    calibrate(own, folds=[other, {**mine, "at_bound": True}])
    found = temperature.of_run(own.run, own.champion, "fold", (fold, replicate))
    assert (found.value, "of all folds" in found.source) == (1.7, True)


def test_without_the_images_a_fold_model_has_none_and_says_why(
    own: Launched, tmp_path: Path
) -> None:
    def gone(*_: object) -> None:
        raise RunError("the images are gone")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sweepfile, "checked", gone)
        found = export(own.path, tmp_path / "out", onnx=False)
    assert (found.temperature.value, found.temperature.fitted) == (1.0, False)
    assert "the holdout could not be read: the images are gone" in found.temperature.source
    assert content(tmp_path / "out", folder.METRICS)["holdout"]["images"] == 3


def test_an_ensembles_temperature_is_the_best_on_the_holdout(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Found again with scipy, from the members' logits on the held-out images."""
    data = tiny(
        configs_per_cell=1, factors__loss=["bce"], train__epochs=20, dataset__images=24,
        parameters={"train.lr": {"value": 0.02}},
    )  # fmt: skip
    path = launch(write_sweep(tmp_path, data), runner="inline").run_directory
    found = export(path, tmp_path / "out", ensemble=True, onnx=False)
    model = members.load(tmp_path / "out" / folder.WEIGHTS)
    monkeypatch.chdir(tmp_path)
    held = check(tmp_path / "out" / folder.CONFIG).holdout
    assert held is not None
    everything = range(len(held.image_ids))
    images = torch.from_numpy(np.stack([held.images[i] for i in everything])).permute(0, 3, 1, 2)
    with torch.no_grad():
        logits = model.eval()(prepare_images(images, torch.device("cpu"))).double().numpy().ravel()
    truth = np.stack([held.masks[i] for i in everything]).ravel()
    assert set(np.unique(truth)) == {0, 1}

    def loss(beta: float) -> float:
        signed = np.where(truth == 1, logits, -logits) * beta
        return float(np.logaddexp(0, -signed).mean())

    best = minimize_scalar(loss, bounds=(1 / 20, 20), method="bounded", options={"xatol": 1e-9})
    assert not found.temperature.at_bound
    assert found.temperature.value == pytest.approx(1 / best.x, rel=1e-3)
