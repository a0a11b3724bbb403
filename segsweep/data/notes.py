"""What to know about a dataset's files and need not change, a sentence for each kind."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from segsweep.data.image_file import DEPTHS, depth_of
from segsweep.data.sources.meaning import IGNORE
from segsweep.data.sources.seen import ImageSeen, MaskSeen, Seen

FEW_GREYS = 16  # of an image after scaling: below, a model sees next to nothing


def of_files(seen: Sequence[Seen], depth: int | None) -> Iterator[str]:
    """What was seen of image and mask files, counted over the whole dataset.

    Args:
        seen: of each sample.
        depth: bits that images of 16 bits were scaled by; None: there are none.
    """
    images = [one.image for one in seen if one.image is not None]
    pairs = [(one.image, one.mask) for one in seen if one.image and one.mask]
    yield from _orientation(pairs, len(images))
    yield from _depth(images, depth)
    yield from _alpha(images)
    for what, files in (("images", images), ("masks", [mask for _, mask in pairs])):
        if pages := [one for one in files if one.pages > 1]:
            most = max(one.pages for one in pages)
            yield (
                f"{len(pages)} of {len(files)} {what} have further pages or frames (up to {most} "
                "in all): the first is read, the others are left out"
            )


def depth(seen: Sequence[Seen]) -> int | None:
    """The bits that images of 16 bits really use; None where there is no such image."""
    highest = max((one.image.highest for one in seen if one.image is not None), default=0)
    return depth_of(highest) if highest else None


def _orientation(pairs: Sequence[tuple[ImageSeen, MaskSeen]], count: int) -> Iterator[str]:
    sides = {"image": 0, "mask": 0, "both": 0}
    for image, mask in pairs:
        if image.orientation != mask.orientation:
            one = "mask" if image.orientation == 1 else "image" if mask.orientation == 1 else "both"
            sides[one] += 1
    turned = "turned by their EXIF orientation"
    if sides["image"]:
        yield f"{sides['image']} of {count} images are {turned}; their masks have none"
    if sides["mask"]:
        yield f"{sides['mask']} of {len(pairs)} masks are {turned}; their images have none"
    if sides["both"]:
        yield f"{sides['both']} of {count} images and their masks have different EXIF orientations"


def _depth(images: Sequence[ImageSeen], depth: int | None) -> Iterator[str]:
    deep = [one.highest for one in images if one.highest]
    if deep:
        bits = depth or depth_of(max(deep))
        yield from _dark([one for one in images if one.highest], bits)
        how = f"divided by {1 << bits - DEPTHS[0]}" if bits > DEPTHS[0] else "taken as they are"
        yield (
            f"{len(deep)} of {len(images)} images have 16 bits a channel; their largest value is "
            f"{max(deep)}: they are read as {bits} bits ({how})"
        )


def _dark(images: Sequence[ImageSeen], bits: int) -> Iterator[str]:
    """Images that scaling leaves few greys of: an offset, or one bright pixel somewhere."""
    shift = bits - DEPTHS[0]
    flat = [one for one in images if (one.highest >> shift) - (one.lowest >> shift) < FEW_GREYS]
    if flat:
        yield (
            f"{len(flat)} of {len(images)} images of 16 bits have fewer than {FEW_GREYS} of 256 "
            f"greys left (such as {flat[0].path.name}): spread their values over the range that "
            "all images share, from 0 on"
        )


def _alpha(images: Sequence[ImageSeen]) -> Iterator[str]:
    told = {
        "partial": "are transparent in part: alpha is left out",
        "hidden": "have pixels that are invisible: the colours under them are read",
        "nothing": "are invisible everywhere: alpha is left out",
    }
    for kind, what in told.items():
        if count := sum(one.alpha == kind for one in images):
            yield f"{count} of {len(images)} images {what}"


class Lost:
    """Counts how many images lose all of a class through resizing.

    Args:
        classes: names; the index is the label.
        size: height and width of what is left.
    """

    def __init__(self, classes: Sequence[str], size: tuple[int, int]) -> None:
        self._classes, self._size = classes, size
        self._shown = np.zeros(IGNORE + 1, np.int64)
        self._lost = np.zeros(IGNORE + 1, np.int64)

    def count(self, before: NDArray[np.uint8], after: NDArray[np.uint8]) -> None:
        """One image: its labels before resizing, and those left after; each may come twice."""
        had = np.unique(before)
        self._shown[had] += 1
        self._lost[np.setdiff1d(had, after)] += 1

    def told(self) -> Iterator[str]:
        """A sentence, where any image has lost anything."""
        found = [
            f"{self._lost[label]} of {self._shown[label]} lose all of {name!r}"
            for label, name in enumerate(self._classes)
            if self._lost[label]
        ]
        if found:
            height, width = self._size
            yield (
                f"resized to {height} × {width}, of the images that show a class, "
                f"{'; '.join(found)}"
            )
