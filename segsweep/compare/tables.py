"""The results of a run as tables: read from Parquet, rebuilt from the ledger where need be."""

from __future__ import annotations

from dataclasses import dataclass

import pyarrow as pa

from segsweep.rundir import Run


@dataclass(frozen=True)
class Tables:
    """Results of a run.

    Attributes:
        trials: ``results.TRIALS``, one row a trial.
        images: ``results.IMAGES``; empty where the evidence is gone.
        notes: what was damaged, missing or old, and rebuilt.
    """

    trials: pa.Table
    images: pa.Table
    notes: tuple[str, ...] = ()


def load(run: Run) -> Tables:
    """The tables of a run, which are as new as its ledger.

    A Parquet file that is missing, damaged, of an older schema or older than the ledger is built
    again from the ledger and the evidence beside the checkpoints, and written where no launch
    holds the run; the others are left as they are.

    Raises:
        RunError: a file of a newer schema than this version knows.
    """
    raise NotImplementedError
