"""Logits whose temperature is known: labels are drawn from softmax(z), the model says T z."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Ints = NDArray[np.int64]


def known(
    classes: int, temperature: float = 2.5, pixels: int = 40000, seed: int = 0, spread: float = 2.0
) -> tuple[Floats, Ints]:
    """Logits (N, K) whose best temperature is ``temperature``, and labels."""
    generator = np.random.default_rng(seed)
    z = spread * generator.normal(size=(pixels, classes))
    cumulative = softmax(z).cumsum(axis=1)
    labels = (generator.random(pixels)[:, None] > cumulative).sum(axis=1).clip(0, classes - 1)
    return (temperature * z).astype(np.float32), labels


def softmax(z: NDArray[np.floating]) -> NDArray[np.float64]:
    e = np.exp(z.astype(np.float64) - z.max(axis=1, keepdims=True))
    return np.asarray(e / e.sum(axis=1, keepdims=True))


def road(pixels: int = 6000, classes: int = 5, seed: int = 0) -> tuple[Floats, NDArray[np.uint8]]:
    """Logits that are surer of normal pixels, and an anomaly mask with void."""
    generator = np.random.default_rng(seed)
    labels = (generator.random(pixels) < 0.1).astype(np.uint8)
    z = generator.normal(size=(pixels, classes))
    z[np.arange(pixels), generator.integers(0, classes, pixels)] += np.where(labels, 1, 4)
    labels[generator.random(pixels) < 0.1] = 255
    return z.astype(np.float32), labels
