"""Folds and a holdout that do not fit: the cause is named, and what is proposed instead fits."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from segsweep.data.folds import make_folds, split_holdout
from segsweep.data.room import Room
from segsweep.errors import DataError

PATIENTS = ["a"] * 9 + ["b"] * 2 + ["c"]


def rooms() -> Iterator[Room]:
    """Groups of few images, and images without groups, with and without an official split."""
    vectors = [
        sizes
        for count in range(1, 6)
        for sizes in itertools.combinations_with_replacement((1, 2, 9), count)
    ]
    for sizes, grouped, k in itertools.product(vectors, (True, False), (2, 3, 4, 6)):
        groups = [f"g{n}" for n, size in enumerate(sizes) for _ in range(size)]
        for out in (0, 1, len(groups) // 2, len(groups)):
            official = [place < out for place in range(len(groups))]
            for holdout, run in itertools.product((0, 0.1, 0.25, 0.9, "official"), (None, k)):
                if holdout == "official" or out == 0:
                    yield Room(groups if grouped else None, official, k, holdout, run, "test")  # type: ignore[arg-type]


def changed(room: Room, hint: str) -> Iterator[Room]:
    """The room after each way that a hint offers, as a reader of the hint takes it."""
    ways = re.match(r"set (.*); or add (images|groups)$", hint)
    for way in ways[1].split(", or ") if ways else ():
        settings: dict[str, Any] = {"groups": room.groups, "k": room.k, "holdout": room.holdout}
        settings["run"] = room.run
        for change in way.split(" and "):
            key, value = change.removesuffix(" or less").split(": ")
            name = {"folds.k": "k", "dataset.holdout": "holdout", "folds.run": "run",
                    "folds.group_by": "groups"}[key]  # fmt: skip
            settings[name] = (
                None if value == "null" else float(value) if "." in value else int(value)
            )
        yield Room(settings["groups"], room.official, settings["k"], settings["holdout"],
                   settings["run"], room.split)  # fmt: skip


def split(room: Room, strata: list[str] | None) -> int:
    """How many folds can really be had, with everything that a sweep does for them."""
    ids = [f"i{n}" for n in range(len(room.official))]
    held = np.asarray(room.official) if room.holdout == "official" else np.zeros(len(ids), bool)
    if room.holdout and room.holdout != "official":
        held = split_holdout(
            ids, fraction=room.holdout, seed=2, strata=strata, groups=room.groups, keep=room.k
        )
    left = [int(place) for place in np.flatnonzero(~held)]
    folds = make_folds(
        [ids[place] for place in left],
        k=room.k,
        seed=2,
        strata=None if strata is None else [strata[place] for place in left],
        groups=None if room.groups is None else [room.groups[place] for place in left],
    )
    return len(set(folds.assignment))


@pytest.mark.parametrize("stratified", [False, True])
def test_what_fits_can_be_split(stratified: bool) -> None:
    fits = [room for room in rooms() if room.problem() is None]
    for room in fits[::5]:
        strata = [("x", "y")[n % 2] for n in range(len(room.official))] if stratified else None
        assert split(room, strata) == room.k
    assert len(fits) > 300


def test_what_does_not_fit_cannot_be_split() -> None:
    for room in rooms():
        if room.problem() is not None and (room.holdout != "official" or sum(room.official) > 0):
            with pytest.raises((DataError, ValueError)):
                split(room, None)


def test_nothing_is_proposed_that_is_refused_next() -> None:
    told, offered = 0, 0
    for room in rooms():
        problem = room.problem()
        if problem is None:
            continue
        told += 1
        assert problem.key in ("folds.k", "dataset.holdout")
        for other in changed(room, problem.hint):
            offered += 1
            assert other.k >= 2
            assert other.run is None or other.run <= other.k
            assert other.problem() is None, (room, problem.hint)
    assert told > 300
    assert offered > told


def test_there_is_always_a_way_where_there_are_two_groups() -> None:
    for room in rooms():
        units = len(room.official if room.groups is None else set(room.groups))
        if room.problem() is not None and units >= 2:
            assert room.instead(), room


@pytest.mark.parametrize(
    ("k", "holdout", "key", "what", "hint"),
    [
        (2, 0.25, "", "", ""),
        (3, 0.25, "dataset.holdout", "leaves 2 of 3 groups at most, for 3 folds",
         "set folds.k: 2, or dataset.holdout: 0; or add groups"),
        (4, 0.25, "folds.k", "4 folds and a holdout of 3 groups",
         "set folds.k: 2; or add groups"),
        (4, 0, "folds.k", "4 folds of 3 groups", "set folds.k: 3 or less; or add groups"),
    ],
)  # fmt: skip
def test_the_cause_is_named(k: int, holdout: float, key: str, what: str, hint: str) -> None:
    problem = Room(PATIENTS, [False] * 12, k, holdout).problem()
    if not key:
        assert problem is None
        return
    assert problem is not None
    assert (problem.key, problem.hint) == (key, hint)
    assert what in problem.what


def test_groups_are_torn_apart_only_where_there_is_no_other_way() -> None:
    problem = Room(["a"] * 8, [False] * 8, 3, 0.25).problem()
    assert problem is not None
    assert problem.hint == "set folds.group_by: null; or add groups"
    problem = Room(["a"] * 3, [False] * 3, 3, 0.25).problem()
    assert problem is not None
    assert problem.hint == "set folds.group_by: null and folds.k: 2; or add groups"


def test_an_official_split_that_is_none() -> None:
    problem = Room(None, [False] * 8, 3, "official", split="test").problem()
    assert problem is not None
    assert "no image is in a split 'test'" in problem.what
    assert problem.hint.startswith("set dataset.holdout: 0.2, or dataset.holdout: 0;")
    problem = Room(None, [True] * 3 + [False], 2, "official", split="test").problem()
    assert problem is not None
    assert problem.what == "2 folds of 1 image that the official holdout leaves"
