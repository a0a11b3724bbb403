"""Comparing what a sweep has found. Imports neither torch nor Ray.

``analyse`` alone needs scipy, a second to load, which no other command is to wait for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

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

if TYPE_CHECKING:
    from segsweep.compare.analysis import analyse

__all__ = [
    "FORMATS", "Comparison", "Ranked", "analyse", "race_summary", "races", "rank", "rank_state",
    "reduced", "table",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    if name == "analyse":
        from segsweep.compare.analysis import analyse

        return analyse
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
