"""Every sweep file that is shipped runs on tiny generated data in the real layout."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from segsweep import losses, models, spec, yamlfile
from segsweep.check import check
from segsweep.launching import launch
from segsweep.state import SearchState
from tests.data.builders import make_camvid, make_carparts, make_ph2
from tests.helpers import events

SWEEPS = sorted((Path(__file__).parent.parent / "sweeps").glob("*.yaml"))
SMALL = [
    "dataset.image_size=[32, 32]",
    "dataset.holdout=0.25",
    "train.epochs=4",
    "train.batch_size=4",
    "configs_per_cell=1",
    "folds.k=2",
    "early_stopping.grace_period=1",
    "wandb.mode=disabled",
]


def _data(folder: Path, monkeypatch: pytest.MonkeyPatch, lesions: int) -> None:
    """All datasets that sweep files name, in their layouts."""
    make_ph2(folder / "PH2Dataset", lesions)
    make_camvid(folder / "CamVid", 12)
    make_carparts(folder / "carparts", 10)
    monkeypatch.setenv("SEGSWEEP_DATA", str(folder))


def _narrow(path: Path) -> list[Any]:
    """The file's own models, two channels wide where they have a width."""
    resolved = [models.resolve(level) for level in spec.load(path).factors["model"]]
    return [model | ({"width": 2} if "width" in model else {}) for model in resolved]


@pytest.mark.parametrize("path", SWEEPS, ids=lambda path: path.stem)
def test_a_shipped_sweep_file_runs(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _data(tmp_path, monkeypatch, 18)
    narrow = yamlfile.dump({"factors.model": _narrow(path)}).partition(":")[2]
    overrides = [*SMALL, f"storage_path={tmp_path / 'runs'}", f"factors.model={narrow}"]
    if path.stem == "quickstart":
        overrides.append("dataset.images=16")
    outcome = launch(path, overrides, runner="inline")
    assert outcome.exit_code == 0

    asked = spec.load(path, overrides)
    state = SearchState(asked.metric.name.replace("/", "_"), events(outcome.run_directory))
    curves: dict[str, list[float]] = {}
    for event in events(outcome.run_directory, "epoch"):
        curves.setdefault(event["trial_id"], []).append(event["train_loss"])
    fell = [min(curve[1:]) < curve[0] for curve in curves.values()]
    assert sum(fell) >= 0.9 * len(fell)
    for config in state.configs.values():
        train = asked.train.model_dump()
        effective = dict(config.config["train"])
        for name, value in config.params.items():
            if name.startswith("train."):
                assert effective[name.removeprefix("train.")] == value
                train[name.removeprefix("train.")] = value
        train["precision"] = "fp32"
        assert effective == train
        dataset = asked.dataset.model_dump(mode="json", exclude={"root"})
        assert {key: config.config["dataset"][key] for key in dataset} == dataset
        assert config.config["folds"] == asked.folds.model_dump(exclude={"run"})
        assert config.config["metric"] == asked.metric.model_dump()
        gamma = config.config["loss"].get("focal", {}).get("gamma")
        assert gamma == config.params.get("loss.focal.gamma")
    pairs = {
        (models.title(config.config["model"]), *config.config["loss"])
        for config in state.configs.values()
    }
    assert pairs == {
        (models.title(models.resolve(model)), *losses.resolve(loss))
        for model in asked.factors["model"]
        for loss in asked.factors["loss"]
    }


@pytest.mark.parametrize("path", SWEEPS, ids=lambda path: path.stem)
def test_a_shipped_sweep_file_is_valid_as_it_stands(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _data(tmp_path, monkeypatch, 30)
    found = check(path, [f"storage_path={tmp_path / 'runs'}", "dataset.image_size=[64, 64]"])
    assert found.spec.name == path.stem
    assert len(found.cells) >= 4
