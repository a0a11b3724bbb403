"""How well anomaly scores find anomalous pixels, for many scores and temperatures at once.

Pixels of all images are pooled as they are: no image is rescaled by its own lowest and highest
score, void pixels never count, images without anomalies do.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np
from numpy.typing import NDArray

from segsweep.calibration.anomaly import (
    PIXEL_SCORES,
    check_names,
    check_temperatures,
    ranking_depends_on_temperature,
)
from segsweep.calibration.pixels import (
    IGNORE,
    Doubles,
    Floats,
    Labels,
    blocks,
    classes_of,
    in_threads,
    refuse,
)
from segsweep.calibration.pooled import Detection, Histogram, check_counts, judge, split
from segsweep.calibration.tails import Tails, log_one_more

METRICS = ("auprc", "auroc", "fpr95_interpolated", "fpr95_first", "miou")
Key = tuple[str, float | None]


class DetectionSweep:
    """Takes logits of a per-pixel head in, for all scores and temperatures at once.

    Memory: 0.5 MB at most for each score and temperature, and some blocks of 2^18 pixels.

    Args:
        temperatures: any.
        scores: of PIXEL_SCORES.
        threads: that compute; left out, as many as torch has.
        where: what the pixels are of, for messages.

    Raises:
        CalibrationError: an unknown name, no temperature.
    """

    def __init__(
        self,
        temperatures: Sequence[float],
        scores: Sequence[str] = PIXEL_SCORES,
        *,
        threads: int | None = None,
        where: str = "",
    ) -> None:
        check_names(scores, PIXEL_SCORES)
        check_temperatures(temperatures, where)
        self._temperatures = [float(one) for one in dict.fromkeys(temperatures)]
        self._scores = list(dict.fromkeys(scores))
        self._threads, self._where = threads, where
        self._kind: tuple[str, int] | None = None
        self._most = np.float32(0)  # log K, the highest entropy
        self._jobs: dict[float | None, list[str]] = {}
        self._counts: dict[Key, Histogram] = {}

    def update(self, logits: Floats, labels: Labels) -> None:
        """Take pixels in.

        Args:
            logits: (N, K), or (N,) or (N, 1) of a binary head.
            labels: (N,); 1 anomalous, 0 normal, 255 does not count.

        Raises:
            CalibrationError: see ``pixels.blocks``; another number of classes than before.
        """
        self._know(logits)
        for block in blocks(logits, labels, classes=2, where=self._where):
            anomalous = block.labels == 1
            tails = Tails(block.logits)

            def one(
                temperature: float | None,
                tails: Tails = tails,
                anomalous: NDArray[np.bool_] = anomalous,
            ) -> None:
                self._count(temperature, tails, anomalous)

            in_threads(one, self._jobs, self._threads)

    def result(self) -> dict[Key, Detection]:
        """By score and temperature, in the order given.

        The temperature is None where none changes the ranking; the threshold is that of T = 1.

        Raises:
            CalibrationError: fewer than FEWEST anomalous or normal pixels.
        """
        some = next(iter(self._counts.values()), None)
        check_counts(*(some.counts() if some else (0, 0)), self._where)
        return {
            key: counts.detection(partial(_back, key[0], self._most))
            for key, counts in self._counts.items()
        }

    def _know(self, logits: Floats) -> None:
        """See to it that all logits are of one kind, and what is to be computed for it."""
        binary = logits.ndim == 1 or logits.shape[1] == 1
        kind = ("binary" if binary else "pixel", classes_of(logits))
        if self._kind not in (None, kind):
            raise refuse(f"logits of {self._kind} and of {kind} in one sweep", self._where)
        if self._kind is None:
            self._kind, self._most = kind, np.float32(np.log(kind[1]))
            for score in self._scores:
                moves = ranking_depends_on_temperature(score, *kind)
                for temperature in self._temperatures if moves else [None]:
                    self._jobs.setdefault(temperature, []).append(score)
                    self._counts[score, temperature] = Histogram()

    def _count(self, temperature: float | None, tails: Tails, anomalous: NDArray[np.bool_]) -> None:
        """All scores of one temperature."""
        wanted = self._jobs[temperature]
        value = temperature or 1.0
        odds: Floats | None = None
        entropy: Floats | None = None
        if wanted != ["max_logit"]:
            odds, entropy = tails.at(value, entropy="max_entropy" in wanted)
        for score in wanted:
            if score == "msp":
                keys = odds
            elif entropy is not None and score == "max_entropy":
                keys = _entropy_key(entropy, self._most)
            elif score == "max_logit" or odds is None:
                keys = -tails.top
            else:
                keys = -(tails.top + np.float32(value) * log_one_more(odds))
            if keys is not None:
                self._counts[score, temperature].add(keys, anomalous)


class ScoreSweep:
    """The same for scores that are there already, such as those of mask models.

    Args:
        where: what the pixels are of, for messages.
    """

    def __init__(self, *, where: str = "") -> None:
        self._where = where
        self._counts: dict[Key, Histogram] = {}

    def update(self, key: Key, scores: Floats, labels: Labels) -> None:
        """Take scores and labels of some pixels in, of any one shape.

        Raises:
            CalibrationError: NaN or infinite scores, shapes that do not fit, labels but 0, 1, 255.
        """
        counts = self._counts.setdefault(key, Histogram())
        some, anomalous = _valid(scores, labels, self._where)
        if len(some):
            counts.add(some, anomalous)

    def result(self) -> dict[Key, Detection]:
        """By key, in the order of their first update.

        Raises:
            CalibrationError: fewer than FEWEST anomalous or normal pixels.
        """
        for key, counts in self._counts.items():
            check_counts(*counts.counts(), f"{self._where} {key[0]}".strip())
        return {key: counts.detection(_same) for key, counts in self._counts.items()}


def detect(scores: Floats, labels: Labels, *, where: str = "") -> Detection:
    """Exactly, by sorting: scores and labels of any one shape; labels as in DetectionSweep.

    Raises:
        CalibrationError: as in ScoreSweep.
    """
    some, anomalous = _valid(scores, labels, where)
    check_counts(int(anomalous.sum()), int((~anomalous).sum()), where)
    values, places = np.unique(some, return_inverse=True)
    found = np.bincount(places[anomalous], minlength=len(values))[::-1]
    normal = np.bincount(places[~anomalous], minlength=len(values))[::-1]
    return judge(found, normal, values[::-1].astype(np.float64), tied=True)


def _valid(scores: Floats, labels: Labels, where: str) -> tuple[Floats, NDArray[np.bool_]]:
    """Scores of pixels that count, and which are anomalous."""
    if scores.shape != labels.shape:
        raise refuse(f"scores have the shape {scores.shape}, labels {labels.shape}", where)
    kept = labels != IGNORE
    some = scores[kept]
    if not np.isfinite(some).all():
        raise refuse(f"{int((~np.isfinite(some)).sum())} scores are NaN or infinite", where)
    return some, split(labels[kept], where)


def _same(keys: Doubles) -> Doubles:
    return keys


def _entropy_key(entropy: Floats, most: np.float32) -> Floats:
    """Log H - log(log K - H) of log H: the unsure end is where anomalies are told apart."""
    left = most - np.exp(entropy)
    np.maximum(left, 1e-7, out=left)
    return entropy - np.log(left, out=left)


def _back(score: str, most: np.float32, keys: Doubles) -> Doubles:
    """What turns the number that is counted into the score."""
    if score not in ("msp", "max_entropy"):
        return keys
    portion: Doubles = 1 / (1 + np.exp(-np.clip(keys, -700, 700)))
    return portion if score == "msp" else portion * np.float64(most)
