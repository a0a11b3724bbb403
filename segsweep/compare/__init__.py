"""Comparing what a sweep has found. Imports neither torch nor Ray."""

from segsweep.compare.ranking import (
    Ranked,
    race_summary,
    races,
    rank,
    rank_state,
    reduced,
    table,
)

__all__ = ["Ranked", "race_summary", "races", "rank", "rank_state", "reduced", "table"]
