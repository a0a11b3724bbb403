"""Bins of confidence: 15 of equal width, and fine ones within them, for bins of equal mass.

A bin is (lowest, highest], as in Guo et al. 2017. Fine bins get narrower towards 1, where most
pixels of a segmentation are: four in each of the 14 lower bins, and 72 in the last, whose distance
from 1 falls from 1/15 to 1e-7 by a constant factor. They are kept by image; pooled over images
there are much finer ones, prefixes of 1 - confidence's float32 bits with 9 bits of the mantissa.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from segsweep.calibration.pixels import Doubles, Floats

BINS = 15
FINE = 128
_LOWER = 4  # fine bins in each wide one but the last
_LAST = FINE - _LOWER * (BINS - 1)
_LEAST = 1e-7
STARTS: NDArray[np.int64] = np.arange(BINS, dtype=np.int64) * _LOWER

# upper ends of all fine bins but the last
_UPPER = np.concatenate(
    [
        np.arange(1, _LOWER * (BINS - 1) + 1) / (_LOWER * BINS),
        1 - np.geomspace(1 / BINS, _LEAST, _LAST)[1:],
    ]
).astype(np.float32)
_WIDE = (np.arange(1, BINS) / BINS).astype(np.float32)

_SHIFT = 14
_BASE = int(np.float32(2**-24).view(np.uint32)) >> _SHIFT  # of the least 1 - confidence but 0
FINEST = (int(np.float32(1).view(np.uint32)) >> _SHIFT) - _BASE + 2


@dataclass(frozen=True)
class Diagram:
    """A reliability diagram: 15 bins of confidence, equally wide, (i/15, (i+1)/15].

    Attributes:
        pixels: (15,) in each bin.
        confidence: (15,) mean of the highest probability; NaN in an empty bin.
        accuracy: (15,) share of pixels whose argmax is the label; NaN in an empty bin.
    """

    pixels: NDArray[np.int64]
    confidence: Doubles
    accuracy: Doubles


def fine_bins(confidence: Floats) -> NDArray[np.int64]:
    """The fine bin of each confidence."""
    return np.searchsorted(_UPPER, confidence, side="left")


def finest_bins(confidence: Floats) -> NDArray[np.int64]:
    """The finest bin of each confidence, the surest first."""
    bits = (np.float32(1) - confidence).view(np.uint32) >> _SHIFT
    return np.maximum(bits.astype(np.int64) - _BASE + 1, 0)


def equal_width(probability: Floats) -> NDArray[np.int64]:
    """The wide bin of each probability."""
    return np.searchsorted(_WIDE, probability, side="left")


def diagram(pixels: Doubles, gaps: Doubles, confidence: Doubles) -> Diagram:
    """From (FINE,) pixels, Σ confidence - correct, and Σ confidence."""
    count, off, sure = (np.add.reduceat(one, STARTS) for one in (pixels, gaps, confidence))
    some = np.where(count > 0, count, np.nan)
    return Diagram(count.astype(np.int64), sure / some, (sure - off) / some)


def adaptive(pixels: Doubles, gaps: Doubles) -> Doubles:
    """(R,) ECE in 15 bins of equally many pixels (Nguyen & O'Connor 2015), of (R, bins) counts.

    A fine bin that lies across a border is divided in proportion, as if its pixels were all alike:
    exact where they are, and otherwise off by at most Σ n / (2 N) over the 14 fine bins that
    borders lie in, n being their pixels: the sum of a share x of a bin's confidence - correct is at
    most n x (1 - x) ≤ n / 4 from that share of the bin's sum, and counts on both sides.
    """
    rows, bins = pixels.shape
    heights, sums = (np.zeros((rows, bins + 1)) for _ in range(2))
    np.cumsum(pixels, axis=1, out=heights[:, 1:])
    np.cumsum(gaps, axis=1, out=sums[:, 1:])
    borders = heights[:, -1:] * (np.arange(1, BINS) / BINS)
    # the bin that each border lies in, which is not an empty one: all rows are searched as one, a
    # row's heights as shares of its total, from the row's number on
    lift = np.arange(rows)[:, None]
    shares = (heights[:, 1:] / heights[:, -1:] + lift).ravel()
    place = shares.searchsorted((borders / heights[:, -1:] + lift).ravel(), side="right")
    place = place.reshape(borders.shape) + lift  # a row has one height more than it has bins
    start, end = heights.ravel()[place], heights.ravel()[place + 1]
    inner = sums.ravel()[place] + (borders - start) / (end - start) * np.diff(sums.ravel())[place]
    ends = np.concatenate([sums[:, :1], inner, sums[:, -1:]], axis=1)
    result: Doubles = np.abs(np.diff(ends, axis=1)).sum(axis=1) / heights[:, -1]
    return result


def adaptive_error(pixels: Doubles, gaps: Doubles) -> float:
    """How far ``adaptive`` of (FINEST,) counts can be from that of the pixels themselves.

    Of a fine bin of n pixels, w of them wrong, a border leaves m on one side. Among these can be
    from max(0, m - (n - w)) to min(w, m) wrong ones, where ``adaptive`` takes m w / n; confidence
    itself differs by the bin's width at most. What one side has too much the other lacks, so that
    it cancels where both sides are off to the same side, by more than is in question.
    """
    first = (np.arange(1, FINEST) - 1 + _BASE).astype(np.uint32)
    unsure = np.concatenate([[0.0], (first << _SHIFT).view(np.float32).astype(np.float64), [1.0]])
    heights, sums = np.append(0.0, np.cumsum(pixels)), np.append(0.0, np.cumsum(gaps))
    total = heights[-1]
    borders = total * np.arange(1, BINS) / BINS
    place = np.searchsorted(heights[1:] / total, borders / total, side="right")
    n, m = pixels[place], borders - heights[place]
    wrong = np.clip(gaps[place] + n * unsure[place + 1], 0, n)
    most = np.minimum(wrong, m) - m * wrong / n
    least = m * wrong / n - np.maximum(0, m - (n - wrong))
    moved = np.maximum(most, least) + n * (unsure[place + 1] - unsure[place])
    inner = sums[place] + m / n * gaps[place]
    off = np.diff(np.concatenate([[0.0], inner, sums[-1:]]))
    sure = np.abs(off) > np.append(moved, 0) + np.append(0, moved)
    over = off > 0
    # where a confidence is 1 to the last bit, a pixel is off to one side or not at all
    if certain := int((place == 0).sum()):
        rest = off[certain] - (sums[1] - inner[certain - 1])
        sure[:certain] = over[:certain] = True
        if rest >= np.append(moved, 0)[certain]:
            sure[certain] = over[certain] = True
    cancels = sure[1:] & sure[:-1] & (over[1:] == over[:-1])
    return min(float(2 * moved[~cancels].sum() / total), 1.0)
