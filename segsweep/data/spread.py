"""Spreading images by the classes in their masks, rarest class first.

Iterative stratification (K. Sechidis, G. Tsoumakas, I. Vlahavas, "On the stratification of
multi-label data", ECML PKDD 2011): of all classes the one that is left in the fewest images is
dealt out first, each image of it to the part that lacks most of it. Here three things are added.
Groups are dealt out as a whole. A part takes no more images than its share while another has room.
Exchanges afterwards bring a class to a part that lacks it. The same input and seed give the same
answer.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

VERSION = 1
"""Raised whenever the same input gives another answer."""

MOST = 300
"""Up to so many units each one is tried for an exchange; of more, those of classes that lack."""
_PASSES = 5
_DEALS = 10  # while a part lacks a class that it could have

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]


def folds_by_classes(present: Bools, units: Ints, k: int, seed: int) -> Ints:
    """Splits images into ``k`` folds, each class spread as evenly as images and groups allow.

    Args:
        present: (N, C) whether class c is in the mask of image n.
        units: (N,) the number of each image's group, from 0; images of one group stay together.
        k: at most the number of groups.
        seed: decides between equally good splits.

    Returns:
        (N,) the fold of each image. Without groups, sizes of folds differ by one at most.
    """
    count = len(present)
    quotas = np.asarray([count // k + (fold < count % k) for fold in range(k)])
    deal = _Deal.of(present, units, np.full(k, 1 / k), quotas, np.ones(k, np.int64))
    needed = np.ones((k, deal.images.shape[1]), np.int64)
    return deal.parts(needed, seed)[units]


def holdout_by_classes(
    present: Bools, units: Ints, held: int, keep: int, seed: int
) -> NDArray[np.bool_]:
    """Chooses a holdout that has its share of each class.

    Args:
        present: as in `folds_by_classes`.
        units: as in `folds_by_classes`.
        held: how many images are wanted in it.
        keep: how many groups are to be left, for a fold each; fewer than there are. A class that
            is in so many groups is left in so many.
        seed: decides between equally good splits.

    Returns:
        (N,) whether an image is held out; at least one is.
    """
    count = len(present)
    held = min(held, count - keep)
    shares = np.asarray([1 - held / count, held / count])
    least = np.asarray([keep, 1])
    deal = _Deal.of(present, units, shares, np.asarray([count - held, held]), least)
    groups = deal.present.sum(axis=0)
    needed = np.stack([np.minimum(groups, keep), groups > keep])
    return np.asarray(deal.parts(needed, seed)[units] == 1)


@dataclass(frozen=True)
class _Deal:
    """Units (groups, or single images) to be dealt out to parts (folds, or search and holdout).

    The last class is no class: every image has it, so that it stands for the size.

    Attributes:
        images: (U, C + 1) how many images of a unit have a class.
        present: (U, C + 1) whether any has.
        shares: (P,) the share of all images that a part is to have.
        quotas: (P,) the same as whole images.
        least: (P,) how many units a part must have.
    """

    images: Ints
    present: Ints
    shares: Floats
    quotas: Ints
    least: Ints

    @classmethod
    def of(cls, present: Bools, units: Ints, shares: Floats, quotas: Ints, least: Ints) -> _Deal:
        rows = np.column_stack([present, np.ones(len(present), np.bool_)]).astype(np.int64)
        images = np.zeros((int(units.max()) + 1, rows.shape[1]), np.int64)
        np.add.at(images, units, rows)
        return cls(images, (images > 0).astype(np.int64), shares, quotas, least)

    def parts(self, needed: Ints, seed: int) -> Ints:
        """The part of each unit.

        ``needed``: (P, C + 1) how many units of a class a part should have.
        """
        rng = np.random.default_rng(seed)
        least = float(np.maximum(0, needed.sum(axis=0) - self.present.sum(axis=0)).sum())
        best = self._one(needed, rng)
        for _ in range(_DEALS - 1 if len(self.images) <= MOST else 0):
            if best[0][0] <= least:
                break
            best = min(best, self._one(needed, rng), key=lambda one: one[0])
        return best[1]

    def _one(self, needed: Ints, rng: np.random.Generator) -> tuple[tuple[float, float], Ints]:
        exchange = _Exchange(self, needed, self._dealt(rng))
        where = exchange.improved()
        return exchange.quality(), where

    def _dealt(self, rng: np.random.Generator) -> Ints:
        sizes = self.images[:, -1]
        order = rng.permutation(len(sizes))
        order = order[np.argsort(-sizes[order], kind="stable")]  # large groups first
        where = np.full(len(sizes), -1, np.int64)
        lacks = self.shares[:, None] * self.images.sum(axis=0)
        room, owed = self.quotas.copy(), self.least.copy()
        left, undealt = self.present.sum(axis=0), len(sizes)
        while undealt:
            label = int(np.argmin(np.where(left > 0, left, undealt + 1)))
            for unit in order[(where[order] < 0) & (self.present[order, label] > 0)]:
                tie = rng.random(len(room))
                if owed.sum() >= undealt:  # the last ones go where there is no other way
                    open_, rank = owed > 0, (lacks[:, label], room)
                elif (room >= sizes[unit]).any():
                    open_, rank = room >= sizes[unit], (lacks[:, label], room)
                else:
                    open_, rank = np.ones(len(room), np.bool_), (room, lacks[:, label])
                choices = np.flatnonzero(open_)
                best = np.lexsort((tie[open_], rank[1][open_], rank[0][open_]))[-1]
                part = where[unit] = choices[best]
                lacks[part] -= self.images[unit]
                room[part] -= sizes[unit]
                owed[part] = max(0, owed[part] - 1)
                left -= self.present[unit]
                undealt -= 1
        return where


class _Exchange:
    """Single units that move to another part, or change places with one of it, for the better.

    Better is first what leaves fewer parts without a class, then what is nearer to the shares: the
    sum of squared differences over what is expected, as in a chi-squared test.
    """

    def __init__(self, deal: _Deal, needed: Ints, where: Ints) -> None:
        self.where = where
        self.rows = np.column_stack([deal.images, deal.present]).astype(np.float64)
        parts, classes = needed.shape
        self.totals = np.zeros((parts, 2 * classes))
        np.add.at(self.totals, where, self.rows)
        self.needed = needed
        self.expected = deal.shares[:, None] * deal.images.sum(axis=0)
        self.expected[:, -1] = deal.quotas
        single = bool((deal.images[:, -1] == 1).all())
        self.weights = 1 / np.maximum(self.expected, 1e-9)
        self.weights[:, -1] *= 1e6 if single else classes - 1  # single images leave sizes as dealt
        self.severity = np.ones(classes)
        self.severity[-1] = 1e6  # a part without any unit

    def improved(self) -> Ints:
        """The part of each unit, after all exchanges."""
        for _ in range(_PASSES):
            if sum(self._exchange(int(unit)) for unit in self._donors()) == 0:
                break
        return self.where

    def quality(self) -> tuple[float, float]:
        """What parts lack, and how uneven they are."""
        cost = [self._cost(part, totals) for part, totals in enumerate(self.totals)]
        short, uneven = np.sum(cost, axis=0)[:, 0]
        return float(short), float(uneven)

    def _donors(self) -> Ints:
        if len(self.where) <= MOST:
            return np.arange(len(self.where))
        classes = self.needed.shape[1]
        lacking = (self.totals[:, classes:] < self.needed).any(axis=0)
        return np.flatnonzero((self.rows[:, classes:][:, lacking] > 0).any(axis=1))[:MOST]

    def _exchange(self, unit: int) -> bool:
        """Does the best that can be done with this unit; False: nothing is better."""
        here, row = int(self.where[unit]), self.rows[unit]
        best, found = (0.0, -1e-9), None
        for there in range(len(self.totals)):
            if there == here:
                continue
            partners = np.flatnonzero(self.where == there)
            back = np.vstack([np.zeros_like(row), self.rows[partners]])  # the first: nothing
            given, taken = self.totals[here] - row + back, self.totals[there] + row - back
            cost = self._cost(here, given) + self._cost(there, taken)
            cost -= self._cost(here, self.totals[here]) + self._cost(there, self.totals[there])
            place = int(np.lexsort((cost[1], cost[0]))[0])
            if (value := (float(cost[0, place]), float(cost[1, place]))) < best:
                best, found = value, (there, int(partners[place - 1]) if place else None)
        if found is None:
            return False
        self._move(unit, found[0])
        if found[1] is not None:
            self._move(found[1], here)
        return True

    def _move(self, unit: int, part: int) -> None:
        self.totals[self.where[unit]] -= self.rows[unit]
        self.totals[part] += self.rows[unit]
        self.where[unit] = part

    def _cost(self, part: int, totals: Floats) -> Floats:
        """(2, …): what a part with totals (…, 2 · classes) lacks, and how uneven it is."""
        classes = self.needed.shape[1]
        short = np.maximum(0, self.needed[part] - totals[..., classes:]) @ self.severity
        uneven = (totals[..., :classes] - self.expected[part]) ** 2 @ self.weights[part]
        return np.stack(np.broadcast_arrays(short, uneven)[:2]).reshape(2, -1)
