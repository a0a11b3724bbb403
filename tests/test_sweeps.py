"""Every sweep file that is shipped runs on tiny generated data in the real layout."""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open

from segsweep import losses, models, spec, yamlfile
from segsweep.check import check
from segsweep.launching import Outcome, launch
from segsweep.models.fit import Tried
from segsweep.pairs import native_problems
from segsweep.spec import SweepSpec
from segsweep.state import SearchState, TrialState
from segsweep.trial import directory
from tests.data.builders import make_camvid, make_carparts, make_cityscapes, make_mvtec, make_ph2
from tests.helpers import events

SWEEPS = sorted((Path(__file__).parent.parent / "sweeps").glob("*.yaml"))
EXPECTED = (
    "camvid_small", "camvid_unknown", "carparts", "carparts_small", "cityscapes_8cat", "defects_cv",
    "ph2_losses",
    "ph2_small", "quickstart", "road_anomaly",
)  # fmt: skip
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
# tens of millions of weights, whose checkpoints take longer than their training: one fold is run
HEAVY = {"carparts": ["folds.run=1"], "defects_cv": ["folds.run=1", "train.epochs=3"]}
# what a CPU cannot train within seconds → the same architecture, smaller; of the encoders named
# test_… timm says that they are for tests
SMALLER: dict[str, dict[str, Any]] = {
    "u2net": {"width": 4},  # a multiple of 4
    "erfnet": {"width": 4},  # the least
    "segformer/mit_b3": {"name": "segformer/mit_b0"},
    "dpt/tu-vit_base_patch16_224": {"name": "dpt/tu-test_vit"},
    "unet/tu-resnest50d": {"name": "unet/tu-resnest14d"},
    "unet/tu-resnest101e": {"name": "unet/tu-test_resnet"},
    "unet/tu-resnest200e": {"name": "unet/tu-test_convnext"},
    "eomt": {
        "hidden_size": 16, "heads": 2, "layers": 2, "blocks": 1, "queries": 20, "patch_size": 8,
        "image_size": 32, "points": 64,
    },
}  # fmt: skip
# too large to be run through at their real size in a test: their shapes are, on torch's meta device
LARGE = ("dpt/", "unet/tu-resnest", "u2net", "unet_vanilla", "segnet")
CITIES = ("aachen", "bochum", "bremen", "cologne", "erfurt", "hamburg")


def _data(folder: Path, monkeypatch: pytest.MonkeyPatch, lesions: int) -> None:
    """All datasets that sweep files name, in their layouts."""
    make_ph2(folder / "PH2Dataset", lesions)
    make_camvid(folder / "CamVid", 12)
    make_carparts(folder / "carparts", 10)
    make_mvtec(folder / "mvtec", ["bottle"], 6)
    make_cityscapes(folder / "cityscapes", {"train": CITIES, "val": ("munster", "lindau")})
    monkeypatch.setenv("SEGSWEEP_DATA", str(folder))


def _narrow(level: Any) -> dict[str, Any]:
    """A model of a file, two channels wide, smaller where it is large, without a download."""
    model = dict(models.resolve(level))
    given = SMALLER.get(model["name"], {"width": 2} if "width" in model else {})
    if "encoder_weights" in model:
        given = {**given, "encoder_weights": "none"}
    return model | given


def _overrides(path: Path, folder: Path) -> list[str]:
    """What makes a file run within seconds; all else stays as the file has it."""
    file = spec.load(path)
    factors = [_narrow(level) for level in file.factors["model"]]
    narrow = yamlfile.dump({"factors.model": factors}).partition(":")[2]
    extra = ["dataset.images=16"] if path.stem == "quickstart" else []
    extra += HEAVY.get(path.stem, [])
    return [*SMALL, *extra, f"factors.model={narrow}", f"storage_path={folder / 'runs'}"]


def _pairs(asked: SweepSpec) -> set[tuple[str, ...]]:
    """Model and terms of the loss of each cell that a sweep names and does not exclude."""
    found = set()
    for model, loss in itertools.product(asked.factors["model"], asked.factors["loss"]):
        name = models.resolve(model)["name"]
        if {"model": name, "loss": loss} not in asked.exclude:
            found.add((models.title(models.resolve(model)), *losses.resolve(loss)))
    return found


def test_every_study_has_its_file() -> None:
    assert [path.stem for path in SWEEPS] == list(EXPECTED)


@pytest.mark.parametrize("path", SWEEPS, ids=lambda path: path.stem)
def test_a_shipped_sweep_file_runs(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _data(tmp_path, monkeypatch, 18)
    overrides = _overrides(path, tmp_path)
    outcome = launch(path, overrides, runner="inline")
    assert outcome.exit_code == 0
    asked = spec.load(path, overrides)
    _the_loss_falls(outcome)
    state = SearchState(asked.metric.name.replace("/", "_"), events(outcome.run_directory))
    for config in state.configs.values():
        _the_config_is_the_files(asked, config.config, config.params)
        for trial in config.trials.values():
            assert _trained(outcome.run_directory, trial) == config.config
    pairs = {
        (models.title(config.config["model"]), *config.config["loss"])
        for config in state.configs.values()
    }
    assert pairs == _pairs(asked)
    last = events(outcome.run_directory, "epoch")[-1]
    for name in (asked.metric.name, *asked.metric.also):
        assert last[name.replace("/", "_")] is not None


def _trained(run: Path, trial: TrialState) -> dict[str, Any]:
    """The config that a trial was trained by, from its best checkpoint."""
    place = directory(run, trial.config_id, trial.fold, trial.replicate)
    with safe_open(place / "best.safetensors", framework="numpy") as file:
        config: dict[str, Any] = json.loads(file.metadata()["segsweep"])["config"]
    return config


def _the_loss_falls(outcome: Outcome) -> None:
    curves: dict[str, list[float]] = {}
    for event in events(outcome.run_directory, "epoch"):
        curves.setdefault(event["trial_id"], []).append(event["train_loss"])
    fell = [min(curve[1:]) < curve[0] for curve in curves.values()]
    assert sum(fell) >= 0.75 * len(fell)  # a few tiny ones begin with a lucky epoch


def _the_config_is_the_files(
    asked: SweepSpec, config: Mapping[str, Any], params: Mapping[str, Any]
) -> None:
    train, effective = asked.train.model_dump(), dict(config["train"])
    for name, value in params.items():
        if name.startswith("train."):
            assert effective[name.removeprefix("train.")] == value
            train[name.removeprefix("train.")] = value
    train["precision"] = "fp32"
    assert effective == train
    dataset = asked.dataset.model_dump(mode="json", exclude={"root"})
    assert {key: config["dataset"][key] for key in dataset} == dataset
    assert config["folds"] == asked.folds.model_dump(exclude={"run"})
    assert config["metric"] == asked.metric.model_dump()
    assert config["seed"] == asked.seed
    assert config["model"] in [models.resolve(level) for level in asked.factors["model"]]
    levels = [losses.resolve(level) for level in asked.factors["loss"]]
    if "loss.focal.gamma" in params:
        levels = [one | {"focal": {**one["focal"], "gamma": params["loss.focal.gamma"]}}
                  for one in levels if "focal" in one]  # fmt: skip
    assert config["loss"] in levels


@pytest.mark.parametrize("path", SWEEPS, ids=lambda path: path.stem)
def test_a_shipped_sweep_file_is_valid_as_it_stands(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At its real image size, every model built and run through once, nothing narrowed."""
    _data(tmp_path, monkeypatch, 30)
    really = models.try_out
    seen = []

    def try_out(config: Mapping[str, Any], **facts: Any) -> Tried:
        seen.append(models.title(config))
        with torch.device("meta" if config["name"].startswith(LARGE) else "cpu"):
            return really(config, **facts)

    monkeypatch.setattr(models, "try_out", try_out)
    splits = ["folds.k=2"] if "cityscapes" in path.read_text() else []  # not so many cities
    found = check(path, [f"storage_path={tmp_path / 'runs'}", *splits])
    assert found.spec.name == path.stem
    assert native_problems(found.cells) == []
    assert {(c.levels["model"], *c.config["loss"]) for c in found.cells} == _pairs(found.spec)
    assert set(seen) == {cell.levels["model"] for cell in found.cells}
    comment = path.read_text().partition("name:")[0]
    assert all(line.startswith("#") for line in comment.splitlines())
    if not path.stem.endswith(("small", "unknown", "quickstart")):  # those need no GPU
        assert f"\n#   segsweep launch sweeps/{path.name}\n" in comment
        assert "Hardware: one GPU" in comment
        assert "estimated and not measured" in comment
