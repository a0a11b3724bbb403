"""Colours of classes, and masks painted over images in them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segsweep.data import sources
from segsweep.data.leave_out import kept
from segsweep.data.sources.base import Palette

BACKGROUND = "background"  # a class of this name is not painted over its image
STRENGTH = 0.5
GAP = 4  # pixels between the parts of a panel


def default(classes: Sequence[str]) -> Palette:
    """Colours that differ for up to 255 classes, always the same for the same number.

    Those of PASCAL VOC: the bits of a class's number, from the lowest, are dealt to red, green and
    blue in turn, as these colours' bits from the highest (Everingham et al., VOC2012 development
    kit). Black, VOC's first, is for a first class called background alone.
    """
    first = 0 if classes and classes[0] == BACKGROUND else 1
    return tuple(_voc(number) for number in range(first, first + len(classes)))


def _voc(number: int) -> tuple[int, int, int]:
    colour = [0, 0, 0]
    for place in range(8):
        for channel in range(3):
            bit = number >> (3 * place + channel) & 1
            colour[channel] |= bit << (7 - place)
    return colour[0], colour[1], colour[2]


def of(name: str, options: Mapping[str, Any], leave_out: Sequence[str] = ()) -> dict[str, str]:
    """Class → colour as ``#804080``, of a sweep's data without its files.

    The dataset's own colours, where its source has them.

    Args:
        name: of the source.
        options: its own.
        leave_out: classes that models do not know; the others keep their colours.
    """
    source = sources.build(name, root=None, options=options)
    colours = source.palette or default(source.classes)
    own = dict(zip(source.classes, colours, strict=True))
    return {one: text(own[one]) for one in kept(source.classes, leave_out)}


def text(colour: Sequence[int]) -> str:
    """(128, 64, 128) → ``#804080``."""
    return "#{:02x}{:02x}{:02x}".format(*colour)


def rgb(colour: str) -> tuple[int, int, int]:
    """``#804080`` → (128, 64, 128)."""
    red, green, blue = bytes.fromhex(colour.removeprefix("#"))
    return red, green, blue


def paint(
    image: NDArray[np.uint8], labels: NDArray[np.uint8], colours: Mapping[str, str]
) -> NDArray[np.uint8]:
    """Labels in their colours over an image, half transparent.

    Args:
        image: (H, W, 3) RGB.
        labels: (H, W); what is no class, as ignored pixels are, and background leave the image.
        colours: class → colour, in the order of the labels.

    Returns:
        (H, W, 3) RGB.
    """
    table = np.zeros((256, 3), np.float32)
    strength = np.zeros((256, 1), np.float32)
    for label, (name, colour) in enumerate(colours.items()):
        table[label] = rgb(colour)
        strength[label] = 0.0 if name == BACKGROUND else STRENGTH
    over = strength[labels]
    return np.asarray(np.rint((1 - over) * image + over * table[labels]), np.uint8)


def panel(
    image: NDArray[np.uint8],
    truth: NDArray[np.uint8],
    prediction: NDArray[np.uint8],
    colours: Mapping[str, str],
) -> NDArray[np.uint8]:
    """Image, truth and prediction side by side, (H, 3 W + 2 GAP, 3) RGB, white between them."""
    white = np.full((image.shape[0], GAP, 3), 255, np.uint8)
    parts = (image, white, paint(image, truth, colours), white, paint(image, prediction, colours))
    return np.concatenate(parts, axis=1)
