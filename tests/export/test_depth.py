"""Images of 12 bits in files of 16: trained on, exported and predicted by one scale."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from segsweep.check import check
from segsweep.data.cache import load
from segsweep.export import folder, images, inference
from segsweep.export.exporting import export
from segsweep.export.predicting import Options, predict
from segsweep.launching import launch
from tests.export.pictures import rows, save
from tests.helpers import events, tiny, write_sweep

COUNT = 8


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place, rng = tmp_path_factory.mktemp("deep"), np.random.default_rng(0)
    for index in range(COUNT):
        mask = np.zeros((48, 40), np.uint8)
        mask[index : index + 20, 10:30] = 255
        values = rng.integers(0, 2000, mask.shape) + 2095 * (mask > 0)
        save(place / f"data/images/{index}.png", values.astype(np.uint16))
        save(place / f"data/masks/{index}.png", mask)
    dataset = {
        "name": "folder", "root": str(place / "data"), "image_size": [24, 32], "holdout": 0.25,
    }  # fmt: skip
    data = tiny(
        configs_per_cell=1, parameters={"train.lr": {"value": 0.01}}, train__epochs=1,
        factors={"model": [{"name": "unet_vanilla", "width": 2}], "loss": ["bce"]},
    )  # fmt: skip
    outcome = launch(write_sweep(place, {**data, "dataset": dataset}), runner="inline")
    assert outcome.exit_code == 0
    return outcome.run_directory


def test_predict_scales_as_the_training_did(run: Path, tmp_path: Path) -> None:
    assert events(run, "split")[0]["depth"] == 12
    out = tmp_path / "shipped"
    export(run, out, onnx=False)
    told = json.loads((out / folder.PREPROCESSING).read_text())["16 bits"]
    assert told["depth"] == 12
    assert told["scale"] == "after resizing, min(value, 4095) // 16"
    shipped = inference.open_folder(out, "torch")
    data = load(check(run.parent.parent / "sweep.yaml").prepared.train)
    assert data.images.max() > 200  # by 256 it would be 16 at most
    for image_id, trained in zip(data.image_ids, data.images, strict=True):
        path = run.parent.parent / f"data/images/{image_id}.png"
        pixels, how = images.stored(path, shipped.depth)
        assert how == "16 bits divided by 16, grey to three equal channels"
        found = inference.logits_of(shipped, pixels, resize_back=False)
        assert torch.equal(found, inference.logits_of(shipped, trained.copy(), resize_back=False))


def test_what_is_brighter_than_the_training_is_said(run: Path, tmp_path: Path) -> None:
    export(run, tmp_path / "shipped", onnx=False)
    save(tmp_path / "in/a.png", np.full((40, 40), 5000, np.uint16))
    for tile in (False, True):
        out = tmp_path / f"out{tile}"
        done = predict(tmp_path / "shipped", tmp_path / "in", out, Options(tile=tile))
        assert done.failed == ()
        how = "16 bits divided by 16, and values above 4095 cut off, grey to three equal channels"
        assert rows(out)[0]["converted"] == how
