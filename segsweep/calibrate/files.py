"""What the calibration and anomaly sweeps leave: two Parquet files and ``calibration.json``.

======================= ======================================================================
calibration.parquet     one row a model × fold × dataset × region × scaling × T × metric; ``fold``
                        is null where fold models are pooled (``of`` config) or averaged (``of``
                        ensemble). ``gain`` is how much lower (better) than at T = 1, with the
                        interval of draws of images, or where ``grouped`` of groups of them
                        (``folds.group_by``); ``fitted`` rows are of images that the
                        scaling was not fitted on; T is null where a scaling has more numbers
                        ``used``: the T's that the row's value was measured with; where there are
                        several, ``temperature`` is that of all images together. ``fit``: how they
                        were fitted, see ``sweep``; null: not at all. ``at_bound``: a fit has no
                        minimum, or the best T is the end of the grid. ``error``: how far ``value``
                        can be off for being counted in bins. ``rests_on``: images, or groups,
                        behind the interval; ``no_interval``: why there is none
anomaly.parquet         one row a model × fold × dataset × score × T × metric; ``fold`` null: mean
                        over fold models; T null: no T changes the score's ranking
calibration.json        the fitted temperatures, for whoever uses a model: see `fitted_file`
======================= ======================================================================

All three are written after everything was computed, each in one step.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pyarrow.parquet as pq

from segsweep.calibration.temperature import BOUNDS, Fit
from segsweep.rundir import write_atomically

SCHEMA_VERSION: Final = "3"
FITTED: Final = "calibration.json"

Row = dict[str, Any]

TEXT, WHOLE, REAL, FLAG = pa.string(), pa.int64(), pa.float64(), pa.bool_()
_WHOSE = [
    ("config_id", TEXT), ("cell", TEXT), ("model", TEXT), ("of", TEXT), ("fold", WHOLE),
    ("replicate", WHOLE), ("dataset", TEXT), ("grouped", FLAG),
]  # fmt: skip
_VALUE = [
    ("metric", TEXT), ("value", REAL), ("low", REAL), ("high", REAL), ("gain", REAL),
    ("gain_low", REAL), ("gain_high", REAL), ("images", WHOLE), ("error", REAL),
    ("rests_on", WHOLE), ("no_interval", TEXT), ("fit", TEXT), ("used", pa.list_(REAL)),
]  # fmt: skip
CALIBRATION = pa.schema(
    [
        *_WHOSE, ("region", TEXT), ("scaling", TEXT), ("fitted", FLAG), ("at_bound", FLAG),
        ("temperature", REAL), *_VALUE, ("accuracy", REAL), ("miou", REAL), ("pixels", WHOLE),
        ("sampled", FLAG),
    ],
    metadata={"segsweep_schema": SCHEMA_VERSION},
)  # fmt: skip
ANOMALY = pa.schema(
    [
        *_WHOSE, ("score", TEXT), ("temperature", REAL), ("fitted", FLAG), ("best", FLAG),
        ("at_bound", FLAG), *_VALUE, ("threshold", REAL), ("anomalous", WHOLE), ("normal", WHOLE),
    ],
    metadata={"segsweep_schema": SCHEMA_VERSION},
)  # fmt: skip


def write(
    folder: Path, calibration: Sequence[Row], anomaly: Sequence[Row], fitted: Mapping[str, Any]
) -> None:
    """Write all three; a file of rows that there are none of is removed, lest it be taken for new.

    Raises:
        OSError: the disk is full; files are whole, old or new.
    """
    results = folder / "results"
    results.mkdir(parents=True, exist_ok=True)
    tables = (("calibration", calibration, CALIBRATION), ("anomaly", anomaly, ANOMALY))
    ready: list[tuple[Path, Path]] = []
    try:
        for name, rows, schema in tables:
            temporary = results / f".{name}.parquet.{os.getpid()}.tmp"
            ready.append((temporary, results / f"{name}.parquet"))
            pq.write_table(pa.Table.from_pylist(list(rows), schema=schema), temporary)
        for temporary, path in ready:
            temporary.replace(path)
    finally:
        for temporary, _ in ready:
            temporary.unlink(missing_ok=True)
    write_atomically(folder / FITTED, json.dumps(fitted, indent=2) + "\n")


def fitted_file(models: Sequence[Mapping[str, Any]], data: str) -> dict[str, Any]:
    """The content of ``calibration.json``.

    ::

        version    1
        data       fingerprint of the images
        bounds     of T, [lowest, highest]
        models     one entry a config:
          config_id cell
          temperature      T of the config, fitted on the out-of-fold logits of all folds: for
                           whoever uses one of its fold models on new images. Divide logits by it
          folds            of each fold model: fold, replicate, checkpoint (SHA-256 of its best
                           checkpoint), temperature (fitted on its own validation images)
          ensemble         null, or T of the mean of the fold models' probabilities, fitted on the
                           holdout: softmax(log(mean) / T)
          diagrams         reliability of the out-of-fold pixels, one a scaling: scaling, and by
                           bin of confidence pixels, mean confidence and accuracy (null: empty)

    Every fit has: temperature, error, at_bound, nll, nll_before, pixels, images, fitted_on.

    Args:
        models: as above.
        data: the fingerprint.
    """
    return {"version": 1, "data": data, "bounds": list(BOUNDS), "models": list(models)}


def fit_entry(fit: Fit, fitted_on: str, images: int) -> dict[str, Any]:
    """A fit as ``calibration.json`` has it."""
    return {
        "temperature": fit.temperature,
        "error": fit.error,
        "at_bound": fit.at_bound,
        "nll": fit.nll,
        "nll_before": fit.nll_before,
        "pixels": fit.pixels,
        "images": images,
        "fitted_on": fitted_on,
    }
