"""Every model as an ONNX graph, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from segsweep import models
from segsweep.errors import RunError
from segsweep.export import capture, graph
from segsweep.export.members import Ensemble
from tests.export.test_whole_way import WHOLE_WAY

SMALL: dict[str, dict[str, Any]] = {
    "segnet": {"width": 2},
    "erfnet": {"width": 4},
    "u2net": {"width": 4},
    "u2net_small": {"width": 4},
    "eomt": {
        "hidden_size": 16, "layers": 1, "heads": 2, "blocks": 1, "queries": 5, "patch_size": 8,
        "image_size": 32, "points": 64,
    },
}  # fmt: skip
PAIRS = [
    "unetplusplus/vgg11", "manet/vgg11",
    "linknet/vgg11", "fpn/vgg11", "pspnet/vgg11", "deeplabv3/resnet18", "deeplabv3plus/resnet18",
    "pan/resnet18", "upernet/vgg11", "segformer/vgg11", "dpt/tu-test_vit",
]  # fmt: skip


def make(name: str, classes: int = 3, **options: Any) -> nn.Module:
    torch.manual_seed(0)
    level = {"name": name, **options} | ({"encoder_weights": "none"} if "/" in name else {})
    return models.build(models.resolve(level), classes=classes).eval()


def images(side: int) -> Tensor:
    return torch.randn(2, 3, side, side, generator=torch.Generator().manual_seed(1))


def test_every_model_of_the_table_is_tried() -> None:
    below = {"unet_strided"}
    assert {*SMALL, *below, *WHOLE_WAY} >= set(models.MODELS)
    assert len({*PAIRS, *(name for name in WHOLE_WAY if "/" in name)}) >= 12


@pytest.mark.parametrize("name", SMALL)
def test_our_models(name: str, tmp_path: Path) -> None:
    model, path = make(name, **SMALL[name]), tmp_path / "model.onnx"
    any_size = name != "u2net"  # u2net_small is the same, and smaller
    found = graph.write(model, path, (32, 32), images(32), any_size=any_size)
    assert (found.any_size, found.multiple_of) == (any_size, int(any_size))
    assert_equal(model, path, torch.randn(3, 3, 32, 32))
    if any_size:
        assert_equal(model, path, torch.randn(1, 3, 41, 56))


@pytest.mark.parametrize("name", PAIRS)
def test_pairs_of_the_library(name: str, tmp_path: Path) -> None:
    side = 128 if name.startswith("pan") else 32
    model, path = make(name), tmp_path / "model.onnx"
    found = graph.write(model, path, (side, side), images(side), any_size=False)
    assert found.difference <= graph.TOLERANCE * max(1, found.largest)
    assert_equal(model, path, torch.randn(1, 3, side, side))


def test_a_pair_of_the_library_takes_any_size(tmp_path: Path) -> None:
    model, path = make("linknet/resnet18"), tmp_path / "model.onnx"
    found = graph.write(model, path, (32, 32), images(32))
    assert (found.any_size, found.why_one_size) == (True, "")
    assert_equal(model, path, torch.randn(3, 3, 64, 96))


def assert_equal(model: nn.Module, path: Path, batch: Tensor) -> None:
    """onnxruntime against torch, with a session of the test's own."""
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    found = session.run(None, {"image": batch.numpy()})[0]
    with torch.no_grad():
        expected = model(batch).numpy()
    np.testing.assert_allclose(found, expected, atol=1e-4 * max(1, np.abs(expected).max()))


def test_any_size_is_proven_at_another_size(tmp_path: Path) -> None:
    model, path = make("unet_strided", classes=2, width=2), tmp_path / "model.onnx"
    found = graph.write(model, path, (32, 48), torch.randn(2, 3, 32, 48))
    assert (found.any_size, found.why_one_size) == (True, "")
    assert (2, 32, 48) in found.sizes
    size = 7 * found.multiple_of
    assert_equal(model, path, torch.randn(2, 3, size, 2 * size))


class Coarse(nn.Module):
    """Four times coarser inside: other sizes than multiples of 4 come out smaller."""

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.interpolate(nn.functional.avg_pool2d(x[:, :1], 4), scale_factor=4.0)


def test_what_sizes_must_be_divisible_by_is_found(tmp_path: Path) -> None:
    found = graph.write(Coarse().eval(), tmp_path / "model.onnx", (32, 32), images(32))
    assert (found.any_size, found.multiple_of) == (True, 4)


class OneSize(nn.Module):
    """Goes by its image's height, which a graph of any size cannot."""

    def forward(self, x: Tensor) -> Tensor:
        return x[:, :1] * (2.0 if x.shape[2] == 32 else x.shape[2] ** 0.5)


def test_a_model_of_one_size_is_exported_at_it_with_the_reason(tmp_path: Path) -> None:
    model, path = OneSize().eval(), tmp_path / "model.onnx"
    real = capture.export

    def refuse(*arguments: Any, any_size: bool) -> Any:
        if any_size:
            raise capture.Unfit("a guard on the height")
        return real(*arguments, any_size=False)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(capture, "export", refuse)
        found = graph.write(model, path, (32, 32), images(32))
    assert (found.any_size, found.multiple_of) == (False, 0)
    assert found.why_one_size == "a guard on the height"
    assert_equal(model, path, torch.randn(3, 3, 32, 32))


class Restless(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x[:, :1] + torch.rand_like(x[:, :1])


def test_a_graph_that_computes_something_else_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="differ from torch's") as caught:
        graph.write(Restless().eval(), tmp_path / "m.onnx", (32, 32), images(32), any_size=False)
    assert "--no-onnx" in str(caught.value)


def test_an_opset_that_cannot_hold_a_layer_is_refused_with_the_reason(tmp_path: Path) -> None:
    model = make("unet_vanilla", width=2)
    with pytest.raises(RunError, match=r"opset 9 cannot hold this model.*Pad") as caught:
        graph.write(model, tmp_path / "m.onnx", (32, 32), images(32), opset=9, any_size=False)
    assert "--no-onnx" in str(caught.value)
    assert not (tmp_path / "m.onnx").exists()


@pytest.mark.parametrize("opset", [0, 999])
def test_an_opset_that_does_not_exist_is_refused(opset: int, tmp_path: Path) -> None:
    with pytest.raises(RunError, match=f"no opset {opset}"):
        graph.write(OneSize(), tmp_path / "m.onnx", (32, 32), images(32), opset=opset)


def test_what_is_missing_is_named_with_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "onnxscript", None)
    with pytest.raises(RunError, match=r'pip install "segsweep\[export\]"'):
        graph.require()


def test_buffers_are_as_before_an_export() -> None:
    model = make("eomt", **SMALL["eomt"])
    before = {name: value.clone() for name, value in model.state_dict().items()}
    buffers = dict(model.named_buffers())
    with capture.constants(model):
        assert isinstance(model.get_submodule("core").attn_mask_probs, list)
    assert list(model.state_dict()) == list(before)
    assert dict(model.named_buffers()).keys() == buffers.keys()
    name = "core.attn_mask_probs"
    torch.testing.assert_close(model.get_buffer(name), buffers[name])


@pytest.mark.parametrize("channels", [1, 3])
def test_an_ensemble_is_the_mean_of_probabilities(channels: int) -> None:
    class Given(nn.Module):
        def __init__(self, logits: Tensor) -> None:
            super().__init__()
            self.logits = logits

        def forward(self, x: Tensor) -> Tensor:
            return self.logits

    parts = [3 * torch.randn(2, channels, 4, 4, dtype=torch.float64) for _ in range(3)]
    found = Ensemble([Given(part) for part in parts])(torch.zeros(2, 3, 4, 4))
    if channels == 1:
        expected = torch.stack([part.sigmoid() for part in parts]).mean(0)
        torch.testing.assert_close(found.sigmoid(), expected)
    else:
        expected = torch.stack([part.softmax(1) for part in parts]).mean(0)
        torch.testing.assert_close(found.softmax(1), expected)
    certain = [Given(torch.full((1, channels, 1, 1), 200.0)) for _ in range(2)]
    assert torch.isfinite(Ensemble(certain)(torch.zeros(1, 3, 1, 1))).all()
