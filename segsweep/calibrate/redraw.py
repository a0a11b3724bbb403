"""What anomaly scores are worth on images drawn with replacement: what is behind an interval."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from segsweep import bootstrap
from segsweep.bootstrap import Doubles, Groups, Replicas, Spread
from segsweep.calibrate.logits_file import Logits
from segsweep.calibration.detection import METRICS
from segsweep.identity import digest
from segsweep.metrics.ranking import rank_bins

DRAWS = 300  # of images
BINS: Final = 1024  # of a score, equally full

Drawn = Mapping[str, Replicas]


def behind(logits: Logits, units: NDArray[np.int64]) -> Groups:
    """What anomaly scores rest on: the fewer of the images with anomalous, and normal, pixels."""
    kinds = [
        np.bincount(logits.image_of[logits.anomaly == kind], minlength=len(logits.image_ids))
        for kind in (0, 1)
    ]
    return bootstrap.fewest([bootstrap.groups(units, one.astype(np.float64)) for one in kinds])


def resampled(
    scores: NDArray[np.float32], logits: Logits, units: NDArray[np.int64]
) -> dict[str, Replicas]:
    """Every metric on images drawn with replacement, from scores in ``BINS`` bins.

    Draws have anomalous and normal pixels. The same images are drawn alike for every model, and
    other images otherwise: the folds of a mean are drawn independently.
    """
    counts = _image_counts(scores, logits)
    key = digest([logits.facts.get("dataset"), list(logits.image_ids)])
    rng = np.random.default_rng(int(key[:12], 16))
    has = (counts.sum(axis=2) > 0).astype(np.float64)  # normal, anomalous pixels of each image

    def defined(weights: Doubles) -> NDArray[np.bool_]:
        found: NDArray[np.bool_] = (weights @ has > 0).all(axis=1)
        return found

    times = bootstrap.weights(units, DRAWS, rng, defined)
    every = np.concatenate([np.ones((1, len(units))), times])
    pooled = (every @ counts.reshape(len(counts), -1)).round().astype(np.int64)
    found: dict[str, list[float]] = {metric: [] for metric in METRICS}
    for negatives, positives in pooled.reshape(len(every), 2, BINS)[:, :, ::-1]:
        used = positives + negatives > 0
        for metric, value in _metrics(positives[used], negatives[used]).items():
            found[metric].append(value)
    return {name: Replicas(own[0], np.asarray(own[1:])) for name, own in found.items()}


@dataclass(frozen=True)
class Part:
    """One fold model's number: the images that it is of, and its draws."""

    image_ids: tuple[str, ...]
    replicas: Replicas
    behind: Groups


def together(parts: Sequence[Part]) -> Spread:
    """Of the mean over fold models: those of one set of images share its draws."""
    sets: dict[tuple[str, ...], list[Part]] = {}
    for part in parts:
        sets.setdefault(part.image_ids, []).append(part)
    total = Spread(0.0)
    for own in sets.values():
        drawn: Doubles = np.mean([one.replicas.drawn for one in own], axis=0)
        mean = Replicas(float(np.mean([one.replicas.once for one in own])), drawn)
        total = total + mean.spread(own[0].behind).times(len(own) / len(parts))
    return total


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
