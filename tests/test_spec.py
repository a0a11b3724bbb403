"""The sweep file: shape, defaults, overrides, and every mistake at once."""

from __future__ import annotations

from pathlib import Path

import pytest

from segsweep import spec, yamlfile
from segsweep.errors import Problem, SpecError
from tests.helpers import tiny, write_sweep

MINIMAL = "name: x\nfactors: {model: [segnet], loss: [bce]}\n"


def mistakes(text: str) -> list[Problem]:
    return spec.parse(yamlfile.parse(text, "f.yaml"))[1]


def test_defaults_are_filled_in() -> None:
    found, problems = spec.parse(yamlfile.parse(MINIMAL, "f.yaml"))
    assert problems == []
    assert found is not None
    assert found.folds.k == 5
    assert found.metric.name == "val/iou"
    assert spec.to_plain(found)["train"]["optimizer"] == "adamw"


def test_all_mistakes_are_told_at_once_with_line_key_and_advice() -> None:
    text = """name: a b
datset: {name: ph2}
factors: {model: [], loss: [bce]}
folds: {k: "5", runn: 3}
parameters:
  train.lr: {distribution: log_uniform_values, min: 0, max: 1e-2}
  train.weight_decay: {min: 3, max: 1}
method: bays
tracking: {}
resources: {gpu: some}
method: grid
"""
    found = {(p.where, p.key): p for p in mistakes(text)}
    assert set(found) == {
        ("f.yaml:1", "name"),
        ("f.yaml:2", "datset"),
        ("f.yaml:3", "factors.model"),
        ("f.yaml:4", "folds.k"),
        ("f.yaml:4", "folds.runn"),
        ("f.yaml:6", "parameters.train.lr.min"),
        ("f.yaml:7", "parameters.train.weight_decay.min"),
        ("f.yaml:8", "method"),
        ("f.yaml:9", "tracking"),
        ("f.yaml:10", "resources.gpu"),
        ("f.yaml:11", "method"),
    }
    assert "did you mean 'dataset'" in found["f.yaml:2", "datset"].hint
    assert "did you mean 'run'" in found["f.yaml:4", "folds.runn"].hint
    assert "did you mean 'bayes'" in found["f.yaml:8", "method"].hint
    assert "list" in found["f.yaml:9", "tracking"].what


@pytest.mark.parametrize(
    ("line", "key", "what"),
    [
        ("dataset: {image_size: [192]}", "dataset.image_size[1]", "height"),
        ("dataset: {image_size: [0, 4]}", "dataset.image_size[0]", "greater than or equal to 1"),
        ("dataset: {holdout: 1.0}", "dataset.holdout", "less than 1"),
        ("folds: {k: 1}", "folds.k", "greater than or equal to 2"),
        ("folds: {k: 3, run: 4}", "folds.run", "greater than k"),
        ("train: {epochs: 2.5}", "train.epochs", "integer"),
        ("train: {epochs: true}", "train.epochs", "integer"),
        ("train: {lr: '1'}", "train.lr", "number"),
        ("metric: {name: val/loss}", "metric.goal", "minimized"),
        ("resources: {gpu: some}", "resources.gpu", "or write 'auto'"),
        ("resources: {gpu: 2}", "resources.gpu", "0.5 lets two trials share one"),
        ("dataset: {image_size: 48x64}", "dataset.image_size", "write image_size: [192, 256]"),
        ("dataset: {holdout: 25}", "dataset.holdout", "25 % is 0.25"),
        ("train: {epochs: '3'}", "train.epochs", "remove the quotes"),
        (
            "parameters: {train.optimizer: [adam, sgd]}",
            "parameters.train.optimizer",
            "write {values: [adam, sgd]}",
        ),
        ("early_stopping: {eta: 3}", "early_stopping.eta", "did you mean 'reduction_factor'"),
        ("dataset: {holdout: test}", "dataset.holdout", "or write 'official'"),
        ("storage_path: s3://bucket/x", "storage_path", "not available yet"),
        ("configs_per_cell: 4", "configs_per_cell", "needs parameters"),
        ("calibration: {temperatures: {min: 2, max: 1}}", "calibration.temperatures.max", "above"),
        ("calibration: {temperatures: {steps: 1}}", "calibration.temperatures.steps", "2"),
        ("calibration: {keep: all}", "calibration.keep", "not valid"),
        (
            "calibration: {datasets: {holdout: {name: smiyc}}}",
            "calibration.datasets.holdout",
            "own",
        ),
        ("train: {weight_decay: .inf}", "train.weight_decay", "finite"),
        ("seed: !!int abc", "seed", "cannot be read"),
        ("race: {rule: predictive, p: 1.5}", "race.p", "less than 1"),
        ("replicates: 0", "replicates", "greater than or equal to 1"),
        ("early_stopping: {type: bohb}", "early_stopping.type", "not valid"),
    ],
)
def test_one_mistake(line: str, key: str, what: str) -> None:
    problems = mistakes(MINIMAL + line + "\n")
    assert [problem.key for problem in problems] == [key]
    assert what in str(problems[0])
    assert problems[0].where == "f.yaml:3"


@pytest.mark.parametrize(
    ("parameter", "what"),
    [
        ("{distribution: log_uniform, min: -3, max: -1}", "log_uniform is not supported"),
        ("{distribution: log_uniform_values, min: -1, max: 1}", "not above 0"),
        ("{distribution: unifrm, min: 0, max: 1}", "unknown distribution"),
        ("{min: 2, max: 1}", "greater than max"),
        ("{min: 2}", "needs 'max'"),
        ("{values: []}", "empty"),
        ("{values: [1], min: 0}", "does not go with"),
        ("{distribution: normal, mu: 0, sigma: 0}", "not above 0"),
        ("{distribution: int_uniform, min: 0.5, max: 2}", "whole numbers"),
        ("{distribution: q_uniform, min: 0, max: 2, q: 0}", "q 0.0 is not above 0"),
        ("{min: 0, max: .inf}", "finite"),
        ("{values: [2, 2, 4]}", "2 stands twice"),
        ("{distribution: log_normal, mu: 1000, sigma: 1}", "beyond what a number can hold"),
    ],
)
def test_mistakes_of_one_parameter(parameter: str, what: str) -> None:
    problems = mistakes(MINIMAL + f"parameters:\n  train.lr: {parameter}\n")
    assert any(what in problem.what for problem in problems), problems
    assert all(problem.where == "f.yaml:4" for problem in problems)


def test_log_uniform_points_to_its_replacement() -> None:
    text = MINIMAL + "parameters: {train.lr: {distribution: log_uniform, min: 1, max: 2}}\n"
    assert "log_uniform_values" in mistakes(text)[0].hint


@pytest.mark.parametrize(
    "line", ["configs_per_cell: 3", "parameters: {train.lr: {min: 0, max: 1}}"]
)
def test_a_grid_needs_values_and_no_budget(line: str) -> None:
    assert mistakes(MINIMAL + f"method: grid\n{line}\n")


def test_a_sampler_goes_with_bayes_alone() -> None:
    (problem,) = mistakes(MINIMAL + "method: random\nsampler: gp\n")
    assert problem.key == "sampler"
    assert "method: bayes" in problem.what


def test_set_overrides_nested_and_dotted_keys(tmp_path: Path) -> None:
    path = write_sweep(tmp_path, tiny())
    changed = ["train.epochs=5", "parameters.train.lr.min=1e-4", "dataset.holdout=0", "seed=3"]
    found = spec.load(path, changed)
    assert (found.train.epochs, found.seed, found.dataset.holdout) == (5, 3, 0)
    assert found.parameters["train.lr"].min == 1e-4
    added = spec.load(path, ["parameters.train.weight_decay={min: 0.0, max: 0.1}"])
    assert set(added.parameters) == {"train.lr", "train.weight_decay"}


def test_a_mistaken_override_is_placed_there(tmp_path: Path) -> None:
    path = write_sweep(tmp_path, tiny())
    with pytest.raises(SpecError) as caught:
        spec.load(path, ["train.epochs=many", "trian.lr=1"])
    assert {(p.where, p.key) for p in caught.value.problems} == {
        ("--set", "train.epochs"),
        ("--set", "trian"),
    }
    with pytest.raises(SpecError, match="not key=value"):
        spec.load(path, ["train.epochs"])
    for value, key in ((f"{10**20}", "seed"), ("[1, !odd 2]", "seed[1]"), ("[1", "seed")):
        with pytest.raises(SpecError) as caught:
            spec.load(path, [f"seed={value}"])
        assert [(p.where, p.key) for p in caught.value.problems] == [("--set", key)]


def test_wandb_mode_file_wins_over_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    def mode(text: str) -> str:
        found = spec.parse(yamlfile.parse(MINIMAL + text, "f"))[0]
        assert found is not None
        return found.wandb_mode

    assert mode("") == "offline"
    monkeypatch.setenv("WANDB_MODE", "disabled")
    assert mode("") == "disabled"
    assert mode("wandb: {mode: online}\n") == "online"


def test_wandb_mode_of_the_environment_is_mapped_or_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("WANDB_MODE", "dryrun")
    found, problems = spec.parse(yamlfile.parse(MINIMAL, "f"))
    assert found is not None
    assert (found.wandb_mode, problems) == ("offline", [])
    monkeypatch.setenv("WANDB_MODE", "onlin")
    (problem,) = mistakes(MINIMAL)
    assert problem.key == "wandb.mode"
    assert "did you mean 'online'" in problem.hint


def test_what_is_resolved_loads_again(tmp_path: Path) -> None:
    found = spec.load(write_sweep(tmp_path, tiny()))
    path = tmp_path / "resolved.yaml"
    path.write_text(yamlfile.dump(spec.to_plain(found)))
    assert spec.load(path) == found
