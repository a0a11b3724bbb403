"""Every score of a split with an interval: other images of the same kind, drawn in whole groups."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from segsweep.metrics import scores
from segsweep.rundir import Run

RESAMPLES: Final = 1000
HELD: Final = 10_000_000  # numbers of draws × images that are in memory at a time
# the mean over images of what one image alone has
BY_IMAGE: Final = frozenset(
    {"iou_per_image", "f1_per_image", "miou_present", "miou_per_image_present"}
)
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
    kinds, member = np.unique(names, return_inverse=True)
    if len(kinds) < 2:
        return {name: _interval(point, []) for name, point in value.items()}
    rng = np.random.default_rng(0)
    order = _first_seen(member)
    drawn: dict[str, list[float]] = {name: [] for name in value}
    for start in range(0, resamples, step := max(1, HELD // len(matrix))):
        counts = _counts(rng, min(step, resamples - start), len(kinds))
        counts = counts[:, order[member]]  # (draws, images): how often each image is there
        found = _pooled(matrix, counts, classes) | _by_image(matrix, counts, classes)
        for name, values in found.items():
            drawn[name] += values
    return {name: _interval(point, drawn[name]) for name, point in value.items()}


def _counts(rng: np.random.Generator, draws: int, kinds: int) -> NDArray[np.float64]:
    """(draws, kinds) how often each group is drawn, of as many as there are."""
    rows = [np.bincount(rng.integers(kinds, size=kinds), minlength=kinds) for _ in range(draws)]
    return np.stack(rows).astype(np.float64)


def _first_seen(member: NDArray[np.int64]) -> NDArray[np.int64]:
    """The place of each group among all, in the order of their first images."""
    _, first = np.unique(member, return_index=True)
    return np.argsort(np.argsort(first))


def _pooled(
    matrix: NDArray[np.int64], counts: NDArray[np.float64], classes: Sequence[str]
) -> dict[str, list[float]]:
    """Scores over all pixels of a draw, from one product: exact, below 2**53 pixels."""
    size = matrix.shape[-1]
    sums = (counts @ matrix.reshape(len(matrix), -1).astype(np.float64)).round().astype(np.int64)
    found: dict[str, list[float]] = {name: [] for name in scores(matrix, classes)}
    for one in sums.reshape(-1, 1, size, size):
        for name, score in scores(one, classes).items():
            if score is not None:
                found[name].append(score)
    return found


def _by_image(
    matrix: NDArray[np.int64], counts: NDArray[np.float64], classes: Sequence[str]
) -> dict[str, list[float]]:
    """Scores that are means over images: those of each, weighted by how often it was drawn."""
    each = [scores(one[None], classes) for one in matrix]
    found = {}
    for name in BY_IMAGE & each[0].keys():
        values = np.array([np.nan if one[name] is None else one[name] for one in each], float)
        known = np.isfinite(values)
        weights = counts[:, known].sum(axis=1)
        sums = counts[:, known] @ values[known]
        found[name] = (sums[weights > 0] / weights[weights > 0]).tolist()
    return found


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
