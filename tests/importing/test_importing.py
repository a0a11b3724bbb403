"""W&B sweep files of many shapes, after W&B's documented keys: they become ours, or say why not."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from segsweep import space, spec, yamlfile
from segsweep.cli import app
from segsweep.importing import Imported, convert

DATA = ["dataset.name=synthetic_lesions", "dataset.images=12", "dataset.image_size=[32, 32]"]
FACTORS = ["factors.model=[unet_vanilla]", "factors.loss=[bce]"]
FILES = {
    "random": "method: random\nparameters: {lr: {min: 0.0001, max: 0.1}}",
    "bayes": """
method: bayes
metric: {name: val_loss, goal: minimize}
parameters:
  learning-rate: {distribution: log_uniform_values, min: 1.0e-5, max: 1.0e-2}
  batch_size: {values: [2, 4]}
""",
    "grid": "method: grid\nparameters: {optimizer: {values: [adam, sgd]}, bs: {min: 2, max: 4}}",
    "script": """
program: train.py
method: random
command: ["${env}", python, "${program}", --fixed, "${args}"]
parameters: {lr: {values: [0.1, 0.01]}}
""",
    "exponents": """
method: random
parameters:
  lr: {distribution: log_uniform, min: -9.21, max: -4.6}
  weight_decay: {distribution: inv_log_uniform, min: 2, max: 6}
""",
    "quantized": """
method: random
parameters:
  batch_size: {distribution: q_log_uniform, min: 1, max: 2, q: 1}
  weight_decay: {distribution: q_uniform, min: 0, max: 0.1, q: 0.01}
  lr: {distribution: q_log_uniform_values, min: 0.001, max: 0.1, q: 0.001}
""",
    "normal": """
method: random
parameters:
  lr: {distribution: log_normal, mu: -7, sigma: 1}
  weight_decay: {distribution: uniform, min: 0.0, max: 0.1}
""",
    "nested": """
method: random
parameters:
  optimizer:
    parameters:
      name: {values: [adamw, sgd]}
      lr: {min: 0.0001, max: 0.1}
      momentum: {value: 0.9}
  epochs: {value: 3}
""",
    "hyperband": """
method: bayes
metric: {name: val/iou, goal: maximize, target: 0.9}
early_terminate: {type: hyperband, max_iter: 27, s: 2, eta: 3}
run_cap: 9
parameters: {lr: {min: 0.0001, max: 0.1}}
""",
    "min_iter": """
method: bayes
early_terminate: {type: hyperband, min_iter: 4, eta: 2, strict: true}
parameters: {lr: {min: 0.0001, max: 0.1}}
""",
    "models": """
name: my models!
method: random
parameters:
  architecture: {values: [unet, fpn, hrnet]}
  backbone: {values: [resnet18, resnet34]}
  criterion: {values: [dice, wing]}
  lr: {value: 0.001}
""",
    "named": """
name: camera
project: p
entity: e
description: what for
method: random
parameters:
  lr: {distribution: categorical_w_probabilities, values: [0.1, 0.01], probabilities: [0.9, 0.1]}
  seed: {values: [1, 2, 3]}
  anchors: {values: [[1, 2], [3]]}
  dropout: {distribution: beta, a: 1, b: 2}
  img_size: {values: [64, 128]}
""",
    "cluster": """
method: custom
job: a/b/job:latest
controller: {type: local}
parameters: {lr: {min: 0.0001, max: 0.1, q: 3}, note: {value: x}}
run_cap: -1
""",
}


def imported(tmp_path: Path, text: str, *overrides: str) -> Imported:
    path = tmp_path / "wandb.yaml"
    path.write_text(text)
    return convert(path, overrides)


def said(made: Imported) -> dict[str, str]:
    return {problem.key: problem.what for problem in made.left}


@pytest.mark.parametrize("name", FILES)
def test_with_data_and_factors_each_is_accepted_and_every_line_told(
    tmp_path: Path, name: str
) -> None:
    made = imported(tmp_path, FILES[name], *DATA, *FACTORS)
    assert made.missing == []
    read, problems = spec.parse(yamlfile.parse(made.text, name))
    assert problems == []
    assert read is not None
    lines = FILES[name].splitlines()
    for problem in made.left:
        number = int(problem.where.rpartition(":")[2])
        assert problem.key.split(".")[-1].split("[")[0] in lines[number - 1]


@pytest.mark.parametrize("name", ["hyperband", "nested", "grid", "script"])
def test_validate_accepts_what_was_written(tmp_path: Path, name: str) -> None:
    source, out = tmp_path / "wandb.yaml", tmp_path / "ours.yaml"
    source.write_text(FILES[name])
    given = [part for text in [*DATA, *FACTORS] for part in ("--set", text)]
    done = CliRunner().invoke(app, ["import-wandb", str(source), "--out", str(out), *given])
    assert done.exit_code == 0, done.output
    assert f"segsweep validate {out}" in done.output
    done = CliRunner().invoke(app, ["validate", str(out)])
    assert done.exit_code == 0, done.output


def test_what_is_to_be_filled_in_is_named(tmp_path: Path) -> None:
    made = imported(tmp_path, FILES["random"])
    assert [one.key for one in made.missing] == ["dataset.name", "factors.model", "factors.loss"]
    assert all("--set" in one.hint for one in made.missing)


def test_exponents_become_values(tmp_path: Path) -> None:
    made = imported(tmp_path, FILES["exponents"])
    lr, decay = made.data["parameters"]["train.lr"], made.data["parameters"]["train.weight_decay"]
    assert lr["distribution"] == "log_uniform_values"
    assert math.log(lr["min"]) == pytest.approx(-9.21)
    assert math.log(lr["max"]) == pytest.approx(-4.6)
    # 1/x in [e^2, e^6], so x in [e^-6, e^-2]
    assert [math.log(decay[key]) for key in ("min", "max")] == pytest.approx([-6, -2])


def test_quantized_draws_are_steps_of_q(tmp_path: Path) -> None:
    made = imported(tmp_path, FILES["quantized"], *DATA, *FACTORS)
    read, _ = spec.parse(yamlfile.parse(made.text, "q"))
    assert read is not None
    batch = read.parameters["train.batch_size"]
    low, high = space.probes(batch)
    assert (low, high) == (round(math.e), round(math.e**2))


def test_nested_parameters_and_constants_find_their_place(tmp_path: Path) -> None:
    made = imported(tmp_path, FILES["nested"])
    assert set(made.data["parameters"]) == {"train.optimizer", "train.lr"}
    assert made.data["train"] == {"epochs": 3}
    left = said(made)
    below = "parameters.optimizer.parameters"
    assert list(left) == ["parameters", *(f"{below}.{key}" for key in ("name", "lr", "momentum"))]
    assert left[f"{below}.lr"] == "is written train.lr"
    assert left["parameters"] == "epochs is written train.epochs"
    assert "no setting here" in left["parameters.optimizer.parameters.momentum"]


def test_hyperband_counts_from_its_first_bracket(tmp_path: Path) -> None:
    made = imported(tmp_path, FILES["hyperband"], *FACTORS)
    wanted = {"type": "hyperband", "grace_period": 3, "reduction_factor": 3}  # 27 / 3²
    assert made.data["early_stopping"] == wanted
    assert made.data["train"]["epochs"] == 27
    assert made.data["configs_per_cell"] == 9
    told = {"early_terminate", "early_terminate.max_iter", "metric.target", "run_cap"}
    assert told | {"parameters"} == set(said(made))
    made = imported(tmp_path, FILES["min_iter"])
    assert made.data["early_stopping"]["grace_period"] == 4
    assert made.data["early_stopping"]["reduction_factor"] == 2
    assert "early_terminate.strict" in said(made)


def test_run_cap_is_shared_by_the_cells(tmp_path: Path) -> None:
    text = FILES["hyperband"] + "  \n"
    factors = ["factors.model=[segnet, unet_vanilla]", "factors.loss=[bce, dice]"]
    assert imported(tmp_path, text, *factors).data["configs_per_cell"] == 9 // 4


def test_architecture_and_encoder_are_crossed_and_unknown_names_told(tmp_path: Path) -> None:
    made = imported(tmp_path, FILES["models"])
    assert made.data["factors"] == {
        "model": ["unet/resnet18", "unet/resnet34", "fpn/resnet18", "fpn/resnet34"],
        "loss": ["dice"],
    }
    assert made.data["name"] == "my_models"
    told = [problem.what for problem in made.left]
    assert any("hrnet" in what for what in told)
    assert any("wing" in what for what in told)


def test_everything_else_has_its_reason(tmp_path: Path) -> None:
    made = imported(tmp_path, FILES["named"])
    assert made.data["project"] == "p"
    assert made.data["entity"] == "e"
    assert made.data["description"] == "what for"
    assert made.data["replicates"] == 3
    told = {f"parameters.{key}" for key in ("lr", "seed", "anchors", "dropout", "img_size")}
    assert told | {"parameters"} == set(said(made))
    left = said(imported(tmp_path, FILES["cluster"]))
    told = {"method", "job", "controller", "parameters", "parameters.lr", "parameters.note"}
    assert told | {"run_cap"} == set(left)
    left = said(imported(tmp_path, FILES["script"]))
    assert "starts no script" in left["program"]
    assert "starts no command" in left["command"]


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("method: [random\nparameters: {}", "is not valid YAML"),
        ("parameters:\n  lr: !python/object/apply:os.system [ls]", "the tag"),
        ("- a\n- b", "is not a mapping"),
        ("method: random", "is no W&B sweep file"),
        ("factors: {model: [segnet]}\nparameters: {}", "is a sweep file of segsweep already"),
        ("method: grid\nmethod: bayes\nparameters: {}", "this key stands twice"),
    ],
)
def test_bad_files_are_refused_with_nothing_written(tmp_path: Path, text: str, what: str) -> None:
    path, out = tmp_path / "wandb.yaml", tmp_path / "ours.yaml"
    path.write_text(text)
    done = CliRunner().invoke(app, ["import-wandb", str(path), "--out", str(out)])
    assert done.exit_code == 2
    assert what in done.output
    assert not out.exists()


@pytest.mark.parametrize(
    "parameter",
    [
        "{distribution: log_uniform, min: a, max: 2}",
        "{distribution: log_uniform, min: 1, max: 10000}",
        "{distribution: triangle, min: 1, max: 2}",
        "{}",
        "{values: 3}",
    ],
)
def test_hostile_parameters_are_left_out_with_a_reason(tmp_path: Path, parameter: str) -> None:
    made = imported(tmp_path, f"method: random\nparameters: {{lr: {parameter}}}")
    assert "parameters" not in made.data
    assert said(made)["parameters.lr"].endswith("left out")


def test_an_existing_file_is_kept_and_json_tells_the_same(tmp_path: Path) -> None:
    path = tmp_path / "wandb.yaml"
    path.write_text(FILES["script"])
    done = CliRunner().invoke(app, ["import-wandb", str(path), "--out", str(path)])
    assert done.exit_code == 2
    assert path.read_text() == FILES["script"]
    told: dict[str, Any] = json.loads(
        CliRunner().invoke(app, ["import-wandb", str(path), "--json"]).stdout
    )
    assert told["sweep"] == convert(path).data
    assert [one["key"] for one in told["left"]] == ["program", "command", "parameters"]


def test_what_hyperband_does_not_need_beside_min_iter_is_named(tmp_path: Path) -> None:
    text = "{type: hyperband, min_iter: 3, eta: 3, s: 2}"
    path = tmp_path / "w.yaml"
    path.write_text(f"method: random\nearly_terminate: {text}\nparameters: {{}}\n")
    made = convert(path, [])
    assert made.data["early_stopping"]["grace_period"] == 3
    assert "early_terminate.s" in {problem.key for problem in made.left}
