"""Metrics: count first, then score. Counts are exact; what is undefined is None, never 0."""

from segsweep.metrics.boundary import boundary_counts
from segsweep.metrics.counts import confusion, per_class
from segsweep.metrics.ranking import PixelScores
from segsweep.metrics.scores import (
    boundary_scores,
    class_names,
    extra_names,
    score_names,
    scores,
    wanted_extras,
)
from segsweep.metrics.tally import Tally

__all__ = [
    "PixelScores",
    "Tally",
    "boundary_counts",
    "boundary_scores",
    "class_names",
    "confusion",
    "extra_names",
    "per_class",
    "score_names",
    "scores",
    "wanted_extras",
]
