"""``export`` from another directory than the sweep was launched in."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.torch import save_file

from segsweep import models, yamlfile
from segsweep.errors import RunError
from segsweep.export import folder, sweepfile
from segsweep.export.exporting import export
from segsweep.launching import launch
from segsweep.rundir import load
from segsweep.state import SearchState
from tests.export.pictures import save
from tests.helpers import tiny


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run of images and weights named by relative paths, and now another directory."""
    home, other = tmp_path / "home", tmp_path / "other"
    other.mkdir()
    for place in range(8):
        image = np.full((32, 32, 3), 20 * place, np.uint8)
        image[: place + 8, :16] = 250 - 20 * place
        save(home / f"data/images/{place}.png", image)
        mask = np.zeros((32, 32), np.uint8)
        mask[: place + 8, :16] = 255
        save(home / f"data/masks/{place}.png", mask)
    model = models.build({**models.resolve({"name": "unet_vanilla", "width": 2})}, classes=2)
    save_file(model.state_dict(), home / "start.safetensors")
    level = {"name": "unet_vanilla", "width": 2, "weights": "start.safetensors"}
    dataset = {"name": "folder", "root": "data", "image_size": [32, 32], "holdout": 0.25}
    data = tiny(configs_per_cell=1, factors={"model": [level], "loss": ["bce"]}, storage_path="r")
    monkeypatch.chdir(home)
    (home / "sweep.yaml").write_text(yamlfile.dump({**data, "dataset": dataset}))
    launch(Path("sweep.yaml"), runner="inline")
    monkeypatch.chdir(other)
    return home


def test_relative_paths_begin_where_the_sweep_was_launched(elsewhere: Path, tmp_path: Path) -> None:
    for name, wanted in (("both", {"ensemble": True}), ("all", {"retrain_all": True})):
        out = tmp_path / name
        found = export(Path("../home/r/tiny"), out, onnx=False, **wanted)  # type: ignore[arg-type]
        assert not [note for note in found.notes if "could not be read" in note]
        assert json.loads((out / folder.METRICS).read_text())["holdout"]["images"] == 2
        shipped = yamlfile.read(out / folder.CONFIG).data
        assert (shipped["dataset"]["root"], shipped["storage_path"]) == ("data", "r")
        assert "`dataset.root`, `data`, begin" in (out / folder.CARD).read_text()
        assert str(tmp_path) not in (out / folder.MANIFEST).read_text()
    assert not list(Path.cwd().iterdir())


def test_what_is_gone_is_told_of_the_runs_settings(elsewhere: Path, tmp_path: Path) -> None:
    shutil.rmtree(elsewhere / "data")
    with pytest.raises(RunError) as caught:
        export(elsewhere / "r/tiny", tmp_path / "out", onnx=False, retrain_all=True)
    assert "config.yaml" not in str(caught.value)
    assert "--set" not in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_a_root_given_by_a_variable_is_shipped_so(
    elsewhere: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = elsewhere / "r/tiny/sweep.yaml"
    text = given.read_text()
    assert "root: data\n" in text
    given.write_text(text.replace("root: data\n", "root: ${IMAGES:-data}\n"))

    def shipped(name: str) -> str:
        export(elsewhere / "r/tiny", tmp_path / name, onnx=False)
        found = yamlfile.read(tmp_path / name / folder.CONFIG, interpolate=False).data
        return str(found["dataset"]["root"])

    assert shipped("variable") == "${IMAGES:-data}"
    monkeypatch.setenv("IMAGES", "elsewhere")  # is no more what the run used
    assert shipped("literal") == "data"


def test_a_gpu_and_an_absolute_place_of_one_machine_are_not_shipped(
    elsewhere: Path, tmp_path: Path
) -> None:
    """A launch writes how many GPUs it had in the place of ``auto``."""
    run = load(elsewhere / "r/tiny")
    (config,) = SearchState(run.metric, run.events).configs.values()

    def shipped(**changes: Any) -> dict[str, Any]:
        settings = run.spec.model_copy(update=changes)
        (tmp_path / "c.yaml").write_text(sweepfile.text(replace(run, spec=settings), config))
        data: dict[str, Any] = yamlfile.read(tmp_path / "c.yaml").data
        return data

    had = run.spec.resources.model_copy(update={"gpu": 1.0})
    found = shipped(resources=had, storage_path="/scratch/runs")
    assert found["resources"]["gpu"] == "auto"
    assert "storage_path" not in found
    given = run.path / "sweep.yaml"
    given.write_text(given.read_text() + "\nresources: {gpu: 0.5}\n")
    assert shipped(resources=had)["resources"]["gpu"] == 0.5
    # fitting it anew takes whatever is here
    (tmp_path / "c.yaml").write_text(sweepfile.text(run, config))
    assert sweepfile.checked(tmp_path / "c.yaml", run, config).spec.resources.gpu == "auto"
