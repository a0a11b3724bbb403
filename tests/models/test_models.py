"""Every model keeps one contract; names, weights and sizes that cannot be are refused clearly."""

from __future__ import annotations

import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from segsweep import models
from segsweep.errors import UserError, WeightsError
from segsweep.losses.native import NativeOutput
from segsweep.models import segnet, smp, weights

OWN: list[dict[str, Any]] = [
    {"name": "segnet", "width": 4},
    {"name": "unet_vanilla", "width": 4},
    {"name": "unet_vanilla", "width": 4, "norm": "none"},
    {"name": "unet_strided", "width": 4},
    {"name": "erfnet", "width": 4},
    {"name": "u2net", "width": 4},
    {"name": "u2net_small", "width": 4},
    {"name": "eomt", "hidden_size": 16, "layers": 3, "heads": 2, "blocks": 2, "queries": 5}
    | {"patch_size": 8, "image_size": 64, "points": 64},
]
SMP: list[dict[str, Any]] = [
    {"name": name, "encoder_weights": "none"}
    for name in (
        "unet/resnet18",
        "unetplusplus/resnet18",
        "fpn/tu-mobilenetv3_small_050",
        "segformer/mit_b0",
        "deeplabv3plus/resnet18",
        "pspnet/resnet18",
        "dpt/tu-vit_tiny_patch16_224",
    )
]


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def images(height: int, width: int, count: int = 2) -> Tensor:
    return torch.randn(count, 3, height, width, generator=torch.Generator().manual_seed(1))


def make(config: dict[str, Any], classes: int = 3, seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return models.build(models.resolve(config), classes=classes)


def label(config: dict[str, Any]) -> str:
    return "-".join(str(value) for value in list(config.values())[:3]).replace("/", "_")


def train_step(model: nn.Module, half: bool = False) -> Tensor:
    """A scalar of everything that a model returns in training, run backwards."""
    torch.manual_seed(3)
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=half):
        outputs = model.train()(images(64, 64))
    if isinstance(outputs, NativeOutput):
        total: Any = outputs.native_loss(torch.randint(3, (2, 64, 64)))
    else:
        several = outputs if isinstance(outputs, tuple) else (outputs,)
        assert all(one.shape == (2, 3, 64, 64) and one.isfinite().all() for one in several)
        total = torch.stack([(one * torch.randn_like(one)).sum() for one in several]).sum()
    total.backward()
    found: Tensor = total.detach()
    return found


def taken_away(model: nn.Module) -> set[str]:
    """Biases in front of batch norm: their gradient is rounding, or nothing."""
    return {
        f"{name}.{place}.bias"
        for name, block in model.named_modules()
        if isinstance(block, nn.Sequential)
        for place, pair in enumerate(pairwise(block))
        if isinstance(pair[0], nn.Conv2d) and isinstance(pair[1], nn.BatchNorm2d)
    }


@pytest.mark.parametrize("config", OWN + SMP, ids=label)
class TestContract:
    @pytest.mark.parametrize(("classes", "channels"), [(2, 1), (3, 3)])
    def test_logits_have_the_image_size_and_a_channel_a_class(
        self, config: dict[str, Any], classes: int, channels: int
    ) -> None:
        with torch.no_grad():
            logits = make(config, classes).eval()(images(64, 96, 1))
        assert logits.shape == (1, channels, 64, 96)
        assert logits.dtype == torch.float32

    def test_an_odd_size_works_or_is_one_clear_problem(self, config: dict[str, Any]) -> None:
        resolved = models.resolve(config)
        found = models.problems(resolved, classes=3, image_size=(61, 75))
        if "/" not in config["name"] or config["name"] == "unet/resnet18":
            assert found == []
            with torch.no_grad():
                assert make(config).eval()(images(61, 75)).shape == (2, 3, 61, 75)
        else:
            (problem,) = found
            assert config["name"] in problem.what
            assert "61×75" in problem.what
            assert "the nearest size that works is 64×" in problem.hint

    def test_the_same_seed_gives_the_same_weights_and_another_does_not(
        self, config: dict[str, Any]
    ) -> None:
        one, same, other = (make(config, seed=seed).state_dict() for seed in (0, 0, 1))
        assert all(torch.equal(one[name], same[name]) for name in one)
        assert any(not torch.equal(one[name], other[name]) for name in one)

    def test_state_round_trip_gives_equal_logits(self, config: dict[str, Any]) -> None:
        one, other = make(config).eval(), make(config, seed=1).eval()
        x = images(64, 64, 1)
        with torch.no_grad():
            assert not torch.equal(one(x), other(x))
            other.load_state_dict(one.state_dict())
            assert torch.equal(one(x), other(x))

    def test_bfloat16_autocast_gives_finite_logits_and_gradients(
        self, config: dict[str, Any]
    ) -> None:
        model = make(config)
        assert train_step(model, half=True).isfinite()
        grads = [p.grad for p in model.parameters() if p.grad is not None]
        assert grads
        assert all(grad.isfinite().all() for grad in grads)
        with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
            assert model.eval()(images(64, 64)).isfinite().all()

    def test_gradients_reach_the_parameters(self, config: dict[str, Any]) -> None:
        model = make(config)
        train_step(model)
        without = {n for n, p in model.named_parameters() if p.grad is None or not p.grad.any()}
        without -= taken_away(model)
        if "/" in config["name"]:  # the library keeps encoder layers that a decoder does not read
            without = {name for name in without if not name.startswith("encoder.")}
            first = next(model.get_submodule("encoder").parameters())
            assert first.grad is not None
            assert first.grad.any()
        assert without == set()

    def test_weights_from_a_file_give_the_same_logits(
        self, config: dict[str, Any], tmp_path: Path
    ) -> None:
        one = make(config).eval()
        save_file(one.state_dict(), tmp_path / "w.safetensors")
        level = models.resolve({**config, "weights": str(tmp_path / "w.safetensors")})
        other = models.build(level, classes=3, encoder_state=models.fetch_encoder(level)).eval()
        x = images(64, 64, 1)
        with torch.no_grad():
            assert torch.equal(one(x), other(x))

    def test_checking_leaves_the_random_numbers_alone(self, config: dict[str, Any]) -> None:
        torch.manual_seed(7)
        before = torch.get_rng_state()
        models.problems(models.resolve(config), classes=3, image_size=(64, 64))
        assert torch.equal(torch.get_rng_state(), before)


def conv3(before: int, after: int) -> int:
    """A 3×3 convolution without bias and its batch norm."""
    return 9 * before * after + 2 * after


def unet_convs(extra_a_channel: int) -> int:
    """All 3×3 convolutions of a U-Net at width 64; a norm has 2 a channel, a bias 1."""
    pairs = [(3, 64), (64, 64), (64, 128), (128, 128), (128, 256), (256, 256)]
    pairs += [(256, 512), (512, 512), (512, 1024), (1024, 1024)]
    pairs += [(1024, 512), (512, 512), (512, 256), (256, 256)]
    pairs += [(256, 128), (128, 128), (128, 64), (64, 64)]
    return sum(9 * a * b + extra_a_channel * b for a, b in pairs)


def erf_block(channels: int) -> int:
    """Four convolutions of three taps, biases before a ReLU alone, two batch norms."""
    return 4 * 3 * channels**2 + 2 * channels + 2 * 2 * channels


def rsu(height: int, before: int, middle: int, after: int) -> int:
    """A residual U-block: every convolution has a bias and a batch norm."""
    pairs = [(before, after), (after, middle)] + [(middle, middle)] * (height - 1)
    pairs += [(2 * middle, middle)] * (height - 2) + [(2 * middle, after)]
    return sum(9 * a * b + 3 * b for a, b in pairs)


ERFNET = (  # table I of the paper
    9 * 3 * 13 + 2 * 16
    + 9 * 16 * 48 + 2 * 64 + 5 * erf_block(64)
    + 9 * 64 * 64 + 2 * 128 + 8 * erf_block(128)
    + 9 * 128 * 64 + 2 * 64 + 2 * erf_block(64)
    + 9 * 64 * 16 + 2 * 16 + 2 * erf_block(16)
)  # fmt: skip
FULL = [(7, 3, 32, 64), (6, 64, 32, 128), (5, 128, 64, 256), (4, 256, 128, 512)]
FULL += [(4, 512, 256, 512)] * 2 + [(4, 1024, 256, 512), (4, 1024, 128, 256), (5, 512, 64, 128)]
FULL += [(6, 256, 32, 64), (7, 128, 16, 64)]  # table 1 of the paper
SMALL = [(7, 3, 16, 64)] + [(height, 64, 16, 64) for height in (6, 5, 4, 4, 4)]
SMALL += [(height, 128, 16, 64) for height in (4, 4, 5, 6, 7)]
SIDES = 6 + 1  # the fusion


def sides(channels: tuple[int, ...]) -> int:
    return sum(9 * c + 1 for c in channels) + SIDES


UPS = ((1024, 512), (512, 256), (256, 128), (128, 64))
SEGNET = (
    conv3(3, 64) + conv3(64, 64)  # VGG16, table 1 of its paper, configuration D
    + conv3(64, 128) + conv3(128, 128)
    + conv3(128, 256) + 2 * conv3(256, 256)
    + conv3(256, 512) + 2 * conv3(512, 512)
    + 3 * conv3(512, 512)
    + 3 * conv3(512, 512)  # and back
    + 2 * conv3(512, 512) + conv3(512, 256)
    + 2 * conv3(256, 256) + conv3(256, 128)
    + conv3(128, 128) + conv3(128, 64)
    + conv3(64, 64) + (9 * 64 * 1 + 1)
)  # fmt: skip


@pytest.mark.parametrize(
    ("config", "count"),
    [
        ({"name": "segnet"}, SEGNET),
        (
            {"name": "unet_vanilla"},
            unet_convs(2) + sum(4 * a * b + b for a, b in UPS) + 64 + 1,
        ),
        (
            {"name": "unet_vanilla", "norm": "none"},
            unet_convs(1) + sum(4 * a * b + b for a, b in UPS) + 64 + 1,
        ),
        (
            {"name": "unet_strided"},
            unet_convs(2)
            + sum(conv3(c, c) for c in (64, 128, 256, 512))
            + sum(4 * a * b + 2 * b for a, b in UPS)
            + 64
            + 1,
        ),
        ({"name": "erfnet"}, ERFNET + 4 * 16 + 1),
        ({"name": "u2net"}, sum(rsu(*b) for b in FULL) + sides((512, 512, 256, 128, 64, 64))),
        ({"name": "u2net_small"}, sum(rsu(*b) for b in SMALL) + sides((64,) * 6)),
    ],
)
def test_parameter_count_is_that_of_the_layer_table(config: dict[str, Any], count: int) -> None:
    with torch.device("meta"):
        model = models.build(models.resolve(config), classes=2)
    assert sum(p.numel() for p in model.parameters()) == count
    # and it is the number in the docstring
    words = (type(model).__doc__ or "").replace("\n", " ")
    assert f"{count:,}".replace(",", " ") in " ".join(words.split())


# the library of eomt asks for values; u2net is u2net_small with other numbers
EXPORTED = [config for config in OWN if config["name"] not in ("eomt", "u2net")]


@pytest.mark.parametrize("config", EXPORTED, ids=label)
def test_one_export_serves_every_size(config: dict[str, Any]) -> None:
    model = make(config).eval()
    auto = torch.export.Dim.AUTO
    shapes = ({0: auto, 2: auto, 3: auto},)
    exported = torch.export.export(model, (images(70, 101),), dynamic_shapes=shapes).module()
    for x in (images(96, 80, 3), images(77, 130, 1)):
        assert torch.equal(exported(x), model(x))


@pytest.mark.parametrize(
    ("config", "classes", "elsewhere", "millions"),
    [
        # beside the biases before batch norm and the encoder's own head, which the authors have
        ({"name": "erfnet"}, 20, 3213 + 2580, 2.07),
        ({"name": "u2net"}, 2, 0, 176.3 / 4),  # 176.3 MB of float32
        ({"name": "u2net_small"}, 2, 0, 1.13),
        ({"name": "eomt", "hidden_size": 1024, "layers": 24, "heads": 16, "blocks": 4}
         | {"queries": 100, "image_size": 512}, 150, 0, 316),
    ],
)  # fmt: skip
def test_parameter_count_is_that_of_the_paper(
    config: dict[str, Any], classes: int, elsewhere: int, millions: float
) -> None:
    with torch.device("meta"):
        model = models.build(models.resolve(config), classes=classes)
    count = sum(p.numel() for p in model.parameters())
    assert (count + elsewhere) / 1e6 == pytest.approx(millions, rel=0.005)


@pytest.mark.parametrize("size", [(6, 8), (7, 9)])
def test_unpooling_agrees_with_torch(size: tuple[int, int]) -> None:
    x = torch.randn(2, 3, *size)
    pooled, indices = nn.functional.max_pool2d(x, 2, return_indices=True)
    expected = nn.functional.max_unpool2d(pooled, indices, [2, 2], output_size=size)
    assert torch.equal(segnet.unpool(pooled, indices, size), expected)


def test_convolutions_start_kaiming_normal_by_fan_out() -> None:
    model = make({"name": "segnet"})
    first = model.get_parameter("encoder.0.0.0.weight")
    assert first.std().item() == pytest.approx((2 / (9 * 64)) ** 0.5, rel=0.08)
    weight = model.get_parameter("encoder.4.2.0.weight")
    assert weight.std().item() == pytest.approx((2 / (9 * 512)) ** 0.5, rel=0.01)
    assert abs(weight.mean().item()) < 1e-4


def test_width_scales_every_layer() -> None:
    wide, narrow = make({"name": "unet_strided", "width": 8}), make(OWN[3])
    shapes = zip(wide.parameters(), narrow.parameters(), strict=True)
    assert all(a.shape[0] == 2 * b.shape[0] for a, b in list(shapes)[:-2])


class TestResolve:
    def test_a_name_gets_every_default(self) -> None:
        assert models.resolve("segnet") == {"name": "segnet", "width": 64}
        assert models.resolve("unet_vanilla") == {
            "name": "unet_vanilla",
            "width": 64,
            "norm": "batch",
        }
        expected = {"name": "unet/resnet34", "encoder_weights": "imagenet"}
        assert models.resolve("unet/resnet34") == expected
        assert models.resolve(expected) == expected

    def test_all_mistakes_at_once(self) -> None:
        level = {"name": "unett/resnt34", "width": 1, "encoder_weights": "imagnet"}
        with pytest.raises(UserError) as caught:
            models.resolve(level)
        found = caught.value.problems
        assert sorted(problem.key for problem in found) == ["", "", "encoder_weights", "width"]
        assert "did you mean 'unet'" in str(caught.value)
        assert "did you mean 'resnet34'" in str(caught.value)

    @pytest.mark.parametrize(
        ("level", "key", "words"),
        [
            ("segnt", "", "did you mean 'segnet'"),
            ("unet", "", "needs an encoder: unet/resnet34"),
            ("unet/resnest50d", "", "did you mean 'tu-resnest50d'"),
            ("unet/tu-resnest50", "", "did you mean 'tu-resnest50d'"),
            ("unet/tu-resnet18.a9_in1k", "", "unknown weights"),
            ("unet/timm-efficientnet-b0", "", "try tu-efficientnet-b0"),
            ("unet/dpn92", "encoder_weights", "set encoder_weights: none"),
            ({"name": "segnet", "wdth": 3}, "wdth", "did you mean 'width'"),
            ({"name": "segnet", "width": "3"}, "width", "valid integer"),
            ({"name": "segnet", "width": True}, "width", "valid integer"),
            ({"name": "segnet", "width": 0}, "width", "greater than or equal to 1"),
            ({"name": "unet_vanilla", "norm": "layer"}, "norm", "'none' or 'batch'"),
            ({"width": 3}, "", "not a model"),
            ({"name": 3}, "", "not a model"),
            (None, "", "not a model"),
        ],
    )
    def test_one_mistake(self, level: Any, key: str, words: str) -> None:
        with pytest.raises(UserError) as caught:
            models.resolve(level)
        (problem,) = caught.value.problems
        assert problem.key == key
        assert words in str(problem)

    def test_the_architectures_are_the_librarys(self) -> None:
        import segmentation_models_pytorch as library

        assert set(smp.ARCHITECTURES) == set(library.MODEL_ARCHITECTURES_MAPPING)

    @pytest.mark.parametrize(
        ("level", "words"),
        [
            ("segnet", "segnet"),
            ("unet/resnet34", "unet/resnet34"),
            ({"name": "unet_strided", "width": 32}, "unet_strided(width=32)"),
            (
                {"name": "unet_vanilla", "norm": "none", "width": 8},
                "unet_vanilla(width=8, norm=none)",
            ),
            (SMP[0], "unet/resnet18(encoder_weights=none)"),
        ],
    )
    def test_title(self, level: Any, words: str) -> None:
        assert models.title(models.resolve(level)) == words


class TestProblems:
    @pytest.mark.parametrize("size", [(192, 256), (64, 96)])
    @pytest.mark.parametrize(
        "name",
        ["segformer/mit_b0", "unetplusplus/resnet18", "dpt/tu-vit_base_patch16_224",
         "unet/tu-resnest50d", "unet/tu-resnest101e", "unet/tu-resnest200e"],
    )  # fmt: skip
    def test_these_work(self, name: str, size: tuple[int, int]) -> None:
        with torch.device("meta"):  # shapes alone: the largest has 70 million parameters
            assert models.problems(models.resolve(name), classes=2, image_size=size) == []

    @pytest.mark.parametrize(
        ("name", "size", "what", "hint"),
        [
            ("unetplusplus/mit_b0", (64, 64), "mit_b0", "another encoder for unetplusplus"),
            ("dpt/resnet18", (64, 64), "Only Timm", "tu-vit_base_patch16_224"),
            ("deeplabv3/densenet121", (64, 64), "dilated", "another encoder for deeplabv3"),
            ("unet/tu-vit_tiny_patch16_224", (64, 64), "pattern", "another encoder for unet"),
            ("fpn/mit_b0", (200, 250), "200×250", "192×256, both divisible by 32"),
            ("segnet", (16, 40), "16×40", "32×32"),
            ("dpt/tu-beit_base_patch16_224", (64, 64), "64×64", "224×224"),
        ],
    )
    def test_a_pair_or_size_that_cannot_be(
        self, name: str, size: tuple[int, int], what: str, hint: str
    ) -> None:
        # pretrained weights are wanted and must not be fetched for this
        (problem,) = models.problems(models.resolve(name), classes=2, image_size=size)
        assert problem.what.startswith(name)
        assert what in problem.what
        assert hint in problem.hint

    def test_a_wrong_output_size_is_seen(self, monkeypatch: pytest.MonkeyPatch) -> None:
        class Half(nn.Module):
            def __init__(self, channels: int) -> None:
                super().__init__()
                self.conv = nn.Conv2d(3, channels, 1, stride=2)

            def forward(self, x: Tensor) -> Tensor:
                out: Tensor = self.conv(x)
                return out

        monkeypatch.setitem(models.MODELS, "half", Half)
        (problem,) = models.problems({"name": "half"}, classes=2, image_size=(64, 32))
        assert "64×32 comes out as 32×16" in problem.what


class TestWeights:
    @pytest.mark.parametrize(
        ("level", "key"),
        [
            ("segnet", None),
            (SMP[0], None),
            ("unet/resnet34", "resnet34:imagenet"),
            ("pspnet/resnet34", "resnet34:imagenet"),
            ("unet/tu-resnet18", "tu-resnet18:imagenet"),
            ("pspnet/tu-resnet18", "pspnet/tu-resnet18:imagenet"),
        ],
    )
    def test_key(self, level: Any, key: str | None) -> None:
        assert models.encoder_key(models.resolve(level)) == key

    @pytest.mark.parametrize("encoder", ["resnet18", "tu-resnet18"])
    def test_without_network_it_fails_soon_and_says_what_to_do(
        self, encoder: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Any
    ) -> None:
        from huggingface_hub import constants

        # nothing listens there, and nothing is cached here
        monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
        offline = constants.HF_HUB_OFFLINE
        start = time.monotonic()
        with pytest.raises(WeightsError) as caught:
            models.fetch_encoder(models.resolve(f"fpn/{encoder}"))
        assert time.monotonic() - start < 20
        (problem,) = caught.value.problems
        assert problem.key == "encoder_weights"
        assert problem.what.startswith(f"fpn: no pretrained weights for the encoder {encoder}: ")
        assert "set encoder_weights: none" in problem.hint
        assert str(tmp_path) in problem.hint
        assert constants.HF_HUB_OFFLINE is offline

    @pytest.mark.parametrize("name", ["unet/resnet18", "pspnet/tu-resnet18", "fpn/tu-resnest14d"])
    def test_what_was_fetched_is_in_the_model(
        self, name: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        config = models.resolve(name)
        plain = smp.create

        def downloaded(
            architecture: str, encoder: str, channels: int, *, pretrained: bool = False
        ) -> nn.Module:
            assert pretrained
            model = plain(architecture, encoder, channels)
            for parameter in model.parameters():
                nn.init.constant_(parameter, 0.25)
            return model

        before = torch.get_rng_state()
        with monkeypatch.context() as patch:
            patch.setattr(weights, "_SECONDS", 0.01)
            patch.setattr(smp, "create", downloaded)
            state = models.fetch_encoder(config)
        assert torch.equal(torch.get_rng_state(), before)
        model = models.build(config, classes=2, encoder_state=MappingProxyType(state))
        assert all((p == 0.25).all() for p in model.get_submodule("encoder").parameters())
        assert not all((p == 0.25).all() for p in model.get_submodule("decoder").parameters())

    def test_states_that_do_not_fit_are_refused(self) -> None:
        config = models.resolve("unet/resnet18")
        state = dict(models.build(config | NONE, classes=2).get_submodule("encoder").state_dict())
        state.pop("conv1.weight")
        with pytest.raises(WeightsError, match=r"do not fit: .*conv1\.weight"):
            models.build(config, classes=2, encoder_state=state)

    def test_wanted_weights_are_never_left_out_in_silence(self) -> None:
        config = models.resolve("unet/resnet18")
        with pytest.raises(WeightsError, match="resnet18:imagenet"):
            models.build(config, classes=2)
        with pytest.raises(WeightsError, match="wants no pretrained"):
            models.build(config | NONE, classes=2, encoder_state={})
        with pytest.raises(WeightsError, match="wants no pretrained"):
            models.fetch_encoder(config | NONE)


NONE = {"encoder_weights": "none"}
