"""Metrics: count first, then score. Counts are exact; what is undefined is None, never 0."""

from segsweep.metrics.counts import confusion, per_class
from segsweep.metrics.scores import score_names, scores

__all__ = ["confusion", "per_class", "score_names", "scores"]
