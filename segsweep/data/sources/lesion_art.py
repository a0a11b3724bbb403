"""How a generated lesion image is drawn: skin, lesion, its outline, and what lies over it.

All drawing is in float32 RGB from 0 to 1 at the native size. What makes it hard is taken from
real dermoscopy: fuzzy borders, low contrast, hairs, bubbles, pen marks, dark corners, freckles
and reddish patches that are no lesion, and annotators who do not agree on the border.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class _Look:
    """Ranges that a diagnosis draws from: outline, contrast and colour."""

    rough: tuple[float, float]
    stretch: tuple[float, float]
    contrast: tuple[float, float]
    variegation: tuple[float, float]
    radius: tuple[float, float]


LOOKS = {
    "common": _Look((0.02, 0.10), (0.0, 0.25), (0.22, 0.50), (0.05, 0.30), (0.20, 0.36)),
    "atypical": _Look((0.06, 0.18), (0.1, 0.40), (0.14, 0.45), (0.20, 0.60), (0.22, 0.46)),
    "melanoma": _Look((0.10, 0.28), (0.1, 0.50), (0.20, 0.60), (0.50, 1.00), (0.32, 0.60)),
}
_PALE, _DARK = (0.93, 0.77, 0.70), (0.74, 0.54, 0.43)
_BROWN, _BLUE_GREY, _RED = (0.42, 0.24, 0.16), (0.36, 0.38, 0.46), (0.72, 0.36, 0.32)


def draw(
    rng: np.random.Generator, size: tuple[int, int], diagnosis: str, tone: float
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Draws one image.

    Args:
        rng: the image's own generator.
        size: height and width in pixels.
        diagnosis: a key of `LOOKS`.
        tone: the patient's skin from 0 (pale) to 1 (dark).

    Returns:
        RGB (H, W, 3) and labels (H, W): 0 skin, 1 lesion.
    """
    look = LOOKS[diagnosis]
    image = _skin(rng, size, tone)
    for _ in range(int(rng.integers(0, 4))):
        image = _patch(rng, image)
    distance = _outline(rng, size, look)
    image = _lesion(rng, image, distance, look)
    for _ in range(int(rng.integers(0, 9))):
        image = _spot(rng, image)
    image = _overlays(rng, image)
    image = _camera(rng, image)
    # the annotator's line: off by a constant and by a slow drift
    drift = rng.normal(0, 1.2) + 1.6 * _noise(rng, size, 24)
    mask = _largest((distance + drift < 0).astype(np.uint8))
    return np.asarray(np.clip(image, 0, 1) * 255 + 0.5, dtype=np.uint8), mask


def _largest(mask: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The largest connected part: annotators draw one outline."""
    _, parts, stats, _ = cv2.connectedComponentsWithStats(mask)
    areas = stats[1:, cv2.CC_STAT_AREA]
    return (parts == 1 + int(areas.argmax())).astype(np.uint8) if len(areas) else mask


def _noise(rng: np.random.Generator, size: tuple[int, int], scale: float) -> Floats:
    """Smooth noise with features of about ``scale`` pixels, mean 0, standard deviation 1."""
    if scale < 8:  # a stretched grid would show
        white = rng.standard_normal(size).astype(np.float32)
        fine = cv2.GaussianBlur(white, (0, 0), scale / 3)
    else:
        height, width = (max(2, round(side / scale) + 2) for side in size)
        coarse = rng.standard_normal((height, width)).astype(np.float32)
        fine = cv2.resize(coarse, (size[1], size[0]), interpolation=cv2.INTER_CUBIC)
    return np.asarray((fine - fine.mean()) / (fine.std() + 1e-6), dtype=np.float32)


def _mix(image: Floats, colour: Any, alpha: Any) -> Floats:
    weight = np.asarray(alpha, np.float32)[..., None]
    return np.asarray(image * (1 - weight) + np.asarray(colour, np.float32) * weight, np.float32)


def _skin(rng: np.random.Generator, size: tuple[int, int], tone: float) -> Floats:
    base = np.asarray(_PALE) * (1 - tone) + np.asarray(_DARK) * tone + rng.normal(0, 0.025, 3)
    shade = (
        0.020 * _noise(rng, size, 60) + 0.016 * _noise(rng, size, 9) + 0.012 * _noise(rng, size, 3)
    )
    image = base.astype(np.float32) * (1 + shade[..., None])
    redness = 0.018 * _noise(rng, size, 40)
    return np.asarray(image + redness[..., None] * np.asarray((1, -0.7, -0.5)), np.float32)


def _outline(rng: np.random.Generator, size: tuple[int, int], look: _Look) -> Floats:
    """Signed distance to the lesion's border in pixels, about; negative inside."""
    height, width = size
    radius = rng.uniform(*look.radius) * height
    reach = 0.42 if rng.random() < 0.2 else 0.14  # some touch the image's border
    centre_y = height * (0.5 + rng.uniform(-reach, reach))
    centre_x = width * (0.5 + rng.uniform(-reach, reach))
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    warp = 0.7 * look.rough[0] * radius
    y, x = y - centre_y + warp * _noise(rng, size, 14), x - centre_x + warp * _noise(rng, size, 14)
    angle = np.arctan2(y, x)
    turn, stretch = rng.uniform(0, np.pi), rng.uniform(*look.stretch)
    border = 1 + 0.5 * stretch * np.cos(2 * (angle - turn))
    rough = rng.uniform(*look.rough)
    for order in range(2, 10):
        height_of_wave = rough * rng.normal() / order**0.8
        border += height_of_wave * np.cos(order * angle + rng.uniform(0, 2 * np.pi))
    return np.asarray(np.hypot(y, x) - radius * np.clip(border, 0.25, None), np.float32)


def _lesion(rng: np.random.Generator, image: Floats, distance: Floats, look: _Look) -> Floats:
    size = (image.shape[0], image.shape[1])
    contrast = rng.uniform(*look.contrast)
    if rng.random() < 0.25:
        contrast = rng.uniform(0.09, 0.17)
    sharp = np.exp(rng.uniform(np.log(1.0), np.log(7.0)))
    fuzz = sharp * np.exp(0.5 * _noise(rng, size, 50))  # sharp on one side, fading on another
    alpha = 1 / (1 + np.exp(np.clip(distance / fuzz, -30, 30)))
    colour = np.broadcast_to(np.asarray(_BROWN, np.float32), image.shape)
    variegation = rng.uniform(*look.variegation)
    for tint, scale in ((_RED, 26), (_BLUE_GREY, 20), ((0.16, 0.10, 0.09), 14)):
        spread = np.clip(0.6 * _noise(rng, size, scale) - 0.2, 0, 0.75) * variegation
        colour = _mix(np.asarray(colour), tint, spread.astype(np.float32))
    density = 1 + 0.25 * variegation * _noise(rng, size, 18) + 0.08 * _noise(rng, size, 5)
    strength = np.clip(1.7 * contrast * density, 0, 0.95)
    if (
        rng.random() < 0.3 * variegation
    ):  # regression: a pale area inside that is lesion all the same
        strength = strength * (1 - 0.85 * np.clip(_noise(rng, size, 22) - 0.2, 0, 1))
    return _mix(image, colour, np.asarray(alpha * strength, np.float32))


def _blob(rng: np.random.Generator, size: tuple[int, int], radius: float, fuzz: float) -> Floats:
    centre_y, centre_x = rng.uniform(0, size[0]), rng.uniform(0, size[1])
    y, x = np.mgrid[0 : size[0], 0 : size[1]].astype(np.float32)
    distance = np.hypot(y - centre_y, (x - centre_x) * rng.uniform(0.7, 1.4))
    distance += 0.2 * radius * _noise(rng, size, max(3.0, radius))
    return np.asarray(1 / (1 + np.exp(np.clip((distance - radius) / fuzz, -30, 30))), np.float32)


def _patch(rng: np.random.Generator, image: Floats) -> Floats:
    """A reddish or tanned area that is no lesion."""
    size = (image.shape[0], image.shape[1])
    alpha = _blob(rng, size, rng.uniform(14, 48), rng.uniform(6, 16)) * rng.uniform(0.06, 0.26)
    return _mix(image, _RED if rng.random() < 0.6 else _BROWN, alpha)


def _spot(rng: np.random.Generator, image: Floats) -> Floats:
    """A freckle, too small to be labelled."""
    size = (image.shape[0], image.shape[1])
    alpha = _blob(rng, size, rng.uniform(1.5, 6.5), rng.uniform(0.6, 1.6)) * rng.uniform(0.15, 0.6)
    return _mix(image, _BROWN, alpha)


def _overlays(rng: np.random.Generator, image: Floats) -> Floats:
    """Hairs, bubbles, ruler ticks and pen marks."""
    if rng.random() < 0.5:
        dark = rng.uniform(0.05, 0.30)
        image = _strokes(rng, image, int(rng.integers(3, 26)), (dark * 1.2, dark, dark * 0.8))
    if rng.random() < 0.12:
        image = _strokes(rng, image, int(rng.integers(3, 12)), (0.93, 0.91, 0.86))
    if rng.random() < 0.3:
        image = _bubbles(rng, image)
    if rng.random() < 0.15:
        image = _ruler(rng, image)
    if rng.random() < 0.12:
        image = _pen(rng, image)
    return image


def _strokes(
    rng: np.random.Generator, image: Floats, count: int, colour: tuple[float, float, float]
) -> Floats:
    height, width = image.shape[:2]
    canvas = np.zeros((height, width), np.uint8)
    lean = rng.uniform(0, np.pi)
    time = np.linspace(0, 1, 24)[:, None]
    for _ in range(count):
        start = rng.uniform((-20, -20), (width + 20, height + 20))
        direction = lean + rng.normal(0, 0.5)
        step = rng.uniform(40, 200) * np.asarray((np.cos(direction), np.sin(direction)))
        bend = start + step / 2 + rng.normal(0, 22, 2)
        curve = (1 - time) ** 2 * start + 2 * time * (1 - time) * bend + time**2 * (start + step)
        points = np.round(curve * 8).astype(np.int32).reshape(-1, 1, 2)
        shade = int(rng.integers(150, 256))
        cv2.polylines(canvas, [points], False, shade, int(rng.integers(1, 3)), cv2.LINE_AA, 3)
    alpha = cv2.GaussianBlur(canvas.astype(np.float32) / 255, (0, 0), 0.6)
    return _mix(image, colour, np.asarray(alpha, np.float32))


def _bubbles(rng: np.random.Generator, image: Floats) -> Floats:
    height, width = image.shape[:2]
    rim, inside = np.zeros((height, width), np.uint8), np.zeros((height, width), np.uint8)
    for _ in range(int(rng.integers(1, 9))):
        centre = (int(rng.integers(0, width)), int(rng.integers(0, height)))
        radius = int(rng.integers(2, 13))
        cv2.circle(inside, centre, radius, 60, -1, cv2.LINE_AA)
        cv2.circle(rim, centre, radius, 190, 1, cv2.LINE_AA)
    image = _mix(image, (1, 0.98, 0.96), (inside.astype(np.float32) / 255) * 0.5)
    return _mix(image, (1, 0.99, 0.97), cv2.GaussianBlur(rim.astype(np.float32) / 255, (0, 0), 0.7))


def _ruler(rng: np.random.Generator, image: Floats) -> Floats:
    height, width = image.shape[:2]
    canvas = np.zeros((height, width), np.uint8)
    gap = int(rng.integers(6, 14))
    for place, x in enumerate(range(int(rng.integers(0, gap)), width, gap)):
        cv2.line(canvas, (x, height), (x, height - (16 if place % 5 == 0 else 9)), 220, 1)
    canvas = canvas[::-1] if rng.random() < 0.5 else canvas
    return _mix(image, (0.1, 0.1, 0.12), canvas.astype(np.float32) / 255)


def _pen(rng: np.random.Generator, image: Floats) -> Floats:
    height, width = image.shape[:2]
    canvas = np.zeros((height, width), np.uint8)
    corner = (int(rng.choice((0, width))), int(rng.choice((0, height))))
    axes = (int(rng.integers(30, 90)), int(rng.integers(30, 90)))
    cv2.ellipse(canvas, corner, axes, 0, 0, 360, 230, int(rng.integers(4, 11)), cv2.LINE_AA)
    alpha = cv2.GaussianBlur(canvas.astype(np.float32) / 255, (0, 0), 1.5)
    return _mix(image, (0.30, 0.22, 0.52), np.asarray(alpha * rng.uniform(0.4, 0.8), np.float32))


def _camera(rng: np.random.Generator, image: Floats) -> Floats:
    """Light from one side, dark corners, a little blur, glare and sensor noise."""
    height, width = image.shape[:2]
    y, x = np.mgrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j].astype(np.float32)
    turn = rng.uniform(0, 2 * np.pi)
    light = 1 + rng.uniform(0, 0.14) * (np.cos(turn) * x + np.sin(turn) * y)
    distance = np.hypot(x, y * height / width) / np.hypot(1, height / width)
    light -= rng.uniform(0, 0.35) * np.clip(distance - 0.4, 0, None) ** 1.5
    if rng.random() < 0.2:  # the round rim of the lens
        light = light / (1 + np.exp(np.clip((distance - rng.uniform(0.78, 0.92)) / 0.012, -30, 30)))
    image = np.asarray(image * (light * rng.uniform(0.88, 1.08))[..., None], np.float32)
    if rng.random() < 0.4:
        image = np.asarray(cv2.GaussianBlur(image, (0, 0), rng.uniform(0.5, 1.4)), np.float32)
    return image + rng.normal(0, rng.uniform(0.006, 0.022), image.shape).astype(np.float32)
