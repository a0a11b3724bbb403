"""Every score of a split with an interval: other images of the same kind, drawn in whole groups."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from segsweep.metrics import scores
from segsweep.rundir import Run

RESAMPLES: Final = 1000
Interval = dict[str, float | None]


def intervals(
    matrix: NDArray[np.int64],
    classes: Sequence[str],
    groups: Sequence[str] | None = None,
    resamples: int = RESAMPLES,
) -> dict[str, Interval]:
    """Scores of a split, each with its 95 % percentile bootstrap interval.

    Args:
        matrix: (N, K, K) confusion matrices of N images.
        classes: names of the K classes.
        groups: (N,) patient, scene, … of each image: drawn together. None: each on its own.
        resamples: how often they are drawn.

    Returns:
        name → ``value``, ``low``, ``high``; None where undefined, the ends too where there is
        one group only.
    """
    value = scores(matrix, classes)
    names = list(groups) if groups is not None else [str(place) for place in range(len(matrix))]
    members = [np.flatnonzero(np.asarray(names) == name) for name in dict.fromkeys(names)]
    rng = np.random.default_rng(0)
    drawn: dict[str, list[float]] = {name: [] for name in value}
    for _ in range(resamples if len(members) > 1 else 0):
        chosen = rng.integers(len(members), size=len(members))
        images = np.concatenate([members[place] for place in chosen])
        for name, found in scores(matrix[images], classes).items():
            if found is not None:
                drawn[name].append(found)
    return {name: _interval(point, drawn[name]) for name, point in value.items()}


def _interval(value: float | None, drawn: Sequence[float]) -> Interval:
    ends = np.percentile(drawn, [2.5, 97.5]) if drawn else (None, None)
    low, high = (None if end is None else float(end) for end in ends)
    return {"value": value, "low": low, "high": high}


def groups_of(run: Run, image_ids: Sequence[str]) -> list[str] | None:
    """The group of each image, where the sweep has ``folds.group_by``."""
    groups: dict[str, str] = run.split.get("groups") or {}
    return [groups[image] for image in image_ids] if groups else None


def words(run: Run) -> str:
    """How the intervals came about."""
    by = run.spec.folds.group_by
    what = f"images that share `{by}` are drawn together" if by else "images are drawn"
    return (
        f"95 % percentile bootstrap: {what}, {RESAMPLES} times with replacement (seed 0), "
        f"each {'group' if by else 'one'} as if independent of the others"
    )
