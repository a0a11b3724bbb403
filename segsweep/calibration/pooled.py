"""Anomalous and normal pixels, counted into bins of their score, and what follows from the counts.

Bins are equally wide, a power of two, and lie on a grid that is fixed by the width alone. The array
of counts grows where scores come that it does not hold; when it gets too long, bins are
joined in pairs. So neither range nor number of scores has to be known, and memory is bounded. A bin
holds 4·10⁹ pixels of a kind at most.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from segsweep.calibration.pixels import IGNORE, Doubles, Floats, Labels, refuse
from segsweep.metrics.ranking import Bounded, Counts, rank_bins

FEWEST = 20  # anomalous, and normal, pixels: with fewer, 95 % of them cannot be told from all
LONGEST = 2**16  # bins
_RATE = 0.95


@dataclass(frozen=True)
class Detection:
    """What one score at one temperature is worth; each number with its error bound.

    Attributes:
        auprc: average precision, Σ (R_n - R_{n-1}) P_n.
        auroc: area under the ROC curve, ties counting half.
        fpr95_interpolated: FPR where the ROC curve, drawn with straight lines, passes a TPR of
            0.95: ``numpy.interp(0.95, tpr, fpr)``, as most course code has it.
        fpr95_first: FPR at the highest threshold with TPR ≥ 0.95, as in SMIYC.
        miou: the mean of the IoU of anomalous and of normal pixels at the threshold where it is
            highest.
        threshold: that one: pixels with score ≥ threshold are called anomalous; infinite where
            calling none so is best.
        anomalous: pixels.
        normal: pixels.
    """

    auprc: Bounded
    auroc: Bounded
    fpr95_interpolated: Bounded
    fpr95_first: Bounded
    miou: Bounded
    threshold: float
    anomalous: int
    normal: int


def check_counts(anomalous: int, normal: int, where: str) -> None:
    """Are there enough pixels to say anything?

    Raises:
        CalibrationError: fewer than FEWEST of either.
    """
    for count, what in ((anomalous, "anomalous"), (normal, "normal")):
        if count < FEWEST:
            hint = f"{FEWEST} at least; labels are 1 anomalous, 0 normal, {IGNORE} void"
            raise refuse(f"there are {count} {what} pixels", where, hint)


def split(labels: Labels, where: str) -> NDArray[np.bool_]:
    """Which of these labels, none of them void, are anomalous.

    Raises:
        CalibrationError: a label is neither 0 nor 1.
    """
    if len(labels) and (labels.min() < 0 or labels.max() > 1):
        found = sorted(set(np.unique(labels).tolist()) - {0, 1})[:5]
        hint = f"1 anomalous, 0 normal, {IGNORE} does not count"
        raise refuse(f"labels {found} in an anomaly mask", where, hint)
    anomalous: NDArray[np.bool_] = labels == 1
    return anomalous


class Histogram:
    """Counts of one score at one temperature."""

    def __init__(self) -> None:
        self._width = 0.0  # of a bin, 0 before the first score
        self._first = 0  # the lowest bin's place on the grid
        self._counts = np.zeros(0, np.uint32)  # normal and anomalous in turn

    def add(self, keys: Floats, anomalous: NDArray[np.bool_]) -> None:
        """(n,) finite numbers that rise with the score."""
        low, high = float(keys.min()), float(keys.max())
        if not self._width:
            wide = max(high - low, 1e-6 * max(abs(low), abs(high)), 1e-30)
            self._width = 2.0 ** np.ceil(np.log2(wide / (LONGEST / 2)))
        self._make_room(low, high)
        places = np.floor(keys * np.float64(1 / self._width)).astype(np.int64)
        places -= self._first
        places *= 2
        places += anomalous
        fresh = np.bincount(places, minlength=len(self._counts))
        np.add(self._counts, fresh, out=self._counts, casting="unsafe")

    def detection(self, back: Callable[[Doubles], Doubles]) -> Detection:
        """What follows; ``back`` turns keys into scores."""
        pairs = self._counts.astype(np.int64).reshape(-1, 2)[::-1]
        used = np.flatnonzero(pairs.sum(axis=1))
        lowest = (self._first + len(pairs) - 1 - used).astype(np.float64) * self._width
        return judge(pairs[used, 1], pairs[used, 0], back(lowest), tied=False)

    def counts(self) -> tuple[int, int]:
        """Anomalous and normal pixels."""
        return int(self._counts[1::2].sum()), int(self._counts[::2].sum())

    def _make_room(self, low: float, high: float) -> None:
        """Widen array and bins until both scores have a bin."""
        while True:
            count = len(self._counts) // 2
            begin, end = int(np.floor(low / self._width)), int(np.floor(high / self._width)) + 1
            if count:
                begin, end = min(begin, self._first), max(end, self._first + count)
            if end - begin <= LONGEST:
                break
            self._join()
        if begin < self._first or end > self._first + count or not count:
            longer = np.zeros(2 * (end - begin), np.uint32)
            if count:
                at = 2 * (self._first - begin)
                longer[at : at + 2 * count] = self._counts
            self._counts, self._first = longer, begin

    def _join(self) -> None:
        """Bins of twice the width."""
        self._width *= 2
        if not len(self._counts):
            return
        pairs = self._counts.reshape(-1, 2)
        before = np.zeros((self._first % 2, 2), np.uint32)
        pairs = np.concatenate([before, pairs])
        pairs = np.concatenate([pairs, np.zeros((len(pairs) % 2, 2), np.uint32)])
        self._counts = pairs.reshape(-1, 2, 2).sum(axis=1, dtype=np.uint32).reshape(-1)
        self._first //= 2


def judge(anomalous: Counts, normal: Counts, thresholds: Doubles, *, tied: bool) -> Detection:
    """Everything from counts (B,) of bins from the highest scores to the lowest.

    Args:
        anomalous: pixels of each bin.
        normal: the same; no bin is empty of both.
        thresholds: the lowest score of each bin.
        tied: every bin is a single score.
    """
    ranks = rank_bins(anomalous, normal, tied=tied)
    count_p, count_n = int(anomalous.sum()), int(normal.sum())
    true = np.concatenate([[0], np.cumsum(anomalous)])
    false = np.concatenate([[0], np.cumsum(normal)])
    fpr = float(np.interp(_RATE, true / count_p, false / count_n))
    # the curve passes 0.95 within one bin, or along the normal pixels right after it
    at = int(np.searchsorted(true / count_p, _RATE, side="right"))
    least, most = false[max(at - 1, 0)], false[min(at, len(false) - 1)]
    off = max(fpr - least / count_n, most / count_n - fpr, 0.0)
    iou = (true / (count_p + false) + (count_n - false) / (count_n + count_p - true)) / 2
    best = int(iou.argmax())
    return Detection(
        auprc=ranks.ap,
        auroc=ranks.auroc,
        fpr95_interpolated=Bounded(fpr, 0.0 if tied else float(off)),
        fpr95_first=ranks.fpr95,
        miou=Bounded(float(iou[best]), 0.0 if tied else _missed(true, false, float(iou[best]))),
        threshold=float(thresholds[best - 1]) if best else float("inf"),
        anomalous=count_p,
        normal=count_n,
    )


def _missed(true: Counts, false: Counts, best: float) -> float:
    """How much higher the mean IoU can be at a threshold within a bin.

    At most what it is where all of the bin's anomalous pixels are above, and no normal one.
    """
    t, f = true[1:], false[:-1]
    most = (t / (true[-1] + f) + (false[-1] - f) / (false[-1] + true[-1] - t)) / 2
    return max(0.0, float(most.max()) - best)
