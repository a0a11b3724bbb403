"""Whether a model works at an image size, evaluated and trained: by trying it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import nn

from segsweep.errors import Problem

_STRIDE = 32
MOST = 2  # images that are tried in training, where fewer do not go through


@dataclass(frozen=True)
class Tried:
    """What has come of trying a model at an image size.

    Attributes:
        problems: why it cannot be used.
        least: images that a training step needs: 1, or 2 where batch normalisation has but one
            value a channel at the deepest level.
        why: what fewer images end with; empty where ``least`` is 1.
        larger: a larger image size at which one image would do; None where none was found.
    """

    problems: Sequence[Problem]
    least: int = 1
    why: str = ""
    larger: tuple[int, int] | None = None


def try_out(model: nn.Module, name: str, *, channels: int, image_size: tuple[int, int]) -> Tried:
    """Run a model as evaluation and as training will.

    Args:
        model: on the CPU.
        name: the model's title, for messages.
        channels: the number of output channels it must have.
        image_size: height and width in pixels.
    """
    found = size_problems(model, name, channels=channels, image_size=image_size)
    if found:
        return Tried(found)
    errors = []
    for least in range(1, MOST + 1):
        error = _train(model, least, image_size)
        if not error:
            height, width = (2 * side for side in image_size)
            better = least > 1 and not _train(model, 1, (height, width))
            return Tried([], least, next(iter(errors), ""), (height, width) if better else None)
        errors.append(error)
    height, width = image_size
    what = f"{name}: {MOST} images of {height}×{width} do not go through in training: {error}"
    return Tried([Problem(what, hint="choose another model or image size")])


def _train(model: nn.Module, images: int, image_size: tuple[int, int]) -> str:
    """What a forward pass in training mode ends with, or an empty string."""
    try:
        with torch.no_grad():
            model.train()(torch.zeros(images, 3, *image_size))
    except Exception as error:
        return cause(error)
    return ""


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
