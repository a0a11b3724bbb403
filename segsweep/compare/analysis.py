"""From runs to a comparison: the order in which the parts are put together."""

from __future__ import annotations

from collections.abc import Sequence

from segsweep.compare.comparison import Comparison
from segsweep.rundir import Run

ALPHA = 0.05


def analyse(runs: Sequence[Run], *, alpha: float = ALPHA, seed: int = 0) -> Comparison:
    """Compare the champions of one sweep, or of several on the same data and folds.

    Args:
        runs: as ``rundir.load`` returns them, finished or not.
        alpha: level of the tests; intervals are at 1 - alpha.
        seed: of the resampling: the same input gives the same numbers.

    Raises:
        RunError: no config has finished yet; or the runs are of different data, folds, metric or
            holdout, with each difference.
    """
    raise NotImplementedError
