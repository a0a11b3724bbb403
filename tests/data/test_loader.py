"""Batches: every image once, the order by (seed, epoch), and threads that end."""

from __future__ import annotations

import gc
import threading
import time
from collections.abc import Callable
from typing import Any, cast

import numpy as np
import pytest
import torch

from segsweep.data.augment import Augmenter
from segsweep.data.cache import ImageSet
from segsweep.data.loader import Loader
from tests.data.builders import disc, picture

SIZE = (16, 20)


@pytest.fixture
def data() -> ImageSet:
    images = np.stack([picture(index, SIZE) for index in range(23)])
    masks = np.stack([disc(index, SIZE) for index in range(23)])
    images.setflags(write=False)
    masks.setflags(write=False)
    ids = tuple(f"i{index}" for index in range(23))
    return ImageSet(images, masks, ids, {}, ("background", "lesion"), "f")


def _loader(data: ImageSet, count: int = 23, **more: Any) -> Loader:
    settings: dict[str, Any] = {"batch_size": 4, "seed": 0, "shuffle": True} | more
    return Loader(data, np.arange(count), **settings)


def _order(loader: Loader, epoch: int) -> list[int]:
    return [int(index) for batch in loader.epoch(epoch) for index in batch.indices]


def _threads() -> int:
    return sum(thread.name.startswith("segsweep-loader") for thread in threading.enumerate())


@pytest.mark.parametrize("workers", [1, 3])
@pytest.mark.parametrize("preset", [None, "none", "medium"])
def test_rows_are_what_the_indices_say(data: ImageSet, preset: str | None, workers: int) -> None:
    augment = Augmenter(preset, SIZE, 7) if preset else None
    loader = _loader(data, augment=augment, workers=workers)
    seen = 0
    for batch in loader.epoch(2):
        assert batch.images.dtype == batch.masks.dtype == torch.uint8
        assert batch.images.shape == (len(batch.indices), 3, *SIZE)
        assert batch.images.is_contiguous(memory_format=torch.channels_last)
        for row, index in enumerate(batch.indices):
            pair = data.images[index], data.masks[index]
            image, mask = augment(*pair, epoch=2, index=int(index)) if augment else pair
            np.testing.assert_array_equal(batch.images[row].permute(1, 2, 0).numpy(), image)
            np.testing.assert_array_equal(batch.masks[row].numpy(), mask)
            seen += 1
    assert seen == 23


def test_every_index_once_in_an_order_of_seed_and_epoch(data: ImageSet) -> None:
    orders = [
        _order(_loader(data, seed=seed, workers=2), epoch)
        for seed, epoch in ((0, 0), (0, 1), (1, 0))
    ]
    assert all(sorted(order) == list(range(23)) for order in orders)
    assert len({tuple(order) for order in orders}) == 3
    fresh = _loader(data)
    _order(fresh, 7)
    assert _order(fresh, 0) == orders[0]
    assert _order(_loader(data, shuffle=False), 5) == list(range(23))


def test_only_the_given_indices(data: ImageSet) -> None:
    loader = Loader(data, [5, 3, 9], batch_size=2, seed=0, shuffle=False)
    assert [batch.indices.tolist() for batch in loader.epoch(0)] == [[5, 3], [9]]


@pytest.mark.parametrize(
    ("count", "size", "shuffle", "sizes"),
    [
        (9, 4, True, [4, 5]),
        (9, 4, False, [4, 4, 1]),
        (10, 4, True, [4, 4, 2]),
        (1, 4, True, [1]),
        (3, 1, True, [1, 1, 1]),
        (0, 4, True, []),
    ],
)
def test_a_single_last_image_is_merged_in_training(
    data: ImageSet, count: int, size: int, shuffle: bool, sizes: list[int]
) -> None:
    loader = _loader(data, count, batch_size=size, shuffle=shuffle)
    assert [len(batch.indices) for batch in loader.epoch(0)] == sizes
    assert len(loader) == len(sizes)


def test_batches_may_be_written_to_and_the_data_stays(data: ImageSet) -> None:
    for batch in _loader(data, augment=Augmenter("none", SIZE, 0)).epoch(0):
        batch.images.zero_()
        batch.masks.fill_(9)
    np.testing.assert_array_equal(data.images[3], picture(3, SIZE))
    np.testing.assert_array_equal(data.masks[3], disc(3, SIZE))


class _Spy:
    """An augmenter that counts, or fails at one image."""

    def __init__(self, fails_at: int | None = None) -> None:
        self.calls = 0
        self.fails_at = fails_at

    def __call__(self, image: Any, mask: Any, *, epoch: int, index: int) -> Any:
        self.calls += 1
        if index == self.fails_at:
            raise ValueError("broken image")
        return image, mask


def _spied(data: ImageSet, spy: _Spy, **more: Any) -> Loader:
    return _loader(data, augment=cast(Augmenter, spy), **more)


def test_no_more_than_two_batches_are_made_ahead(data: ImageSet) -> None:
    spy = _Spy()
    batches = _spied(data, spy).epoch(0)
    next(batches)
    time.sleep(0.1)
    assert spy.calls == 3 * 4  # the one in hand and two ahead


def _close(batches: Any) -> None:
    batches.close()


def _exhaust(batches: Any) -> None:
    list(batches)


def _forget(batches: Any) -> None:
    del batches


@pytest.mark.parametrize("end", [_close, _exhaust, _forget])
def test_threads_end_with_the_iterator(data: ImageSet, end: Callable[[Any], None]) -> None:
    assert _threads() == 0
    holder = [_loader(data, workers=3).epoch(0)]
    next(holder[0])
    assert _threads() > 0
    end(holder.pop())
    gc.collect()
    assert _threads() == 0


@pytest.mark.parametrize("workers", [1, 3])
def test_exceptions_surface_and_end_the_threads(data: ImageSet, workers: int) -> None:
    with pytest.raises(ValueError, match="broken image"):
        _order(_spied(data, _Spy(fails_at=11), workers=workers), 0)
    assert _threads() == 0
