"""Several runs side by side: only where their numbers mean the same."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segsweep.errors import Problem, RunError
from segsweep.rundir import Run


def refuse_different(runs: Sequence[Run]) -> None:
    """Runs are compared where images, folds, holdout and metric are the same.

    Raises:
        RunError: every difference from the first run.
    """
    first, problems = runs[0], []
    for run in runs[1:]:
        if run.path.resolve() == first.path.resolve():
            problems.append(Problem("is given twice", str(run.path)))
            continue
        ours, theirs = facts(first), facts(run)
        for what, (key, hint) in _WHAT.items():
            if ours[what] != theirs[what]:
                text = f"cannot be compared with {first.spec.name}: {what} differ"
                values = "" if what in _LONG else f" ({ours[what]} and {theirs[what]})"
                problems.append(Problem(text + values, str(run.path), key, hint))
    if problems:
        raise RunError(problems)


_SAME_DATA = "scores on different images say nothing about each other; launch both on the same data"
_SAME_FOLDS = "use the same `folds:` and `seed:` in both sweep files"
_WHAT = {
    "images or their size (data hashes)": ("dataset", _SAME_DATA),
    "the images in each fold (split hashes)": ("folds", _SAME_FOLDS),
    "the images held out": ("dataset.holdout", _SAME_DATA),
    "the numbers of folds that were run": ("folds.run", _SAME_FOLDS),
    "the replicates": ("replicates", "use the same `replicates:` in both sweep files"),
    "the metrics": ("metric", "use the same `metric:` in both sweep files"),
    "the definitions of scores (identity versions)": (
        "",
        "segsweep has changed a definition between the two: launch the older sweep anew",
    ),
}
_LONG = ("the images held out",)


def facts(run: Run) -> dict[str, Any]:
    """What has to be the same, by the words it is called by."""
    data, spec = run.split, run.spec
    values = (
        data.get("fingerprint"),
        data.get("folds_hash"),
        sorted(data.get("holdout", [])),
        spec.folds.count,
        spec.replicates,
        f"{spec.metric.name} {spec.metric.goal}",
        run.identity,
    )
    return dict(zip(_WHAT, values, strict=True))


def codes(image_ids: Sequence[str], groups: Mapping[str, str]) -> NDArray[np.int64]:
    """(N,) from 0: images that share a number are drawn together.

    Args:
        image_ids: N of them.
        groups: image id → group; images that are not in it are groups of their own.
    """
    names = [groups.get(name, f"\0{name}") for name in image_ids]
    return np.unique(names, return_inverse=True)[1].astype(np.int64)


def names(runs: Sequence[Run]) -> list[str]:
    """What each run is called; its directory's name with its parent's, where two share a name."""
    plain = [run.spec.name for run in runs]
    return [
        f"{run.path.resolve().parent.name}/{name}" if plain.count(name) > 1 else name
        for run, name in zip(runs, plain, strict=True)
    ]


def done(run: Run) -> bool:
    """The last launch has come to its end."""
    for event in reversed(run.events):
        if event["event"] == "launch":
            return False
        if event["event"] == "close":
            return bool(event["status"] == "done")
    return False
