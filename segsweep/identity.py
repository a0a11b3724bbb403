"""Who is who: config ids, trial ids, and short names that say only what differs.

A ``config_id`` is a hash over everything that can change a number and nothing that cannot, so
that a config which was run is found again under any name, place or budget.
"""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any, Final

IDENTITY_VERSION: Final = 3

MEANINGS: Final[Mapping[int, str]] = {
    2: "every trial has a seed of its own",
    3: (
        "means over classes take the classes in the truth alone, val/loss is a mean over images, "
        "and palettes, 16 bits, orientation and alpha of files are read by other rules"
    ),
}
"""What each version changed. Numbers of two versions are not mixed in one run."""

# of a trial config: paths, resources, storage, budgets and stopping rules are not among them
IDENTITY_KEYS = ("model", "loss", "train", "dataset", "folds", "metric", "seed")
EXCLUDED = {"dataset": ("root",), "folds": ("run",), "metric": ("also",)}

NEUTRAL: Final[Mapping[str, Any]] = {}
"""Keys of a trial config that came after version 3, by dotted path, with the value that changes
nothing. A config without the key means this value, whatever the default is today; and a key at
this value is left out of ids and seeds, so that a new key renames no config. An entry never
changes and never goes."""


def since(version: int) -> str:
    """What numbers mean otherwise than in an older version; empty where they mean the same."""
    return "; ".join(what for number, what in MEANINGS.items() if number > version)


def canonical(value: Any) -> str:
    """JSON in one spelling: sorted keys, no spaces, 1.0 and 1 kept apart.

    Raises:
        ValueError: a number that is not finite.
    """
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


def digest(value: Any) -> str:
    """SHA-256 of the canonical JSON of ``value``, in hex."""
    return hashlib.sha256(canonical(value).encode()).hexdigest()


def _decisive(config: Mapping[str, Any]) -> dict[str, Any]:
    """What of a trial config can change a number."""
    sections = dict.fromkeys([*IDENTITY_KEYS, *(path.split(".")[0] for path in NEUTRAL)])
    kept = {
        key: {k: v for k, v in config[key].items() if k not in EXCLUDED[key]}
        if key in EXCLUDED
        else copy.deepcopy(config[key])
        for key in sections
        if key in config
    }
    for path, value in NEUTRAL.items():
        _leave_out(kept, path.split("."), value)
    # where the hash of a file's content stands beside its path, the path says nothing more
    model = kept["model"]
    kept["model"] = {k: v for k, v in model.items() if f"{k}_sha256" not in model}
    return kept


def _leave_out(node: dict[str, Any], path: Sequence[str], neutral: Any) -> None:
    """Remove the leaf at ``path`` where it is neutral, and a section that has no other."""
    key, *rest = path
    if key not in node:
        return
    if not rest:
        if canonical(node[key]) == canonical(neutral):
            del node[key]
    elif isinstance(node[key], dict):
        _leave_out(node[key], rest, neutral)
        if not node[key]:
            del node[key]


def with_neutral(config: Mapping[str, Any]) -> dict[str, Any]:
    """A config or the settings of an older segsweep with the keys that it did not know yet."""
    filled = copy.deepcopy(dict(config)) if NEUTRAL else dict(config)
    for path, value in NEUTRAL.items():
        *sections, key = path.split(".")
        node = filled
        for section in sections:
            node = node.setdefault(section, {})
        node.setdefault(key, copy.deepcopy(value))
    return filled


def config_id(config: Mapping[str, Any], fingerprint: str, folds_hash: str) -> str:
    """The first 12 hex digits of the hash of a fully resolved trial config and its data.

    Args:
        config: the trial config, every default filled in.
        fingerprint: of the decoded data.
        folds_hash: of the assignment of images to folds.
    """
    return digest([IDENTITY_VERSION, _decisive(config), fingerprint, folds_hash])[:12]


def trial_id(config: str, fold: int, replicate: int = 0) -> str:
    """``<config_id>-f<fold>``, with ``-r<replicate>`` for further seeds of the same fold."""
    return f"{config}-f{fold}" + (f"-r{replicate}" if replicate else "")


def trial_seed(config: Mapping[str, Any], fold: int, replicate: int = 0) -> int:
    """The seed of one trial, a 31-bit number.

    Configs have seeds of their own: race and comparison take what config + fold leave over for
    the noise of seeds, and seeds that all configs of a model shared would not be in it (on PH2 two
    thirds of that noise were shared: initial weights and the order of images).
    """
    return int(digest([_decisive(config), fold, replicate])[:8], 16) >> 1


def counted(number: int, noun: str) -> str:
    """``1 image``, ``2 images``."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def format_value(value: Any) -> str:
    """A parameter's value in few characters."""
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def short_params(params: Mapping[str, Any]) -> str:
    """``lr=0.003 gamma=2``: last parts of the paths where they tell the parameters apart."""
    names = short_names(list(params))
    return " ".join(
        f"{name}={format_value(value)}" for name, value in zip(names, params.values(), strict=True)
    )


def short_cells(levels: Mapping[str, Mapping[str, str]]) -> dict[str, str]:
    """Cells without the options of a level where its name alone tells it from the others.

    Args:
        levels: of each cell, the label of each factor's level, ``unet_strided(width=32)``.

    Returns:
        cell → a label for people, ``unet_strided/bce``.
    """
    labels: dict[str, set[str]] = {}
    for own in levels.values():
        for factor, label in own.items():
            labels.setdefault(factor, set()).add(label)

    def short(factor: str, label: str) -> str:
        name = label.partition("(")[0]
        rivals = [other for other in labels[factor] if other.partition("(")[0] == name]
        return label if "+" in label or len(rivals) > 1 else name

    return {
        cell: "/".join(short(factor, label) for factor, label in own.items()) or cell
        for cell, own in levels.items()
    }


def short_names(paths: Sequence[str]) -> list[str]:
    """The shortest tails of dotted paths that are all different."""
    parts = [path.split(".") for path in paths]
    result = []
    for own in parts:
        for size in range(1, len(own) + 1):
            tail = own[-size:]
            if sum(other[-size:] == tail for other in parts) == 1:
                break
        result.append(".".join(tail))
    return result
