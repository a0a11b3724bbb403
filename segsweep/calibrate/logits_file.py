"""A file of logits: what one model says about the pixels of one dataset, and whose it is.

One safetensors file, sealed like a checkpoint. Its header names the checkpoint's content, the
data's content, preprocessing and sampling, so that it can never be taken for another's.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open

from segsweep import checkpoint
from segsweep.errors import Problem, RunError, TrialError
from segsweep.identity import digest

VERSION: Final = 1
"""Raised whenever the same model and data give another file."""

VALIDATION: Final = "validation"
HOLDOUT: Final = "holdout"


@dataclass(frozen=True)
class Queries:
    """What a mask model says before anything is summed, for scores that need it.

    Attributes:
        masks: (N, Q, h, w) mask logits, of the image padded to whole patches.
        classes: (N, Q, K + 1) class logits, the last for "no object".
        padded: height and width of the padded image, in pixels.
    """

    masks: NDArray[np.float32]
    classes: NDArray[np.float32]
    padded: tuple[int, int]


@dataclass(frozen=True)
class Logits:
    """The kept pixels of all images of a dataset, image after image.

    Attributes:
        values: (P, C) logits; C is 1 for two classes, whose logits are (0, z).
        labels: (P,) classes of the model, 255 where a pixel has none of them.
        anomaly: (P,) 1 where a pixel is of no class that the model knows, 0 where it is of one,
            255 where neither is said.
        boundary: (P,) near a contour of the truth.
        offsets: (N + 1,) image i has the pixels ``offsets[i]:offsets[i + 1]``.
        positions: (P,) row × width + column of each pixel in its image.
        histogram: (N, 2, BINS) labelled pixels of every image, all of them, that are classified
            wrongly and rightly, by confidence at T = 1.
        image_ids: N ids.
        facts: what the header says.
        queries: of a mask model.
    """

    values: NDArray[np.float32]
    labels: NDArray[np.uint8]
    anomaly: NDArray[np.uint8]
    boundary: NDArray[np.bool_]
    offsets: NDArray[np.int64]
    positions: NDArray[np.int64]
    histogram: NDArray[np.int64]
    image_ids: tuple[str, ...]
    facts: Mapping[str, Any]
    queries: Queries | None = None

    @property
    def sampled(self) -> bool:
        """Were pixels drawn, rather than all kept?"""
        return bool(self.facts["sampling"]["pixels"] < self.facts["sampling"]["of"])

    @property
    def image_of(self) -> NDArray[np.int64]:
        """(P,) which image each pixel belongs to."""
        return np.repeat(np.arange(len(self.image_ids)), np.diff(self.offsets))


def save(path: Path, logits: Logits) -> None:
    """Write in one step.

    Raises:
        OSError: the disk is full or gone; an older file is unharmed.
    """
    tensors = {
        "logits": torch.from_numpy(logits.values),
        "labels": torch.from_numpy(logits.labels),
        "anomaly": torch.from_numpy(logits.anomaly),
        "boundary": torch.from_numpy(logits.boundary),
        "offsets": torch.from_numpy(logits.offsets),
        "positions": torch.from_numpy(logits.positions.astype(np.int32)),
        "histogram": torch.from_numpy(logits.histogram.astype(np.int32)),
    }
    facts = {**logits.facts, "key": digest(dict(logits.facts))}
    if logits.queries is not None:
        tensors["queries.masks"] = torch.from_numpy(logits.queries.masks)
        tensors["queries.classes"] = torch.from_numpy(logits.queries.classes)
        facts["padded"] = list(logits.queries.padded)
    checkpoint.save(path, tensors, facts)


def mismatch(path: Path, expected: Mapping[str, Any]) -> str | None:
    """Why the file at ``path`` is not the one that ``expected`` describes; None: it is.

    Only the header is read: damage further on is found by `load`.
    """
    if not path.exists():
        return "it is not there"
    try:
        with safe_open(path, framework="np") as file:
            facts = json.loads((file.metadata() or {})[checkpoint.HEADER])
    except (OSError, SafetensorError, KeyError, ValueError) as error:
        return f"it cannot be read: {error}"
    return _differs(facts, expected)


def load(path: Path, expected: Mapping[str, Any]) -> Logits:
    """The file that ``expected`` describes.

    Args:
        path: where it should lie.
        expected: its whole header, as `compute.facts_of` says it.

    Raises:
        RunError: missing, damaged, or of another model, fold, dataset or preprocessing.
    """
    hint = "delete the file and calibrate again: it is computed anew"
    try:
        tensors, facts = checkpoint.load(path)
    except TrialError as error:
        what = f"the logits cannot be read: {error.__cause__ or error}"
        raise RunError(Problem(what, str(path), hint=hint)) from error
    if (why := _differs(facts, expected)) is not None:
        raise RunError(Problem(f"these logits are not used: {why}", str(path), hint=hint))
    arrays = {name: tensor.numpy() for name, tensor in tensors.items()}
    queries = None
    if "queries.masks" in arrays:
        height, width = facts["padded"]
        queries = Queries(arrays["queries.masks"], arrays["queries.classes"], (height, width))
    return Logits(
        values=arrays["logits"],
        labels=arrays["labels"],
        anomaly=arrays["anomaly"],
        boundary=arrays["boundary"],
        offsets=arrays["offsets"],
        positions=arrays["positions"].astype(np.int64),
        histogram=arrays["histogram"].astype(np.int64),
        image_ids=tuple(facts["image_ids"]),
        facts={key: facts[key] for key in expected},
        queries=queries,
    )


def _differs(facts: Mapping[str, Any], expected: Mapping[str, Any]) -> str | None:
    """The first thing that a header says otherwise, in words."""
    words = {
        "checkpoint": "they are of another checkpoint",
        "data": "they are of other images or masks",
        "fold": "they are of another fold",
        "config_id": "they are of another model",
        "image_ids": "they are of other images",
        "preprocessing": "the images were prepared in another way",
        "sampling": "other pixels were drawn",
    }
    for key, value in expected.items():
        if facts.get(key) != value:
            said = f"{key} is {_short(facts.get(key))}, not {_short(value)}"
            return f"{words[key]}: {said}" if key in words else said
    if facts.get("key") != digest(dict(expected)):
        return "its key does not fit what it says"
    return None


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 60 else f"{text[:57]}…"
