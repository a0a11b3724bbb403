"""How well a number ranks pixels: AUROC, AP and FPR at 95 % TPR, over all pixels of a split.

Pixels are counted into bins of their score, apart by label; all three follow from the counts. A
bin is a prefix of the score's float32 bits, so that no range has to be known beforehand, any
monotone score will do, logits as well as probabilities, and bfloat16 and float16 scores lose
nothing. Scores that crowd around a number other than 0, as those of an early epoch or of a rare
class do, share few bins: the bins that hold most pairs of both labels are divided into single
float32 numbers. What is lost all the same is bounded by the bins that hold both labels, and is
returned.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

BITS = 20  # of a float32 that name its bin: sign, exponent, and 11 of the mantissa
CROWDED = 128  # bins that are divided, those in which most pairs of both labels lie
CLOSE = 1e-4  # no bin is divided where AUROC is known to it without
_HALF = 2 ** (BITS - 1)  # the bin of 0
_INSIDE = 32 - BITS  # further bits of a score, that name its place in such a bin
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
            bins, 25 MB however many there are.
        kept: pixels up to which the result is exact all the same.
    """

    def __init__(self, *, exact: bool = False, kept: int = KEPT) -> None:
        self._exact = exact
        self._kept = kept
        self._positive: list[torch.Tensor] = []
        self._negative: list[torch.Tensor] = []
        self._waiting = 0
        self._bins: _Bins | None = None
        self._lossless = True  # every score so far has bits for its bin alone
        self._single = True  # or for its place in a divided bin

    def update(self, scores: torch.Tensor, target: torch.Tensor, ignore: int = 255) -> None:
        """Take some pixels in.

        Args:
            scores: floats of any shape; the higher, the more the pixel is held to be positive.
            target: the same shape; 1 is positive, ``ignore`` does not count, all else is negative.
            ignore: the label of pixels that do not count.
        """
        self._lossless &= scores.dtype in (torch.float16, torch.bfloat16)
        self._single &= scores.dtype != torch.float64
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
        positives, negatives, divided = self._bins.ordered()
        tied = np.ones(len(divided), bool) if self._lossless else divided & self._single
        return rank_bins(positives, negatives, tied=tied)

    def _count(self) -> None:
        """Count what waits into bins."""
        waiting = self._positive, self._negative
        self._bins = self._bins or _Bins(*waiting)
        self._bins.take(*waiting)
        self._positive, self._negative, self._waiting = [], [], 0


class _Bins:
    """Counts by bin, and by number in those that are divided.

    Args:
        positive: the first scores, by which the bins to divide are chosen.
        negative: the same.
    """

    def __init__(self, positive: list[torch.Tensor], negative: list[torch.Tensor]) -> None:
        first = [
            _counted(torch.cat([_key(part) >> _INSIDE for part in own]))
            for own in (positive, negative)
        ]
        pairs, pixels = np.asarray(first[0], np.float64) * first[1], first[0] + first[1]
        most = np.lexsort((-pixels, -pairs))[:CROWDED]
        all_pairs = max(1.0, float(np.sum(first[0])) * float(np.sum(first[1])))
        # of one label alone, nobody knows yet where pairs will be
        crowded = pairs.sum() / 2 / all_pairs > CLOSE or not (first[0].any() and first[1].any())
        self._divided = np.sort(most[pixels[most] > 0]) if crowded else most[:0]
        self._slot = torch.full((2**BITS,), -1, dtype=torch.int32)
        self._slot[torch.from_numpy(self._divided)] = torch.arange(
            len(self._divided), dtype=torch.int32
        )
        self._coarse = [np.zeros(2**BITS, np.int64) for _ in range(2)]
        self._fine = [np.zeros(len(self._divided) << _INSIDE, np.int64) for _ in range(2)]

    def take(self, positive: list[torch.Tensor], negative: list[torch.Tensor]) -> None:
        """Count scores."""
        for label, parts in enumerate((positive, negative)):
            for part in parts:
                key = _key(part)
                bins = key >> _INSIDE
                if len(self._divided):
                    self._slot = self._slot.to(key.device)
                    slot = self._slot[bins + _HALF]
                    inside = slot >= 0
                    place = (slot[inside] << _INSIDE) + (key[inside] & ((1 << _INSIDE) - 1))
                    self._fine[label] += _counted(place, len(self._fine[label]), 0)
                    bins = bins[~inside]
                self._coarse[label] += _counted(bins)

    def ordered(self) -> tuple[Counts, Counts, NDArray[np.bool_]]:
        """The bins that hold anything, from the highest scores to the lowest.

        Returns:
            Positives of each, negatives, and whether it is a single number.

        Raises:
            ValueError: a score was NaN, which has no rank.
        """
        place = np.arange(1 << _INSIDE, dtype=np.int64)
        fine = ((self._divided[:, None] << _INSIDE) + place).reshape(-1)
        keys = np.concatenate([np.arange(2**BITS, dtype=np.int64) << _INSIDE, fine])
        positives, negatives = (
            np.concatenate([coarse, own])
            for coarse, own in zip(self._coarse, self._fine, strict=True)
        )
        away = np.abs((keys >> _INSIDE) - _HALF + (keys < _HALF << _INSIDE))
        if nan := int((positives + negatives)[away > _INF].sum()):
            raise ValueError(f"{nan} scores are NaN")
        used = np.flatnonzero(positives + negatives)
        order = used[np.argsort(-keys[used], kind="stable")]
        return positives[order], negatives[order], order >= 2**BITS


def rank_bins(
    positives: Counts, negatives: Counts, *, tied: bool | NDArray[np.bool_] = False
) -> Ranking:
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
        tied: which bins hold a single score, so that nothing is lost in them; True: all.
    """
    single = np.broadcast_to(np.asarray(tied, bool), positives.shape)
    count_p, count_n = int(positives.sum()), int(negatives.sum())
    if not count_p:
        return Ranking(Bounded(None), Bounded(None), Bounded(None))
    ap = _precision(positives, negatives, single)
    if not count_n:
        return Ranking(Bounded(None), ap, Bounded(None))
    p, n = positives.astype(np.float64), negatives.astype(np.float64)
    below = (count_n - np.cumsum(negatives)).astype(np.float64)
    pairs = float(count_p) * float(count_n)
    halves = p * n / 2 / pairs
    value = float((p * below).sum() / pairs) + float(halves.sum())
    auroc = Bounded(value, float(halves[~single].sum()))
    rank = -(-95 * count_p // 100)
    above = np.cumsum(positives)
    at = int(np.searchsorted(above, rank))
    most = int(negatives[: at + 1].sum()) / count_n
    least = most - int(negatives[at]) / count_n
    share = (rank - int(above[at]) + p[at]) / (p[at] + 1)
    if single[at]:
        return Ranking(auroc, ap, Bounded(most))
    value = least + share * (most - least)
    return Ranking(auroc, ap, Bounded(value, max(most - value, value - least)))


def _precision(positives: Counts, negatives: Counts, single: NDArray[np.bool_]) -> Bounded:
    """Average precision from counts, see ``rank_bins``."""
    some = positives > 0
    p, n = positives[some].astype(np.float64), negatives[some].astype(np.float64)
    t = np.cumsum(positives)[some] - p
    f = np.cumsum(negatives)[some] - n
    total = float(p.sum())
    tied = p * (t + p) / (t + p + f + n)
    most = p * (t + p) / (t + p + f)
    g = f + n
    least = np.where(p == 1, (t + 1) / (t + 1 + g), p - g * np.log1p(p / (t + 0.5 + g)))
    even = np.zeros_like(p)
    for x, weight in zip(_NODES, _WEIGHTS, strict=True):
        true = t + p * x + 0.5
        even += weight * p * true / (true + f + n * x)
    even, least, most = (
        np.where(single[some], tied, one) for one in (np.clip(even, least, most), least, most)
    )
    above, below = float((most - even).sum() / total), float((even - least).sum() / total)
    return Bounded(float(even.sum() / total), max(above, below))


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


def _key(part: torch.Tensor) -> torch.Tensor:
    """An int32 for each score, in the order of the scores."""
    # 0.0 is added because -0.0 is the same score and has other bits
    bits = (part.float() + 0.0).view(torch.int32)
    return bits ^ ((bits >> 31) & 0x7FFFFFFF)


def _counted(numbers: torch.Tensor, size: int = 2**BITS, first: int = _HALF) -> Counts:
    """How often each of ``size`` numbers is there, from ``-first`` on."""
    found: Counts = torch.bincount(numbers + first, minlength=size).cpu().numpy()
    return found
