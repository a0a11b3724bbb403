"""Is there room for the folds and the holdout? What cannot be is told with what can be instead.

Each fold validates a group at least (an image, where images have no groups), and so does the
holdout. An official holdout is fixed; one that is a share takes what leaves a group for each fold.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from segsweep.errors import Problem

Holdout = float | Literal["official"]
Change = dict[str, Any]
"""Keys of a sweep file with other values."""

SHARE = 0.2  # of a holdout that is proposed


@dataclass(frozen=True)
class Room:
    """What folds and holdout are to be made of, and how.

    Attributes:
        groups: the group of each image; None: there are none, or they are not asked for.
        official: for each image whether the official split holds it out.
        k: the number of folds.
        holdout: a share, 0, or ``"official"``.
        run: how many folds are run, where the sweep file says so.
        split: the name of the official split that is held out.
    """

    groups: Sequence[str] | None
    official: Sequence[bool]
    k: int
    holdout: Holdout
    run: int | None = None
    split: str = ""

    def problem(self) -> Problem | None:
        """Why it cannot be, with everything that can be instead; None: it can."""
        if self._fits():
            return None
        units = self._units()
        all_of_them = f"{units} {self._what()[: -1 if units == 1 else None]}"
        if self._split_is_none():
            which = "every image is in the" if any(self.official) else "no image is in a"
            text = f"{which} split {self.split!r}"
            return Problem(text, key="dataset.holdout", hint=self._hint())
        if self.holdout == "official":
            text = f"{self.k} folds of {all_of_them} that the official holdout leaves"
            return Problem(text, key="folds.k", hint=self._hint())
        if self.holdout and units >= self.k:  # without a holdout they would do
            text = f"a holdout leaves {units - 1} of {all_of_them} at most, for {self.k} folds"
            return Problem(text, key="dataset.holdout", hint=self._hint())
        and_holdout = " and a holdout" if self.holdout else ""
        text = f"{self.k} folds{and_holdout} of {all_of_them}"
        return Problem(text, key="folds.k", hint=self._hint())

    def instead(self) -> list[Change]:
        """What can be changed in the sweep file so that it fits.

        Changes of one key, or else of several; that groups are torn apart is proposed last.
        """
        holdouts: list[Change] = [{"dataset.holdout": 0}] if self.holdout else []
        if self.holdout == "official":
            holdouts.insert(0, {"dataset.holdout": SHARE})
        apart: list[Change] = [{"folds.group_by": None}] if self.groups is not None else []
        for changes in (
            [*self._fewer(), *holdouts],
            [change | more for change in holdouts for more in self._with(change)._fewer()],
            apart,
            [change | more for change in apart for more in self._with(change)._fewer()],
        ):
            if found := [change for change in changes if self._with(change)._fits()]:
                return found
        return []

    def _hint(self) -> str:
        ways = [" and ".join(map(_said, change.items())) for change in self.instead()]
        more = f"add {self._what()}"
        return f"set {', or '.join(ways)}; or {more}" if ways else more

    def _fewer(self) -> list[Change]:
        """The most folds that fit."""
        k = self._units() - self._spare()
        if not 2 <= k < self.k:
            return []
        run = {"folds.run": k} if self.run is not None and self.run > k else {}
        return [{"folds.k": k, **run}]

    def _with(self, change: Change) -> Room:
        return replace(
            self,
            groups=None if "folds.group_by" in change else self.groups,
            holdout=change.get("dataset.holdout", self.holdout),
            k=change.get("folds.k", self.k),
        )

    def _fits(self) -> bool:
        return not self._split_is_none() and self._units() >= self.k + self._spare()

    def _split_is_none(self) -> bool:
        """Does the official split hold out all images, or none?"""
        return self.holdout == "official" and len(set(self.official)) < 2

    def _spare(self) -> int:
        """Groups that are for the holdout."""
        return 1 if self.holdout != "official" and self.holdout > 0 else 0

    def _units(self) -> int:
        """Groups or images that folds, and a holdout that is a share, are made of."""
        if self.holdout != "official":
            return len(self.official if self.groups is None else set(self.groups))
        if self.groups is None:
            return sum(not out for out in self.official)
        return len({g for g, out in zip(self.groups, self.official, strict=True) if not out})

    def _what(self) -> str:
        return "images" if self.groups is None else "groups"


def _said(change: tuple[str, Any]) -> str:
    key, value = change
    if value is None:
        return f"{key}: null"
    return f"{key}: {value:g}" + (" or less" if key == "folds.k" and value > 2 else "")
