"""``weights: FILE``: all of a model or nothing, by content, and never code."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from segsweep import checkpoint, identity, models
from segsweep.errors import UserError, WeightsError
from segsweep.models import weightfile

SMALL: dict[str, Any] = {"name": "unet_vanilla", "width": 2}


def state(seed: int = 0, **options: Any) -> dict[str, Tensor]:
    torch.manual_seed(seed)
    return dict(models.build(models.resolve({**SMALL, **options}), classes=2).state_dict())


def start(level: dict[str, Any], classes: int = 2) -> torch.nn.Module:
    config = models.resolve(level)
    return models.build(config, classes=classes, encoder_state=models.fetch_encoder(config))


def same(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


@pytest.mark.parametrize(
    ("wrap", "note"),
    [
        (lambda s: s, ""),
        (lambda s: {f"module.{k}": v for k, v in s.items()}, "'module.' of DataParallel"),
        (lambda s: {"state_dict": s, "epoch": 3}, "under 'state_dict'"),
        (lambda s: {"model": {f"module.{k}": v for k, v in s.items()}}, "under 'model'"),
    ],
)
def test_a_pytorch_file(tmp_path: Path, wrap: Any, note: str) -> None:
    path, wanted = tmp_path / "w.pth", state()
    torch.save(wrap(wanted), path)
    level = {**SMALL, "weights": str(path)}
    assert same(dict(start(level).state_dict()), wanted)
    notes = models.notices(models.resolve(level))
    assert bool(notes) == bool(note)
    assert note in " ".join(notes)
    assert models.problems(models.resolve(level), classes=2, image_size=(32, 32)) == []


def test_a_checkpoint_of_our_own(tmp_path: Path) -> None:
    wanted = state()
    checkpoint.save(tmp_path / "best.safetensors", checkpoint.prefixed("model", wanted), {})
    level = {**SMALL, "weights": str(tmp_path / "best.safetensors")}
    assert same(dict(start(level).state_dict()), wanted)


def test_bfloat16_becomes_what_a_worker_can_be_handed(tmp_path: Path) -> None:
    halved = {k: v.bfloat16() if v.is_floating_point() else v for k, v in state().items()}
    save_file(halved, tmp_path / "w.safetensors")
    found, _ = weightfile.read(tmp_path / "w.safetensors")
    assert all(torch.equal(found[k], halved[k].to(found[k].dtype)) for k in halved)
    assert all(tensor.numpy() is not None for tensor in found.values())


def test_a_prefix_that_not_all_share_stays(tmp_path: Path) -> None:
    torch.save({"module.a": torch.ones(1), "b": torch.ones(1)}, tmp_path / "w.pt")
    found, notes = weightfile.read(tmp_path / "w.pt")
    assert list(found) == ["module.a", "b"]
    assert notes == []


def test_every_entry_that_does_not_fit_is_named(tmp_path: Path) -> None:
    wanted = state()
    wanted["extra.weight"] = torch.zeros(1)
    wanted["classifier.weight"] = torch.zeros(4, 2, 1, 1)
    lost = [name for name in wanted if "encoder.1" in name]
    for name in lost:
        del wanted[name]
    torch.save(wanted, tmp_path / "w.pth")
    level = {**SMALL, "weights": str(tmp_path / "w.pth")}
    found = models.problems(models.resolve(level), classes=2, image_size=(32, 32))
    assert [problem.key for problem in found] == ["weights"] * 3
    assert all(name in found[0].what for name in lost)
    assert found[1].what.endswith("has besides: extra.weight")
    assert found[2].what.endswith("classifier.weight is 4×2×1×1, not 1×2×1×1")
    with pytest.raises(WeightsError) as caught:
        start(level)
    assert [p.what for p in caught.value.problems] == [
        p.what.replace(models.title(models.resolve(level)), "unet_vanilla") for p in found
    ]


class Danger:
    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os.mkdir, ("danger",)


def test_a_file_that_would_run_code_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"a": Danger()}, "w.pth")
    with pytest.raises(WeightsError, match="it could run code"):
        weightfile.read(Path("w.pth"))
    assert not Path("danger").exists()


@pytest.mark.parametrize(
    ("name", "content"),
    [("w.pth", b"not a file of torch"), ("w.safetensors", b"12"), ("w.pth", b"")],
)
def test_what_cannot_be_read(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(WeightsError, match="cannot be read"):
        weightfile.read(tmp_path / name)


@pytest.mark.parametrize("content", [[1, 2], {}, {"a": 3, "b": torch.ones(1)}])
def test_what_is_no_state(tmp_path: Path, content: Any) -> None:
    torch.save(content, tmp_path / "w.pth")
    with pytest.raises(WeightsError, match=r"no named tensors|no tensors: a"):
        weightfile.read(tmp_path / "w.pth")


def test_mistakes_of_a_level() -> None:
    with pytest.raises(UserError, match=r"missing\.pth cannot be read: No such file") as caught:
        models.resolve({**SMALL, "weights": "missing.pth", "widht": 3})
    assert sorted(problem.key for problem in caught.value.problems) == ["weights", "widht"]
    with pytest.raises(UserError, match="not the name of a file: 3"):
        models.resolve({**SMALL, "weights": 3})


def test_an_encoders_weights_would_be_lost(tmp_path: Path) -> None:
    torch.save(state(), tmp_path / "w.pth")
    level: dict[str, Any] = {"name": "unet/resnet18", "weights": str(tmp_path / "w.pth")}
    assert models.resolve(level)["encoder_weights"] == "none"
    with pytest.raises(UserError, match="encoder_weights would be lost"):
        models.resolve({**level, "encoder_weights": "imagenet"})


def test_a_file_is_known_by_its_content(tmp_path: Path) -> None:
    one, moved, other = (tmp_path / name for name in ("a.pth", "b.pth", "c.pth"))
    torch.save(state(), one)
    moved.write_bytes(one.read_bytes())
    torch.save(state(seed=1), other)
    found = [models.resolve({**SMALL, "weights": str(path)}) for path in (one, moved, other)]
    names = [models.title(config) for config in found]
    assert names[0] == names[1] != names[2]
    base: dict[str, Any] = {key: {} for key in ("loss", "train", "dataset", "folds", "metric")}
    base["seed"] = 0
    ids = [identity.config_id({**base, "model": config}, "", "") for config in found]
    assert ids[0] == ids[1] != ids[2]
    plain = identity.config_id({**base, "model": models.resolve(SMALL)}, "", "")
    assert plain not in ids


def test_a_file_that_changed_is_another(tmp_path: Path) -> None:
    path = tmp_path / "w.pth"
    torch.save(state(), path)
    before = models.resolve({**SMALL, "weights": str(path)})
    assert models.resolve(before) == before
    torch.save(state(seed=1, norm="none"), path)
    assert models.resolve({**SMALL, "weights": str(path)}) != before
    with pytest.raises(UserError, match="is not the file it was"):
        models.resolve(before)
