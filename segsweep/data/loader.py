"""Batches of one fold, made ahead of use by threads.

Decoded images are in memory, so making a batch is copying rows, and augmenting them where an
augmenter is given; OpenCV lets go of Python's lock meanwhile, so threads do and processes are
not needed. The order depends on (seed, epoch) alone.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from segsweep.batches import starts
from segsweep.data.augment import Augmenter
from segsweep.data.cache import ImageSet

PREFETCH = 2


@dataclass
class Batch:
    """What a training step reads.

    Attributes:
        images: (N, 3, H, W) uint8 RGB, channels last in memory.
        masks: (N, H, W) uint8 labels, IGNORE where nothing is labelled.
        indices: (N,) positions in the `ImageSet`.
    """

    images: torch.Tensor
    masks: torch.Tensor
    indices: NDArray[np.int64]


class Loader:
    """Batches over some images of an `ImageSet`.

    Args:
        data: the images; may be read-only.
        indices: the positions to use.
        batch_size: images a batch.
        seed: of the order, at least 0.
        augment: changes each image; None: rows are copied as they are.
        shuffle: another order each epoch, for training; see ``batches.starts``.
        workers: threads; each makes one batch at a time. At most ``max(2, workers)`` finished
            or half-made batches wait.
    """

    def __init__(
        self,
        data: ImageSet,
        indices: Sequence[int] | NDArray[np.int64],
        *,
        batch_size: int,
        seed: int,
        augment: Augmenter | None = None,
        shuffle: bool,
        workers: int = 1,
    ) -> None:
        self._data = data
        self._indices = np.asarray(indices, dtype=np.int64)
        self._size = batch_size
        self._seed = seed
        self._augment = augment
        self._shuffle = shuffle
        self._workers = max(1, workers)
        self._starts = starts(len(self._indices), batch_size, training=shuffle)

    def __len__(self) -> int:
        """Batches an epoch."""
        return len(self._starts)

    def epoch(self, epoch: int) -> Iterator[Batch]:
        """The batches of one epoch.

        The threads end with the iterator: when it is used up, closed, or collected. What goes
        wrong in them is raised here.
        """
        waiting = deque(self._plan(epoch))
        running: deque[Future[Batch]] = deque()
        pool = ThreadPoolExecutor(self._workers, thread_name_prefix="segsweep-loader")
        try:
            while waiting or running:
                while waiting and len(running) < max(PREFETCH, self._workers):
                    running.append(pool.submit(self._make, waiting.popleft(), epoch))
                batch = running.popleft().result()
                if waiting:
                    running.append(pool.submit(self._make, waiting.popleft(), epoch))
                yield batch
        finally:
            pool.shutdown(wait=True, cancel_futures=True)

    def _plan(self, epoch: int) -> list[NDArray[np.int64]]:
        order = self._indices
        if self._shuffle:
            order = np.random.default_rng((self._seed, epoch)).permutation(order)
        ends = [*self._starts[1:], len(order)]
        return [order[start:end] for start, end in zip(self._starts, ends, strict=False)]

    def _make(self, indices: NDArray[np.int64], epoch: int) -> Batch:
        images, masks = self._data.images[indices], self._data.masks[indices]
        if self._augment is not None:
            for row, index in enumerate(indices):
                images[row], masks[row] = self._augment(
                    images[row], masks[row], epoch=epoch, index=int(index)
                )
        return Batch(torch.from_numpy(images).permute(0, 3, 1, 2), torch.from_numpy(masks), indices)
