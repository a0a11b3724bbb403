"""W&B sweep files as people have them: ours without any ``--set`` but for the data."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from segsweep import spec, yamlfile
from segsweep.check import check
from segsweep.cli import app
from segsweep.importing import convert

DATA = ["dataset.name=synthetic_lesions", "dataset.images=12", "dataset.image_size=[32, 32]"]
NESTED = """
project: lesions
method: random
metric: {name: val_iou, goal: maximize}
parameters:
  model:
    parameters:
      name: {values: [unet_vanilla, segnet]}
      width: {value: 4}
      dropout: {values: [0.0, 0.5]}
  loss:
    parameters:
      name: {values: [BCE, Dice]}
  optimizer:
    parameters:
      name: {values: [Adam, SGD]}
      lr: {distribution: log_uniform_values, min: 1.0e-4, max: 1.0e-2}
  train:
    parameters:
      epochs: {value: 3}
      batch_size: {values: [2, 4]}
"""
BAYES = """
program: train.py
project: lesions
method: bayes
metric: {name: Val Dice, goal: maximize}
early_terminate: {type: hyperband, min_iter: 2, eta: 2}
run_cap: 12
parameters:
  arch: {values: [unet_vanilla, unet_strided]}
  criterion: {value: focal}
  learning_rate: {distribution: log_uniform, min: -9, max: -5}
  gamma: {min: 1.0, max: 4.0}
  weight_decay: {distribution: log_uniform_values, min: 1.0e-6, max: 1.0e-2}
  max_epochs: {value: 9}
"""
GRID = """
program: train.py
command: ["${env}", "${interpreter}", "${program}", "${args}"]
method: grid
metric: {name: val/loss, goal: minimize}
parameters:
  model:
    parameters:
      architecture: {value: unet}
      encoder: {values: [resnet18, resnet34]}
  loss_fn: {values: [bce, dice]}
  lr: {values: [0.001, 0.0001]}
  scheduler: {values: [Cosine, poly]}
  epochs: {value: 3}
"""
FILES = {"nested": NESTED, "bayes": BAYES, "grid": GRID}
FACTORS: dict[str, dict[str, Any]] = {
    "nested": {"model": ["unet_vanilla", "segnet"], "loss": ["bce", "dice"]},
    "bayes": {"model": ["unet_vanilla", "unet_strided"], "loss": ["focal"]},
    "grid": {"model": ["unet/resnet18", "unet/resnet34"], "loss": ["bce", "dice"]},
}
SEARCHED = {
    "nested": {"model.width", "train.optimizer", "train.lr", "train.batch_size"},
    "bayes": {"train.lr", "loss.focal.gamma", "train.weight_decay"},
    "grid": {"train.lr", "train.schedule"},
}


@pytest.mark.parametrize("name", FILES)
def test_it_loads_without_any_set_and_what_is_missing_is_named(tmp_path: Path, name: str) -> None:
    source, out = tmp_path / "wandb.yaml", tmp_path / "ours.yaml"
    source.write_text(FILES[name])
    made = convert(source)
    # the grid's losses cannot be compared by themselves
    also = ["metric.name"] if name == "grid" else []
    assert [one.key for one in made.missing] == ["dataset.name", *also]
    assert made.data["factors"] == FACTORS[name]
    done = CliRunner().invoke(app, ["import-wandb", str(source), "--out", str(out)])
    assert done.exit_code == 3, done.output  # the data
    read = spec.load(out)
    assert set(read.parameters) == SEARCHED[name]
    assert yamlfile.read(out).data == made.data


@pytest.mark.parametrize("name", ["nested", "bayes"])
def test_with_data_it_can_be_launched_as_it_is(tmp_path: Path, name: str) -> None:
    source, out = tmp_path / "wandb.yaml", tmp_path / "ours.yaml"
    source.write_text(FILES[name])
    given = [part for text in DATA for part in ("--set", text)]
    done = CliRunner().invoke(app, ["import-wandb", str(source), "--out", str(out), *given])
    assert done.exit_code == 0, done.output
    assert len(check(out).cells) == {"nested": 4, "bayes": 2}[name]


def test_what_they_say_of_epochs_and_runs_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "wandb.yaml"
    path.write_text(BAYES)
    data = convert(path).data
    assert data["metric"] == {"name": "val/dice", "goal": "maximize"}
    assert data["early_stopping"] == {
        "type": "hyperband", "grace_period": 2, "reduction_factor": 2,
    }  # fmt: skip
    assert data["train"] == {"epochs": 9}
    assert data["configs_per_cell"] == 12 // 2
    path.write_text(NESTED)
    left = {problem.key: problem.what for problem in convert(path).left}
    dropout = "parameters.model.parameters.dropout"
    assert left[dropout] == "no model or loss of the sweep has it: left out"
