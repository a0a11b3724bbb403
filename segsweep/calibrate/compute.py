"""Logits of a model on a dataset, computed once: from a trial's best checkpoint to their file.

Every image has the same number of pixels drawn, at random from all its pixels, and those that are
void are dropped; so pooled scores are not biased, and models on one dataset share their pixels.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from segsweep import checkpoint
from segsweep.calibrate import logits_file
from segsweep.calibrate.draw import confidence_histogram, drawn
from segsweep.calibrate.logits_file import VALIDATION, Logits, Queries
from segsweep.calibrate.targets import Target
from segsweep.closing import model_of
from segsweep.data.sources.base import IGNORE
from segsweep.engine import MEAN, STD, autocast, device_of, prepare_images, prepare_process
from segsweep.errors import DataError, Problem, SegsweepError, first_line, process_is_broken
from segsweep.metrics.boundary import near_contours
from segsweep.models import weightfile
from segsweep.progress import BEST
from segsweep.trial import directory

Item = tuple[str, int, int, str]  # config id, fold, replicate, dataset


@dataclass(frozen=True)
class Shared:
    """What computing logits needs beside the checkpoint.

    Attributes:
        targets: by name; of ``validation`` a trial's own fold is used.
        assignment: the fold that each image of ``validation`` validates.
        run_directory: absolute path.
        pixels: of an image to keep at most.
        seed: of the draw.
        cpus: threads.
        gpu: share of a GPU; 0 uses the CPU.
    """

    targets: Mapping[str, Target]
    assignment: tuple[int, ...]
    run_directory: str
    pixels: int
    seed: int
    cpus: int
    gpu: float


def path_of(run_directory: str | Path, item: Item) -> Path:
    """Where the logits of a trial on a dataset lie."""
    config_id, fold, replicate, dataset = item
    name = "logits" if dataset == VALIDATION else f"logits.{dataset}"
    return directory(run_directory, config_id, fold, replicate) / f"{name}.safetensors"


def rows_of(shared: Shared, item: Item) -> list[int]:
    """Which images of the dataset a trial is scored on."""
    if item[3] == VALIDATION:
        return [row for row, fold in enumerate(shared.assignment) if fold == item[1]]
    return list(range(len(shared.targets[item[3]].data.image_ids)))


def facts_of(shared: Shared, item: Item, trial: Mapping[str, Any]) -> dict[str, Any]:
    """The header that the logits of a trial on a dataset must have.

    Args:
        shared: data and place.
        item: the trial and the dataset.
        trial: its fully resolved config.

    Raises:
        WeightsError: there is no checkpoint.
    """
    config_id, fold, replicate, dataset = item
    best = directory(shared.run_directory, config_id, fold, replicate) / BEST
    own = {"config_id": config_id, "fold": fold, "replicate": replicate}
    return header(
        shared.targets[dataset],
        rows_of(shared, item),
        checkpoint_hash=weightfile.digest(best),
        precision=trial["train"]["precision"],
        trained_on=trial["dataset"]["image_size"],
        draw=(shared.pixels, shared.seed),
        own=own,
    )


def header(
    target: Target,
    rows: list[int],
    *,
    checkpoint_hash: str,
    precision: str,
    trained_on: list[int],
    draw: tuple[int, int],
    own: Mapping[str, Any],
) -> dict[str, Any]:
    """Everything that logits hang on, as plain values."""
    height, width = target.labels.shape[1:]
    return {
        "version": logits_file.VERSION,
        **own,
        "checkpoint": checkpoint_hash,
        "dataset": target.name,
        "data": target.fingerprint,
        "image_ids": [target.data.image_ids[row] for row in rows],
        "classes": list(target.classes),
        "anomalies": list(target.left_out),
        "preprocessing": {
            "image_size": [height, width],
            "trained_on": list(trained_on),
            "mean": list(MEAN),
            "std": list(STD),
            "precision": precision,
        },
        "sampling": {
            "pixels": min(draw[0], height * width),
            "of": height * width,
            "seed": draw[1],
        },
    }


def ensure(shared: Shared, item: Item) -> dict[str, Any]:
    """Compute the logits of a trial on a dataset, unless they are there and its own.

    Returns:
        ``made``, whether they were computed; or ``error``.
    """
    config_id, fold, replicate, _ = item
    place = directory(shared.run_directory, config_id, fold, replicate)
    try:
        tensors, saved = checkpoint.load(place / BEST)
        expected = facts_of(shared, item, saved["config"])
        path = path_of(shared.run_directory, item)
        if logits_file.mismatch(path, expected) is None:
            return {"made": False}
        device = device_of(shared.gpu)
        prepare_process(0, shared.cpus, device)
        target = shared.targets[item[3]]
        classes = len(shared.targets[VALIDATION].classes)
        model = model_of(tensors, saved, classes, device)
        rows, size = rows_of(shared, item), int(saved["config"]["train"]["batch_size"])
        logits_file.save(path, collect(model, target, rows, expected, device, size))
    except SegsweepError as error:
        return {"error": str(error)}
    except RuntimeError as error:  # such as torch's of memory
        if process_is_broken(error):
            raise
        return {"error": first_line(error)}
    return {"made": True}


def collect(
    model: nn.Module,
    target: Target,
    rows: list[int],
    facts: Mapping[str, Any],
    device: torch.device,
    batch_size: int,
) -> Logits:
    """The logits of the drawn pixels of some images.

    Args:
        model: in any mode, on ``device``.
        target: the images.
        rows: which of them.
        facts: what `header` says.
        device: where to compute.
        batch_size: images a pass, halved for as long as memory does not suffice.

    Raises:
        DataError: a logit is NaN or infinite, or nothing is labelled.
    """
    parts: list[_Part] = []
    for batch, values, raw in predict(
        model, target.data.images, rows, device, facts["preprocessing"]["precision"], batch_size
    ):
        for place, row in enumerate(batch):
            own = None if raw is None else (raw[0][place], raw[1][place])
            parts.append(_part(target, row, values[place], own, facts["sampling"]))
    if not sum(len(part.labels) for part in parts):
        raise DataError(Problem("not one pixel is labelled", f"dataset {target.name}"))
    sizes = [len(part.labels) for part in parts]
    queries = None
    if parts[0].raw is not None:
        kept = [part.raw for part in parts if part.raw is not None]
        height, width = target.labels.shape[1:]
        patch = int(getattr(model, "patch_size", 1))
        padded = (-(-height // patch) * patch, -(-width // patch) * patch)
        queries = Queries(np.stack([m for m, _ in kept]), np.stack([c for _, c in kept]), padded)
    return Logits(
        values=np.concatenate([part.values for part in parts]),
        labels=np.concatenate([part.labels for part in parts]),
        anomaly=np.concatenate([part.anomaly for part in parts]),
        boundary=np.concatenate([part.boundary for part in parts]),
        offsets=np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64),
        positions=np.concatenate([part.positions for part in parts]),
        histogram=np.stack([part.histogram for part in parts]),
        image_ids=tuple(target.data.image_ids[row] for row in rows),
        facts=facts,
        queries=queries,
    )


Raw = tuple[NDArray[np.float32], NDArray[np.float32]]


@torch.inference_mode()
def predict(
    model: nn.Module,
    images: NDArray[np.uint8],
    rows: list[int],
    device: torch.device,
    precision: str,
    batch_size: int,
) -> Iterator[tuple[list[int], torch.Tensor, Raw | None]]:
    """Logits of some images, a batch at a time.

    Yields:
        Rows; their logits (N, C, H, W), float32 on the CPU; of a mask model its mask logits
        (N, Q, h, w) and class logits (N, Q, K + 1), else None.
    """
    model.eval()
    start, size = 0, batch_size
    while start < len(rows):
        batch = rows[start : start + size]
        pixels = torch.from_numpy(images[batch]).permute(0, 3, 1, 2)
        try:
            with autocast(device, precision):
                prepared = prepare_images(pixels, device)
                values, raw = _forward(model, prepared)
        except torch.OutOfMemoryError:
            if size == 1:
                raise
            size //= 2
            continue
        yield batch, values, raw
        start += len(batch)


def _forward(model: nn.Module, images: torch.Tensor) -> tuple[torch.Tensor, Raw | None]:
    if not (hasattr(model, "raw") and hasattr(model, "pixels")):
        return model(images).float().cpu(), None
    mask_model: Any = model
    queries = mask_model.raw(images)
    values: torch.Tensor = mask_model.pixels(queries, (images.shape[-2], images.shape[-1]))
    raw = (queries.masks.float().cpu().numpy(), queries.classes.float().cpu().numpy())
    return values.float().cpu(), raw


@dataclass(frozen=True)
class _Part:
    """The kept pixels of one image."""

    values: NDArray[np.float32]
    labels: NDArray[np.uint8]
    anomaly: NDArray[np.uint8]
    boundary: NDArray[np.bool_]
    positions: NDArray[np.int64]
    histogram: NDArray[np.int64]
    raw: Raw | None


def _part(
    target: Target,
    row: int,
    values: torch.Tensor,
    raw: Raw | None,
    sampling: Mapping[str, int],
) -> _Part:
    name = target.data.image_ids[row]
    bad = int((~torch.isfinite(values)).sum())
    if bad:
        what = f"{bad} of {values.numel()} logits are NaN or infinite"
        hint = "the model has diverged, or overflows in half precision: train it with fp32"
        raise DataError(Problem(what, f"dataset {target.name}, image {name}", hint=hint))
    labels, anomaly = target.labels[row].flatten(), target.anomaly[row].flatten()
    chosen = drawn(target.fingerprint, name, sampling)
    chosen = chosen[(labels[chosen] != IGNORE) | (anomaly[chosen] != IGNORE)]
    near = near_contours(torch.from_numpy(labels).view(1, *values.shape[1:]), ignore=IGNORE)
    flat = values.flatten(1)
    return _Part(
        values=np.ascontiguousarray(flat[:, chosen].T.numpy()),
        labels=labels[chosen],
        anomaly=anomaly[chosen],
        boundary=near.numpy().ravel()[chosen],
        positions=chosen,
        histogram=confidence_histogram(flat, labels),
        raw=raw,
    )
