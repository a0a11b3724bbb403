"""What ends a sweep, or a run of it, early: ``early_terminate`` and ``run_cap``."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from segsweep.importing.conversion import Conversion

AT = "early_terminate"
ETA = 3  # W&B's default
NONE = {"type": "none"}
MOST_BRACKETS = 64  # beyond, a first bracket is below one epoch


def stopping(work: Conversion) -> None:
    """``early_terminate``, whose only type is hyperband."""
    given = work.given.get(AT)
    if not isinstance(given, Mapping) or given.get("type") != "hyperband":
        if given is not None:
            work.leave((AT,), "is of no known type: left out")
        work.data["early_stopping"] = dict(NONE)
        return
    factor = work.whole((AT, "eta"), 2) or ETA
    least, most = work.whole((AT, "min_iter"), 1), work.whole((AT, "max_iter"), 1)
    brackets = work.whole((AT, "s"), 1) or 1
    grace = 1
    if least is not None:
        grace = least
        for key in ("max_iter", "s"):
            if key in given:
                work.leave((AT, key), "min_iter says where the first bracket is: left out")
    elif most is not None:
        # W&B's first bracket is at max_iter / eta^s
        grace = max(1, most // factor ** min(brackets, MOST_BRACKETS))
        _epochs(work, most)
    work.data["early_stopping"] = {
        "type": "hyperband",
        "grace_period": grace,
        "reduction_factor": factor,
    }
    work.leave((AT,), "counts epochs here, not calls of log")
    for key in given:
        if key not in ("type", "eta", "min_iter", "max_iter", "s"):
            work.leave((AT, key), "has no counterpart")


def _epochs(work: Conversion, most: int) -> None:
    """Where nothing else says how long a run is, its last bracket does."""
    if "train.epochs" not in work.places:
        path = work.places["train.epochs"] = (AT, "max_iter")
        work.data.setdefault("train", {})["epochs"] = most
        work.leave(path, "is written train.epochs, too: no parameter says how many there are")


def budget(work: Conversion) -> None:
    """``run_cap``, which counts runs, as configs a cell; levels are known to be lists."""
    cap = work.whole(("run_cap",), 1)
    if cap is None:
        return
    if work.data["method"] == "grid":
        work.leave(("run_cap",), "a grid runs every combination: left out")
    elif not work.data.get("parameters"):
        work.leave(("run_cap",), "nothing is searched, so a cell is one config: left out")
    elif "configs_per_cell" in work.data:
        work.leave(("run_cap",), "configs_per_cell is given: left out")
    else:
        factors: Mapping[str, list[Any]] = work.data.get("factors", {})
        count = math.prod(len(levels) for levels in factors.values())
        work.data["configs_per_cell"] = max(1, cap // count)
        what = f"is {work.data['configs_per_cell']} configs in each of {count} cells"
        work.leave(("run_cap",), what, "each config runs folds.k times, once a fold")
