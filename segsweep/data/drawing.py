"""Who is held out: by the official split, by attributes, or by the classes in the masks.

The first two are known before anything is decoded, the last one only afterwards.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from segsweep.data import spread
from segsweep.data.content import by_classes, label_counts
from segsweep.data.folds import split_holdout
from segsweep.data.leave_out import kept
from segsweep.data.room import Room
from segsweep.data.sources.base import Sample
from segsweep.errors import DataError, Problem
from segsweep.registry import suggest


@dataclass(frozen=True)
class Drawing:
    """How the holdout is drawn.

    Attributes:
        holdout: the share to hold out, 0 for none, or ``"official"`` for the source's own.
        seed: decides who is held out.
        stratify_by: the attribute that it is stratified by, or ``"classes"``.
        group_by: the attribute whose groups are held out as a whole.
        folds: how many there are to be of the rest.
        official: the official split that is held out.
    """

    holdout: float | Literal["official"]
    seed: int
    stratify_by: str | None
    group_by: str | None
    folds: int
    official: str

    def before(self, samples: Sequence[Sample]) -> tuple[NDArray[np.bool_] | None, list[Any]]:
        """Draws before anything is decoded, where that can be.

        Returns:
            For each sample whether it is held out, None where the masks decide; and what the
            cache's key is to say of it. That is who is held out, not the settings that it came
            from: without a holdout the seed changes nothing. Where the masks decide, it is all
            that they decide by.

        Raises:
            DataError: settings that do not fit each other or the data.
        """
        if self.holdout != "official" and not 0 <= self.holdout < 1:
            what = f"{self.holdout!r} is neither 'official' nor a number from 0 to less than 1"
            raise DataError(Problem(what, key="dataset.holdout"))
        spreads = self._spreads(samples)
        strata = None if spreads else attribute(samples, self.stratify_by, "folds.stratify_by")
        groups = attribute(samples, self.group_by, "folds.group_by")
        official = [sample.split == self.official for sample in samples]
        room = Room(groups, official, self.folds, self.holdout, split=self.official)
        if (problem := room.problem()) is not None:
            raise DataError(problem)
        if self.holdout == "official":
            held = np.asarray(official)
        elif self.holdout == 0:
            held = np.zeros(len(samples), np.bool_)
        elif spreads:
            recipe = [self.stratify_by, self.holdout, self.seed, self.group_by, self.folds]
            return None, [*recipe, spread.VERSION]
        else:
            held = self._split(samples, strata, groups, None)
        return held, held.tolist()

    def after(
        self,
        samples: Sequence[Sample],
        masks: NDArray[np.uint8],
        classes: Sequence[str],
        leave_out: Sequence[str],
    ) -> NDArray[np.bool_]:
        """Draws by the classes in all masks (N, H, W), of those that are left to learn."""
        labels = [classes.index(name) for name in kept(classes, leave_out)]
        present = label_counts(masks, len(classes))[:, labels] > 0
        groups = attribute(samples, self.group_by, "folds.group_by")
        return self._split(samples, None, groups, present)

    def _split(
        self,
        samples: Sequence[Sample],
        strata: Sequence[str] | None,
        groups: Sequence[str] | None,
        classes: NDArray[np.bool_] | None,
    ) -> NDArray[np.bool_]:
        assert self.holdout != "official"  # noqa: S101 - that is not drawn
        return split_holdout(
            [sample.image_id for sample in samples],
            fraction=self.holdout,
            seed=self.seed,
            strata=strata,
            groups=groups,
            keep=self.folds,
            classes=classes,
        )

    def _spreads(self, samples: Sequence[Sample]) -> bool:
        return by_classes(self.stratify_by, {name for s in samples for name in s.attributes})


def attribute(samples: Sequence[Sample], name: str | None, key: str) -> tuple[str, ...] | None:
    """The values of attribute ``name``; None where ``name`` is.

    Raises:
        DataError: the dataset has no such attribute, or not for every image.
    """
    if name is None:
        return None
    values = tuple(sample.attributes.get(name, "") for sample in samples)
    if all(values):
        return values
    if any(values):
        without = [s.image_id for s, value in zip(samples, values, strict=True) if not value]
        more = f" and {len(without) - 5} more" if len(without) > 5 else ""
        what = f"no {name!r} is known for {', '.join(without[:5])}{more}"
        raise DataError(Problem(what, key=key))
    known = sorted({name for sample in samples for name in sample.attributes})
    raise DataError(
        Problem(f"images have no attribute {name!r}", key=key, hint=suggest(name, known))
    )
