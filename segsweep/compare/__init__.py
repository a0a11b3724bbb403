"""Comparing what a sweep has found. Imports neither torch nor Ray."""

from segsweep.compare.analysis import analyse
from segsweep.compare.comparison import Comparison
from segsweep.compare.formats import FORMATS
from segsweep.compare.ranking import (
    Ranked,
    race_summary,
    races,
    rank,
    rank_state,
    reduced,
    table,
)

__all__ = [
    "FORMATS", "Comparison", "Ranked", "analyse", "race_summary", "races", "rank", "rank_state",
    "reduced", "table",
]  # fmt: skip
