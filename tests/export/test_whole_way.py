"""From launch over export to predict: three classes, a model of our own and one of the library."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from segsweep.export import folder
from segsweep.export.exporting import export
from segsweep.export.predicting import Options, predict
from segsweep.launching import launch
from segsweep.rundir import load
from segsweep.state import SearchState
from tests.export.pictures import opened, picture, save
from tests.helpers import tiny, write_sweep

WHOLE_WAY: dict[str, dict[str, Any]] = {
    "unet_vanilla": {"width": 4},
    "unet/vgg11": {"encoder_weights": "none"},
}
CLASSES = {"road": 3, "car": 7, "sky": 9}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("whole")
    for number in range(8):
        label = np.repeat([[9], [3], [7]], [10, 12, 10], axis=0).repeat(32, axis=1)
        label = np.roll(label, number, axis=0).astype(np.uint8)
        image = (label[..., None] * [20, 5, 25] + picture(32, 32, 3) // 16).astype(np.uint8)
        save(place / f"data/images/{number}.png", image)
        save(place / f"data/masks/{number}.png", label)
    dataset = {
        "name": "folder", "root": str(place / "data"), "classes": CLASSES,
        "image_size": [32, 32], "holdout": 0.25,
    }  # fmt: skip
    data = tiny(
        configs_per_cell=1, metric={"name": "val/miou"}, parameters={"train.lr": {"value": 0.01}},
        factors={
            "model": [{"name": name, **options} for name, options in WHOLE_WAY.items()],
            "loss": ["cross_entropy"],
        },
    )  # fmt: skip
    outcome = launch(write_sweep(place, {**data, "dataset": dataset}), runner="inline")
    assert outcome.exit_code == 0
    return outcome.run_directory


def facts_of(place: Path, name: str) -> Any:
    return json.loads((place / name).read_text())


@pytest.mark.parametrize("name", WHOLE_WAY)
def test_the_whole_way(run: Path, tmp_path: Path, name: str) -> None:
    import onnxruntime

    found = load(run)
    (config,) = [
        config.config_id
        for config in SearchState(found.metric, found.events).configs.values()
        if config.config["model"]["name"] == name
    ]
    shipped = export(run, tmp_path / "shipped", config_id=config)
    assert shipped.graph is not None
    source = run.parent.parent / "data/images"
    for runtime in ("onnx", "torch"):
        done = predict(tmp_path / "shipped", source, tmp_path / runtime, Options(), runtime=runtime)
        assert (done.done, done.failed) == (8, ())
    facts = facts_of(tmp_path / "shipped", folder.PREPROCESSING)
    session = onnxruntime.InferenceSession(str(tmp_path / "shipped" / folder.GRAPH))
    for path in sorted(source.iterdir()):
        image = opened(path)
        given = (image / 255 - np.asarray(facts["mean"])) / np.asarray(facts["std"])
        logits = session.run(None, {"image": given.transpose(2, 0, 1)[None].astype(np.float32)})[0]
        warm = logits[0] / facts_of(tmp_path / "shipped", folder.CALIBRATION)["value"]
        chances = np.exp(warm - warm.max(0))
        chances /= chances.sum(0)
        for runtime in ("onnx", "torch"):
            with np.load(tmp_path / runtime / "probabilities" / f"{path.stem}.npz") as file:
                np.testing.assert_allclose(file["probabilities"], chances, atol=2e-3)
        with Image.open(tmp_path / "onnx/masks" / path.name) as mask:
            palette, labels = mask.getpalette(), np.asarray(mask)
        assert palette is not None
        assert np.array_equal(labels, chances.argmax(0))
        colours = np.reshape(palette, (-1, 3))[
            labels
        ]  # class 0, a road, is painted like the others
        overlay = opened(tmp_path / "onnx/overlays" / path.name)
        assert np.abs(overlay - (image.astype(float) + colours) / 2).max() <= 0.5
