"""Folds and holdout: even, safe for groups, reproducible."""

from __future__ import annotations

import itertools
import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from segsweep.data.folds import Folds, make_folds, split_holdout
from segsweep.errors import DataError
from tests.data.recorded_splits import cases, split

IDS = [f"i{n:03d}" for n in range(60)]
STRATA = [("common", "common", "atypical", "atypical", "melanoma")[n % 5] for n in range(60)]
GROUPS = [f"p{n // 3}" for n in range(60)]


def _folds(
    strata: list[str] | None = STRATA, groups: list[str] | None = None, **more: int
) -> Folds:
    settings = {"k": 5, "seed": 0} | more
    return make_folds(IDS, k=settings["k"], seed=settings["seed"], strata=strata, groups=groups)


@pytest.mark.parametrize("strata", [None, STRATA])
@pytest.mark.parametrize("groups", [None, GROUPS])
def test_every_image_is_validated_once(strata: list[str] | None, groups: list[str] | None) -> None:
    folds = _folds(strata, groups)
    validated = np.concatenate([folds.validation_indices(fold) for fold in range(5)])
    assert sorted(validated) == list(range(60))
    for fold in range(5):
        train, validation = folds.train_indices(fold), folds.validation_indices(fold)
        assert train.dtype == validation.dtype == np.int64
        assert sorted([*train, *validation]) == list(range(60))
        assert 9 <= len(validation) <= 15


def test_strata_are_spread() -> None:
    folds = _folds()
    for fold in range(5):
        counts = Counter(STRATA[index] for index in folds.validation_indices(fold))
        assert 4 <= counts["common"] <= 6
        assert 2 <= counts["melanoma"] <= 3
    assert folds.notices == ()


def test_a_group_never_lies_on_both_sides() -> None:
    for strata in (None, STRATA):
        folds = _folds(strata, GROUPS)
        for fold in range(5):
            train = {GROUPS[index] for index in folds.train_indices(fold)}
            assert not train & {GROUPS[index] for index in folds.validation_indices(fold)}


def test_no_fold_is_empty_with_uneven_groups() -> None:
    for seed in range(30):
        groups = ["big"] * 50 + [f"p{n}" for n in range(10)]
        folds = _folds(STRATA, groups, k=4, seed=seed)
        assert all(len(folds.validation_indices(fold)) for fold in range(4))


def test_a_fold_that_stratifying_would_leave_empty() -> None:
    ids, strata, groups = IDS[:8], list("00200010"), list("34023013")
    folds = make_folds(ids, k=5, seed=0, strata=strata, groups=groups)
    assert sorted(set(folds.assignment)) == [0, 1, 2, 3, 4]
    assert "cannot both be met" in folds.notices[-1]


def test_the_hash_covers_ids_and_assignment() -> None:
    assert _folds() == _folds()
    other_ids = make_folds([*IDS[:-1], "x"], k=5, seed=0, strata=STRATA, groups=None)
    assert other_ids.assignment == _folds().assignment
    assert len({_folds().hash, _folds(seed=1).hash, _folds(k=4).hash, other_ids.hash}) == 4


def test_small_strata_give_a_notice_and_no_warning() -> None:
    rare = ["rare", "rare", *["common"] * 58]
    (notice,) = _folds(rare).notices
    assert "'rare' has 2 images for 5 folds" in notice
    notices = _folds([str(n) for n in range(60)]).notices
    assert "not stratified" in notices[-1]


@pytest.mark.parametrize(
    ("k", "groups", "message"),
    [(61, None, "61 folds for 60 images"), (21, GROUPS, "21 folds for 20 groups"), (1, None, "2")],
)
def test_too_many_folds(k: int, groups: list[str] | None, message: str) -> None:
    with pytest.raises(DataError, match=message) as caught:
        _folds(None, groups, k=k)
    assert caught.value.problems[0].key == "folds.k"


def test_an_unknown_fold_is_not_an_empty_one() -> None:
    with pytest.raises(IndexError):
        _folds().train_indices(5)


class TestHoldout:
    @pytest.mark.parametrize("fraction", [0.02, 0.1, 0.2, 0.3, 0.5, 0.75])
    def test_the_fraction_is_met_and_stratified(self, fraction: float) -> None:
        for seed in range(5):
            held = split_holdout(IDS, fraction=fraction, seed=seed, strata=STRATA, groups=None)
            assert held.sum() == max(1, round(60 * fraction))
            for stratum in set(STRATA):
                places = np.asarray([value == stratum for value in STRATA])
                assert abs(held[places].sum() - fraction * places.sum()) <= 1

    @pytest.mark.parametrize("strata", [None, STRATA])
    def test_groups_are_held_out_as_a_whole(self, strata: list[str] | None) -> None:
        for seed in range(10):
            held = split_holdout(IDS, fraction=0.2, seed=seed, strata=strata, groups=GROUPS)
            out = {group for group, side in zip(GROUPS, held, strict=True) if side}
            assert not out & {group for group, side in zip(GROUPS, held, strict=True) if not side}
            assert abs(held.sum() - 12) <= 1.5

    def test_seeds_differ_and_repeat(self) -> None:
        one, same, other = (
            split_holdout(IDS, fraction=0.2, seed=seed, strata=None, groups=None)
            for seed in (0, 0, 1)
        )
        assert (one == same).all()
        assert (one != other).any()

    def test_something_is_always_left(self) -> None:
        for groups in (["a"] * 30 + ["b"] * 30, ["a"] * 59 + ["b"]):
            for fraction in (0.01, 0.5, 0.99):
                held = split_holdout(IDS, fraction=fraction, seed=0, strata=None, groups=groups)
                assert held.any()
                assert not held.all()

    def test_a_single_group_is_refused(self) -> None:
        with pytest.raises(DataError, match="single group"):
            split_holdout(IDS, fraction=0.2, seed=0, strata=None, groups=["a"] * 60)

    def test_enough_groups_are_left_for_the_folds(self) -> None:
        patients = ["a"] * 9 + ["b"] * 2 + ["c"]
        for seed in range(5):
            held = split_holdout(
                IDS[:12], fraction=0.25, seed=seed, strata=None, groups=patients, keep=2
            )
            assert held.sum() == 2  # of 9, 2 and 1 the nearest to 3
        with pytest.raises(DataError, match="3 groups or images are kept"):
            split_holdout(IDS[:12], fraction=0.25, seed=0, strata=None, groups=patients, keep=3)

    def test_a_holdout_that_would_leave_too_few_is_the_nearest_that_leaves_enough(self) -> None:
        others = 0
        for sizes in itertools.combinations_with_replacement((1, 2, 5, 9), 4):
            groups = [f"g{n}" for n, size in enumerate(sizes) for _ in range(size)]

            def held_groups(
                fraction: float, keep: int, groups: list[str] = groups
            ) -> tuple[int, set[str]]:
                ids = IDS[: len(groups)]
                held = split_holdout(
                    ids, fraction=fraction, seed=1, strata=None, groups=groups, keep=keep
                )
                out = {group for group, side in zip(groups, held, strict=True) if side}
                return int(held.sum()), out

            for fraction in (0.1, 0.3, 0.6, 0.9):
                freely, held = held_groups(fraction, 1), held_groups(fraction, 3)
                assert len(held[1]) == 1
                if len(freely[1]) > 1:
                    others += 1
                    wanted = max(1, round(fraction * len(groups)))
                    assert abs(held[0] - wanted) == min(abs(size - wanted) for size in sizes)
                else:
                    assert held == freely
        assert others > 20


RECORDED = json.loads((Path(__file__).parent / "recorded_splits.json").read_text())


def test_a_recorded_run_finds_its_folds_again() -> None:
    """Where holdout and folds could be had before they are the same, bit by bit."""
    found = {name: split(case, keep=case["k"]) for name, case in cases()}
    assert found.keys() == RECORDED.keys()
    assert "refused" in RECORDED.values()
    for name, digest in RECORDED.items():
        assert digest in ("refused", found[name]), name
    assert sum(digest == "refused" for digest in found.values()) < sum(
        digest == "refused" for digest in RECORDED.values()
    )
