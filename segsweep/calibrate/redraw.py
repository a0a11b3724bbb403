"""What anomaly scores are worth on images drawn with replacement: what is behind an interval."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from segsweep.calibrate.logits_file import Logits
from segsweep.calibration.curve import widened
from segsweep.calibration.detection import METRICS
from segsweep.identity import digest
from segsweep.metrics.ranking import rank_bins

DRAWS = 200  # of images
TRIES = 100  # for a draw that has anomalous and normal pixels
BINS: Final = 1024  # of a score, equally full

Draws = NDArray[np.float64]


def resampled(
    scores: NDArray[np.float32], logits: Logits, units: NDArray[np.int64]
) -> dict[str, Draws]:
    """Every metric, (DRAWS,), of images drawn with replacement, from scores in ``BINS`` bins.

    A draw without an anomaly is made anew, ``TRIES`` times at most, and then NaN: a mean over many
    folds would be NaN nearly always, for a single fold of them. The same images are drawn alike
    for every model, and other images otherwise: the folds of a mean are drawn independently.
    """
    counts = _image_counts(scores, logits)
    size = int(units.max()) + 1
    key = digest([logits.facts.get("dataset"), list(logits.image_ids)])
    generator = np.random.default_rng(int(key[:12], 16))
    found: dict[str, list[float]] = {metric: [] for metric in METRICS}
    has = counts.sum(axis=2) > 0  # normal, anomalous pixels of each image
    for _ in range(DRAWS):
        for _ in range(TRIES):
            times = np.bincount(generator.integers(0, size, size), minlength=size)[units]
            if has[times > 0].any(axis=0).all():
                break
        negatives, positives = np.einsum("i,icb->cb", times, counts)[:, ::-1]
        used = positives + negatives > 0
        for metric, value in _metrics(positives[used], negatives[used]).items():
            found[metric].append(value)
    return {metric: _wide(np.asarray(values), size) for metric, values in found.items()}


def _wide(values: Draws, units: int) -> Draws:
    """The same draws about the same mean, ``widened``."""
    known = values[~np.isnan(values)]
    mean = known.mean() if len(known) else np.nan
    wide: Draws = mean + widened(values - mean, units)
    return wide


def _image_counts(scores: NDArray[np.float32], logits: Logits) -> NDArray[np.int64]:
    """(I, 2, BINS) normal and anomalous pixels by bin, upwards."""
    valid = logits.anomaly <= 1
    kept, labels, image = scores[valid], logits.anomaly[valid], logits.image_of[valid]
    edges = np.unique(np.quantile(kept, np.linspace(0, 1, BINS + 1)[1:-1]))
    bins = np.searchsorted(edges, kept, side="right")
    flat = (image * 2 + labels) * BINS + bins
    size = len(logits.image_ids)
    return np.bincount(flat, minlength=size * 2 * BINS).reshape(size, 2, BINS)


def _metrics(positives: NDArray[np.int64], negatives: NDArray[np.int64]) -> dict[str, float]:
    """From counts by bin, the highest scores first."""
    count_p, count_n = int(positives.sum()), int(negatives.sum())
    if not count_p or not count_n:
        return dict.fromkeys(METRICS, np.nan)
    ranked = rank_bins(positives, negatives)
    true, false = np.cumsum(positives), np.cumsum(negatives)
    anomalous = true / (count_p + false)
    normal = (count_n - false) / (count_n + count_p - true)
    rates = np.append(0, true / count_p), np.append(0, false / count_n)
    return {
        "auprc": ranked.ap.value or 0.0,
        "auroc": ranked.auroc.value or 0.0,
        "fpr95_interpolated": float(np.interp(0.95, *rates)),
        "fpr95_first": ranked.fpr95.value if ranked.fpr95.value is not None else np.nan,
        "miou": float(((anomalous + normal) / 2).max()),
    }
