"""Pixels as calibration takes them: what is checked, and blocks of valid ones, class first."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from segsweep.errors import CalibrationError, Problem

IGNORE = 255
BLOCK = 2**18  # pixels of a block
PART = 4096  # pixels that are worked on at once, so that they stay in a core's cache

Floats = NDArray[np.float32]
Doubles = NDArray[np.float64]
Labels = NDArray[np.integer[Any]]
Images = NDArray[np.integer[Any]]
Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(frozen=True)
class Block:
    """Valid pixels.

    Attributes:
        logits: (K, n) float32, class first, contiguous; (2, n) of a binary head. May be written to.
        labels: (n,) int64, 0 to K - 1.
        image: (n,) int64.
        index: (n,) int64: which of the N pixels these are.
    """

    logits: Floats
    labels: NDArray[np.int64]
    image: NDArray[np.int64]
    index: NDArray[np.int64]


def refuse(what: str, where: str = "", hint: str = "") -> CalibrationError:
    """The error to raise."""
    return CalibrationError(Problem(what, where=where, hint=hint))


def classes_of(logits: Floats) -> int:
    """K; 2 for a binary head, (N,) or (N, 1)."""
    return 2 if logits.ndim == 1 or logits.shape[1] == 1 else int(logits.shape[1])


def blocks(
    logits: Floats,
    labels: Labels,
    image: Images | None = None,
    *,
    size: int = BLOCK,
    classes: int | None = None,
    where: str = "",
) -> Iterator[Block]:
    """Blocks of valid pixels, in order; none where no pixel is valid.

    Args:
        logits: (N, K), or (N,) or (N, 1) of a binary head.
        labels: (N,); 255 does not count.
        image: (N,) image of each pixel; left out, all are 0.
        size: pixels of a block, void ones included.
        classes: how many labels there are; left out, K.
        where: what the pixels are of, for messages.

    Raises:
        CalibrationError: shapes that do not fit, NaN or infinite logits at a valid pixel, a label
            that is no class.
    """
    check_shapes(logits, labels, image, where)
    most = classes_of(logits) if classes is None else classes
    for start in range(0, len(labels), size):
        some = np.asarray(labels[start : start + size])
        index = np.flatnonzero(some != IGNORE)
        if not len(index):
            continue
        part = np.asarray(logits[start : start + size], np.float32)
        if len(index) < len(some):
            part, some = part[index], some[index]
        if not (np.isfinite(part.min()) and np.isfinite(part.max())):
            bad = int((~np.isfinite(part)).any(axis=tuple(range(1, part.ndim))).sum())
            first = start + int(index[np.flatnonzero(~np.isfinite(part).reshape(len(part), -1))[0]
                                      // max(1, part.size // len(part))])  # fmt: skip
            hint = "evaluate the model in float32, or leave the config out that made them"
            raise refuse(
                f"{bad} or more pixels have NaN or infinite logits, the first is {first}",
                where, hint,
            )  # fmt: skip
        truth = some.astype(np.int64)
        if truth.min() < 0 or truth.max() >= most:
            found = sorted(set(truth[(truth < 0) | (truth >= most)].tolist()))[:5]
            hint = f"labels are 0 to {most - 1}, or {IGNORE} for pixels that do not count"
            raise refuse(f"labels {found} for {most} classes", where, hint)
        whose = np.zeros(len(index), np.int64)
        if image is not None:
            whose = np.asarray(image[start : start + size]).astype(np.int64)[index]
        yield Block(_class_first(part), truth, whose, index + start)


def check_shapes(
    logits: Floats, labels: Labels, image: Images | None = None, where: str = ""
) -> None:
    """Do arrays fit together?

    Raises:
        CalibrationError: they do not.
    """
    problems = []
    if logits.ndim not in (1, 2) or 0 in logits.shape[1:]:
        problems.append(f"logits have the shape {logits.shape}, not (pixels, classes)")
    elif len(labels) != len(logits) or labels.ndim != 1:
        problems.append(f"labels have the shape {labels.shape}, logits {logits.shape}")
    if image is not None and image.shape != labels.shape:
        problems.append(f"image has the shape {image.shape}, labels {labels.shape}")
    if problems:
        raise CalibrationError([Problem(problem, where=where) for problem in problems])


def nothing_valid(where: str) -> CalibrationError:
    """The error where no pixel counts."""
    return refuse("there is no valid pixel", where, f"every label is {IGNORE}")


def in_threads(
    function: Callable[[Item], Result], items: Iterable[Item], threads: int | None
) -> list[Result]:
    """``function`` of each of ``items``, in their order; NumPy lets go of the interpreter's lock.

    Only so many items are taken at a time as there are threads: blocks do not pile up.
    """
    count = torch.get_num_threads() if threads is None else threads
    if count <= 1:
        return [function(item) for item in items]
    with ThreadPoolExecutor(count) as pool:
        submitted: list[Future[Result]] = []
        running: set[Future[Result]] = set()
        for item in items:
            if len(running) >= count:
                _, running = wait(running, return_when=FIRST_COMPLETED)
            submitted.append(pool.submit(function, item))
            running.add(submitted[-1])
        return [one.result() for one in submitted]


def parts(pixels: int) -> Iterator[slice]:
    """Slices of PART pixels."""
    for start in range(0, pixels, PART):
        yield slice(start, min(start + PART, pixels))


def _class_first(part: Floats) -> Floats:
    """(K, n) of (n, K), (n,) or (n, 1), contiguous and new."""
    if part.ndim == 1 or part.shape[1] == 1:
        return np.stack([np.zeros(len(part), np.float32), part.reshape(-1)])
    return np.array(part.T, order="C")
