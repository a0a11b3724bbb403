"""One epoch of training, one pass of evaluation: no files, no logging, no Ray."""

from __future__ import annotations

import contextlib
import gc
import math
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from segsweep.batches import part_count
from segsweep.data.loader import Batch
from segsweep.errors import Diverged
from segsweep.losses import IGNORE
from segsweep.metrics import Tally

# ImageNet's channel statistics, which pretrained encoders expect; of values in [0, 1]
MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)
AUTOCAST = {"bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass(frozen=True)
class Evaluation:
    """One pass over a split.

    Attributes:
        loss: the mean over images of each one's own loss; images without a labelled pixel have
            none. It does not depend on the batches.
        matrix: (N, K, K) int64 confusion matrices, rows are the truth.
        indices: (N,) which image each is.
        predictions: (M, H, W) uint8 classes of the images that were asked for.
        extras: the scores that were asked for beyond those of the matrix.
        errors: how far at most each of those is off, see ``Tally``.
    """

    loss: float
    matrix: NDArray[np.int64]
    indices: NDArray[np.int64]
    predictions: NDArray[np.uint8]
    extras: dict[str, float | None] = field(default_factory=dict)
    errors: dict[str, float] = field(default_factory=dict)


def device_facts() -> dict[str, Any]:
    """What this process can train on: ``device`` name, ``type``, and the best ``precision``."""
    if not torch.cuda.is_available():
        return {"device": "cpu", "type": "cpu", "precision": "fp32"}
    precision = "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp16"
    return {"device": torch.cuda.get_device_name(), "type": "cuda", "precision": precision}


def device_of(gpu: float) -> torch.device:
    """Where to compute with such a share of a GPU; 0 is the CPU, whatever else is there."""
    return torch.device("cuda" if gpu else "cpu")


def prepare_process(seed: int, threads: int, device: torch.device) -> None:
    """Put everything that a trial before might have changed into a known state."""
    import cv2

    if device.type == "cuda":  # a trial that ran out of memory has left its own behind
        gc.collect()
        torch.cuda.empty_cache()
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.set_num_threads(threads)
    cv2.setNumThreads(1)
    torch.set_default_dtype(torch.float32)
    torch.backends.cudnn.benchmark = False
    torch.backends.cudnn.deterministic = True
    # a few CUDA kernels have no deterministic twin: those warn; on the CPU it would only cost
    torch.use_deterministic_algorithms(device.type == "cuda", warn_only=True)
    torch.manual_seed(seed)


def prepare_model(model: nn.Module, device: torch.device) -> nn.Module:
    """Move a model to its device, in the memory format that is fastest there."""
    return model.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload, no-any-return]


def prepare_images(images: torch.Tensor, device: torch.device) -> torch.Tensor:
    """uint8 (N, 3, H, W) in [0, 255] → float32, normalised, on the device, channels last."""
    mean = torch.tensor(MEAN, device=device).view(1, 3, 1, 1) * 255
    std = torch.tensor(STD, device=device).view(1, 3, 1, 1) * 255
    moved = images.to(device, non_blocking=True).float()
    return ((moved - mean) / std).contiguous(memory_format=torch.channels_last)


def classify(logits: torch.Tensor) -> torch.Tensor:
    """(N, C, H, W) logits → (N, H, W) classes; one channel is a binary head with logits (0, z)."""
    if logits.shape[1] == 1:
        return (logits[:, 0] > 0).long()
    return logits.argmax(dim=1)


def autocast(device: torch.device, precision: str) -> contextlib.AbstractContextManager[Any]:
    """Mixed precision where ``precision`` is a half type; nothing for fp32."""
    dtype = AUTOCAST.get(precision)
    if dtype is None:
        return contextlib.nullcontext()
    return torch.autocast(device.type, dtype=dtype)


def train_epoch(
    model: nn.Module,
    batches: Iterable[Batch],
    loss: nn.Module,
    optimizer: torch.optim.Optimizer,
    *,
    device: torch.device,
    precision: str = "fp32",
    scaler: torch.amp.GradScaler | None = None,
    grad_clip: float | None = None,
    micro_batch: int | None = None,
) -> tuple[float, int]:
    """Train on every batch once.

    Args:
        micro_batch: at most so many images a pass; the gradients of a batch's passes are summed,
            so that a step still is one of the whole batch. None takes a batch at once. Batch
            normalisation, losses over a whole batch (Dice) and weighted means of classes see the
            smaller one.
        precision: ``fp32``, ``bf16`` or ``fp16`` (which needs ``scaler``).
        grad_clip: largest norm of the gradient.

    Returns:
        Mean loss over images, and the number of images.

    Raises:
        Diverged: the loss is not finite.
    """
    model.train()
    scaler = scaler or torch.amp.GradScaler(device.type, enabled=False)
    total = torch.zeros((), device=device)
    images = 0
    for batch in batches:
        optimizer.zero_grad(set_to_none=True)
        for part, share in passes(batch, micro_batch):
            target = part.masks.to(device, non_blocking=True).long()
            with autocast(device, precision):
                value = loss(model(prepare_images(part.images, device)), target) * share
            scaler.scale(value).backward()
            total += value.detach() * len(batch.masks)
        if grad_clip is not None:
            scaler.unscale_(optimizer)
            nn.utils.clip_grad_norm_(model.parameters(), grad_clip)
        scaler.step(optimizer)
        scaler.update()
        images += len(batch.masks)
    mean = float(total) / max(images, 1)
    if not math.isfinite(mean):
        raise Diverged(f"the training loss is {mean}")
    return mean, images


def passes(batch: Batch, micro_batch: int | None) -> list[tuple[Batch, float]]:
    """A batch in parts of nearly equal size, each with its share of the batch's loss.

    The share is that of the labelled pixels, so that a loss that is a mean over pixels has the
    very gradient of the whole batch. How many parts there are, ``batches.part_count`` says.
    """
    size = len(batch.masks)
    count = part_count(size, micro_batch)
    if count == 1:
        return [(batch, 1.0)]
    parts = [
        Batch(*part)
        for part in zip(
            batch.images.tensor_split(count),
            batch.masks.tensor_split(count),
            np.array_split(batch.indices, count),
            strict=True,
        )
    ]
    labelled = [int((part.masks != IGNORE).sum()) for part in parts]
    whole = sum(labelled)
    return [
        (part, own / whole if whole else len(part.masks) / size)
        for part, own in zip(parts, labelled, strict=True)
    ]


def image_losses(loss: nn.Module, logits: torch.Tensor, target: torch.Tensor) -> list[torch.Tensor]:
    """The loss of each image by itself, as a float32 scalar.

    A loss of a whole batch (Dice, a weighted mean) depends on the images that it happens to hold;
    this one does not, so that it compares configs of any batch size.

    Args:
        loss: (1, C, H, W) logits and (1, H, W) labels → scalar.
        logits: (N, C, H, W).
        target: (N, H, W) classes, 255 where a pixel does not count.

    Returns:
        One for each image that has a labelled pixel.
    """
    labelled = (target != IGNORE).flatten(1).any(dim=1).tolist()
    return [
        loss(logits[row : row + 1], target[row : row + 1]).float()
        for row, known in enumerate(labelled)
        if known
    ]


@torch.inference_mode()
def evaluate(
    model: nn.Module,
    batches: Iterable[Batch],
    loss: nn.Module,
    *,
    classes: int,
    device: torch.device,
    precision: str = "fp32",
    keep: Sequence[int] = (),
    extra: Sequence[str] = (),
) -> Evaluation:
    """Score a model on every batch.

    Args:
        classes: of the data set.
        keep: indices of the images whose predictions are wanted.
        extra: scores to compute beyond those of the matrix (``metrics.extra_names``).

    Raises:
        Diverged: a logit is not finite.
    """
    model.eval()
    losses: list[torch.Tensor] = []
    tally, indices = Tally(classes, extra), []
    kept: dict[int, NDArray[np.uint8]] = {}
    for batch in batches:
        target = batch.masks.to(device, non_blocking=True).long()
        with autocast(device, precision):
            logits = model(prepare_images(batch.images, device))
        losses += image_losses(loss, logits, target)
        prediction = classify(logits)
        tally.update(logits, prediction, target)
        indices.append(batch.indices)
        for row, index in enumerate(batch.indices.tolist()):
            if index in keep:
                kept[index] = prediction[row].to(torch.uint8).cpu().numpy()
    matrix = tally.matrix()
    mean = float(torch.stack(losses).double().mean()) if losses else 0.0
    if not math.isfinite(mean):
        raise Diverged(f"the validation loss is {mean}")
    shape = (0, *batch.masks.shape[1:])
    predictions = np.stack([kept[i] for i in keep]) if keep else np.zeros(shape, np.uint8)
    seen, extras = np.concatenate(indices), tally.extras()
    return Evaluation(mean, matrix, seen, predictions, extras, tally.errors)
