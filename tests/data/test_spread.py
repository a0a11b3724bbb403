"""Images spread by the classes in their masks: whole groups, even sizes, every class everywhere."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import numpy as np
import pytest
from numpy.typing import NDArray

from segsweep.data.folds import Folds, make_folds, split_holdout
from segsweep.data.spread import MOST, folds_by_classes, holdout_by_classes

Bools = NDArray[np.bool_]
Ints = NDArray[np.int64]


def images(count: int, seed: int, classes: int = 8) -> Bools:
    """Which classes are in so many images: some in nearly all of them, some in hardly any."""
    rng = np.random.default_rng(seed)
    return np.asarray(rng.random((count, classes)) < np.geomspace(0.01, 0.99, classes))


def uneven(count: int, seed: int) -> Ints:
    """The group of each image; a few are much larger than the others."""
    groups = np.random.default_rng(seed).geometric(0.15, count)
    return np.asarray(np.unique(groups, return_inverse=True)[1].ravel(), np.int64)


def lacking(present: Bools, parts: Ints, k: int) -> int:
    """How many pairs of a fold and a class that it does not have there are."""
    return sum(int((~present[parts == fold].any(axis=0)).sum()) for fold in range(k))


def unevenness(present: Bools, parts: Ints, k: int) -> float:
    """The mean distance of a class's share in a fold from its share in all (label distribution)."""
    shares = np.stack([present[parts == fold].mean(axis=0) for fold in range(k)])
    return float(np.abs(shares - present.mean(axis=0)).mean())


def plain(count: int, k: int, seed: int) -> Ints:
    """Folds that know nothing of classes."""
    ids = [str(n) for n in range(count)]
    return np.asarray(make_folds(ids, k=k, seed=seed, strata=None, groups=None).assignment)


@pytest.mark.parametrize("k", [2, 3, 5, 10])
@pytest.mark.parametrize("count", [10, 37, 150, MOST + 101])
def test_every_image_is_in_one_fold_and_folds_are_of_one_size(count: int, k: int) -> None:
    for seed in range(5):
        folds = folds_by_classes(images(count, seed), np.arange(count), k, seed)
        sizes = np.bincount(folds, minlength=k)
        assert folds.shape == (count,)
        assert sizes.sum() == count
        assert np.ptp(sizes) <= 1


@pytest.mark.parametrize("k", [2, 3, 5, 10])
@pytest.mark.parametrize("count", [37, 150, MOST + 101])
def test_no_fold_lacks_a_class_that_enough_images_have(count: int, k: int) -> None:
    for seed in range(5):
        present = images(count, seed)
        folds = folds_by_classes(present, np.arange(count), k, seed)
        least = np.maximum(0, k - present.sum(axis=0)).sum()
        assert lacking(present, folds, k) == least


def test_small_sets_lack_as_little_as_any_split_of_them() -> None:
    """Against all splits into folds of one size."""
    for seed in range(40):
        rng = np.random.default_rng(seed)
        k, count = int(rng.integers(2, 4)), int(rng.integers(4, 8))
        present = rng.random((count, int(rng.integers(1, 6)))) < 0.4
        folds = folds_by_classes(present, np.arange(count), k, seed)
        splits = (np.asarray(split) for split in itertools.product(range(k), repeat=count))
        even = (split for split in splits if np.ptp(np.bincount(split, minlength=k)) <= 1)
        assert lacking(present, folds, k) == min(lacking(present, split, k) for split in even)


def test_classes_are_spread_more_evenly_than_by_chance() -> None:
    for seed in range(10):
        present = images(120, seed)
        folds = folds_by_classes(present, np.arange(120), 5, seed)
        assert unevenness(present, folds, 5) < 0.5 * unevenness(present, plain(120, 5, seed), 5)
        pairs = present[:, :, None] & present[:, None, :]
        assert unevenness(pairs.reshape(120, -1), folds, 5) < unevenness(
            pairs.reshape(120, -1), plain(120, 5, seed), 5
        )


def test_the_same_seed_repeats_and_another_differs() -> None:
    present = images(60, 0)
    one, same, other = (folds_by_classes(present, np.arange(60), 4, seed) for seed in (0, 0, 1))
    assert (one == same).all()
    assert (one != other).any()


class TestGroups:
    def cases(self) -> Iterator[tuple[int, Bools, Ints, int]]:
        for seed, count, k in itertools.product(range(6), (40, 160, 900), (2, 3, 5)):
            groups = uneven(count, seed)
            if groups.max() >= k:
                yield seed, images(count, seed), groups, k

    def test_a_group_is_in_one_fold_and_no_fold_is_empty(self) -> None:
        for seed, present, groups, k in self.cases():
            folds = folds_by_classes(present, groups, k, seed)
            assert len(np.unique(folds)) == k
            for group in range(groups.max() + 1):
                assert len(np.unique(folds[groups == group])) == 1

    def test_a_class_is_in_every_fold_where_enough_groups_have_it(self) -> None:
        for seed, present, groups, k in self.cases():
            folds = folds_by_classes(present, groups, k, seed)
            having = [len(np.unique(groups[column])) for column in present.T]
            least = sum(max(0, k - count) for count in having)
            assert lacking(present, folds, k) == least

    def test_folds_are_about_of_one_size(self) -> None:
        for seed, present, groups, k in self.cases():
            sizes = np.bincount(folds_by_classes(present, groups, k, seed), minlength=k)
            largest = np.bincount(groups).max()
            assert np.ptp(sizes) <= max(largest, 0.4 * len(groups) / k)


class TestHoldout:
    @pytest.mark.parametrize("share", [0.05, 0.2, 0.5, 0.8])
    def test_it_has_its_size_and_its_share_of_each_class(self, share: float) -> None:
        for seed in range(5):
            present = images(150, seed)
            wanted = round(150 * share)
            held = holdout_by_classes(present, np.arange(150), wanted, 5, seed)
            assert held.sum() == wanted
            count = present.sum(axis=0)  # of each class so many are left that five folds have one
            target = np.clip(share * count, 0, np.maximum(0, count - 5))
            assert (np.abs(present[held].sum(axis=0) - target) <= 2).all()

    def test_a_rare_class_is_left_to_the_folds_first(self) -> None:
        present = np.zeros((100, 4), np.bool_)
        present[:, 0] = True
        for label, count in ((1, 5), (2, 6), (3, 4)):
            present[np.random.default_rng(label).permutation(100)[:count], label] = True
        for seed in range(10):
            held = holdout_by_classes(present, np.arange(100), 20, 5, seed)
            assert held.sum() == 20
            assert present[~held].sum(axis=0)[1:].tolist() == [5, 5, 4]

    def test_groups_are_held_out_as_a_whole_and_enough_are_left(self) -> None:
        for seed, count, keep in itertools.product(range(5), (12, 60), (1, 2, 4)):
            groups = uneven(count, seed)
            if groups.max() < keep:
                continue
            for share in (0.1, 0.25, 0.9):
                wanted = max(1, round(share * count))
                held = holdout_by_classes(images(count, seed), groups, wanted, keep, seed)
                assert held.any()
                assert not set(groups[held]) & set(groups[~held])
                assert len(set(groups[~held])) >= keep


def test_folds_and_holdout_go_by_classes_where_they_are_given() -> None:
    present, ids = images(60, 0), [f"i{n}" for n in range(60)]
    split = {"strata": None, "groups": [f"g{n // 2}" for n in range(60)], "classes": present}
    held = split_holdout(ids, fraction=0.2, seed=1, keep=3, **split)  # type: ignore[arg-type]
    folds: Folds = make_folds(ids, k=3, seed=1, **split)  # type: ignore[arg-type]
    assert held.sum() == 12
    assert np.bincount(folds.assignment).tolist() == [20, 20, 20]
    for parts in (held, np.asarray(folds.assignment)):
        assert (parts[::2] == parts[1::2]).all()
    pairs = present[::2] | present[1::2]
    least = np.maximum(0, 3 - pairs.sum(axis=0)).sum()
    assert lacking(present, np.asarray(folds.assignment), 3) == least
