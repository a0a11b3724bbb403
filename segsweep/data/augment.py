"""Random changes to training images: four presets over albumentations, reproducible by position.

What an image becomes depends on (seed, epoch, index) alone: not on the order of calls, on
threads, or on whether the trial was resumed. Pixels that a rotation or shift brings in from
outside are black in the image and IGNORE in the mask, so that no loss and no metric counts
them; mirrored lesions would count. Masks are sampled nearest. There are no vertical flips and
no large rotations: the presets serve street scenes as well as skin.
"""

from __future__ import annotations

import importlib
import os
import random
import threading
from collections.abc import Callable
from functools import cache
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from segsweep.data.sources.base import IGNORE
from segsweep.registry import lookup

_SWITCH = "NO_ALBUMENTATIONS_UPDATE"


@cache
def _library() -> Any:
    """Albumentations, imported without its look for a newer version on the network."""
    before = os.environ.get(_SWITCH)
    os.environ[_SWITCH] = "1"
    try:
        return importlib.import_module("albumentations")
    finally:
        if before is None:
            del os.environ[_SWITCH]
        else:
            os.environ[_SWITCH] = before


def _none(size: tuple[int, int]) -> list[Any]:  # noqa: ARG001 (all presets take one)
    return []


def _light(size: tuple[int, int]) -> list[Any]:  # noqa: ARG001
    lib = _library()
    return [
        lib.HorizontalFlip(p=0.5),
        lib.RandomBrightnessContrast(brightness_limit=0.1, contrast_limit=0.1, p=0.5),
    ]


def _medium(size: tuple[int, int]) -> list[Any]:  # noqa: ARG001
    lib = _library()
    return [
        lib.HorizontalFlip(p=0.5),
        _affine(scale=0.10, shift=0.06, rotate=15, shear=0, p=0.7),
        lib.RandomBrightnessContrast(brightness_limit=0.2, contrast_limit=0.2, p=0.5),
        lib.HueSaturationValue(hue_shift_limit=5, sat_shift_limit=15, val_shift_limit=10, p=0.3),
    ]


def _strong(size: tuple[int, int]) -> list[Any]:
    lib = _library()
    hole = (max(1, min(size) // 16), max(2, min(size) // 6))
    return [
        lib.HorizontalFlip(p=0.5),
        _affine(scale=0.25, shift=0.12, rotate=30, shear=8, p=0.9),
        lib.RandomBrightnessContrast(brightness_limit=0.3, contrast_limit=0.3, p=0.7),
        lib.HueSaturationValue(hue_shift_limit=10, sat_shift_limit=25, val_shift_limit=15, p=0.5),
        lib.GaussianBlur(blur_limit=(3, 5), p=0.2),
        lib.GaussNoise(std_range=(0.01, 0.05), p=0.2),
        # the label under a hole stays: the model must tell it from the surroundings
        lib.CoarseDropout(
            num_holes_range=(1, 4), hole_height_range=hole, hole_width_range=hole, fill=0, p=0.3
        ),
    ]


def _affine(*, scale: float, shift: float, rotate: float, shear: float, p: float) -> Any:
    return _library().Affine(
        scale=(1 - scale, 1 + scale),
        translate_percent=(-shift, shift),
        rotate=(-rotate, rotate),
        shear=(-shear, shear),
        interpolation=cv2.INTER_LINEAR,
        mask_interpolation=cv2.INTER_NEAREST,
        border_mode=cv2.BORDER_CONSTANT,
        fill=0,
        fill_mask=IGNORE,
        p=p,
    )


PRESETS: dict[str, Callable[[tuple[int, int]], list[Any]]] = {
    "none": _none,
    "light": _light,
    "medium": _medium,
    "strong": _strong,
}


class Augmenter:
    """A preset for one image size.

    Args:
        preset: a key of `PRESETS`.
        image_size: height and width in pixels.
        seed: at least 0.

    Raises:
        UnknownName: there is no such preset.
    """

    def __init__(self, preset: str, image_size: tuple[int, int], seed: int) -> None:
        self._transforms = lookup(PRESETS, preset, "augmentation")
        self._identity = self._transforms is _none
        self._size = image_size
        self._seed = seed
        self._local = threading.local()  # a Compose keeps the state of its last call

    def __call__(
        self, image: NDArray[np.uint8], mask: NDArray[np.uint8], *, epoch: int, index: int
    ) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        """One image as it is seen in one epoch; safe to call from several threads.

        Args:
            image: (H, W, 3).
            mask: (H, W).
            epoch: the epoch.
            index: the image's position in its `ImageSet`.

        Returns:
            Image and mask of the same shapes; the arguments themselves where nothing changes.
        """
        if self._identity:
            return image, mask
        compose = self._compose()
        # one generator for all transforms: set_random_seed would seed two for each
        generator = np.random.default_rng((self._seed, epoch, index))
        compose.set_random_state(generator, random.Random(int(generator.integers(2**63))))  # noqa: S311
        changed = compose(image=image, mask=mask)
        return np.ascontiguousarray(changed["image"]), np.ascontiguousarray(changed["mask"])

    def _compose(self) -> Any:
        compose = getattr(self._local, "compose", None)
        if compose is None:
            compose = self._local.compose = _library().Compose(self._transforms(self._size))
        return compose

    def __getstate__(self) -> dict[str, Any]:
        return {key: value for key, value in self.__dict__.items() if key != "_local"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._local = threading.local()
