"""Checkpoints: whole or not there, never pickle, everything in and out again."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import SafetensorError

from segsweep import checkpoint
from segsweep.errors import TrialError, disk_is_full


def test_round_trip_of_tensors_and_facts(tmp_path: Path) -> None:
    path = tmp_path / "a" / "x.safetensors"
    image = torch.rand(2, 3, 4, 5).to(memory_format=torch.channels_last)
    tensors = {"a": torch.arange(5), "b": image, "c": torch.rand(3).bfloat16()}
    checkpoint.save(path, tensors, {"epoch": 3, "lr": 1e-4, "none": None})
    found, facts = checkpoint.load(path)
    assert facts == {"epoch": 3, "lr": 1e-4, "none": None}
    assert all(torch.equal(found[name], tensor) for name, tensor in tensors.items())


def test_a_failed_write_leaves_the_old_file_and_no_litter(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "x.safetensors"
    checkpoint.save(path, {"a": torch.ones(1)}, {})

    def full(tensors: object, target: Path, metadata: object) -> None:
        target.write_bytes(b"half")
        raise SafetensorError("I/O error: No space left on device (os error 28)")

    monkeypatch.setattr(checkpoint, "save_file", full)
    with pytest.raises(OSError, match="No space") as caught:
        checkpoint.save(path, {"a": torch.zeros(1)}, {})
    assert disk_is_full(caught.value)
    assert list(tmp_path.iterdir()) == [path]
    assert checkpoint.load(path)[0]["a"] == 1


@pytest.mark.parametrize("damage", ["missing", "truncated", "pickle"])
def test_what_cannot_be_read_says_so(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "x.safetensors"
    if damage == "truncated":
        checkpoint.save(path, {"a": torch.rand(100)}, {})
        path.write_bytes(path.read_bytes()[:-50])
    elif damage == "pickle":
        torch.save({"a": torch.ones(1)}, path)
    with pytest.raises(TrialError, match="cannot be read"):
        checkpoint.load(path)


def test_a_flipped_bit_anywhere_is_found(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    tensors = {"a": torch.rand(3, 4), "b": torch.arange(5)}
    facts = {"epoch": 3, "text": '"checksum":"' + "0" * 64 + '"'}
    checkpoint.save(path, tensors, facts)
    assert checkpoint.load(path)[1] == facts
    whole = path.read_bytes()
    for place in range(len(whole)):
        raw = bytearray(whole)
        raw[place] ^= 1 << place % 8
        path.write_bytes(raw)
        with pytest.raises(TrialError, match="cannot be read"):
            checkpoint.load(path)
    path.write_bytes(whole + b"\0")
    with pytest.raises(TrialError, match="checksum"):
        checkpoint.load(path)


@pytest.mark.parametrize("name", ["adamw", "adam", "sgd"])
def test_an_optimizer_goes_on_bit_equal(tmp_path: Path, name: str) -> None:
    from segsweep import optim

    def model() -> torch.nn.Module:
        torch.manual_seed(0)
        return torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.Linear(4, 1))

    def step(net: torch.nn.Module, optimizer: torch.optim.Optimizer, seed: int) -> None:
        x = torch.rand(8, 3, generator=torch.Generator().manual_seed(seed))
        optimizer.zero_grad()
        net(x).square().sum().backward()
        optimizer.step()

    whole = model()
    reference = optim.build_optimizer(name, whole, lr=0.1, weight_decay=0.01)
    step(whole, reference, 0)
    tensors, facts = checkpoint.pack_optimizer(reference)
    path = tmp_path / "x.safetensors"
    state = {**checkpoint.prefixed("m", whole.state_dict()), **checkpoint.prefixed("o", tensors)}
    checkpoint.save(path, state, facts)

    other = model()
    loaded, facts = checkpoint.load(path)
    other.load_state_dict(checkpoint.unprefixed("m", loaded))
    optimizer = optim.build_optimizer(name, other, lr=9.0, weight_decay=0.0)
    checkpoint.unpack_optimizer(optimizer, checkpoint.unprefixed("o", loaded), facts)
    step(whole, reference, 1)
    step(other, optimizer, 1)
    for a, b in zip(whole.parameters(), other.parameters(), strict=True):
        assert torch.equal(a, b)


def test_others_may_read_what_the_umask_lets_them(tmp_path: Path) -> None:
    """A model on a lab's disk is for the lab."""
    plain = tmp_path / "plain"
    plain.touch()
    checkpoint.save(tmp_path / "a.safetensors", {"a": torch.zeros(2)}, {})
    assert (tmp_path / "a.safetensors").stat().st_mode == plain.stat().st_mode


def test_folders_may_vanish_while_leftovers_are_sought(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("gone", "kept"):
        (tmp_path / name).mkdir()
        (tmp_path / name / ".a.1.tmp").touch()
    real = os.scandir

    def vanishing(path: Any) -> Any:
        if str(path).endswith("gone"):
            raise FileNotFoundError(path)
        return real(path)

    monkeypatch.setattr(os, "scandir", vanishing)
    assert checkpoint.remove_leftovers(tmp_path) == 1
