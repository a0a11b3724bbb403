"""Which pixels of an image are kept, and the histogram of all of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray

from segsweep.data.sources.base import IGNORE
from segsweep.identity import digest

BINS: Final = 1500
"""Bins of equal width of the confidence in the exact histogram."""


def drawn(fingerprint: str, image_id: str, sampling: Mapping[str, int]) -> NDArray[np.int64]:
    """Positions of the pixels that are kept of an image, ascending; the same for every model."""
    if sampling["pixels"] >= sampling["of"]:
        return np.arange(sampling["of"], dtype=np.int64)
    key = int(digest([fingerprint, image_id])[:12], 16)
    generator = np.random.default_rng((sampling["seed"], key))
    found = generator.choice(sampling["of"], sampling["pixels"], replace=False, shuffle=False)
    return np.sort(found).astype(np.int64)


def confidence_histogram(values: torch.Tensor, labels: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Counts (2, BINS) of an image's labelled pixels, wrong and right, by confidence at T = 1.

    Args:
        values: (C, H·W) logits; one channel is a binary head with logits (0, z).
        labels: (H·W,), IGNORE where there is none.
    """
    truth = torch.from_numpy(labels)
    kept = values[:, truth != IGNORE]
    if len(kept) == 1:
        kept = torch.cat([torch.zeros_like(kept), kept])
    confidence, guess = kept.softmax(dim=0).max(dim=0)
    right = (guess == truth[truth != IGNORE]).long()
    bins = (confidence * BINS).long().clamp_max(BINS - 1)
    counts = torch.bincount(right * BINS + bins, minlength=2 * BINS)
    found: NDArray[np.int64] = counts.view(2, BINS).numpy()
    return found
