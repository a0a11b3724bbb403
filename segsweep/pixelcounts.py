"""Pixel counts of every image of a trial: reading them, and as rows of the results."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open

from segsweep import checksum

Row = dict[str, Any]


def fold_name(trial: Row) -> str:
    """A trial's folder inside its config's."""
    replicate = f"-r{trial['replicate']}" if trial["replicate"] else ""
    return f"fold{trial['fold']}{replicate}"


def path_of(run_directory: Path, trial: Row, split: str) -> Path:
    """Where the pixel counts of a trial's images lie, ``validation`` or ``holdout``."""
    name = {"validation": "evidence", "holdout": "holdout"}[split]
    place = run_directory / "trials" / str(trial["config_id"]) / fold_name(trial)
    return place / f"{name}.safetensors"


def rows(run_directory: Path, trials: Sequence[Row]) -> tuple[list[Row], list[Row], list[str]]:
    """Rows of images and of pixels, and what is damaged."""
    images: list[Row] = []
    damaged: list[str] = []
    gone: list[Path] = []
    confusion: list[Row] = []
    for trial in trials:
        for split in ("validation", "holdout"):
            path = path_of(run_directory, trial, split)
            evidence = read(path)
            if evidence is None and path.exists():
                damaged.append(f"{path} is damaged: its images are missing from the results")
            elif evidence is None and _due(trial, split):
                gone.append(path)
            if evidence is not None:
                images += _image_rows(trial["trial_id"], split, *evidence)
                confusion += _confusion_rows(trial["trial_id"], split, *evidence)
    if gone:
        which = str(gone[0]) if len(gone) == 1 else f"{len(gone)} files, such as {gone[0]},"
        verb, own = ("is", "its") if len(gone) == 1 else ("are", "their")
        damaged.append(f"{which} {verb} not there: {own} images are missing from the results")
    return images, confusion, damaged


def _due(trial: Row, split: str) -> bool:
    """Has the trial left counts of this split?"""
    if split == "holdout":
        return trial.get("holdout_loss") is not None
    return bool(trial["status"] == "finished")


def read(path: Path, name: str = "matrix") -> tuple[NDArray[np.int64], dict[str, Any]] | None:
    """One array of an evidence file and its facts; None where there are none.

    The default are the (N, K, K) confusion matrices of a split.
    """
    try:
        checksum.verify(path)
        with safe_open(path, framework="numpy") as file:
            facts = json.loads(file.metadata()["segsweep"])
            return file.get_tensor(name), facts
    except (OSError, SafetensorError, KeyError, ValueError):
        return None


def _image_rows(
    trial_id: str, split: str, matrix: NDArray[np.int64], facts: dict[str, Any]
) -> Iterator[Row]:
    classes = facts["classes"]
    scored = [1] if len(classes) == 2 else range(len(classes))
    for image_id, counts in zip(facts["image_ids"], matrix, strict=True):
        for label in scored:
            tp = int(counts[label, label])
            yield {
                "trial_id": trial_id,
                "split": split,
                "image_id": image_id,
                "class": classes[label],
                "tp": tp,
                "fp": int(counts[:, label].sum()) - tp,
                "fn": int(counts[label, :].sum()) - tp,
                "valid": int(counts.sum()),
            }


def _confusion_rows(
    trial_id: str, split: str, matrix: NDArray[np.int64], facts: dict[str, Any]
) -> Iterator[Row]:
    classes = facts["classes"]
    pooled = matrix.sum(axis=0)
    for i, truth in enumerate(classes):
        for j, predicted in enumerate(classes):
            yield {
                "trial_id": trial_id,
                "split": split,
                "truth": truth,
                "predicted": predicted,
                "pixels": int(pooled[i, j]),
            }
