"""How well a number ranks pixels: AUROC, AP and FPR at 95 % TPR, over all pixels of a split.

Pixels are counted into bins of their score, apart by label; all three follow from the counts. A
bin is a prefix of the score's float32 bits, so that no range has to be known beforehand, any
monotone score will do, logits as well as probabilities, and bfloat16 and float16 scores lose
nothing. What float32 scores lose is bounded by the bins that hold both labels, and is returned.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

BITS = 20  # of a float32 that name its bin: sign, exponent, and 11 of the mantissa
KEPT = 2**22  # pixels that wait before they are counted into bins
_INF = 0x7F800000 >> (32 - BITS)  # the bin of infinity, from the middle; NaN lies beyond
_NODES, _WEIGHTS = (np.polynomial.legendre.leggauss(3)[0] + 1) / 2, (5 / 18, 8 / 18, 5 / 18)
_PART = 2**22  # thresholds that are looked up at once, for the memory

Counts = NDArray[np.int64]
Scores = NDArray[np.floating[Any]]


@dataclass(frozen=True)
class Bounded:
    """A score and how far from the exact one it can be.

    Attributes:
        value: in [0, 1]; None where a label occurs nowhere.
        error: the exact score is in [value - error, value + error]; 0: this is it.
    """

    value: float | None
    error: float = 0.0


@dataclass(frozen=True)
class Ranking:
    """The scores of one ranking.

    Attributes:
        auroc: the probability that a positive pixel has a higher score than a negative one,
            ties counting half.
        ap: average precision, Σ (R_n - R_{n-1}) P_n over all thresholds.
        fpr95: the false positive rate at the highest threshold with a true positive rate of at
            least 95 %.
    """

    auroc: Bounded
    ap: Bounded
    fpr95: Bounded


class PixelScores:
    """Takes scores in and ranks them, in as little memory as is asked for.

    Args:
        exact: keep every score, 4 bytes a pixel. Otherwise more than ``kept`` are counted into
            bins, 17 MB however many there are.
        kept: pixels up to which the result is exact all the same.
    """

    def __init__(self, *, exact: bool = False, kept: int = KEPT) -> None:
        self._exact = exact
        self._kept = kept
        self._positive: list[torch.Tensor] = []
        self._negative: list[torch.Tensor] = []
        self._waiting = 0
        self._bins: tuple[Counts, Counts] | None = None
        self._lossless = True  # every score so far has bits for its bin alone

    def update(self, scores: torch.Tensor, target: torch.Tensor, ignore: int = 255) -> None:
        """Take some pixels in.

        Args:
            scores: floats of any shape; the higher, the more the pixel is held to be positive.
            target: the same shape; 1 is positive, ``ignore`` does not count, all else is negative.
            ignore: the label of pixels that do not count.
        """
        self._lossless &= scores.dtype in (torch.float16, torch.bfloat16)
        for part, labels in zip(
            torch.split(scores.detach().reshape(-1), self._kept),
            torch.split(target.reshape(-1), self._kept),
            strict=True,
        ):
            kept = part if part.dtype in (torch.float32, torch.float64) else part.float()
            positive = labels == 1
            self._positive.append(kept[positive])
            self._negative.append(kept[~positive & (labels != ignore)])
            self._waiting += kept.numel()
            if not self._exact and self._waiting > self._kept:
                self._count()

    def ranking(self) -> Ranking:
        """The scores of all pixels so far.

        Raises:
            ValueError: a score was NaN, which has no rank.
        """
        if self._bins is None:
            # one list is let go before the other is joined
            positive, self._positive = _sorted(self._positive)
            negative, self._negative = _sorted(self._negative)
            return rank_exactly(positive, negative)
        self._count()
        positives, negatives = self._bins
        half = 2 ** (BITS - 1)
        outside = slice(half + _INF + 1, None), slice(None, half - _INF - 1)
        nan = sum(int(bins[part].sum()) for bins in self._bins for part in outside)
        if nan:
            raise ValueError(f"{nan} scores are NaN")
        used = (positives + negatives > 0)[::-1]
        return rank_bins(positives[::-1][used], negatives[::-1][used], tied=self._lossless)

    def _count(self) -> None:
        """Count what waits into bins."""
        fresh = [_histogram(waiting) for waiting in (self._positive, self._negative)]
        if self._bins is None:
            self._bins = fresh[0], fresh[1]
        else:
            for bins, more in zip(self._bins, fresh, strict=True):
                bins += more
        self._positive, self._negative, self._waiting = [], [], 0


def rank_bins(positives: Counts, negatives: Counts, *, tied: bool = False) -> Ranking:
    """Scores from counts, and how far off they can be.

    Within a bin, scores are taken to be spread evenly. The bounds hold whatever they are; for a
    bin of p positives and n negatives, with T and F in higher bins:

    - AUROC: its p n pairs count half, where each may count 0 or 1: Σ p n / 2 of all P N pairs.
    - AP: the precision at a positive is at most (T + p) / (T + p + F), where all of them tie
      above the negatives. At least the p of them sum to Σ_j (T + j) / (T + j + F + n), where
      they stand apart below. That is concave in j, so not less than its integral from 1/2 to
      p + 1/2, p - G log(1 + p / (T + 1/2 + G)), G = F + n.
    - FPR: the threshold is in a bin, so between F and F + n negatives lie above it.

    Args:
        positives: of each bin, from the highest scores to the lowest; int64. No bin is empty.
        negatives: the same.
        tied: every bin holds a single score, so that the result is exact.
    """
    count_p, count_n = int(positives.sum()), int(negatives.sum())
    if not count_p:
        return Ranking(Bounded(None), Bounded(None), Bounded(None))
    ap = _precision(positives, negatives, tied=tied)
    if not count_n:
        return Ranking(Bounded(None), ap, Bounded(None))
    p, n = positives.astype(np.float64), negatives.astype(np.float64)
    below = (count_n - np.cumsum(negatives)).astype(np.float64)
    pairs = float(count_p) * float(count_n)
    half = float((p * n).sum() / 2 / pairs)
    auroc = Bounded(float((p * below).sum() / pairs) + half, 0.0 if tied else half)
    rank = -(-95 * count_p // 100)
    above = np.cumsum(positives)
    at = int(np.searchsorted(above, rank))
    most = int(negatives[: at + 1].sum()) / count_n
    least = most - int(negatives[at]) / count_n
    share = (rank - int(above[at]) + p[at]) / (p[at] + 1)
    value = most if tied else least + share * (most - least)
    error = max(most - value, value - least)
    return Ranking(auroc, ap, Bounded(value, 0.0 if tied else error))


def _precision(positives: Counts, negatives: Counts, *, tied: bool) -> Bounded:
    """Average precision from counts, see ``rank_bins``."""
    some = positives > 0
    p, n = positives[some].astype(np.float64), negatives[some].astype(np.float64)
    t = np.cumsum(positives)[some] - p
    f = np.cumsum(negatives)[some] - n
    total = float(p.sum())
    if tied:
        return Bounded(float((p * (t + p) / (t + p + f + n)).sum() / total))
    most = p * (t + p) / (t + p + f)
    g = f + n
    least = np.where(p == 1, (t + 1) / (t + 1 + g), p - g * np.log1p(p / (t + 0.5 + g)))
    even = np.zeros_like(p)
    for x, weight in zip(_NODES, _WEIGHTS, strict=True):
        true = t + p * x + 0.5
        even += weight * p * true / (true + f + n * x)
    value = float(np.clip(even, least, most).sum() / total)
    return Bounded(
        value, max(float(most.sum() / total) - value, value - float(least.sum() / total))
    )


def rank_exactly(positive: Scores, negative: Scores) -> Ranking:
    """Scores from all scores, both sorted upwards."""
    count_p, count_n = len(positive), len(negative)
    if not count_p:
        return Ranking(Bounded(None), Bounded(None), Bounded(None))
    new = np.ones(count_p, dtype=bool)  # the first of each run of equal scores
    np.not_equal(positive[1:], positive[:-1], out=new[1:])
    starts = np.flatnonzero(new)
    higher = precise = 0.0
    for begin in range(0, len(starts), _PART):
        first = starts[begin : begin + _PART]
        ends = np.append(
            first[1:], starts[begin + _PART] if begin + _PART < len(starts) else count_p
        )
        runs, thresholds = (ends - first).astype(np.float64), positive[first]
        less = np.searchsorted(negative, thresholds, side="left")
        ties = np.zeros(len(less), np.int64)
        if count_n:
            tied = negative[np.minimum(less, count_n - 1)] == thresholds
            ends_n = np.searchsorted(negative, thresholds[tied], side="right")
            ties[tied] = ends_n - less[tied]
        higher += float((runs * (less + ties / 2)).sum())
        true = count_p - first
        precise += float((runs * (true / (true + count_n - less))).sum())
    ap = Bounded(precise / count_p)
    if not count_n:
        return Ranking(Bounded(None), ap, Bounded(None))
    threshold = positive[count_p - -(-95 * count_p // 100)]
    passed = count_n - int(np.searchsorted(negative, threshold, side="left"))
    auroc = Bounded(higher / (float(count_p) * float(count_n)))
    return Ranking(auroc, ap, Bounded(passed / count_n))


def _sorted(parts: list[torch.Tensor]) -> tuple[Scores, list[torch.Tensor]]:
    """All scores of a list upwards, and a list that holds them once.

    Raises:
        ValueError: one is NaN.
    """
    if not parts:
        return np.zeros(0, np.float32), parts
    joined = torch.cat(parts) if len(parts) > 1 else parts[0]
    parts.clear()
    values: Scores = joined.cpu().numpy()
    values.sort()
    if len(values) and np.isnan(values[-1]):
        raise ValueError(f"{int(np.isnan(values).sum())} scores are NaN")
    return values, [torch.from_numpy(values)]


def _histogram(parts: list[torch.Tensor]) -> Counts:
    """How many scores are in each bin, from the lowest."""
    total = np.zeros(2**BITS, np.int64)
    for part in parts:
        # 0.0 is added because -0.0 is the same score and has other bits
        bits = (part.float() + 0.0).view(torch.int32)
        key = bits ^ ((bits >> 31) & 0x7FFFFFFF)  # ordered as the scores are
        bins = (key >> (32 - BITS)) + 2 ** (BITS - 1)
        total += torch.bincount(bins, minlength=2**BITS).cpu().numpy()
    return total
