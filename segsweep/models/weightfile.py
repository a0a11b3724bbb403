"""``weights: FILE``: a whole model's weights, trained here or elsewhere. Never silently partial.

safetensors, or a PyTorch file that holds tensors and nothing that runs. The file's content is
part of a config's identity, its path is not.
"""

from __future__ import annotations

import hashlib
import os
import pickle
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any, Final
from zipfile import BadZipFile

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from segsweep.errors import Problem, WeightsError

KEY: Final = "weights"
HASH: Final = "_sha256"  # what is appended to an option's name for the hash of its file
_WRAPPED: Final = ("state_dict", "model_state_dict", "model", "net", "weights")
_PREFIXES: Final = {"module.": "DataParallel", "model.": "a wrapper or a checkpoint of segsweep"}


def digest(path: Path) -> str:
    """SHA-256 of a file, or of all files of a folder with their names, in hex.

    Raises:
        WeightsError: it is not there or cannot be read.
    """
    try:
        files = sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]
        stats = [file.stat() for file in files]
        if not path.is_dir():
            return _hash(path, stats[0].st_mtime_ns, stats[0].st_size)
        parts = [
            f"{file.relative_to(path)} {_hash(file, stat.st_mtime_ns, stat.st_size)}"
            for file, stat in zip(files, stats, strict=True)
        ]
    except OSError as error:
        raise _unreadable(path, error.strerror or str(error)) from error
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def read(path: Path) -> tuple[dict[str, Tensor], list[str]]:
    """All tensors of a file by name, and what was done to the names.

    A PyTorch file may hold them under ``state_dict``, ``model_state_dict``, ``model``, ``net`` or
    ``weights``. A prefix that all names share, ``module.`` or ``model.``, is taken away.

    Raises:
        WeightsError: it cannot be read, or holds more than tensors and plain values.
    """
    try:
        if path.suffix == ".safetensors":
            with safe_open(path, framework="pt") as file:
                found: Any = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        else:
            found = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        if "global" not in str(error).lower():
            raise _unreadable(path, "it is no file of torch.save") from error
        what = f"{path} holds more than tensors, and is not loaded: it could run code"
        hint = "where you trust it, load it once and save model.state_dict() alone"
        raise WeightsError(Problem(what, key=KEY, hint=hint)) from error
    except (OSError, SafetensorError, RuntimeError, BadZipFile, EOFError, ValueError) as error:
        raise _unreadable(path, " ".join(str(error).split())[:200]) from error
    return _tensors(path, found)


def load_exactly(model: nn.Module, state: Mapping[str, Tensor], label: str) -> None:
    """Load ``state`` into all of a model.

    Raises:
        WeightsError: names every missing, unexpected and mis-shaped entry.
    """
    problems = fit_problems(model, state, label)
    if problems:
        raise WeightsError(problems)
    model.load_state_dict(dict(state), strict=True)


def fit_problems(model: nn.Module, state: Mapping[str, Tensor], label: str) -> list[Problem]:
    """Every entry in which a state differs from a model: one problem for each kind."""
    own = model.state_dict()
    missing = [name for name in own if name not in state]
    unexpected = [name for name in state if name not in own]
    shapes = [
        f"{name} is {_size(state[name])}, not {_size(own[name])}"
        for name in own
        if name in state and state[name].shape != own[name].shape
    ]
    hints = {
        "lacks": "is it the weights of another model, or of other options?",
        "has besides": "save the model alone, without what training added",
        "has other shapes": "set the options that the model was trained with; the last layer has "
        "a channel a class, one for two classes",
    }
    kinds = zip(hints, (missing, unexpected, shapes), strict=True)
    return [
        Problem(f"{label}: the file {kind}: {', '.join(names)}", key=KEY, hint=hints[kind])
        for kind, names in kinds
        if names
    ]


def _tensors(path: Path, found: Any) -> tuple[dict[str, Tensor], list[str]]:
    notes = []
    for name in _WRAPPED:
        if isinstance(found, Mapping) and isinstance(found.get(name), Mapping):
            found = found[name]
            notes.append(f"the weights are those under {name!r}")
            break
    if not isinstance(found, Mapping) or not found:
        raise _unreadable(path, "there are no named tensors in it")
    odd = [str(name) for name, value in found.items() if not isinstance(value, Tensor)]
    if odd:
        raise _unreadable(path, f"these entries are no tensors: {', '.join(odd)}")
    state = {str(name): value for name, value in found.items()}
    for prefix, who in _PREFIXES.items():
        if all(name.startswith(prefix) for name in state):
            state = {name.removeprefix(prefix): value for name, value in state.items()}
            notes.append(f"the prefix {prefix!r} of {who} was taken off every name")
    # numpy, in which weights travel to workers, has no bfloat16
    half = (torch.bfloat16, torch.float16)
    return {name: v.float() if v.dtype in half else v for name, v in state.items()}, notes


@lru_cache(maxsize=64)
def _hash(path: Path, *_stat: int) -> str:
    """Read once, unless time or size of the file say that it was written anew."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _size(tensor: Tensor) -> str:
    return "×".join(str(side) for side in tensor.shape) or "a number"


def _unreadable(path: Path, why: str) -> WeightsError:
    here = "" if path.is_absolute() else f", looked for in {os.getcwd()}"  # noqa: PTH109
    return WeightsError(Problem(f"{path} cannot be read: {why}{here}", key=KEY))
