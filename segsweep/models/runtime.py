"""How long a model takes for one image: batch 1, warmed up, synchronised.

A machine has busy moments. So models that are to be compared are timed in turn, A B B A, several
times over; what counts is the least time of all turns, and how far the turns are apart.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

import torch
from torch import nn

WARM_UP = 3
REPEATS = 20
SECONDS = 5.0  # no more repeats are begun after so long; at least ``LEAST`` are made
LEAST = 3
TURNS = 4  # of each model where several are timed in turn
TURN_REPEATS, TURN_SECONDS = 10, 1.0  # of one turn


@dataclass(frozen=True)
class Runtime:
    """Milliseconds an image, and under what they were measured.

    Attributes:
        milliseconds: the median.
        least: the shortest.
        most: the longest.
        repeats: how many were timed, after at most ``WARM_UP`` that were not.
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


@dataclass(frozen=True)
class Turns:
    """Milliseconds an image, over several turns.

    Attributes:
        milliseconds: the least of all images: what else runs can only add to it.
        spread: by how much the least of one turn is above that of another, at the most.
        turns: how many there were.
        repeats: images that were timed in all of them.
        device: the GPU's name, or ``cpu``.
        threads: of torch on the CPU.
        precision: ``fp32``, ``bf16`` or ``fp16``.
    """

    milliseconds: float
    spread: float
    turns: int
    repeats: int
    device: str
    threads: int
    precision: str


def order(names: Sequence[str], turns: int = TURNS) -> list[str]:
    """Each name ``turns`` times, there and back again: A B B A A B B A."""
    there = list(names)
    return [name for turn in range(turns) for name in (there[::-1] if turn % 2 else there)]


def together(turns: Sequence[Runtime]) -> Turns:
    """What the turns of one model on one device say together; there is one at least."""
    least = [turn.least for turn in turns]
    first = turns[0]
    return Turns(
        milliseconds=min(least),
        spread=max(least) - min(least),
        turns=len(turns),
        repeats=sum(turn.repeats for turn in turns),
        device=first.device,
        threads=first.threads,
        precision=first.precision,
    )


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
            began = time.perf_counter()
            for done in range(WARM_UP):
                if done and time.perf_counter() - began > seconds:
                    break
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
