"""The pixels of several fold models on one dataset, side by side: what is fitted and measured."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segsweep.calibrate.logits_file import Logits
from segsweep.errors import Problem, RunError

Integers = NDArray[np.int64]


@dataclass(frozen=True)
class Pool:
    """Pixels with the image that each is of.

    Attributes:
        logits: (P, C).
        labels: (P,).
        boundary: (P,).
        image: (P,) from 0 to I - 1; an image that several replicates have is one image.
        groups: (I,) from 0: what is fitted on some groups is reported on the others.
        file: (P,) which of the pooled files each pixel is from.
        where: whose pixels these are, for messages.
    """

    logits: NDArray[np.float32]
    labels: NDArray[np.uint8]
    boundary: NDArray[np.bool_]
    image: Integers
    groups: Integers
    file: Integers
    where: str

    @property
    def images(self) -> int:
        """How many there are."""
        return len(self.groups)

    def only(self, chosen: NDArray[np.bool_], logits: NDArray[np.float32] | None = None) -> Pool:
        """Some pixels, their images numbered from 0 again; with other logits where given."""
        kept, image = np.unique(self.image[chosen], return_inverse=True)
        return Pool(
            (self.logits if logits is None else logits)[chosen],
            self.labels[chosen],
            self.boundary[chosen],
            image.astype(np.int64),
            self.groups[kept],
            self.file[chosen],
            self.where,
        )

    def with_logits(self, logits: NDArray[np.float32]) -> Pool:
        """The same pixels with other logits."""
        return Pool(
            logits, self.labels, self.boundary, self.image, self.groups, self.file, self.where
        )


def pool(files: Sequence[Logits], folds: Sequence[int], where: str, seed: int = 0) -> Pool:
    """Files of out-of-fold logits as one; with a single fold, its images fall into two halves.

    Args:
        files: of each trial of a config.
        folds: of each file; files of one fold are replicates.
        where: whose they are, for messages.
        seed: of the halves.
    """
    ids = sorted({name for file in files for name in file.image_ids})
    number = {name: place for place, name in enumerate(ids)}
    groups = np.zeros(len(ids), np.int64)
    order = {fold: place for place, fold in enumerate(sorted(set(folds)))}
    images = []
    for file, fold in zip(files, folds, strict=True):
        own = np.asarray([number[name] for name in file.image_ids], np.int64)
        groups[own] = order[fold]
        images.append(own[file.image_of])
    if len(order) == 1:
        groups = halves(len(ids), seed)
    return Pool(
        logits=np.concatenate([file.values for file in files]),
        labels=np.concatenate([file.labels for file in files]),
        boundary=np.concatenate([file.boundary for file in files]),
        image=np.concatenate(images),
        groups=groups,
        file=np.repeat(np.arange(len(files)), [len(file.labels) for file in files]),
        where=where,
    )


def halves(count: int, seed: int) -> Integers:
    """(count,) 0 or 1, as many of each as can be, in random order."""
    return np.random.default_rng(seed).permutation(np.arange(count) % 2).astype(np.int64)


def ensemble(files: Sequence[Logits], where: str, seed: int = 0) -> Pool:
    """The mean of models' probabilities on the same pixels, as logits: its logarithm.

    Of two classes the one logit is log p / (1 - p). Images fall into two halves: no image that
    the members were trained on can be used, so that one half is fitted on and the other reported.

    Raises:
        RunError: the files are not of the same pixels.
    """
    first = files[0]
    for file in files[1:]:
        same = file.image_ids == first.image_ids and np.array_equal(file.offsets, first.offsets)
        if not same or not np.array_equal(file.positions, first.positions):
            raise RunError(Problem("the models' logits are not of the same pixels", where))
    mean: Any = 0.0
    for file in files:
        mean = mean + probabilities(file.values) / len(files)
    logs = np.log(np.maximum(mean, 1e-30))
    values = logs[:, 1:] - logs[:, :1] if first.values.shape[1] == 1 else logs
    return Pool(
        logits=values.astype(np.float32),
        labels=first.labels,
        boundary=first.boundary,
        image=first.image_of,
        groups=halves(len(first.image_ids), seed),
        file=np.zeros(len(first.labels), np.int64),
        where=where,
    )


def probabilities(values: NDArray[np.float32]) -> NDArray[np.float64]:
    """(P, K) of logits (P, C); a single logit stands for two classes with logits (0, z)."""
    wide = values.astype(np.float64)
    if wide.shape[1] == 1:
        wide = np.hstack([np.zeros_like(wide), wide])
    wide -= wide.max(axis=1, keepdims=True)
    np.exp(wide, out=wide)
    wide /= wide.sum(axis=1, keepdims=True)
    return wide
