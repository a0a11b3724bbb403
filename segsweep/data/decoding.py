"""Decoding many samples at once: threads, resizing, and every broken file in one list."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray

from segsweep.data import notes
from segsweep.data.image_file import DEPTHS, Pixels, to_bytes
from segsweep.data.notes import Lost
from segsweep.data.sources.base import Sample, Source
from segsweep.data.sources.seen import Look, Seen
from segsweep.errors import DataError, Problem

Part = tuple[NDArray[np.uint8], NDArray[np.uint8]]
_MOST_THREADS = 16
SAME_MISTAKE = 3  # so many files and more are named by the first of them


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


def _grouped(problems: Sequence[Problem]) -> list[Problem]:
    """One mistake of many files is told once, by the first of them."""
    alike: dict[tuple[str, str, str], list[Problem]] = {}
    for problem in problems:
        alike.setdefault((problem.what, problem.key, problem.hint), []).append(problem)
    found: list[Problem] = []
    for same in alike.values():
        if len(same) < SAME_MISTAKE:
            found += same
        else:
            what = f"{same[0].what}; so it is with {len(same) - 1} more files"
            found.append(replace(same[0], what=what))
    return found


@dataclass(frozen=True)
class Decoded:
    """A dataset, decoded and resized.

    Attributes:
        parts: images (N, H, W, 3) and masks (N, H, W) of both parts, rows in the order of samples.
        hashes: of each image's pixels before resizing.
        depth: the bits that images of 16 bits really use; None where there are none.
        notes: what a person should know.
        problems: what is wrong; the pixels mean nothing then.
    """

    parts: tuple[Part, Part]
    hashes: list[str]
    depth: int | None
    notes: tuple[str, ...]
    problems: list[Problem]


def decode_all(
    source: Source,
    samples: Sequence[Sample],
    size: tuple[int, int],
    held: NDArray[np.bool_],
    on_progress: Callable[[int, int], None] | None,
    depth: int | None = None,
) -> Decoded:
    """Decodes and resizes each sample once.

    What masks mean and how deep images are is known when all have been seen: until then masks are
    kept in codes, and of images of 16 bits both bytes.

    Args:
        source: the dataset.
        samples: what to decode.
        size: height and width of the result.
        held: for each sample whether it goes to the second part.
        on_progress: called with the number of samples done and of all.
        depth: bits that images of 16 bits are scaled by; None: those that the dataset uses.
    """
    parts = (_empty(int((~held).sum()), size), _empty(int(held.sum()), size))
    rows = np.where(held, np.cumsum(held), np.cumsum(~held)) - 1
    work = _Work(
        source,
        samples,
        size,
        [(parts[int(out)], int(row)) for out, row in zip(held, rows, strict=True)],
        depth,
    )
    wrong: dict[int, list[Problem]] = {}
    with ThreadPoolExecutor(_threads(), thread_name_prefix="segsweep-decode") as pool:
        futures = {pool.submit(work.decode, index): index for index in range(len(samples))}
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
    problems = [problem for index in sorted(wrong) for problem in wrong[index]]
    used, notes, of_whole = work.settle()
    return Decoded(parts, work.hashes, used, notes, [*_grouped(problems), *of_whole])


class _Work:
    """What threads fill in, each its own places.

    Args:
        source: the dataset.
        samples: all of them.
        size: height and width of the result.
        places: for each sample where it goes.
        depth: as of ``decode_all``.
    """

    def __init__(
        self,
        source: Source,
        samples: Sequence[Sample],
        size: tuple[int, int],
        places: Sequence[tuple[Part, int]],
        depth: int | None,
    ) -> None:
        self.depth = depth
        self.source, self.samples, self.size, self.places = source, samples, size, places
        self.hashes = [""] * len(samples)
        self.seen: list[Seen | None] = [None] * len(samples)
        self.left: dict[int, NDArray[np.int64]] = {}  # the codes that are left after resizing
        self.low: dict[int, NDArray[np.uint8]] = {}  # of images of 16 bits the low bytes

    def decode(self, index: int) -> None:
        """One sample: the image, or its high bytes, and the mask in codes."""
        look = self.source.look(self.samples[index])
        _refuse_unequal(look, self.samples[index])
        self.hashes[index] = _hash(look.image)
        (images, masks), row = self.places[index]
        image, masks[row] = _resize(look.image, look.codes, self.size)
        if image.dtype == np.uint16:
            self.low[index] = (image & 0xFF).astype(np.uint8)
            images[row] = image >> 8
        else:
            images[row] = image
        self.left[index] = np.flatnonzero(cv2.calcHist([masks[row]], [0], None, [256], [0, 256]))
        self.seen[index] = look.seen

    def settle(self) -> tuple[int | None, tuple[str, ...], list[Problem]]:
        """Codes become labels, and 16 bits 8; depth, notes and problems of the whole."""
        known = [(index, one) for index, one in enumerate(self.seen) if one is not None]
        seen = [one for _, one in known]
        settled = self.source.settle(seen)
        lost = Lost(self.source.classes, self.size)
        for (index, one), table in zip(known, settled.tables, strict=True):
            (_, masks), row = self.places[index]
            masks[row] = cv2.LUT(masks[row], table)
            if one.mask is not None:
                lost.count(table[: len(one.mask.used)], table[self.left[index]])
        used = notes.depth(seen)
        depth = (self.depth or used) if used else None
        for index in list(self.low):
            (images, _), row = self.places[index]
            deep = images[row].astype(np.uint16) << np.uint16(8) | self.low.pop(index)
            images[row] = to_bytes(deep, depth or DEPTHS[-1])
        return depth, (*notes.of_files(seen, depth), *settled.notes, *lost.told()), settled.problems


def _hash(image: Pixels) -> str:
    total = hashlib.blake2b(repr(image.shape).encode(), digest_size=16)
    total.update(np.ascontiguousarray(image).reshape(-1).view(np.uint8).data)
    return total.hexdigest()


def _empty(count: int, size: tuple[int, int]) -> Part:
    return np.empty((count, *size, 3), np.uint8), np.empty((count, *size), np.uint8)


def _refuse_unequal(look: Look, sample: Sample) -> None:
    """A mask has the size of its image, and one page, or as many as the image.

    Raises:
        DataError: it has not.
    """
    size, wanted = look.codes.shape, look.image.shape[:2]
    where = str(sample.files[-1]) if sample.files else sample.image_id
    image, mask = look.seen.image, look.seen.mask
    if size == wanted:
        if image and mask and mask.pages not in (1, image.pages):
            what = f"the mask has {mask.pages} pages, its image {image.pages}: which is the mask?"
            raise DataError(Problem(what, where, hint="save it as a file with that page alone"))
        return
    what = "the mask is {} × {} pixels, its image {} × {}".format(*size[::-1], *wanted[::-1])
    hint = "masks need their image's size"
    if image and mask and image.orientation != mask.orientation and size == wanted[::-1]:
        tag = "EXIF orientation"
        own = f"by its {tag} ({image.orientation})" if image.orientation > 1 else ""
        other = f"by its {tag} ({mask.orientation})" if mask.orientation > 1 else ""
        what += f": the image is {f'turned {own}' if own else 'not turned'}, the mask "
        what += f"turned {other}" if other else "has no such tag"
        hint = "turn the mask, too, or take the tag out of the file that has one"
    raise DataError(Problem(what, where=where, hint=hint))


def _resize(
    image: Pixels, mask: NDArray[np.uint8], size: tuple[int, int]
) -> tuple[Pixels, NDArray[np.uint8]]:
    height, width = size
    if mask.shape == size:
        return image, mask
    # INTER_NEAREST_EXACT takes pixel centres, as area and linear do; INTER_NEAREST drifts by half
    # a pixel to the upper left
    labels = cv2.resize(mask, (width, height), interpolation=cv2.INTER_NEAREST_EXACT)
    return resize_image(image, size), np.asarray(labels, np.uint8)


def resize_image(image: Pixels, size: tuple[int, int]) -> Pixels:
    """An image (H, W, 3) at another height and width: by area where it shrinks, else bilinear."""
    height, width = size
    if image.shape[:2] == size:
        return image
    shrinks = height * width < image.shape[0] * image.shape[1]
    how = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    small: Pixels = np.asarray(cv2.resize(image, (width, height), interpolation=how))  # type: ignore[assignment]
    return small
