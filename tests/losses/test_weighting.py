"""Class weights: torch's own weighted cross-entropy, and what a user may write for them."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from sklearn.utils.class_weight import compute_class_weight

from segsweep import checkpoint, identity, losses
from segsweep.check import check
from segsweep.errors import UserError
from segsweep.launching import launch
from segsweep.losses import IGNORE, weighting
from segsweep.trial import trial_loss
from tests.data.builders import make_carparts
from tests.helpers import events, tiny, write_sweep

WEIGHTS = [0.2, 3.0, 0.0, 1.5]
NAMES = ("road", "car", "sky", "pole")


def batch(seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    logits = 3 * torch.randn(2, 4, 9, 7, generator=generator, dtype=torch.float64)
    target = torch.randint(0, 4, (2, 9, 7), generator=generator)
    target[torch.rand(2, 9, 7, generator=generator) < 0.2] = IGNORE
    return logits, target


def value(level: Any, logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    found: torch.Tensor = losses.build(losses.resolve(level))(logits, target)
    return found


class TestOracles:
    @pytest.mark.parametrize("smoothing", [0.0, 0.1])
    @pytest.mark.parametrize("seed", range(3))
    def test_torch_weighted_cross_entropy(self, smoothing: float, seed: int) -> None:
        logits, target = batch(seed)
        logits.requires_grad_()
        ours = value(
            {"cross_entropy": {"class_weights": WEIGHTS, "label_smoothing": smoothing}},
            logits,
            target,
        )
        theirs = F.cross_entropy(
            logits,
            target,
            weight=torch.tensor(WEIGHTS, dtype=torch.float64),
            ignore_index=IGNORE,
            label_smoothing=smoothing,
        )
        torch.testing.assert_close(ours, theirs)
        grads = [torch.autograd.grad(loss, logits)[0] for loss in (ours, theirs)]
        torch.testing.assert_close(*grads)

    def test_focal_without_focus_is_that_cross_entropy(self) -> None:
        logits, target = batch()
        focal = value({"focal": {"gamma": 0.0, "class_weights": WEIGHTS}}, logits, target)
        plain = value({"cross_entropy": {"class_weights": WEIGHTS}}, logits, target)
        torch.testing.assert_close(focal, plain)

    def test_a_binary_head_has_two_weights(self) -> None:
        logits, target = batch()
        target[(target != IGNORE) & (target > 1)] = 0
        margin = logits[:, :1]
        level = {"cross_entropy": {"class_weights": [0.5, 2.0]}}
        both = torch.cat([torch.zeros_like(margin), margin], dim=1)
        weight = torch.tensor([0.5, 2.0], dtype=torch.float64)
        theirs = F.cross_entropy(both, target, weight=weight, ignore_index=IGNORE)
        torch.testing.assert_close(value(level, margin, target), theirs)

    @pytest.mark.parametrize("name", ["dice", "jaccard", "tversky"])
    def test_a_region_loss_is_the_weighted_mean_of_its_classes(self, name: str) -> None:
        logits, target = batch()
        target[target == 3] = IGNORE  # does not occur, and so has no share

        def weigh(weights: list[float]) -> torch.Tensor:
            return value({name: {"class_weights": weights}}, logits, target)

        each = [weigh([float(k == one) for k in range(4)]) for one in range(3)]
        expected = (0.2 * each[0] + 3.0 * each[1] + 0.5 * each[2]) / 3.7
        torch.testing.assert_close(weigh([0.2, 3.0, 0.5, 9.0]), expected)

    @pytest.mark.parametrize("name", ["cross_entropy", "focal", "dice", "jaccard", "tversky"])
    def test_equal_weights_change_nothing(self, name: str) -> None:
        logits, target = batch()
        weighted = value({name: {"class_weights": [0.3] * 4}}, logits, target)
        torch.testing.assert_close(weighted, value(name, logits, target))

    def test_balanced_is_scikit_learns(self) -> None:
        labels = np.repeat([0, 1, 3], [700, 41, 9])
        pixels = np.bincount(labels, minlength=4)
        theirs = compute_class_weight("balanced", classes=np.array([0, 1, 3]), y=labels)
        ours = weighting.balanced(pixels)
        assert [ours[k] for k in (0, 1, 3)] == pytest.approx(theirs.tolist())
        assert ours[2] == ours[3]  # does not occur: weighs as the rarest
        assert weighting.balanced(np.zeros(3, np.int64)) == [1.0, 1.0, 1.0]


def test_only_the_pixels_of_some_images_are_counted_and_ignored_ones_never() -> None:
    masks = np.array([[[0, 0, 1]], [[2, 2, 2]], [[1, IGNORE, 2]]], np.uint8)
    assert weighting.count_pixels(masks, [0, 2], 3).tolist() == [2, 2, 1]


class TestWhatAUserWrites:
    def test_names_are_put_in_order_and_the_others_weigh_1(self) -> None:
        config = losses.resolve({"cross_entropy": {"class_weights": {"pole": 5, "car": 2.5}}})
        assert losses.fit_problems(config, classes=NAMES) == []
        settings = weighting.resolved(config, NAMES)
        assert settings["cross_entropy"]["class_weights"] == [1.0, 2.5, 1.0, 5.0]
        assert losses.resolve(config) == config
        assert losses.title(config) == "cross_entropy(class_weights={pole: 5, car: 2.5})"

    @pytest.mark.parametrize(
        ("weights", "words"),
        [
            ("balance", "write balanced, a number for each class"),
            ([], "write balanced, a number for each class"),
            (2.0, "write balanced, a number for each class"),
            ([1, -1], "a weight is a number from 0 up, not -1"),
            ([1, float("nan")], "a weight is a number from 0 up, not nan"),
            ({"car": "2"}, "not a number: '2'"),
            ([True, 1], "not a number: True"),
            ([0, 0], "every class has the weight 0"),
        ],
    )
    def test_a_value_that_is_none(self, weights: Any, words: str) -> None:
        with pytest.raises(UserError, match=re.escape(words)) as caught:
            losses.resolve({"cross_entropy": {"class_weights": weights}})
        assert [p.key for p in caught.value.problems] == ["cross_entropy.class_weights"]

    @pytest.mark.parametrize(
        ("level", "names", "words"),
        [
            ({"focal": {"class_weights": [1, 2, 3]}}, NAMES, "3 weights for 4 classes"),
            ({"cross_entropy": {"class_weights": {"poll": 2}}}, NAMES, "no class 'poll'"),
            (
                {"cross_entropy": {"class_weights": dict.fromkeys(NAMES, 0)}},
                NAMES,
                "every class has the weight 0",
            ),
            ({"dice": {"class_weights": [1, 2]}}, NAMES[:2], "scores the foreground alone"),
            ({"jaccard": {"class_weights": "balanced"}}, NAMES[:2], "the foreground alone"),
        ],
    )
    def test_what_does_not_fit_the_data(
        self, level: Any, names: tuple[str, ...], words: str
    ) -> None:
        (problem,) = losses.fit_problems(losses.resolve(level), classes=names)
        assert words in problem.what
        assert problem.hint or "weight 0" in words

    @pytest.mark.parametrize("name", ["bce", "lovasz", "native"])
    def test_losses_that_weigh_no_classes(self, name: str) -> None:
        with pytest.raises(UserError, match=f"loss '{name}' has no option 'class_weights'"):
            losses.resolve({name: {"class_weights": "balanced"}})

    def test_two_ways_to_say_it_at_once(self) -> None:
        with pytest.raises(UserError, match="alpha and class_weights"):
            losses.resolve({"focal": {"alpha": 0.2, "class_weights": [1, 2]}})

    def test_a_loss_is_not_built_from_words(self) -> None:
        with pytest.raises(UserError, match="resolved first"):
            losses.build(losses.resolve({"dice": {"class_weights": "balanced"}}))

    def test_a_sweep_file_that_is_wrong_says_where(self, tmp_path: Path) -> None:
        data = _sweep(tmp_path, [{"cross_entropy": {"class_weights": {"hod": 2.0}}}])
        with pytest.raises(UserError, match="did you mean 'hood'") as caught:
            check(write_sweep(tmp_path, data))
        assert "sweep.yaml:" in caught.value.problems[0].where


def _sweep(folder: Path, levels: list[Any], **changes: Any) -> dict[str, Any]:
    if not (folder / "parts").exists():
        make_carparts(folder / "parts", 8)
    dataset = {"name": "carparts", "root": str(folder / "parts"), "image_size": [32, 32]}
    changes = {"configs_per_cell": 1, **changes}
    return tiny(
        dataset={**dataset, "holdout": 0.25},
        factors__loss=levels,
        metric={"name": "val/miou", "goal": "maximize"},
        **changes,
    )


def test_balanced_weights_are_those_of_the_training_folds_and_are_recorded(tmp_path: Path) -> None:
    level = {"cross_entropy": {"class_weights": "balanced"}}
    path = write_sweep(tmp_path, _sweep(tmp_path, [level]))
    outcome = launch(path, runner="inline")
    assert outcome.exit_code == 0
    checked = check(path)
    (config,) = events(outcome.run_directory, "config")
    assert config["config"]["loss"]["cross_entropy"]["class_weights"] == "balanced"
    epochs = events(outcome.run_directory, "epoch")
    assert len(epochs) == 4
    for event in epochs:
        fold = int(event["trial_id"][-1])
        rows = checked.folds.train_indices(fold)
        labels = checked.data.masks[rows].ravel()
        present = np.unique(labels)
        theirs = compute_class_weight("balanced", classes=present, y=labels)
        ours = event["class_weights"]["cross_entropy"]
        assert [ours[k] for k in present] == pytest.approx(theirs.tolist())
        place = outcome.run_directory / "trials" / config["config_id"] / f"fold{fold}"
        _, facts = checkpoint.load(place / "best.safetensors")
        assert facts["config"]["loss"]["cross_entropy"]["class_weights"] == ours
        settings, _ = trial_loss(config["config"]["loss"], checked.data, rows)
        assert settings == facts["config"]["loss"]


def test_weights_change_the_config_id_and_can_be_searched(tmp_path: Path) -> None:
    weights = "loss.cross_entropy.class_weights"
    levels = ["cross_entropy", *[{"cross_entropy": {"class_weights": w}} for w in
              ("balanced", {"hood": 2.0}, {"hood": 3.0})]]  # fmt: skip
    parameters = {f"{weights}.hood": {"min": 1.0, "max": 9.0}}
    cells = check(write_sweep(tmp_path, _sweep(tmp_path, levels, parameters=parameters))).cells
    assert len({identity.config_id(cell.config, "data", "folds") for cell in cells}) == 4
    searched = [cell for cell in cells if cell.parameters]
    assert len(searched) == 2
    filled = searched[0].fill({f"{weights}.hood": 7.5})["loss"]
    assert filled["cross_entropy"]["class_weights"] == {"hood": 7.5}
