"""What a sweep needs of a machine, as far as its file says so."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from segsweep.spec import SweepSpec

ENCODER, EOMT = "encoder", "eomt"


def _levels(spec: SweepSpec | None) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Every model of a sweep: its name, and the options beside it."""
    for level in spec.factors.get("model", []) if spec is not None else []:
        if isinstance(level, str):
            yield level, {}
        elif isinstance(level, Mapping) and isinstance(level.get("name"), str):
            yield level["name"], level


def packages(spec: SweepSpec | None) -> set[str]:
    """The packages of ``EXTRAS`` without which the sweep cannot run as it is written."""
    if spec is None:
        return set()
    wanted = {
        "wandb": "wandb" in spec.tracking and spec.wandb_mode != "disabled",
        "mlflow": "mlflow" in spec.tracking,
        "transformers": any(name == "eomt" for name, _ in _levels(spec)),
    }
    return {name for name, needed in wanted.items() if needed}


def torchvision(spec: SweepSpec | None) -> bool:
    """Whether it is imported: with all models but our own; without a sweep, that may come."""
    return spec is None or any("/" in name or name == "eomt" for name, _ in _levels(spec))


def stream(spec: SweepSpec | None) -> bool:
    """Whether results go to a W&B server while the sweep runs."""
    return spec is not None and "wandb" in spec.tracking and spec.wandb_mode == "online"


def gpus(spec: SweepSpec | None) -> float:
    """The share of a GPU that a trial must have; 0 where it does without."""
    wanted = spec.resources.gpu if spec is not None else "auto"
    return 0.0 if wanted == "auto" else wanted


def weight_files(spec: SweepSpec) -> Iterator[str]:
    """The files of all weights of a model that a sweep names."""
    for _, options in _levels(spec):
        if isinstance(path := options.get("weights"), str) and path:
            yield path


def starts(spec: SweepSpec | None) -> dict[tuple[str, str], str]:
    """Pretrained weights that a sweep begins with, ``(kind, name)`` → their folder, if any.

    Those without a folder come from the Hugging Face hub.
    """
    found: dict[tuple[str, str], str] = {}
    for name, options in _levels(spec):
        if "weights" in options:  # of the whole model, so that no other is fetched
            continue
        if "/" in name and options.get("encoder_weights", "imagenet") != "none":
            found[ENCODER, name.split("/", 1)[1]] = ""
        pretrained = options.get("pretrained", "none")
        if name == "eomt" and isinstance(pretrained, str) and pretrained != "none":
            found[EOMT, pretrained] = pretrained if Path(pretrained).is_dir() else ""
    return found
