"""Who trains and who validates: the folds of the cross-validation, and the holdout.

Images of one group (a patient) never lie on both sides; strata (diagnoses) are spread as evenly
as the groups allow. The same input and seed give the same answer everywhere.
"""

from __future__ import annotations

import hashlib
import json
import warnings
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sklearn.model_selection import KFold, StratifiedGroupKFold, StratifiedKFold

from segsweep.data.spread import folds_by_classes, holdout_by_classes
from segsweep.errors import DataError, Problem


@dataclass(frozen=True)
class Folds:
    """A k-fold split.

    Attributes:
        k: the number of folds.
        assignment: for each image the fold that it validates.
        hash: 16 hex digits over image ids and assignment.
        notices: what the user should know about the split, one sentence each.
    """

    k: int
    assignment: tuple[int, ...]
    hash: str
    notices: tuple[str, ...] = ()

    def train_indices(self, fold: int) -> NDArray[np.int64]:
        """Positions of the images that fold ``fold`` trains on, ascending."""
        return np.flatnonzero(np.asarray(self.assignment) != self._valid(fold)).astype(np.int64)

    def validation_indices(self, fold: int) -> NDArray[np.int64]:
        """Positions of the images that fold ``fold`` validates on, ascending."""
        return np.flatnonzero(np.asarray(self.assignment) == self._valid(fold)).astype(np.int64)

    def _valid(self, fold: int) -> int:
        if not 0 <= fold < self.k:
            raise IndexError(f"fold {fold} of {self.k}")
        return fold


def everything(image_ids: Sequence[str]) -> Folds:
    """A split of which fold 0 trains on every image and validates on none."""
    nobody = (-1,) * len(image_ids)
    text = json.dumps([1, list(zip(image_ids, nobody, strict=True))], ensure_ascii=True)
    return Folds(1, nobody, hashlib.sha256(text.encode()).hexdigest()[:16])


def make_folds(
    image_ids: Sequence[str],
    *,
    k: int,
    seed: int,
    strata: Sequence[str] | None,
    groups: Sequence[str] | None,
    classes: NDArray[np.bool_] | None = None,
) -> Folds:
    """Splits images into ``k`` folds of about the same size.

    Args:
        image_ids: one for each image.
        k: at least 2.
        seed: decides between the many even splits.
        strata: a value for each image, to be spread evenly; None: no stratification.
        groups: a value for each image; images that share it stay together; None: no groups.
        classes: (N, C) whether a class is in an image's mask, to be spread instead of strata.

    Raises:
        DataError: fewer images or groups than folds.
    """
    _check(image_ids, k, groups)
    if classes is not None:
        spread = folds_by_classes(classes, units_of(image_ids, groups), k, seed)
        return _folds(image_ids, k, spread, [])
    notices = _small_strata(strata, k)
    if strata is not None and max(Counter(strata).values()) < k:
        strata = None
        notices.append(f"no stratum has {k} images: the folds are not stratified")
    assignment = _assign(len(image_ids), k, seed, strata, groups)
    if len(np.unique(assignment)) < k:  # stratifying by groups can leave a fold empty
        notices.append("strata and groups cannot both be met: the folds are not stratified")
        assignment = _assign(len(image_ids), k, seed, None, groups)
    return _folds(image_ids, k, assignment, notices)


def _folds(
    image_ids: Sequence[str], k: int, assignment: NDArray[np.int64], notices: Sequence[str]
) -> Folds:
    listed = [int(fold) for fold in assignment]
    text = json.dumps([k, list(zip(image_ids, listed, strict=True))], ensure_ascii=True)
    digest = hashlib.sha256(text.encode()).hexdigest()[:16]
    return Folds(k, tuple(listed), digest, tuple(notices))


def _check(image_ids: Sequence[str], k: int, groups: Sequence[str] | None) -> None:
    if k < 2:
        raise DataError(Problem(f"{k} folds; there must be at least 2", key="folds.k"))
    if k > len(image_ids):
        what = f"{k} folds for {len(image_ids)} images"
        raise DataError(Problem(what, key="folds.k"))
    if groups is not None and k > len(set(groups)):
        what = f"{k} folds for {len(set(groups))} groups"
        raise DataError(Problem(what, key="folds.k"))


def _small_strata(strata: Sequence[str] | None, k: int) -> list[str]:
    return [
        f"stratum {stratum!r} has {count} images for {k} folds: some folds have none of it"
        for stratum, count in sorted(Counter(strata or ()).items())
        if count < k
    ]


def _assign(
    count: int, k: int, seed: int, strata: Sequence[str] | None, groups: Sequence[str] | None
) -> NDArray[np.int64]:
    # groups alone: one stratum for all, which balances folds by images (GroupKFold: by groups)
    target = np.zeros(count, np.int64) if strata is None else _codes(strata)
    if groups is not None:
        splitter = StratifiedGroupKFold(n_splits=k, shuffle=True, random_state=seed)
    elif strata is not None:
        splitter = StratifiedKFold(n_splits=k, shuffle=True, random_state=seed)
    else:
        splitter = KFold(n_splits=k, shuffle=True, random_state=seed)
    assignment = np.full(count, -1, dtype=np.int64)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # small strata are our notices
        places = np.zeros(count)
        for fold, (_, validation) in enumerate(splitter.split(places, target, groups)):
            assignment[validation] = fold
    return assignment


def _codes(values: Sequence[str]) -> NDArray[np.int64]:
    """Each value's place among the sorted distinct values."""
    return np.unique(np.asarray(values, dtype=object).astype(str), return_inverse=True)[1].ravel()


def units_of(image_ids: Sequence[str], groups: Sequence[str] | None) -> NDArray[np.int64]:
    """The number of each image's group; without groups each image is one."""
    return _codes(groups if groups is not None else [str(i) for i in range(len(image_ids))])


def held_out(fraction: float, count: int) -> int:
    """How many of ``count`` images a holdout of this share is to have; groups may not allow it."""
    return max(1, round(fraction * count))


def split_holdout(
    image_ids: Sequence[str],
    *,
    fraction: float,
    seed: int,
    strata: Sequence[str] | None,
    groups: Sequence[str] | None,
    keep: int = 1,
    classes: NDArray[np.bool_] | None = None,
) -> NDArray[np.bool_]:
    """Chooses whole groups as holdout, the strata in proportion.

    Groups are visited in random order. One joins if it fits and brings the strata nearer to their
    share; then the ones that bring the total nearest join, until none improves it. Where no more
    may join for those that are to be kept, members are exchanged while that brings it nearer.

    Args:
        image_ids: one for each image.
        fraction: the wanted share of images, more than 0 and less than 1.
        seed: decides which.
        strata: as in `make_folds`.
        groups: as in `make_folds`.
        keep: so many groups (images) are left at least, for a fold each.
        classes: as in `make_folds`.

    Returns:
        For each image whether it is held out; at least one is.

    Raises:
        DataError: no more groups (images) than are to be kept, or a fraction out of range.
    """
    key = "dataset.holdout"
    if not 0 < fraction < 1:
        raise DataError(Problem(f"{fraction} is not between 0 and 1", key=key))
    units = units_of(image_ids, groups)
    if len(image_ids) == 0 or units.max() < keep:
        single = " in a single group" if len(image_ids) and units.max() == 0 else ""
        left = f" where {keep} groups or images are kept" if keep > 1 else ""
        what = f"nothing can be held out of {len(image_ids)} images{single}{left}"
        raise DataError(Problem(what, key=key))
    if classes is not None:
        wanted = held_out(fraction, len(image_ids))
        return holdout_by_classes(classes, units, wanted, keep, seed)
    codes = _codes(strata) if strata is not None else np.zeros(len(image_ids), np.int64)
    counts = np.zeros((units.max() + 1, codes.max() + 1), dtype=np.int64)
    np.add.at(counts, (units, codes), 1)
    order = np.random.default_rng(seed).permutation(len(counts))
    chosen = _fill(counts, order, fraction, len(counts) - 1)
    if len(chosen) > len(counts) - keep:
        chosen = _fill(counts, order, fraction, len(counts) - keep)
        chosen = _exchanged(counts.sum(axis=1), order, chosen, held_out(fraction, len(image_ids)))
    return np.isin(units, chosen)


def _fill(
    counts: NDArray[np.int64], order: NDArray[np.int64], fraction: float, most: int
) -> list[int]:
    """The units to hold out, ``most`` of them at most; ``counts``: units × strata."""
    target = fraction * counts.sum(axis=0)
    wanted = held_out(fraction, int(counts.sum()))
    sizes = counts.sum(axis=1)
    taken = np.zeros(counts.shape[1])
    chosen: list[int] = []

    def distance(with_unit: NDArray[np.float64]) -> float:
        return float(((with_unit - target) ** 2).sum())

    for unit in order:
        fits = taken.sum() + sizes[unit] <= wanted and len(chosen) < most
        if fits and distance(taken + counts[unit]) < distance(taken):
            chosen.append(int(unit))
            taken = taken + counts[unit]
    while len(chosen) < most:
        gone = set(chosen)
        left = [int(unit) for unit in order if int(unit) not in gone]
        total = int(taken.sum())

        def rank(
            unit: int, total: int = total, taken: NDArray[np.float64] = taken
        ) -> tuple[float, float]:
            return abs(total + int(sizes[unit]) - wanted), distance(taken + counts[unit])

        best = min(left, key=rank)
        if chosen and rank(best)[0] >= abs(total - wanted):
            break
        chosen.append(best)
        taken = taken + counts[best]
    return chosen


def _exchanged(
    sizes: NDArray[np.int64], order: NDArray[np.int64], chosen: list[int], wanted: int
) -> list[int]:
    """As many units, some of them others, whose sizes add up to nearer what is wanted."""
    chosen = list(chosen)
    while True:
        gone = set(chosen)
        left = [int(unit) for unit in order if int(unit) not in gone]
        ours, own = np.unique(sizes[chosen], return_index=True)
        theirs, other = np.unique(sizes[left], return_index=True)
        total = int(sizes[chosen].sum())
        miss = np.abs(total - ours[:, None] + theirs - wanted)
        out, into = np.unravel_index(int(np.argmin(miss)), miss.shape)
        if miss[out, into] >= abs(total - wanted):
            return chosen
        chosen[int(own[out])] = left[int(other[into])]
