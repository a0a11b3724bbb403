"""Every score of a split with an interval: other images of the same kind, drawn in whole groups."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from segsweep import bootstrap
from segsweep.bootstrap import Doubles, Integers, Replicas
from segsweep.compare.resting import resting
from segsweep.compare.scoring import Scorer, scorer
from segsweep.metrics import scores
from segsweep.metrics.counts import per_class
from segsweep.metrics.scores import class_names
from segsweep.rundir import Run

RESAMPLES: Final = 1000
Interval = dict[str, Any]


def intervals(
    matrix: NDArray[np.int64],
    classes: Sequence[str],
    groups: Sequence[str] | None = None,
    resamples: int = RESAMPLES,
) -> dict[str, Interval]:
    """Scores of a split, each with its 95 % interval (``segsweep.bootstrap``).

    Args:
        matrix: (N, K, K) confusion matrices of N images; or (R, N, K, K) of R replicates on the
            same images, whose scores are averaged.
        classes: names of the K classes.
        groups: (N,) patient, scene, … of each image: drawn together. None: each on its own.
        resamples: how often they are drawn.

    Returns:
        name → ``value``, ``low``, ``high``, None where undefined or where there is no interval;
        ``no_interval`` says why there is none.
    """
    models = matrix if matrix.ndim == 4 else matrix[None]
    value = _mean([scores(one, classes) for one in models])
    names = list(groups) if groups is not None else [str(place) for place in range(len(models[0]))]
    units = _in_order(names)
    counted = [_counts(one) for one in models]
    own = class_names(classes)
    known = [one for name in value if (one := scorer(name, own)) is not None]

    def drawn(weights: Doubles) -> Doubles:
        each = [[score(one, weights) for score in known] for one in counted]
        found: Doubles = np.stack(np.mean(each, axis=0), axis=1)
        return found

    once = drawn(np.ones((1, len(units))))[0]
    found = bootstrap.values(drawn, units, resamples, np.random.default_rng(0))
    made = {name: _none(value[name], "it is undefined") for name in value}
    for place, score in enumerate(known):
        replicas = Replicas(float(once[place]), found[:, place])
        made[score.name] = _interval(value[score.name], replicas, score, counted[0], units)
    return made


def _interval(
    value: float | None, replicas: Replicas, score: Scorer, counts: Doubles, units: Integers
) -> Interval:
    if value is None:
        return _none(None, "it is undefined")
    behind = resting(score.name, counts, units, score.label)
    if behind.refused is not None:
        return _none(value, behind.refused)
    low, high = bootstrap.interval(value, replicas.spread(behind), least=0.0, most=1.0)
    return {"value": value, "low": low, "high": high, "no_interval": None}


def _none(value: float | None, why: str) -> Interval:
    return {"value": value, "low": None, "high": None, "no_interval": why}


def _mean(several: Sequence[dict[str, float | None]]) -> dict[str, float | None]:
    """Of each score over replicates; None where it is undefined for one."""
    found: dict[str, float | None] = {}
    for name in several[0]:
        values = [value for one in several if (value := one[name]) is not None]
        found[name] = float(np.mean(values)) if len(values) == len(several) else None
    return found


def _counts(matrix: NDArray[np.int64]) -> Doubles:
    """(N, K, 4) tp, fp, fn, valid; of two classes the scored one alone."""
    found = per_class(matrix)
    valid = np.broadcast_to(found["valid"][:, None], found["tp"].shape)
    counts = np.stack([found["tp"], found["fp"], found["fn"], valid], axis=-1).astype(np.float64)
    return counts[:, 1:] if counts.shape[1] == 2 else counts


def _in_order(names: Sequence[str]) -> Integers:
    """Numbers from 0 for names, in the order of their first images."""
    places = {name: place for place, name in enumerate(dict.fromkeys(names))}
    return np.asarray([places[name] for name in names], np.int64)


def remarks(found: dict[str, Interval], kind: str, drawn: int) -> Iterator[str]:
    """Where scores have no interval, and why; and whether the others' are rough.

    Args:
        found: of ``intervals``.
        kind: what was drawn, ``images`` or ``groups``.
        drawn: how many of them there are.
    """
    reasons: dict[str, list[str]] = {}
    for name, one in found.items():
        if one["value"] is not None and one["no_interval"] is not None:
            reasons.setdefault(one["no_interval"], []).append(name)
    scored = sum(one["value"] is not None for one in found.values())
    for why, names in reasons.items():
        which = "any score" if len(names) == scored else ", ".join(names)
        yield f"No interval of {which}: {why}."
    if bootstrap.FEWEST <= drawn < bootstrap.FEW:
        yield f"Intervals rest on {drawn} {kind}, and are rough."


def groups_of(run: Run, image_ids: Sequence[str]) -> list[str] | None:
    """The group of each image, where the sweep has ``folds.group_by``."""
    groups: dict[str, str] = run.split.get("groups") or {}
    return [groups[image] for image in image_ids] if groups else None


def words(run: Run) -> str:
    """How the intervals came about."""
    by = run.spec.folds.group_by
    what = f"images that share `{by}` are drawn together" if by else "images are drawn"
    return (
        f"95 %: {what}, {RESAMPLES} times with replacement (seed 0), each "
        f"{'group' if by else 'one'} as if independent of the others; Student's t, corrected for "
        "the draws' skewness"
    )
