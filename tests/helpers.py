"""Tiny sweeps that run in a second, for any test that needs one."""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from segsweep import yamlfile

TINY: dict[str, Any] = {
    "name": "tiny",
    "dataset": {
        "name": "synthetic_lesions",
        "images": 12,
        "image_size": [32, 32],
        "holdout": 0.25,
    },
    "folds": {"k": 2},
    "factors": {"model": [{"name": "unet_vanilla", "width": 2}], "loss": ["bce", "dice"]},
    "parameters": {"train.lr": {"min": 0.001, "max": 0.01}},
    "method": "random",
    "configs_per_cell": 2,
    "train": {"epochs": 2, "batch_size": 4, "augment": "light"},
    "early_stopping": {"type": "none"},
    "race": {"rule": "none"},
    "wandb": {"mode": "disabled"},
}


def tiny(**changes: Any) -> dict[str, Any]:
    """``TINY`` with dotted keys replaced; ``__`` stands for a dot, None removes the key."""
    data = copy.deepcopy(TINY)
    for key, value in changes.items():
        *parents, last = key.split("__")
        node = data
        for parent in parents:
            node = node.setdefault(parent, {})
        if value is None:
            node.pop(last, None)
        else:
            node[last] = value
    return data


def write_sweep(folder: Path, data: Mapping[str, Any], name: str = "sweep.yaml") -> Path:
    """A sweep file whose runs go below ``folder``."""
    path = folder / name
    path.write_text(yamlfile.dump({"storage_path": str(folder / "runs"), **data}))
    return path


def events(run: Path, kind: str | None = None) -> list[dict[str, Any]]:
    """The ledger's events, all or of one kind."""
    lines = (run / "ledger" / "events.jsonl").read_text().splitlines()
    found = [json.loads(line) for line in lines]
    return [event for event in found if kind in (None, event["event"])]
