"""Whether a model works at an image size: by trying it."""

from __future__ import annotations

import torch
from torch import nn

from segsweep.errors import Problem

_STRIDE = 32


def size_problems(
    model: nn.Module, name: str, *, channels: int, image_size: tuple[int, int]
) -> list[Problem]:
    """Run one image of ``image_size`` through ``model`` in eval mode and look at the result.

    Args:
        model: on the CPU.
        name: the model's title, for the message.
        channels: the number of output channels it must have.
        image_size: height and width in pixels.
    """
    what = _try(model, channels, image_size)
    if not what:
        return []
    return [Problem(f"{name}: {what}", hint=_hint(model, channels, image_size))]


def cause(error: Exception) -> str:
    """An exception's message on one line, at most 300 characters."""
    return " ".join(str(error).split())[:300].rstrip(".") or type(error).__name__


def _try(model: nn.Module, channels: int, image_size: tuple[int, int]) -> str:
    """What goes wrong, or an empty string."""
    height, width = image_size
    try:
        with torch.no_grad():
            output = model.eval()(torch.zeros(1, 3, height, width))
    except Exception as error:
        return f"an image of {height}×{width} does not go through: {cause(error)}"
    if tuple(output.shape) != (1, channels, height, width):
        got = "×".join(str(size) for size in output.shape[-2:])
        return f"an image of {height}×{width} comes out as {got}"
    return ""


def _hint(model: nn.Module, channels: int, image_size: tuple[int, int]) -> str:
    """The nearest size that was tried and works."""
    encoder = getattr(model, "encoder", None)
    for step in dict.fromkeys((getattr(encoder, "output_stride", _STRIDE), _STRIDE)):
        height, width = (max(step, (side + step // 2) // step * step) for side in image_size)
        if (height, width) != tuple(image_size) and not _try(model, channels, (height, width)):
            return f"the nearest size that works is {height}×{width}, both divisible by {step}"
    own = getattr(encoder, "input_size", None)
    if own and not _try(model, channels, (own[1], own[2])):
        return f"this encoder works at its own size alone, {own[1]}×{own[2]}"
    return "choose another encoder or image size"
