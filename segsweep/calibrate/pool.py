"""The pixels of several fold models on one dataset, side by side: what is fitted and measured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from segsweep.calibrate.logits_file import Logits
from segsweep.compare.together import codes
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
        units: (I,) from 0: images that share one (a patient, a scene) are drawn together.
        file: (P,) which of the pooled files each pixel is from.
        where: whose pixels these are, for messages.
        ids: of the images.
        halved: the groups are two halves of one model's images, no folds.
    """

    logits: NDArray[np.float32]
    labels: NDArray[np.uint8]
    boundary: NDArray[np.bool_]
    image: Integers
    groups: Integers
    units: Integers
    file: Integers
    where: str
    ids: Sequence[str]
    halved: bool = False

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
            np.unique(self.units[kept], return_inverse=True)[1].astype(np.int64),
            self.file[chosen],
            self.where,
            [self.ids[place] for place in kept],
            self.halved,
        )

    def with_logits(self, logits: NDArray[np.float32]) -> Pool:
        """The same pixels with other logits."""
        return replace(self, logits=logits)


NO_GROUPS: Mapping[str, str] = {}


def pool(
    files: Sequence[Logits],
    folds: Sequence[int],
    where: str,
    seed: int = 0,
    groups: Mapping[str, str] = NO_GROUPS,
) -> Pool:
    """Files of out-of-fold logits as one; with a single fold, its images fall into two halves.

    Args:
        files: of each trial of a config.
        folds: of each file; files of one fold are replicates.
        where: whose they are, for messages.
        seed: of the halves.
        groups: image id → group that is drawn, and halved, as a whole.
    """
    ids = sorted({name for file in files for name in file.image_ids})
    number = {name: place for place, name in enumerate(ids)}
    units = codes(ids, groups)
    of_fold = np.zeros(len(ids), np.int64)
    order = {fold: place for place, fold in enumerate(sorted(set(folds)))}
    images = []
    for file, fold in zip(files, folds, strict=True):
        own = np.asarray([number[name] for name in file.image_ids], np.int64)
        of_fold[own] = order[fold]
        images.append(own[file.image_of])
    return Pool(
        logits=np.concatenate([file.values for file in files]),
        labels=np.concatenate([file.labels for file in files]),
        boundary=np.concatenate([file.boundary for file in files]),
        image=np.concatenate(images),
        groups=halves(units, seed) if len(order) == 1 else of_fold,
        units=units,
        file=np.repeat(np.arange(len(files)), [len(file.labels) for file in files]),
        where=where,
        ids=ids,
        halved=len(order) == 1,
    )


def halves(units: Integers, seed: int) -> Integers:
    """(I,) 0 or 1, as many units of each as can be, at random; images, where there is one unit."""
    count = int(units.max()) + 1
    of, count = (units, count) if count > 1 else (np.arange(len(units)), len(units))
    half = np.random.default_rng(seed).permutation(np.arange(count) % 2).astype(np.int64)
    found: Integers = half[of]
    return found


def ensemble(
    files: Sequence[Logits], where: str, seed: int = 0, groups: Mapping[str, str] = NO_GROUPS
) -> Pool:
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
    logs = log_probabilities(first.values)
    for file in files[1:]:
        np.logaddexp(logs, log_probabilities(file.values), out=logs)
    logs -= np.log(len(files))
    units = codes(first.image_ids, groups)
    values = logs[:, 1:] - logs[:, :1] if first.values.shape[1] == 1 else logs
    return Pool(
        logits=values.astype(np.float32),
        labels=first.labels,
        boundary=first.boundary,
        image=first.image_of,
        groups=halves(units, seed),
        units=units,
        file=np.zeros(len(first.labels), np.int64),
        where=where,
        ids=first.image_ids,
        halved=True,
    )


def log_probabilities(values: NDArray[np.float32]) -> NDArray[np.float64]:
    """(P, K) of logits (P, C); a single logit stands for two classes with logits (0, z).

    Logarithms, as ``export.members.Ensemble`` has them: no certainty is lost, however sure.
    """
    wide = values.astype(np.float64)
    if wide.shape[1] == 1:
        wide = np.hstack([np.zeros_like(wide), wide])
    wide -= np.logaddexp.reduce(wide, axis=1, keepdims=True)
    return wide
