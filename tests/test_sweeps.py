"""Every sweep file that is shipped runs on tiny generated data in the real layout."""

from __future__ import annotations

from pathlib import Path

import pytest

from segsweep import spec
from segsweep.check import check
from segsweep.launch import launch
from segsweep.state import SearchState
from tests.data.builders import make_ph2
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
    "factors.model=[{name: segnet, width: 2}, {name: unet_vanilla, width: 2}, "
    "{name: unet_strided, width: 2}]",
]


@pytest.mark.parametrize("path", SWEEPS, ids=lambda path: path.stem)
def test_a_shipped_sweep_file_runs(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_ph2(tmp_path / "PH2Dataset", 18)
    monkeypatch.setenv("SEGSWEEP_DATA", str(tmp_path))
    overrides = [*SMALL, f"storage_path={tmp_path / 'runs'}"]
    if path.stem == "quickstart":
        overrides.append("dataset.images=16")
    outcome = launch(path, overrides, runner="inline")
    assert outcome.exit_code == 0

    asked = spec.load(path, overrides)
    state = SearchState("val_iou", events(outcome.run_directory))
    losses: dict[str, list[float]] = {}
    for event in events(outcome.run_directory, "epoch"):
        losses.setdefault(event["trial_id"], []).append(event["train_loss"])
    fell = [min(curve[1:]) < curve[0] for curve in losses.values()]
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
        gamma = config.config["loss"].get("focal", {}).get("gamma")
        assert gamma == config.params.get("loss.focal.gamma")


@pytest.mark.parametrize("path", SWEEPS, ids=lambda path: path.stem)
def test_a_shipped_sweep_file_is_valid_as_it_stands(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_ph2(tmp_path / "PH2Dataset", 30)
    monkeypatch.setenv("SEGSWEEP_DATA", str(tmp_path))
    found = check(path, [f"storage_path={tmp_path / 'runs'}", "dataset.image_size=[64, 64]"])
    assert found.spec.name == path.stem
    assert len(found.cells) >= 4
