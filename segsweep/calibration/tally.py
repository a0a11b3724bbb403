"""What is counted of one temperature: sums by image, and bins of confidence.

Axis 0 is the image, axis 1 the region (elsewhere, boundary); a cell is image · regions + region.
Pixels come sorted by cell, so that few cells are in one part.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from segsweep.calibration.bins import BINS, FINE, FINEST, equal_width, fine_bins, finest_bins
from segsweep.calibration.pixels import Floats


class Tally:
    """Of one temperature; axis 0 is the region (elsewhere, boundary), axis 1 the image."""

    def __init__(self, regions: int, images: int, classes: int) -> None:
        self.sums = np.zeros((2, images, regions))  # NLL, Brier
        self.pixels = np.zeros((images, regions, FINE))
        self.gaps = np.zeros((images, regions, FINE))  # Σ confidence - correct
        self.confidence = np.zeros((regions, FINE))
        self.finest = np.zeros((2, regions, FINEST))  # pixels, and Σ confidence - correct
        self.classes = np.zeros((images, regions, classes, BINS))  # Σ p_k - y_k

    def add(
        self,
        t: Floats,
        beta: np.float32,
        labels: NDArray[np.int64],
        cells: NDArray[np.int64],
        correct: NDArray[np.bool_],
    ) -> None:
        """Count some pixels of logits (K, n) whose maximum is 0, at β."""
        images, regions = self.sums.shape[1:]
        size = regions * images
        p = t * beta
        own = np.take_along_axis(p, labels[None], axis=0)[0]
        np.exp(p, out=p)
        total = p.sum(axis=0)
        sums = self.sums.reshape(2, -1)
        sums[0] += np.bincount(cells, np.log(total) - own, size)
        p /= total
        mine = np.take_along_axis(p, labels[None], axis=0)[0]
        sums[1] += np.bincount(cells, np.einsum("kn,kn->n", p, p) + (1 - 2 * mine), size)
        confidence = 1 / total
        fine = fine_bins(confidence)
        first, most = int(cells.min()), int(cells.max()) + 1  # few images are in one part
        where = (cells - first) * FINE + fine
        length = (most - first) * FINE
        rows = self.pixels.reshape(size, FINE)[first:most]
        rows += np.bincount(where, minlength=length).reshape(rows.shape)
        rows = self.gaps.reshape(size, FINE)[first:most]
        rows += np.bincount(where, confidence - correct, length).reshape(rows.shape)
        finest = cells % regions * FINEST + finest_bins(confidence)
        for row, off in zip(self.finest, (None, confidence - correct), strict=True):
            row += np.bincount(finest, off, regions * FINEST).reshape(row.shape)
        per_region = cells % regions * FINE + fine
        self.confidence += np.bincount(per_region, confidence, regions * FINE).reshape(
            regions, FINE
        )
        self._add_classes(p, mine, labels, cells, first, most)

    def _add_classes(
        self,
        p: Floats,
        mine: Floats,
        labels: NDArray[np.int64],
        cells: NDArray[np.int64],
        first: int,
        most: int,
    ) -> None:
        """Count probabilities (K, n) of every class; all cells are in [first, most)."""
        classes = len(p)
        size = self.classes.shape[0] * self.classes.shape[1]
        # most probabilities are in the lowest bin: what is above is counted, the rest is the rest
        rows = self.classes.reshape(size, classes, BINS)[first:most]
        gaps = np.zeros((most - first, classes, BINS))
        kind, pixel = np.nonzero(p > np.float32(1 / BINS))
        high = p[kind, pixel]
        place = ((cells[pixel] - first) * classes + kind) * BINS + equal_width(high)
        gaps += np.bincount(place, high, gaps.size).reshape(gaps.shape)
        for image in range(first, most) if most - first > 1 else (first,):
            chosen = p if most - first == 1 else p[:, cells == image]
            gaps[image - first, :, 0] += chosen.sum(axis=1) - gaps[image - first].sum(axis=1)
        place = ((cells - first) * classes + labels) * BINS + equal_width(mine)
        gaps -= np.bincount(place, minlength=gaps.size).reshape(gaps.shape)
        rows += gaps
