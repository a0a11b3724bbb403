"""Decoding many samples at once: threads, resizing, and every broken file in one list."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed

import cv2
import numpy as np
from numpy.typing import NDArray

from segsweep.data.sources.base import IGNORE, Sample, Source
from segsweep.errors import DataError, Problem

Part = tuple[NDArray[np.uint8], NDArray[np.uint8]]
_MOST_THREADS = 16


def _threads() -> int:
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return min(_MOST_THREADS, usable or 1)


def digest_all(source: Source, samples: Sequence[Sample]) -> tuple[dict[str, str], list[Problem]]:
    """The digest of each sample by its id, and what cannot be read."""
    digests: dict[str, str] = {}
    problems: list[Problem] = []
    with ThreadPoolExecutor(_threads(), thread_name_prefix="segsweep-digest") as pool:
        futures = [pool.submit(source.digest, sample) for sample in samples]
        for sample, future in zip(samples, futures, strict=True):
            try:
                digests[sample.image_id] = future.result()
            except DataError as error:
                problems += error.problems
    return digests, problems


def decode_all(
    source: Source,
    samples: Sequence[Sample],
    size: tuple[int, int],
    held: NDArray[np.bool_],
    on_progress: Callable[[int, int], None] | None,
) -> tuple[tuple[Part, Part], list[str], list[Problem]]:
    """Decodes and resizes each sample once.

    Args:
        source: the dataset.
        samples: what to decode.
        size: height and width of the result.
        held: for each sample whether it goes to the second part.
        on_progress: called with the number of samples done and of all.

    Returns:
        Images (N, H, W, 3) and masks (N, H, W) of both parts, rows in the order of ``samples``;
        in that order, too, a hash of each image's pixels before resizing, and what is wrong.
    """
    parts = (_empty(int((~held).sum()), size), _empty(int(held.sum()), size))
    rows = np.where(held, np.cumsum(held), np.cumsum(~held)) - 1
    hashes = [""] * len(samples)

    def decode(index: int) -> None:
        image, mask = _decode(source, samples[index])
        hashes[index] = _hash(image)
        images, masks = parts[int(held[index])]
        images[rows[index]], masks[rows[index]] = _resize(image, mask, size)

    wrong: dict[int, list[Problem]] = {}
    with ThreadPoolExecutor(_threads(), thread_name_prefix="segsweep-decode") as pool:
        futures = {pool.submit(decode, index): index for index in range(len(samples))}
        try:
            for done, future in enumerate(as_completed(futures), start=1):
                try:
                    future.result()
                except DataError as error:
                    wrong[futures[future]] = list(error.problems)
                if on_progress is not None:
                    on_progress(done, len(samples))
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    return parts, hashes, [problem for index in sorted(wrong) for problem in wrong[index]]


def _hash(image: NDArray[np.uint8]) -> str:
    total = hashlib.blake2b(repr(image.shape).encode(), digest_size=16)
    total.update(np.ascontiguousarray(image).reshape(-1).data)
    return total.hexdigest()


def _empty(count: int, size: tuple[int, int]) -> Part:
    return np.empty((count, *size, 3), np.uint8), np.empty((count, *size), np.uint8)


def _decode(source: Source, sample: Sample) -> Part:
    """A sample whose mask fits its image and has labels of known classes only."""
    image, mask = source.read(sample)
    where = str(sample.files[-1]) if sample.files else sample.image_id
    if image.shape[:2] != mask.shape:
        what = "the mask is {} × {} pixels, its image {} × {}".format(
            *mask.shape[::-1], *image.shape[1::-1]
        )
        raise DataError(Problem(what, where=where, hint="masks need their image's size"))
    present = np.flatnonzero(np.bincount(mask.ravel(), minlength=256))
    unknown = [int(label) for label in present if len(source.classes) <= label != IGNORE]
    if unknown:
        what = f"labels that stand for no class: {', '.join(map(str, unknown))}"
        raise DataError(Problem(what, where=where, hint=f"classes: {', '.join(source.classes)}"))
    return image, mask


def _resize(image: NDArray[np.uint8], mask: NDArray[np.uint8], size: tuple[int, int]) -> Part:
    height, width = size
    if mask.shape == size:
        return image, mask
    # INTER_NEAREST_EXACT takes pixel centres, as area and linear do; INTER_NEAREST drifts by half
    # a pixel to the upper left
    labels = cv2.resize(mask, (width, height), interpolation=cv2.INTER_NEAREST_EXACT)
    return resize_image(image, size), np.asarray(labels, np.uint8)


def resize_image(image: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.uint8]:
    """An image (H, W, 3) at another height and width: by area where it shrinks, else bilinear."""
    height, width = size
    if image.shape[:2] == size:
        return image
    shrinks = height * width < image.shape[0] * image.shape[1]
    how = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    small = cv2.resize(image, (width, height), interpolation=how)
    return np.asarray(small, np.uint8)
