"""What the masks of a sweep do not allow: refused where nothing can come of it, else told."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from segsweep.data.cache import ImageSet
from segsweep.data.content import CLASSES, Content, by_classes, label_counts
from segsweep.data.folds import held_out, units_of
from segsweep.errors import Problem
from segsweep.metrics import class_names, extra_names, score_names
from segsweep.opening import Opened
from segsweep.spec import SweepSpec

MOST = 10
"""So many names stand in one sentence."""

LOOK = "look at the masks and at what their values mean; small things may be lost by resizing"


@dataclass(frozen=True)
class Masks:
    """The masks of a sweep's images, counted.

    Attributes:
        spec: of the sweep.
        opened: its images.
        content: what their masks hold.
    """

    spec: SweepSpec
    opened: Opened
    content: Content

    @classmethod
    def of(cls, spec: SweepSpec, opened: Opened) -> Masks:
        """Counts what has not been counted yet."""
        data, holdout, by = opened.data, opened.holdout, spec.folds.group_by
        search, held = opened.counts, None
        if search is None:
            search = label_counts(data.masks, len(data.classes))
        if holdout is not None:
            held = label_counts(holdout.masks, len(data.classes))
        content = Content(
            data.classes,
            search,
            held,
            _units(data, by),
            _units(holdout, by) if holdout is not None else None,
            opened.folds,
            spec.folds.count,
        )
        return cls(spec, opened, content)

    def problems(self) -> Iterator[tuple[str, Problem]]:
        """Masks that nothing can be learned from or scored on, each with its key."""
        content, images = self.content, len(self.content.search)
        there = [name for name in content.classes if name not in content.absent()]
        if not there:
            what = f"not one pixel of {images} masks is labelled"
            yield "dataset", Problem(what, hint=LOOK)
        elif len(there) == 1:
            what = f"every labelled pixel of {images} masks is {there[0]!r}"
            yield "dataset", Problem(f"{what}: there is nothing to tell apart", hint=LOOK)
        else:
            yield from self._unlabelled()
            yield from self._metric()

    def notices(self) -> Iterator[str]:
        """What to know about the masks, and what would change it."""
        content = self.content
        if self.spec.folds.stratify_by == CLASSES and self._column():
            yield (
                f"folds.stratify_by: {CLASSES} goes by the images' attribute of that name; rename "
                "the attribute to go by the classes in the masks"
            )
        yield from self._smaller_holdout()
        if names := content.absent():
            yield f"no mask that trials see has {_listed(names)}: no model can learn it"
        yield from self._blank()
        if parts := self._uneven():
            names = list(dict.fromkeys([*content.missing(), *content.alone()]))
            told = "a score of such a class is undefined there, and a mean over classes without it"
            yield f"{_joined(parts)}: {told}{self._remedy(names, self.spec.folds.k)}"
        if names := content.not_held_out():
            remedy = self._remedy(names, self.spec.folds.k + 1) if self._is_drawn() else ""
            yield f"no mask of the holdout has {_listed(names)}: no holdout score is of it{remedy}"

    def _metric(self) -> Iterator[tuple[str, Problem]]:
        """Is the metric of a class that a fold does not have?"""
        label = _label_of(self.spec.metric.name, self.content.classes)
        if label is None:
            return
        name = self.content.classes[label]
        lacking = self.content.missing().get(name, [])
        if name in self.content.absent():
            lacking = list(range(self.spec.folds.count))
        if lacking:
            what = f"{self.spec.metric.name} cannot be scored on {_folds(lacking)}"
            hint = f"use another metric{self._remedy([name], self.spec.folds.k)}"
            yield "metric.name", Problem(f"{what}: no image of it has any {name!r}", hint=hint)

    def _unlabelled(self) -> Iterator[tuple[str, Problem]]:
        labelled = self.content.search[:, :-1].sum(axis=1) > 0
        folds, run = self.content.folds, range(self.content.run)
        for which, indices in (
            ("validation", folds.validation_indices),
            ("training", folds.train_indices),
        ):
            if blank := [fold for fold in run if not labelled[indices(fold)].any()]:
                what = f"the {which} images of {_folds(blank)} have not one labelled pixel"
                hint = "remove images whose masks are ignored all over"
                yield "folds", Problem(what, hint=hint)
        held = self.content.holdout
        if held is not None and not held[:, :-1].any():
            what = f"not one pixel of the {len(held)} masks of the holdout is labelled"
            yield "dataset.holdout", Problem(what, hint="set dataset.holdout: 0, or label some")

    def _smaller_holdout(self) -> Iterator[str]:
        share, held = self.spec.dataset.holdout, self.content.holdout
        if share == "official" or held is None:
            return
        images = len(held) + len(self.content.search)
        wanted, k = held_out(share, images), self.spec.folds.k
        if len(held) < wanted and self.content.units.max() + 1 == k:
            why = f"each of {k} folds needs one"
            if self.spec.folds.group_by:
                why = f"groups are held out as a whole, and {why}"
            yield f"{len(held)} of {images} images are held out, not {wanted}: {why}"

    def _blank(self) -> Iterator[str]:
        ids = [
            image_id
            for counts, data in (
                (self.content.search, self.opened.data),
                (self.content.holdout, self.opened.holdout),
            )
            if counts is not None and data is not None
            for image_id, row in zip(data.image_ids, counts, strict=True)
            if not row[:-1].any()
        ]
        if ids:
            masks = "mask is" if len(ids) == 1 else "masks are"
            yield f"{len(ids)} {masks} ignored all over, and teach and score nothing: {_some(ids)}"

    def _uneven(self) -> list[str]:
        alone = self.content.alone()
        return [
            *(
                f"{name!r} is missing in {_folds(folds)}"
                for name, folds in self.content.missing().items()
                if name not in alone
            ),
            *(
                f"{name!r} is in fold {fold} alone, which trains without it"
                for name, fold in alone.items()
            ),
        ]

    def _remedy(self, names: Sequence[str], parts: int) -> str:
        """What would bring a class to so many parts."""
        spread = by_classes(self.spec.folds.stratify_by, self.opened.data.attributes)
        drawn = self._is_drawn()
        counts = {name: self.content.groups_with(name, holdout=drawn) for name in names}
        enough = [name for name, count in counts.items() if count >= parts]
        if enough and not spread:
            rename = f"rename the attribute {CLASSES!r} and " if self._column() else ""
            return f"; {rename}set folds.stratify_by: {CLASSES} to spread {_listed(enough)}"
        if few := [name for name in names if name not in enough]:
            what = "groups" if self.spec.folds.group_by else "images"
            wanted = f"{self.spec.folds.k} folds"
            if parts > self.spec.folds.k:
                wanted += " and a holdout"
            return f"; too few {what} have {_listed(few)} for {wanted}"
        return ""

    def _is_drawn(self) -> bool:
        """Is the holdout a share, which other settings draw anew?"""
        return self.spec.dataset.holdout != "official"

    def _column(self) -> bool:
        return CLASSES in self.opened.data.attributes


def _units(data: ImageSet, by: str | None) -> NDArray[np.int64]:
    return units_of(data.image_ids, data.attributes[by] if by is not None else None)


def _label_of(metric: str, classes: Sequence[str]) -> int | None:
    """The class that a metric is of; None: it is of no single one."""
    name, own = metric.removeprefix("val/"), class_names(classes)
    if len(classes) == 2 and name in (*score_names(2), *extra_names(2)):
        return None if name == "pixel_accuracy" else 1
    return own.index(name) if name in own else None


def _folds(folds: Sequence[int]) -> str:
    return f"fold{'s' if len(folds) > 1 else ''} {', '.join(map(str, folds))}"


def _listed(names: Sequence[str]) -> str:
    return _some([repr(name) for name in names])


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - MOST} more" if len(names) > MOST else ""
    return ", ".join(names[:MOST]) + more


def _joined(parts: Sequence[str]) -> str:
    more = f" and {len(parts) - MOST} more" if len(parts) > MOST else ""
    return "; ".join(parts[:MOST]) + more
