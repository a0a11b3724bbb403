"""A config's id changes with what can change a number, and with nothing else."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest

from segsweep import cells, identity
from segsweep.opening import Found
from segsweep.spec import load

CONFIG: dict[str, Any] = {
    "model": {"name": "segnet", "width": 4},
    "loss": {"bce": {"weight": 1.0}},
    "train": {"lr": 0.1, "epochs": 2},
    "dataset": {"name": "ph2", "root": "/a", "image_size": [8, 8]},
    "folds": {"k": 3, "run": None},
    "metric": {"name": "val/iou", "goal": "maximize"},
    "seed": 0,
}

QUICKSTART = ["4eb91c46b766", "96dccb269625", "63da0dc47998", "58c872cad85b"]


def name(config: dict[str, Any], data: str = "d", folds: str = "f") -> str:
    return identity.config_id(config, data, folds)


def changed(section: str, key: str, value: Any) -> dict[str, Any]:
    config = copy.deepcopy(CONFIG)
    config[section][key] = value
    return config


def test_twelve_hex_digits_whatever_the_order_of_keys() -> None:
    assert len(name(CONFIG)) == 12
    assert int(name(CONFIG), 16) >= 0
    assert name(dict(reversed(CONFIG.items()))) == name(CONFIG)


@pytest.mark.parametrize(
    ("section", "key", "value"),
    [("model", "width", 5), ("loss", "bce", {"weight": 2.0}), ("train", "lr", 0.2),
     ("dataset", "image_size", [8, 9]), ("folds", "k", 4), ("metric", "goal", "minimize")],
)  # fmt: skip
def test_what_changes_numbers_changes_the_id(section: str, key: str, value: Any) -> None:
    assert name(changed(section, key, value)) != name(CONFIG)


def test_data_folds_and_seed_change_the_id() -> None:
    assert len({name(CONFIG), name(CONFIG, data="e"), name(CONFIG, folds="g")}) == 3
    assert name({**CONFIG, "seed": 1}) != name(CONFIG)


@pytest.mark.parametrize(
    ("section", "key", "value"),
    [("dataset", "root", "/b"), ("folds", "run", 2), ("metric", "also", ["val/ap"])],
)
def test_places_and_budgets_do_not(section: str, key: str, value: Any) -> None:
    assert name(changed(section, key, value)) == name(CONFIG)
    assert name({**CONFIG, "resources": {"cpu": 9}}) == name(CONFIG)


def test_every_trial_has_a_seed_of_its_own() -> None:
    """Else the noise between seeds, which race and comparison estimate, is not in the scores."""
    other = changed("train", "lr", 0.002)
    seeds = {
        identity.trial_seed(config, fold, replicate)
        for config in (CONFIG, other, {**CONFIG, "seed": 1})
        for fold in range(5)
        for replicate in range(3)
    }
    assert len(seeds) == 45
    assert all(0 <= seed < 2**31 for seed in seeds)
    moved = changed("dataset", "root", "/b")
    assert identity.trial_seed(moved, 0) == identity.trial_seed(CONFIG, 0)


def test_short_names_are_the_shortest_that_differ() -> None:
    paths = ["train.lr", "loss.focal.gamma", "loss.tversky.gamma"]
    assert identity.short_names(paths) == ["lr", "focal.gamma", "tversky.gamma"]
    assert identity.short_params({"train.lr": 0.00312345, "model.width": 8}) == "lr=0.00312 width=8"


@pytest.fixture
def newer(monkeypatch: pytest.MonkeyPatch) -> None:
    """A segsweep with two keys more than the one that named ``CONFIG``."""
    monkeypatch.setattr(
        identity, "NEUTRAL", {"train.scale": None, "inference.window": None, "model.depth": 4}
    )


@pytest.mark.usefixtures("newer")
@pytest.mark.parametrize(
    ("path", "neutral", "other"),
    [("train.scale", None, [0.5, 2.0]), ("inference.window", None, 64), ("model.depth", 4, 5)],
)
def test_a_later_key_changes_ids_and_seeds_where_it_changes_numbers(
    path: str, neutral: Any, other: Any
) -> None:
    section, key = path.split(".")
    at_rest, moved = copy.deepcopy(CONFIG), copy.deepcopy(CONFIG)
    at_rest.setdefault(section, {})[key] = neutral
    moved.setdefault(section, {})[key] = other
    assert name(at_rest) == name(CONFIG)
    assert identity.trial_seed(at_rest, 1) == identity.trial_seed(CONFIG, 1)
    assert name(moved) != name(CONFIG)
    assert identity.trial_seed(moved, 1) != identity.trial_seed(CONFIG, 1)
    assert at_rest[section][key] == neutral


@pytest.mark.usefixtures("newer")
def test_an_older_config_means_the_neutral_values_of_later_keys() -> None:
    found = identity.with_neutral(CONFIG)
    assert found["train"] == {**CONFIG["train"], "scale": None}
    assert found["inference"] == {"window": None}
    assert identity.with_neutral(found) == found
    assert "scale" not in CONFIG["train"]


def test_a_key_without_a_neutral_value_would_rename_every_config() -> None:
    """Add a new key to ``identity.NEUTRAL`` rather than change these ids."""
    path = Path(__file__).parent.parent / "sweeps" / "quickstart.yaml"
    spec, found = load(path), Found(None)
    built = cells.build(spec, {"images": 60, "image_size": [64, 64]}, found)
    found.stop()
    assert [name(dict(cell.config)) for cell in built] == QUICKSTART
