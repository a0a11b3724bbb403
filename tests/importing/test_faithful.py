"""What a W&B file means is what ours says, and where it does not, that is said at W&B's line."""

from __future__ import annotations

import shlex
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from segsweep import yamlfile
from segsweep.cli import app
from segsweep.errors import Problem, SpecError
from segsweep.importing import Imported, convert

DATA = ["dataset.name=synthetic_lesions", "dataset.images=12", "dataset.image_size=[32, 32]"]
MODEL, BCE = "factors.model=[unet_vanilla]", "factors.loss=[bce]"


def imported(tmp_path: Path, text: str, *overrides: str) -> Imported:
    path = tmp_path / "wandb.yaml"
    path.write_text(text)
    return convert(path, overrides)


def told(made: Imported, key: str) -> Problem:
    (found,) = [problem for problem in made.left if problem.key == key]
    return found


def test_each_section_keeps_its_own(tmp_path: Path) -> None:
    text = """method: random
parameters:
  scheduler: {parameters: {gamma: {min: 0.1, max: 0.9}, patience: {values: [2, 3]}}}
  model: {parameters: {encoder: {parameters: {lr: {min: 0.1, max: 0.2}}}}}
  optim: {parameters: {lr: {min: 0.001, max: 0.01}}}
  warmup.epochs: {value: 3}
"""
    made = imported(tmp_path, text, *DATA, MODEL, "factors.loss=[focal]")
    assert made.missing == []
    assert made.data["parameters"] == {"train.lr": {"min": 0.001, "max": 0.01}}
    assert "train" not in made.data
    encoder = told(made, "parameters.model.parameters.encoder.parameters.lr")
    assert encoder.where.endswith(":4")
    assert encoder.what == "lr below model.encoder may be another than train.lr: left out"
    assert told(made, "parameters.optim.parameters.lr").what == "is written train.lr"
    assert [int(one.where.rpartition(":")[2]) for one in made.left] == [3, 3, 4, 5, 6]


def test_flat_names_share_a_note_and_ours_need_none(tmp_path: Path) -> None:
    text = (
        "parameters: {lr: {value: 0.1}, bs: {value: 2}, train.epochs: {value: 3}, seed: {value: 1}}"
    )
    made = imported(tmp_path, text)
    assert [(one.key, one.what) for one in made.left] == [
        ("parameters", "lr is written train.lr, bs is written train.batch_size")
    ]


@pytest.mark.parametrize("name", ["gamma", "hparams.gamma"])
def test_a_bare_gamma_is_a_focal_loss_s_only_where_there_is_one(tmp_path: Path, name: str) -> None:
    text = f"parameters:\n  {name}: {{min: 1.0, max: 3.0}}\n"
    for given in ([], [BCE], [MODEL, BCE]):
        made = imported(tmp_path, text, *given)
        assert "loss.focal.gamma" not in made.data.get("parameters", {})
        left = told(made, f"parameters.{name}")
        assert "no loss of the sweep is focal" in left.what
        assert left.where.endswith(":2")
    made = imported(tmp_path, text, "factors.loss=[bce, focal+dice]")
    assert made.data["parameters"] == {"loss.focal.gamma": {"min": 1.0, "max": 3.0}}
    assert told(made, f"parameters.{name}").what == "is written loss.focal.gamma"


def test_a_bare_gamma_gives_way_to_one_that_is_named(tmp_path: Path) -> None:
    text = "parameters: {gamma: {value: 0.1}, loss.gamma: {value: 3.0}, loss: {value: focal}}"
    made = imported(tmp_path, text)
    assert made.data["parameters"] == {"loss.focal.gamma": {"value": 3.0}}
    assert told(made, "parameters.gamma").what.endswith(
        "is parameters.loss.gamma already: left out"
    )


REFUSED = {
    "metric: {name: val/miou, goal: maximize}\nparameters: {}": ("metric.name", 1),
    "parameters: {}\nmetric: {name: val/loss, goal: minimize}": ("metric.name", 2),
    "method: random\nparameters:\n  batch_size: {min: 2, max: 1}": (
        "parameters.train.batch_size.min", 3,
    ),
    "method: random\nparameters:\n  lr:\n    sigma: 0\n    distribution: normal": (
        "parameters.train.lr.sigma", 4,
    ),
    "parameters:\n  epochs: {value: 0}": ("train.epochs", 2),
}  # fmt: skip


@pytest.mark.parametrize("text", REFUSED)
def test_what_validate_refuses_is_to_be_mended_at_its_line(tmp_path: Path, text: str) -> None:
    made = imported(tmp_path, text, *DATA, MODEL, "factors.loss=[bce, dice]")
    key, line = REFUSED[text]
    assert [(one.key, one.where) for one in made.missing] == [
        (key, f"{tmp_path / 'wandb.yaml'}:{line}")
    ]


@pytest.mark.parametrize(
    ("given", "keys"),
    [
        (["dataset.name=ph2"], ["dataset.root"]),
        (["dataset.name=camvid", "dataset.root=elsewhere"], ["metric.name", "factors.loss (bce)"]),
        (["dataset.name=nowhere"], ["dataset.name"]),
    ],
)
def test_the_data_that_is_named_is_what_the_rest_is_held_against(
    tmp_path: Path, given: list[str], keys: list[str]
) -> None:
    made = imported(tmp_path, "parameters: {}", *given, MODEL, BCE, "dataset.image_size=[32, 32]")
    assert [one.key.removesuffix(".bce") for one in made.missing] == keys


def test_the_last_line_is_the_command_that_goes_on(tmp_path: Path) -> None:
    source, out = tmp_path / "my sweep.yaml", tmp_path / "ours.yaml"
    source.write_text("method: random\nparameters: {lr: {min: 0.001, max: 0.1}}\n")
    first = ["import-wandb", str(source), "--out", str(out), "--set", "train.epochs=2"]
    done = CliRunner().invoke(app, first)
    assert done.exit_code == 3, done.output
    words = shlex.split(done.output.strip().splitlines()[-1].rpartition("   ")[2])
    assert words[: len(first) + 1] == ["segsweep", *first]
    done = CliRunner().invoke(app, words[1:])
    assert done.exit_code == 0, done.output
    assert done.output.strip().splitlines()[-1].endswith(f"segsweep validate {out}")
    data = yamlfile.read(out).data
    assert data["train"] == {"epochs": 2}
    assert data["factors"] == {"model": ["segnet", "unet/resnet34"], "loss": ["bce", "dice"]}
    out.write_text(out.read_text() + "seed: 3\n")  # what somebody changed stays
    done = CliRunner().invoke(app, words[1:])
    assert done.exit_code == 2
    assert "is not as import-wandb wrote it" in done.output
    assert out.read_text().endswith("seed: 3\n")


@pytest.mark.parametrize("kind", ["normal", "log_normal", "q_normal", "q_log_normal"])
def test_normal_distributions_have_the_defaults_of_wandb(tmp_path: Path, kind: str) -> None:
    text = f"method: random\nparameters:\n  lr: {{distribution: {kind}}}\n"
    made = imported(tmp_path, text)
    wanted = {"distribution": kind, "mu": 0.0, "sigma": 1.0}
    assert made.data["parameters"] == {"train.lr": wanted}
    notes = [one for one in made.left if one.key == "parameters.lr"]
    assert [one.what for one in notes] == [
        f"{kind} has no mu: W&B's default 0 is written",
        f"{kind} has no sigma: W&B's default 1 is written",
    ]
    assert all(one.where.endswith(":3") for one in notes)
    assert "parameters.train.lr" not in {one.key for one in made.missing}


MERGED = """base: &base
  lr: {min: 0.001, max: 0.1}
  batch_size: {value: 2}
more: &more {batch_size: {value: 8}, epochs: {value: 3}}
method: random
parameters:
  <<: [*base, *more]
  lr:
    <<: {min: 0.01}
    max: 0.2
  wd: {min: 1.0, max: 0.5}
"""


def test_merge_keys_are_put_in_place_with_their_lines(tmp_path: Path) -> None:
    made = imported(tmp_path, MERGED)
    assert made.data["train"] == {"batch_size": 2, "epochs": 3}
    assert made.data["parameters"]["train.lr"] == {"min": 0.01, "max": 0.2}
    (wrong,) = [one for one in made.missing if one.key.startswith("parameters")]
    assert wrong.where.endswith(":11")
    assert {one.key: one.where.rpartition(":")[2] for one in made.left} == {
        "base": "1", "more": "4", "parameters": "6",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("text", "what", "line"),
    [
        ("a: &a 3\nparameters:\n  <<: *a\n", "<< merges what is no mapping", 3),
        ("a: &a {b: 1}\nparameters:\n  <<: *a\n  b: 1\n  b: 2\n", "first in line 4", 5),
        ("parameters:\n  lr:\n    <<: {min: !!set {1}}\n", "tag", 3),
        ("a: &a {b: {<<: *a}}\nparameters: {<<: *a}\n", "nested too deeply", 0),
    ],
)
def test_bad_merges_are_refused_at_their_line(
    tmp_path: Path, text: str, what: str, line: int
) -> None:
    with pytest.raises(SpecError, match=what) as caught:
        imported(tmp_path, text)
    assert caught.value.problems[0].where.endswith(f":{line}" if line else "wandb.yaml")


def test_merges_of_merges_do_not_multiply(tmp_path: Path) -> None:
    rows = ["a0: &a0 {x: 1}"]
    rows += [f"a{i}: &a{i} {{<<: [{', '.join([f'*a{i - 1}'] * 20)}]}}" for i in range(1, 15)]
    made = imported(tmp_path, "\n".join([*rows, "parameters: {lr: {value: 0.1}}"]))
    assert made.data["train"] == {"lr": 0.1}


def test_a_grid_s_steps_are_those_of_wandb(tmp_path: Path) -> None:
    text = """method: grid
parameters:
  batch_size: {distribution: q_uniform, min: 2, max: 8, q: 2}
  lr: {distribution: q_uniform, min: 0.1, max: 0.4, q: 0.1}
  wd: {min: 0.0, max: 0.1}
  grad_clip: {distribution: q_uniform, min: 0.0, max: 1.0, q: 1.0e-9}
"""
    made = imported(tmp_path, text)
    assert made.data["parameters"] == {
        "train.batch_size": {"values": [2, 4, 6]},  # as numpy.arange, which W&B's grid uses
        "train.lr": {"values": pytest.approx(np.arange(0.1, 0.4, 0.1).tolist())},
    }
    assert told(made, "parameters.batch_size").what.endswith("values of W&B's grid, 2 to 6")
    assert told(made, "parameters.wd").what == "a grid needs values: left out"
    assert told(made, "parameters.grad_clip").what.startswith("a grid needs values, and")


def test_epochs_that_come_from_a_bracket_are_noted(tmp_path: Path) -> None:
    text = "method: random\nearly_terminate: {type: hyperband, max_iter: 27}\nparameters: {"
    made = imported(tmp_path, text + "}")
    assert made.data["train"] == {"epochs": 27}
    assert told(made, "early_terminate.max_iter").what.startswith("is written train.epochs, too")
    made = imported(tmp_path, text + "epochs: {values: [3, 9]}}")
    assert "train" not in made.data
    assert "early_terminate.max_iter" not in {one.key for one in made.left}


def test_whole_numbers_are_written_as_such(tmp_path: Path) -> None:
    made = imported(tmp_path, "parameters: {epochs: {value: 3.0}, bs: {values: [2.0, 4, 2.5]}}")
    assert made.data["train"]["epochs"] == 3
    assert repr(made.data["parameters"]["train.batch_size"]["values"]) == "[2, 4, 2.5]"
