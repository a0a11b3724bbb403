"""The predictions that a trial kept of its best epoch, as images for W&B."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open

from segsweep.data import palette


@dataclass(frozen=True)
class Example:
    """One validation image.

    Attributes:
        image: (H, W, 3) RGB.
        truth: (H, W) labels, 255 where there is none.
        prediction: (H, W) labels.
        classes: their names.
        caption: which image of which epoch.
    """

    image: NDArray[np.uint8]
    truth: NDArray[np.uint8]
    prediction: NDArray[np.uint8]
    classes: tuple[str, ...]
    caption: str


def read(path: Path) -> list[Example] | None:
    """What ``evidence.safetensors`` holds of them; None where there is nothing that can be read."""
    try:
        with safe_open(path, framework="numpy") as file:
            facts = json.loads(file.metadata()["segsweep"])
            images = file.get_tensor("examples.image")
            truths = file.get_tensor("examples.truth")
            predictions = file.get_tensor("examples.prediction")
    except (OSError, SafetensorError, KeyError, ValueError):
        return None
    classes = tuple(facts["classes"])
    return [
        Example(image, truth, prediction, classes, f"{name}, epoch {facts['epoch']}")
        for image, truth, prediction, name in zip(
            images, truths, predictions, facts["examples"], strict=True
        )
    ]


def with_masks(example: Example) -> Any:
    """For W&B's viewer: masks to switch on and off, in colours that it picks itself."""
    import wandb

    labels = dict(enumerate(example.classes))
    masks = {
        "prediction": {"mask_data": example.prediction, "class_labels": labels},
        "truth": {"mask_data": example.truth, "class_labels": labels},
    }
    return wandb.Image(example.image, masks=masks, caption=example.caption)


def painted(example: Example, colours: Mapping[str, str]) -> Any:
    """Image, truth and prediction side by side, in the colours of the data.

    Args:
        example: what to show.
        colours: class → ``#804080``.
    """
    import wandb

    own = {name: colours[name] for name in example.classes}
    shown = palette.panel(example.image, example.truth, example.prediction, own)
    return wandb.Image(shown, caption=f"{example.caption}: image, truth, prediction")
