"""How long a model takes for one image: batch 1, warmed up, synchronised, median."""

from __future__ import annotations

import time
from dataclasses import dataclass
from statistics import median

import torch
from torch import nn

WARM_UP = 3
REPEATS = 20
SECONDS = 5.0  # no more repeats are begun after so long; at least ``LEAST`` are made
LEAST = 3


@dataclass(frozen=True)
class Runtime:
    """Milliseconds an image, and under what they were measured.

    Attributes:
        milliseconds: the median.
        least: the shortest.
        most: the longest.
        repeats: how many were timed, after ``WARM_UP`` that were not.
        device: the GPU's name, or ``cpu``.
        threads: of torch on the CPU.
        precision: ``fp32``, ``bf16`` or ``fp16``.
        height: of the image, in pixels.
        width: of the image, in pixels.
    """

    milliseconds: float
    least: float
    most: float
    repeats: int
    device: str
    threads: int
    precision: str
    height: int
    width: int


@torch.inference_mode()
def measure(
    model: nn.Module,
    image_size: tuple[int, int],
    *,
    device: torch.device,
    precision: str = "fp32",
    repeats: int = REPEATS,
    seconds: float = SECONDS,
) -> Runtime:
    """Time a model in evaluation mode, from an image on the device to its logits there.

    Neither decoding nor the way to the device counts. A GPU is waited for before and after each
    image. The model's mode, training or evaluation, is as before afterwards.

    Args:
        model: on ``device``.
        image_size: height and width in pixels.
        device: where the model lies.
        precision: ``fp32``, or a half type for mixed precision.
        repeats: how many to time at most.
        seconds: after which no more are begun.
    """
    training = model.training
    model.eval()
    images = torch.zeros(1, 3, *image_size, device=device)
    images = images.contiguous(memory_format=torch.channels_last)
    half = {"bf16": torch.bfloat16, "fp16": torch.float16}.get(precision)
    found: list[float] = []
    try:
        with torch.autocast(device.type, dtype=half, enabled=half is not None):
            for _ in range(WARM_UP):
                model(images)
            began = time.perf_counter()
            while len(found) < repeats:
                if len(found) >= LEAST and time.perf_counter() - began > seconds:
                    break
                found.append(_once(model, images, device))
    finally:
        model.train(training)
    return Runtime(
        milliseconds=median(found),
        least=min(found),
        most=max(found),
        repeats=len(found),
        device=torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu",
        threads=torch.get_num_threads(),
        precision=precision,
        height=image_size[0],
        width=image_size[1],
    )


def _once(model: nn.Module, images: torch.Tensor, device: torch.device) -> float:
    """Milliseconds of one image."""
    _wait(device)
    began = time.perf_counter()
    model(images)
    _wait(device)
    return 1000 * (time.perf_counter() - began)


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
