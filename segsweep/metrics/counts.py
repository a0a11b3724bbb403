"""Exact pixel counts: a confusion matrix an image, from which every score follows."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

IGNORE = 255  # a mask's value where no class is given; such pixels never count


def confusion(prediction: torch.Tensor, target: torch.Tensor, classes: int) -> torch.Tensor:
    """Count pixels by image, true class and predicted class.

    Args:
        prediction: (N, H, W) integer class of each pixel, in [0, classes).
        target: (N, H, W) integer class of each pixel, or ``IGNORE``.
        classes: how many there are.

    Returns:
        (N, classes, classes) int64, on the device of the arguments; rows are the truth.
    """
    images = target.shape[0]
    truth = target.reshape(images, -1).long()
    guess = prediction.reshape(images, -1).long()
    valid = truth != IGNORE
    cells = classes * classes
    offset = torch.arange(images, device=truth.device).unsqueeze(1) * cells
    index = (offset + truth * classes + guess)[valid]
    counts = torch.bincount(index, minlength=images * cells)
    return counts.reshape(images, classes, classes)


def per_class(matrix: NDArray[np.int64]) -> dict[str, NDArray[np.int64]]:
    """True positives, false positives, false negatives and valid pixels.

    Args:
        matrix: (…, K, K) confusion matrices, rows are the truth.

    Returns:
        ``tp``, ``fp``, ``fn`` of shape (…, K) and ``valid`` of shape (…,).
    """
    tp = np.diagonal(matrix, axis1=-2, axis2=-1)
    return {
        "tp": tp.copy(),
        "fp": matrix.sum(axis=-2) - tp,
        "fn": matrix.sum(axis=-1) - tp,
        "valid": matrix.sum(axis=(-2, -1)),
    }
