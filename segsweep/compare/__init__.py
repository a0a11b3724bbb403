"""Comparing what a sweep has found. Imports neither torch nor Ray."""

from segsweep.compare.ranking import Ranked, rank, table

__all__ = ["Ranked", "rank", "table"]
