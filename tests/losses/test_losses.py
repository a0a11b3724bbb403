"""Every loss keeps one contract; each agrees with somebody else's where both mean the same."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
import segmentation_models_pytorch.losses as smp
import torch
import torch.nn.functional as F
import torchmetrics.functional.segmentation as torchmetrics
from torch import Tensor

from segsweep import losses
from segsweep.errors import UserError
from segsweep.losses import IGNORE, LOSSES

CONFIGS: list[str | dict[str, Any]] = [
    *LOSSES,
    {"bce": {"pos_weight": 3.0}},
    {"cross_entropy": {"label_smoothing": 0.1}},
    {"focal": {"gamma": 0.5, "alpha": 0.25}},
    {"focal": {"gamma": 0.0}},
    {"dice": {"smooth": 0.0}},
    "bce+dice",
    {"cross_entropy": {"class_weights": [0.1, 3.0, 1.0, 0.5]}},
    {"focal": {"gamma": 2.0, "class_weights": [0.1, 3.0, 1.0, 0.5]}},
    {"dice": {"class_weights": [0.1, 3.0, 1.0, 0.5]}},
]
TWO_CLASSES = ("bce", "alpha")
CASES = [
    (config, channels)
    for config in CONFIGS
    for channels in (1, 2, 4)
    if channels < 4 or not any(word in str(config) for word in TWO_CLASSES)
    if channels == 4 or "class_weights" not in str(config)
]


def batch(channels: int, *, seed: int = 0, ignore: bool = True) -> tuple[Tensor, Tensor]:
    """Random logits (2, C, 5, 6) and labels of which every fourth pixel or so is ignored."""
    generator = torch.Generator().manual_seed(seed)
    logits = 2 * torch.randn(2, channels, 5, 6, generator=generator)
    target = torch.randint(0, max(channels, 2), (2, 5, 6), generator=generator)
    if ignore:
        target[torch.rand(2, 5, 6, generator=generator) < 0.25] = IGNORE
    return logits, target


def confident(target: Tensor, channels: int, margin: float) -> Tensor:
    """Logits that say what ``target`` says, by ``margin``."""
    labels = target.where(target != IGNORE, 0)
    if channels == 1:
        return (margin * (2.0 * labels - 1)).unsqueeze(1)
    return margin * F.one_hot(labels, channels).permute(0, 3, 1, 2).float()


def make(config: Any) -> Callable[[Tensor, Tensor], Tensor]:
    return losses.build(losses.resolve(config))


@pytest.mark.parametrize(("config", "channels"), CASES, ids=str)
class TestContract:
    def test_perfect_is_near_zero_and_worse_is_more(self, config: Any, channels: int) -> None:
        loss = make(config)
        _, target = batch(channels)
        smoothing = "label_smoothing" in str(config)
        margins = (4.0, 0.9, 0.5, -2.0) if smoothing else (40.0, 0.9, 0.5, -2.0)
        values = [loss(confident(target, channels, m), target).item() for m in margins]
        assert values == sorted(values)
        assert len(set(values)) == len(values)
        if not smoothing:
            assert 0 <= values[0] < 1e-5

    def test_ignored_pixels_do_not_matter(self, config: Any, channels: int) -> None:
        loss = make(config)
        logits, target = batch(channels)
        other = logits.clone()
        ignored = (target == IGNORE).unsqueeze(1).expand_as(logits)
        other[ignored] = torch.tensor([1e4, float("nan"), float("-inf")]).repeat(99)[
            : int(ignored.sum())
        ]
        other.requires_grad_()
        value = loss(other, target)
        assert torch.equal(value, loss(logits, target))
        (grad,) = torch.autograd.grad(value, other)
        assert (grad[ignored] == 0).all()
        assert grad[~ignored].isfinite().all()
        assert grad[~ignored].any()

    def test_ignored_pixels_do_not_count(self, config: Any, channels: int) -> None:
        """A batch has the loss of its valid pixels alone."""
        loss = make(config)
        logits, target = batch(channels)
        valid = target != IGNORE
        alone = logits.permute(1, 0, 2, 3)[:, valid][None, :, None]
        assert loss(logits, target).item() == pytest.approx(
            loss(alone, target[valid][None, None]).item(), rel=1e-5
        )

    def test_all_ignored_is_zero_with_zero_gradient(self, config: Any, channels: int) -> None:
        logits = batch(channels)[0].requires_grad_()
        value = make(config)(logits, torch.full((2, 5, 6), IGNORE))
        assert value.shape == ()
        assert value.item() == 0.0
        (grad,) = torch.autograd.grad(value, logits)
        assert torch.equal(grad, torch.zeros_like(grad))

    @pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
    def test_low_precision_logits_are_scored_in_float32(
        self, config: Any, channels: int, dtype: torch.dtype
    ) -> None:
        logits, target = batch(channels)
        low = logits.to(dtype).requires_grad_()
        with torch.autocast("cpu", dtype=torch.bfloat16):
            value = make(config)(low, target)
        assert value.dtype == torch.float32
        assert torch.equal(value, make(config)(low.detach().float(), target))
        (grad,) = torch.autograd.grad(value, low)
        assert grad.dtype == dtype
        assert grad.isfinite().all()

    def test_the_gradient_is_that_of_the_value(self, config: Any, channels: int) -> None:
        loss = make(config)
        logits, target = batch(channels, seed=3)
        small, labels = logits[:1, :, :3, :3].double().requires_grad_(), target[:1, :3, :3]
        assert torch.autograd.gradcheck(lambda x: loss(x, labels), small)

    @pytest.mark.parametrize("scale", [1e3, -1e3])
    def test_extreme_logits_give_finite_gradients(
        self, config: Any, channels: int, scale: float
    ) -> None:
        _, target = batch(channels)
        logits = confident(target, channels, scale).requires_grad_()
        value = make(config)(logits, target)
        (grad,) = torch.autograd.grad(value, logits)
        assert value.isfinite()
        assert grad.isfinite().all()


@pytest.mark.parametrize(
    "config",
    [
        "bce",
        "cross_entropy",
        "focal",
        {"bce": {"pos_weight": 3.0}},
        {"cross_entropy": {"label_smoothing": 0.1}},
        {"focal": {"gamma": 1.0, "alpha": 0.25}},
    ],
    ids=str,
)
def test_a_binary_head_is_two_classes_with_logits_0_z(config: Any) -> None:
    logits, target = batch(1)
    two = torch.cat([torch.zeros_like(logits), logits], dim=1)
    value = make(config)(logits, target)
    assert value.item() == pytest.approx(make(config)(two, target).item(), rel=1e-5)


@pytest.mark.parametrize("name", ["dice", "jaccard", "tversky"])
def test_a_region_loss_of_two_classes_is_the_mean_of_both_binary_ones(name: str) -> None:
    loss = make(name)
    logits, target = batch(1)
    two = torch.cat([torch.zeros_like(logits), logits], dim=1)
    turned = torch.where(target == IGNORE, IGNORE, 1 - target)
    expected = (loss(logits, target) + loss(-logits, turned)) / 2
    assert loss(two, target).item() == pytest.approx(expected.item(), rel=1e-5)


class TestOracles:
    @pytest.mark.parametrize("channels", [1, 4])
    @pytest.mark.parametrize(
        ("config", "oracle", "arguments"),
        [
            ({"dice": {"smooth": 0.0}}, smp.DiceLoss, {}),
            ({"dice": {"smooth": 2.0}}, smp.DiceLoss, {"smooth": 2.0}),
            (
                {"tversky": {"smooth": 0.0}},
                smp.TverskyLoss,
                {"alpha": 0.3, "beta": 0.7},
            ),
            ("lovasz", smp.LovaszLoss, {}),
        ],
        ids=str,
    )
    def test_smp_where_every_class_is_there(
        self, config: Any, oracle: Any, arguments: dict[str, Any], channels: int
    ) -> None:
        mode = "binary" if channels == 1 else "multiclass"
        logits, target = batch(channels)
        theirs = oracle(mode, ignore_index=IGNORE, **arguments)
        assert make(config)(logits, target).item() == pytest.approx(
            theirs(logits, target).item(), rel=1e-5
        )

    @pytest.mark.parametrize("channels", [1, 4])
    def test_smp_jaccard(self, channels: int) -> None:
        # theirs has no ignore_index
        logits, target = batch(channels, ignore=False)
        theirs = smp.JaccardLoss("binary" if channels == 1 else "multiclass")
        expected = theirs(logits, target.unsqueeze(1) if channels == 1 else target).item()
        mine = make({"jaccard": {"smooth": 0.0}})(logits, target).item()
        assert mine == pytest.approx(expected, rel=1e-5)

    @pytest.mark.parametrize("alpha", [None, 0.25])
    def test_smp_binary_focal(self, alpha: float | None) -> None:
        logits, target = batch(1)
        theirs = smp.FocalLoss("binary", alpha=alpha, gamma=1.5, ignore_index=IGNORE)
        mine = make({"focal": {"gamma": 1.5, "alpha": alpha}})(logits, target).item()
        assert mine == pytest.approx(theirs(logits, target).item(), rel=1e-5)

    def test_torch_cross_entropy_and_its_smoothing(self) -> None:
        logits, target = batch(4)
        for smoothing in (0.0, 0.2):
            expected = F.cross_entropy(
                logits, target, ignore_index=IGNORE, label_smoothing=smoothing
            )
            mine = make({"cross_entropy": {"label_smoothing": smoothing}})(logits, target)
            assert mine.item() == pytest.approx(expected.item(), rel=1e-5)
        plain = F.cross_entropy(logits, target, ignore_index=IGNORE).item()
        assert make({"focal": {"gamma": 0.0}})(logits, target).item() == pytest.approx(plain)

    def test_torch_bce(self) -> None:
        logits, target = batch(1)
        valid = target != IGNORE
        expected = F.binary_cross_entropy_with_logits(
            logits[:, 0][valid], target[valid].float(), pos_weight=torch.tensor(3.0)
        )
        mine = make({"bce": {"pos_weight": 3.0}})(logits, target)
        assert mine.item() == pytest.approx(expected.item(), rel=1e-5)

    def test_dice_of_hard_predictions_is_that_of_torchmetrics(self) -> None:
        logits, target = batch(4, ignore=False)
        predicted = logits.argmax(1)
        scores = torchmetrics.dice_score(
            predicted.flatten()[None],
            target.flatten()[None],
            num_classes=4,
            average="macro",
            input_format="index",
        )
        mine = make({"dice": {"smooth": 0.0}})(confident(predicted, 4, 100.0), target)
        assert mine.item() == pytest.approx(1 - scores.mean().item(), rel=1e-5)

    def test_lovasz_weights_keep_their_digits_over_a_million_pixels(self) -> None:
        target = torch.arange(2**20).view(1, 1024, 1024) % 2
        logits = torch.zeros(1, 2, 1024, 1024)
        # every error is 1/2, so the loss of each class is half the whole
        assert make("lovasz")(logits, target).item() == pytest.approx(0.5, abs=1e-6)


class TestPresence:
    @pytest.mark.parametrize("name", ["dice", "jaccard", "tversky", "lovasz"])
    def test_absent_classes_are_left_out_of_the_mean(self, name: str) -> None:
        logits, target = batch(3)
        target[target == 1] = 2
        far = logits.clone()
        far[:, 1] = -1e4
        fewer = torch.where(target == 2, 1, target)
        expected = make(name)(far[:, [0, 2]], fewer).item()
        assert make(name)(far, target).item() == pytest.approx(expected, rel=1e-5)

    @pytest.mark.parametrize("name", ["dice", "jaccard", "tversky", "lovasz"])
    def test_a_batch_without_foreground_still_teaches_a_binary_head(self, name: str) -> None:
        logits = batch(1)[0].requires_grad_()
        (grad,) = torch.autograd.grad(
            make(name)(logits, torch.zeros(2, 5, 6, dtype=torch.long)), logits
        )
        assert (grad >= 0).all()
        assert grad.any()


class TestResolve:
    def test_names_sums_weights_and_options(self) -> None:
        assert losses.resolve("bce+dice") == {
            "bce": {"weight": 1.0, "pos_weight": 1.0},
            "dice": {"weight": 1.0, "smooth": 1.0, "class_weights": None},
        }
        assert losses.resolve({"bce": 1, "dice": 0.5})["dice"]["weight"] == 0.5
        focal = losses.resolve({"focal": {"gamma": 3.0}})
        options = {"gamma": 3.0, "alpha": None, "class_weights": None}
        assert focal == {"focal": {"weight": 1.0, **options}}
        assert losses.resolve(focal) == focal

    @pytest.mark.parametrize("config", CONFIGS, ids=str)
    def test_resolving_twice_changes_nothing_and_is_json(self, config: Any) -> None:
        resolved = losses.resolve(config)
        assert losses.resolve(json.loads(json.dumps(resolved))) == resolved

    def test_all_mistakes_at_once(self) -> None:
        level = {"focl": 1.0, "focal": {"gama": 1, "alpha": 2.0, "weight": -1}, "dice": True}
        with pytest.raises(UserError) as caught:
            losses.resolve(level)
        keys = sorted(problem.key for problem in caught.value.problems)
        assert keys == ["dice", "focal.alpha", "focal.gama", "focal.weight", "focl"]
        assert "did you mean 'focal'" in str(caught.value)
        assert "did you mean 'gamma'" in str(caught.value)

    @pytest.mark.parametrize(
        ("level", "words"),
        [
            ("", "not a loss"),
            ("bce+", "not a loss"),
            ("bce+bce", "twice"),
            ("bce+0.5dice", "{dice: 0.5}"),
            ({}, "not a loss"),
            (None, "not a loss"),
            (["bce"], "not a loss"),
            ({"bce": None}, "not a weight"),
            ({"bce": float("nan")}, "a number from 0 up"),
            ({"bce": -1.0}, "a number from 0 up"),
            ({"bce": 0, "dice": 0.0}, "every weight is 0"),
            ({"focal": {"gamma": float("inf")}}, "not a finite number"),
            ({"focal": {"gamma": "2"}}, "valid number"),
            ({"lovasz": {"smooth": 1.0}}, "none are allowed here"),
        ],
    )
    def test_one_mistake(self, level: Any, words: str) -> None:
        with pytest.raises(UserError) as caught:
            losses.resolve(level)
        assert len(caught.value.problems) == 1
        assert words in str(caught.value)

    @pytest.mark.parametrize(
        ("level", "words"),
        [
            ("bce", "bce"),
            ("bce+dice", "bce+dice"),
            ({"bce": 1.0, "dice": 0.5}, "bce+0.5dice"),
            ({"focal": {"gamma": 3.0}}, "focal(gamma=3)"),
            ({"focal": {"gamma": 3.0, "alpha": 0.25, "weight": 2}}, "2focal(gamma=3, alpha=0.25)"),
        ],
    )
    def test_title(self, level: Any, words: str) -> None:
        assert losses.title(losses.resolve(level)) == words


def test_the_sum_is_weighted() -> None:
    logits, target = batch(1)
    one, other = make("bce")(logits, target), make("dice")(logits, target)
    both = make({"bce": 0.25, "dice": 2.0})(logits, target)
    assert both.item() == pytest.approx(0.25 * one.item() + 2 * other.item())


def test_losses_that_do_not_fit_the_classes() -> None:
    level = {"bce": 1.0, "focal": {"alpha": 0.25}, "dice": 1.0}
    config = losses.resolve(level)
    assert losses.fit_problems(config, classes="ab") == []
    found = losses.fit_problems(config, classes="abc")
    assert [problem.key for problem in found] == ["bce", "focal.alpha"]
    assert found[0].hint == "use cross_entropy"
    for name in ("bce", "focal"):
        with pytest.raises(UserError, match="two classes"):
            losses.build({name: config[name]})(*batch(3))


def test_every_class_is_one_the_constructor_can_make_alone() -> None:
    for constructor in LOSSES.values():
        assert constructor()(*batch(1)).ndim == 0


def test_several_outputs_count_with_weight_one_each() -> None:
    loss = losses.build(losses.resolve({"bce": 1.0, "dice": 0.5}))
    generator = torch.Generator().manual_seed(0)
    outputs = tuple(torch.randn(2, 1, 6, 7, generator=generator) for _ in range(3))
    target = torch.randint(2, (2, 6, 7), generator=generator)
    expected = torch.stack([loss(one, target) for one in outputs]).sum()
    torch.testing.assert_close(loss(outputs, target), expected)
    torch.testing.assert_close(loss(list(outputs), target), expected)


def test_native_asks_the_output_where_it_has_a_loss() -> None:
    class Output:
        def native_loss(self, target: torch.Tensor) -> torch.Tensor:
            return target.float().mean()

    target = torch.ones(2, 3, 3, dtype=torch.long)
    assert losses.build(losses.resolve({"native": 2.0}))(Output(), target) == 2
    logits = torch.randn(2, 4, 3, 3)
    pixels = losses.build(losses.resolve("cross_entropy"))(logits, target)
    assert torch.equal(losses.build(losses.resolve("native"))(logits, target), pixels)
