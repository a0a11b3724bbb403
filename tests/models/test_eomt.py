"""EoMT: that it is the library's model, and what is around it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import EomtForUniversalSegmentation

from segsweep import losses, models
from segsweep.errors import WeightsError
from segsweep.models import weights
from segsweep.models.eomt import EoMT, EoMTOutput, segments

TINY: dict[str, Any] = {"hidden_size": 16, "layers": 3, "heads": 2, "blocks": 2, "queries": 5}
TINY |= {"patch_size": 8, "image_size": 64, "points": 64}
LEVEL = {"name": "eomt", **TINY}


def make(classes: int = 3, **changes: Any) -> EoMT:
    torch.manual_seed(0)
    return EoMT(models.out_channels(classes), **{**TINY, **changes})


def pair(height: int = 64, width: int = 64, classes: int = 3) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(2, 3, height, width, generator=generator)
    return x, torch.randint(classes, (2, height, width), generator=generator)


def twin(model: EoMT) -> Any:
    """The library's model itself, with the same weights."""
    theirs = EomtForUniversalSegmentation(model.core.config)
    theirs.load_state_dict(model.core.state_dict())
    return theirs


def test_raw_logits_are_the_librarys() -> None:
    model, (x, _) = make().eval(), pair()
    with torch.no_grad():
        raw, theirs = model.raw(x), twin(model).eval()(x)
    assert torch.equal(raw.masks, theirs.masks_queries_logits)
    assert torch.equal(raw.classes, theirs.class_queries_logits)


def test_the_loss_is_the_librarys() -> None:
    model, (x, target) = make().train(), pair()
    target[0, :9] = losses.IGNORE
    _, masks, classes = segments(target)
    theirs = twin(model).train()
    torch.manual_seed(5)
    expected = theirs(x, mask_labels=masks, class_labels=classes).loss
    torch.manual_seed(5)
    found = losses.build(losses.resolve("native"))(model(x), target)
    assert torch.equal(found, expected)
    found.backward()
    expected.backward()
    ours = {name: p.grad for name, p in model.core.named_parameters()}
    for name, parameter in theirs.named_parameters():
        torch.testing.assert_close(ours[name], parameter.grad)


def test_pixels_are_the_librarys_semantic_map() -> None:
    from transformers.models.eomt.modeling_eomt import EomtForUniversalSegmentationOutput

    model, (x, _) = make(4).eval(), pair()
    with torch.no_grad():
        logits, raw = model(x), model.raw(x)
    found = EomtForUniversalSegmentationOutput(
        class_queries_logits=raw.classes, masks_queries_logits=raw.masks
    )
    # step by step, as the library's post-processing has it
    masks = torch.nn.functional.interpolate(found.masks_queries_logits, (64, 64), mode="bilinear")
    classes = found.class_queries_logits.softmax(-1)[..., :-1]
    expected = torch.einsum("bqc,bqhw->bchw", classes, masks.sigmoid())
    torch.testing.assert_close(logits.exp(), expected)


def test_a_binary_head_is_the_difference_of_two_classes() -> None:
    model, (x, _) = make(2).eval(), pair()
    with torch.no_grad():
        logits = model(x)
        model.binary = False
        both = model(x)
    assert logits.shape == (2, 1, 64, 64)
    torch.testing.assert_close(logits[:, 0].sigmoid(), both.softmax(dim=1)[:, 1])


def test_padding_and_other_grids_do_not_move_what_is_there() -> None:
    model, (x, _) = make().eval(), pair(61, 90)
    padded = torch.nn.functional.pad(x, (0, 6, 0, 3))
    with torch.no_grad():
        torch.testing.assert_close(model(x), model(padded)[..., :61, :90])


def test_segments() -> None:
    target = torch.tensor([[[0, 2], [2, 255]], [[255, 255], [255, 255]], [[1, 1], [1, 1]]])
    rows, masks, classes = segments(target)
    assert rows.tolist() == [0, 2]
    assert [c.tolist() for c in classes] == [[0, 2], [1]]
    assert masks[0].tolist() == [[[1, 0], [0, 0]], [[0, 1], [1, 0]]]
    assert masks[1].tolist() == [[[1, 1], [1, 1]]]


def test_images_without_labels_do_not_count() -> None:
    model, (x, target) = make().train(), pair()
    nothing = torch.full_like(target, losses.IGNORE)
    output = model(x)
    assert isinstance(output, EoMTOutput)
    value: Any = output.native_loss(nothing)
    assert value == 0
    value.backward()
    assert all(p.grad is None or not p.grad.any() for p in model.parameters())
    target[0] = losses.IGNORE
    torch.manual_seed(2)
    both = model(x).native_loss(target)
    torch.manual_seed(2)
    alone = model(x[1:]).native_loss(target[1:])
    torch.testing.assert_close(both, alone)


def test_it_learns() -> None:
    model = make().train()
    loss: Any = losses.build(losses.resolve("native"))
    x = torch.zeros(2, 3, 64, 64)
    x[:, 0, :, 32:] = 2.0
    target = (x[:, 0] > 1).long() + 1
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    for _ in range(60):
        optimizer.zero_grad()
        loss(model(x), target).backward()
        optimizer.step()
    with torch.no_grad():
        assert (model.eval()(x).argmax(1) == target).float().mean() > 0.9


@pytest.mark.parametrize(
    ("changes", "words"),
    [({"blocks": 4}, "blocks = 4 is more than layers = 3"), ({"heads": 3}, "no multiple of heads"),
     ({"image_size": 60}, "no multiple of patch_size")],
)  # fmt: skip
def test_sizes_that_cannot_be(changes: dict[str, int], words: str) -> None:
    (problem,) = models.problems(
        models.resolve({**LEVEL, **changes}), classes=3, image_size=(64, 64)
    )
    assert words in problem.what


class TestPretrained:
    def test_a_local_folder_is_what_it_starts_from(self, tmp_path: Path) -> None:
        theirs = twin(make(7))
        theirs.save_pretrained(tmp_path)
        config = models.resolve({**LEVEL, "pretrained": str(tmp_path)})
        state = models.fetch_encoder(config)
        model = models.build(config, classes=3, encoder_state=state)
        own = model.get_submodule("core").state_dict()
        for name, value in theirs.state_dict().items():
            if name.startswith(("class_predictor", "criterion")):
                assert own[name].shape != value.shape
            else:
                assert torch.equal(own[name], value), name
        assert models.encoder_key(config) == f"eomt:{config['pretrained_sha256']}"
        assert "pretrained" not in models.title(models.resolve(models.bare(config)))

    def test_other_sizes_are_named(self, tmp_path: Path) -> None:
        twin(make(7)).save_pretrained(tmp_path)
        config = models.resolve({**LEVEL, "queries": 6, "pretrained": str(tmp_path)})
        with pytest.raises(WeightsError, match=r"core\.query\.weight is 5×16, not 6×16") as caught:
            models.build(config, classes=3, encoder_state=models.fetch_encoder(config))
        assert "sizes of the pretrained model" in caught.value.problems[0].hint

    def test_a_name_without_network_fails_soon(
        self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        from huggingface_hub import constants

        monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
        monkeypatch.setattr(weights, "_SECONDS", 0.01)
        with pytest.raises(
            WeightsError, match="eomt: no pretrained weights someone/eomt"
        ) as caught:
            models.fetch_encoder(models.resolve({**LEVEL, "pretrained": "someone/eomt"}))
        assert "set pretrained: none" in caught.value.problems[0].hint
