"""Generated data sets, and how each is split into holdout and folds, recorded once.

``python -m tests.data.recorded_splits`` prints the table; the one in ``recorded_splits.json`` was
printed by the code of 28 November 2026 and is never printed anew: a run that was recorded then must
find its folds again.
"""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Iterator
from typing import Any

import numpy as np

from segsweep.data.folds import make_folds, split_holdout
from segsweep.errors import DataError

HOLDOUTS = (0, 0.05, 0.2, 0.25, 0.5)
FOLDS = (2, 3, 5)
KINDS = list(itertools.product((6, 12, 37, 150), (False, True), ("none", "pairs", "uneven")))


def cases() -> Iterator[tuple[str, dict[str, Any]]]:
    """Name and arguments of each split."""
    for (images, stratified, grouped), holdout, k in itertools.product(KINDS, HOLDOUTS, FOLDS):
        rng = np.random.default_rng(images)
        words = rng.choice(["common", "rare", "odd"], images, p=[0.7, 0.2, 0.1])
        uneven = np.minimum(rng.geometric(0.3, images), 8)
        groups = {"none": None, "pairs": np.arange(images) // 2, "uneven": uneven}[grouped]
        yield (
            f"{images} {'strata' if stratified else 'plain'} {grouped} {holdout} {k}",
            {
                "ids": [f"i{n:03d}" for n in range(images)],
                "strata": [str(word) for word in words] if stratified else None,
                "groups": None if groups is None else [f"g{n}" for n in groups],
                "holdout": holdout,
                "k": k,
            },
        )


def split(case: dict[str, Any], **more: Any) -> str:
    """A digest of who is held out and of the folds of the others; why not, where there are none.

    Args:
        case: of `cases`.
        more: further arguments of `split_holdout`.
    """
    ids, strata, groups = case["ids"], case["strata"], case["groups"]
    held = np.zeros(len(ids), bool)
    try:
        if case["holdout"]:
            held = split_holdout(
                ids, fraction=case["holdout"], seed=3, strata=strata, groups=groups, **more
            )
        left = [int(place) for place in np.flatnonzero(~held)]
        folds = make_folds(
            [ids[place] for place in left],
            k=case["k"],
            seed=3,
            strata=None if strata is None else [strata[place] for place in left],
            groups=None if groups is None else [groups[place] for place in left],
        )
    except DataError:
        return "refused"
    text = json.dumps([held.tolist(), list(folds.assignment), folds.hash])
    return hashlib.sha256(text.encode()).hexdigest()[:12]


if __name__ == "__main__":
    print(json.dumps({name: split(case) for name, case in cases()}, indent=0))
