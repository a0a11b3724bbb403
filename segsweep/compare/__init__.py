"""Comparing what a sweep has found. Imports neither torch nor Ray."""

from segsweep.compare.ranking import Ranked, race_summary, races, rank, table

__all__ = ["Ranked", "race_summary", "races", "rank", "table"]
