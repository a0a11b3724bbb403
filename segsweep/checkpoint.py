"""Checkpoints: one safetensors file each, plain facts as JSON in its header, written atomically.

Never pickle. A file is whole or not there: it is written under a temporary name with the
process id and then moved into place. A checksum over all of it is verified before it is used.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from segsweep import checksum
from segsweep.errors import TrialError
from segsweep.identity import with_neutral

HEADER = "segsweep"


def save(path: Path, tensors: Mapping[str, torch.Tensor], facts: Mapping[str, Any]) -> None:
    """Write tensors (copied to the CPU) and JSON facts to ``path`` in one step.

    Raises:
        OSError: the disk is full or gone; an older file at ``path`` is unharmed.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    plain = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    metadata = {HEADER: json.dumps(facts), checksum.KEY: checksum.BLANK}
    try:
        temporary.touch()
        mode = temporary.stat().st_mode  # as the user's umask has it: the library writes 0600
        save_file(plain, temporary, metadata=metadata)
        temporary.chmod(mode)
        checksum.seal(temporary)
        temporary.replace(path)
    except SafetensorError as error:
        number = re.search(r"os error (\d+)", str(error))  # it hides what the system said
        raise OSError(int(number[1]) if number else 0, str(error), str(path)) from error
    finally:
        temporary.unlink(missing_ok=True)


def load(path: Path) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """Tensors and facts of a checkpoint.

    Raises:
        TrialError: the file is missing or damaged, be it by one bit.
    """
    try:
        checksum.verify(path)
        with safe_open(path, framework="pt") as file:
            facts = json.loads((file.metadata() or {})[HEADER])
            if isinstance(facts.get("config"), dict):
                facts["config"] = with_neutral(facts["config"])
            return {name: file.get_tensor(name) for name in file.keys()}, facts  # noqa: SIM118
    except (OSError, SafetensorError, KeyError, ValueError) as error:
        raise TrialError(f"checkpoint {path} cannot be read: {error}") from error


def remove_leftovers(folder: Path) -> int:
    """Delete the temporary files of killed writers below ``folder``; how many there were."""
    # not rglob, which fails where a folder vanishes meanwhile: W&B may still be tidying up
    found = [
        Path(place) / name
        for place, _, names in os.walk(folder)
        for name in names
        if name.startswith(".") and name.endswith(".tmp")
    ]
    for path in found:
        path.unlink(missing_ok=True)
    return len(found)


def prefixed(prefix: str, tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Every name with ``prefix.`` before it."""
    return {f"{prefix}.{name}": tensor for name, tensor in tensors.items()}


def unprefixed(prefix: str, tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The tensors whose name begins with ``prefix.``, without it."""
    start = f"{prefix}."
    return {n.removeprefix(start): t for n, t in tensors.items() if n.startswith(start)}


def pack_optimizer(
    optimizer: torch.optim.Optimizer,
) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """An optimizer's state as tensors named ``<parameter>.<slot>``, and the rest as JSON."""
    state = optimizer.state_dict()
    tensors: dict[str, torch.Tensor] = {}
    plain: dict[str, Any] = {}
    for parameter, slots in state["state"].items():
        for slot, value in slots.items():
            kept: dict[str, Any] = tensors if isinstance(value, torch.Tensor) else plain
            kept[f"{parameter}.{slot}"] = value
    return tensors, {"slots": plain, "groups": state["param_groups"]}


def unpack_optimizer(
    optimizer: torch.optim.Optimizer,
    tensors: Mapping[str, torch.Tensor],
    facts: Mapping[str, Any],
) -> None:
    """Put what ``pack_optimizer`` gave back into an optimizer of the same parameters."""
    state: dict[int, dict[str, Any]] = {}
    for name, value in {**tensors, **facts["slots"]}.items():
        parameter, slot = name.split(".", 1)
        state.setdefault(int(parameter), {})[slot] = value
    groups = [
        {key: tuple(v) if key == "betas" else v for key, v in group.items()}
        for group in facts["groups"]
    ]
    optimizer.load_state_dict({"state": state, "param_groups": groups})
