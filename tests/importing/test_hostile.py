"""W&B sweep files that say nonsense, or that say one thing twice: a reason each, no traceback."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from segsweep import yamlfile
from segsweep.cli import app
from segsweep.errors import SpecError
from segsweep.importing import Imported, convert
from segsweep.importing.conversion import Untranslatable
from segsweep.importing.naming import path_of

SEARCH = "method: random\nparameters: {lr: {min: 0.001, max: 0.1}}\n"


def imported(tmp_path: Path, text: str, *overrides: str) -> Imported:
    path = tmp_path / "wandb.yaml"
    path.write_text(text)
    return convert(path, overrides)


def said(made: Imported) -> dict[str, str]:
    return {problem.key: problem.what for problem in made.left}


@pytest.mark.parametrize(
    ("name", "path"),
    [
        ("model.name", "model"),
        ("loss.name", "loss"),
        ("loss.type", "loss"),
        ("model.backbone", "encoder"),
        ("model.encoder", "encoder"),
        ("model.encoder.name", "encoder"),
        ("model.width", "model.width"),
        ("loss.focal.alpha", "loss.focal.alpha"),
        ("loss.dice.weight", "loss.dice.weight"),
        ("loss.gamma", "loss.focal.gamma"),
        ("criterion.gamma", "loss.focal.gamma"),
        ("focal.gamma", "loss.focal.gamma"),
        ("loss.focal.gamma", "loss.focal.gamma"),
        ("train.lr", "train.lr"),
        ("train.learning-rate", "train.lr"),
        ("train.grad_clip", "train.grad_clip"),
        ("optimizer.name", "train.optimizer"),
        ("optim.lr", "train.lr"),
        ("train.optimizer.lr", "train.lr"),
        ("hparams.LR", "train.lr"),
        ("data.batch_size", "train.batch_size"),
        ("early_stopping.patience", "train.patience"),
    ],
)
def test_a_nested_name_is_looked_up_before_it_is_taken_for_one_of_ours(
    name: str, path: str
) -> None:
    assert path_of(name) == path


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("scheduler.gamma", "gamma below scheduler may be another than loss.focal.gamma"),
        ("scheduler.patience", "patience below scheduler may be another than train.patience"),
        ("model.encoder.lr", "lr below model.encoder may be another than train.lr"),
        ("discriminator.lr", "may be another than train.lr"),
        ("discriminator.optimizer.lr", "may be another than train.lr"),
        ("warmup.epochs", "may be another than train.epochs"),
        ("pretrain.epochs", "may be another than train.epochs"),
        ("val.batch_size", "may be another than train.batch_size"),
        ("ema.gamma", "may be another than loss.focal.gamma"),
        ("teacher.model", "model below teacher may be another than factors.model"),
        ("teacher.model.name", "model below teacher may be another than factors.model"),
        ("teacher.encoder", "encoder below teacher may be another than factors.model"),
        ("augmentation.precision", "may be another than train.precision"),
        ("loss.weight_decay", "may be another than train.weight_decay"),
        ("loss.tversky.gamma", "may be another than loss.focal.gamma"),
        ("model.encoder_weights", "belongs to the levels of factors.model here"),
        ("train.momentum", "is no setting here"),
        ("loss.focal.beta", "is no setting here"),
        ("train.", "is no setting here"),
        ("model.", "is no setting here"),
    ],
)
def test_a_nested_name_that_may_mean_another_is_left_out(name: str, why: str) -> None:
    with pytest.raises(Untranslatable, match=why):
        path_of(name)


TWICE = {
    "{train: {parameters: {lr: {value: 0.1}}}, optim: {parameters: {lr: {value: 0.2}}}}": (
        "parameters.optim.parameters.lr",
        "train.lr is parameters.train.parameters.lr already: left out",
        {"train": {"lr": 0.1}},
    ),
    "{lr: {min: 0.001, max: 0.1}, learning_rate: {min: 0.1, max: 0.2}}": (
        "parameters.learning_rate",
        "train.lr is parameters.lr already: left out",
        {"parameters": {"train.lr": {"min": 0.001, "max": 0.1}}},
    ),
    "{lr: {min: 0.001, max: 0.1}, base_lr: {value: 0.2}}": (
        "parameters.base_lr",
        "train.lr is parameters.lr already: left out",
        {"parameters": {"train.lr": {"min": 0.001, "max": 0.1}}},
    ),
    "{model: {value: segnet}, arch: {value: unet_vanilla}}": (
        "parameters.arch",
        "model is parameters.model already: left out",
        {"factors": {"model": ["segnet"]}},
    ),
}


@pytest.mark.parametrize("parameters", TWICE)
def test_the_first_of_two_for_one_path_is_kept(tmp_path: Path, parameters: str) -> None:
    made = imported(tmp_path, f"method: random\nparameters: {parameters}")
    later, why, kept = TWICE[parameters]
    assert said(made)[later] == why
    assert set(said(made)) <= {later, "parameters"}
    sections = ("train", "parameters", "factors")
    assert {key: made.data[key] for key in sections if key in made.data} == kept


def test_what_was_left_out_takes_no_place(tmp_path: Path) -> None:
    made = imported(tmp_path, "parameters: {lr: {values: 3}, learning_rate: {value: 0.2}}")
    assert made.data["train"] == {"lr": 0.2}


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("{type: hyperband, max_iter: 27, s: two}", "s"),
        ("{type: hyperband, max_iter: 27, s: [2]}", "s"),
        ("{type: hyperband, max_iter: 27, s: -1}", "s"),
        ("{type: hyperband, max_iter: 27, eta: .inf}", "eta"),
        ("{type: hyperband, max_iter: 27, eta: .nan}", "eta"),
        ("{type: hyperband, max_iter: 27, eta: 1}", "eta"),
        ("{type: hyperband, max_iter: 27, min_iter: true}", "min_iter"),
    ],
)
def test_what_is_no_whole_number_is_left_out(tmp_path: Path, text: str, key: str) -> None:
    made = imported(tmp_path, f"{SEARCH}early_terminate: {text}")
    assert "no whole number from" in said(made)[f"early_terminate.{key}"]
    wanted = {"type": "hyperband", "grace_period": 9, "reduction_factor": 3}
    assert made.data["early_stopping"] == wanted


def test_many_brackets_begin_at_the_first_epoch(tmp_path: Path) -> None:
    made = imported(
        tmp_path, SEARCH + "early_terminate: {type: hyperband, max_iter: 27, s: 99999999999}"
    )
    assert made.data["early_stopping"]["grace_period"] == 1


@pytest.mark.parametrize("cap", ["true", "[3]", ".inf", "0", "x"])
def test_a_run_cap_that_is_none_is_left_out(tmp_path: Path, cap: str) -> None:
    made = imported(tmp_path, f"{SEARCH}run_cap: {cap}", "factors.model=[segnet]")
    assert "configs_per_cell" not in made.data
    assert "no whole number" in said(made)["run_cap"]


def test_a_budget_that_is_set_is_kept(tmp_path: Path) -> None:
    made = imported(tmp_path, f"{SEARCH}run_cap: 9", "configs_per_cell=2")
    assert made.data["configs_per_cell"] == 2
    assert "is given" in said(made)["run_cap"]


@pytest.mark.parametrize(
    "parameter",
    [
        "{distribution: [a], min: 1, max: 2}",
        "{distribution: {a: b}}",
        "{distribution: log_uniform, min: .nan, max: 2}",
        "{min: [1], max: 2}",
    ],
)
def test_a_parameter_that_is_nonsense_is_left_out(tmp_path: Path, parameter: str) -> None:
    made = imported(tmp_path, f"method: random\nparameters: {{lr: {parameter}}}")
    assert "parameters" not in made.data
    assert said(made)["parameters.lr"].endswith("left out")


@pytest.mark.parametrize("parameter", ["min: 1, max: N", "distribution: normal, mu: N, sigma: 1"])
def test_a_number_that_no_machine_has_is_refused(tmp_path: Path, parameter: str) -> None:
    number = "1" + "0" * 400
    with pytest.raises(SpecError, match="64 bits"):
        imported(
            tmp_path, f"method: random\nparameters: {{lr: {{{parameter}}}}}".replace("N", number)
        )


@pytest.mark.parametrize(
    "override", ["factors=3", "factors.model=3", "factors.model=unet_vanilla", "dataset=3"]
)
def test_an_override_of_the_wrong_kind_is_refused(tmp_path: Path, override: str) -> None:
    path, out = tmp_path / "wandb.yaml", tmp_path / "ours.yaml"
    path.write_text(f"{SEARCH}run_cap: 12")
    done = CliRunner().invoke(
        app, ["import-wandb", str(path), "--out", str(out), "--set", override]
    )
    assert done.exit_code == 2, done.output
    assert f"--set: {override.partition('=')[0]}: should be a valid" in done.output
    assert not out.exists()


@pytest.mark.parametrize("key", ["description", "project", "entity", "name"])
def test_nothing_of_the_environment_gets_into_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, key: str
) -> None:
    monkeypatch.setenv("MY_SECRET", "hunter2")
    text = f'{key}: "key ${{MY_SECRET}}"\n{SEARCH}'
    made = imported(tmp_path, text)
    assert "hunter2" not in made.text
    assert "hunter2" not in str(made.left)
    assert "${MY_SECRET} would be taken from the environment" in said(made)[key]
    assert "hunter2" not in str(yamlfile.parse(made.text, "read again").data)


def test_macros_are_left_out_with_their_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RATE", "0.1")
    text = """
program: ${program}
method: random
metric: {name: "val/iou_${RATE}", goal: maximize}
parameters:
  lr: {value: "${RATE}"}
  optimizer: {values: [Adam, "${RATE:-sgd}"]}
  batch_size: {values: [2, 4]}
"""
    made = imported(tmp_path, text)
    told = said(made)
    assert "starts no script" in told["program"]
    assert told["parameters.lr.value"].endswith("left out")
    assert told["parameters.optimizer.values[1]"].endswith("left out")
    assert "metric.name" in told
    assert "$" not in made.text
    assert made.data["train"] == {"optimizer": "adam"}
    assert set(made.data["parameters"]) == {"train.batch_size"}


def test_words_are_written_as_ours_and_unknown_ones_told(tmp_path: Path) -> None:
    text = """
method: random
parameters:
  optimizer: {values: [Adam, SGD, RMSprop]}
  scheduler: {values: [Cosine, cosine]}
  augment: {value: mixup}
  precision: {value: FP16}
"""
    made = imported(tmp_path, text)
    assert made.data["parameters"] == {"train.optimizer": {"values": ["adam", "sgd"]}}
    assert made.data["train"] == {"schedule": "cosine", "precision": "fp16"}
    reasons = [problem.what for problem in made.left]
    assert "unknown optimizer 'rmsprop': left out" in reasons
    assert "names nothing that exists here: left out" in reasons


@pytest.mark.parametrize(("overrides", "code"), [((), 3), (("factors",), 0)])
def test_the_exit_code_says_whether_something_is_to_be_filled_in(
    tmp_path: Path, overrides: tuple[str, ...], code: int
) -> None:
    path = tmp_path / "wandb.yaml"
    path.write_text(SEARCH)
    given: list[Any] = ["--set", "dataset.name=synthetic_lesions"]
    if overrides:
        given += ["--set", "factors.model=[segnet]", "--set", "factors.loss=[bce]"]
    for form in ([], ["--json"]):
        done = CliRunner().invoke(app, ["import-wandb", str(path), *given, *form])
        assert done.exit_code == code, done.output
