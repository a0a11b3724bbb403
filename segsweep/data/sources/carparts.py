"""Car parts: arrays of RGB and label, nine parts and the background.

::

    carparts/arrays/photo_0001.npy …    (H, W, 4) uint8: R, G, B, label 0, 10, …, 90

``arrays`` may also be the root itself. The course's test images are ``photo_0001`` to
``photo_0030``: ``holdout: official``, where they are present. ``kind`` is what precedes the number
in a file's name (``photo``, ``black_5_doors``, …).

Source: the dataset's readme, as handed out with the car segmentation project of DTU course 02456
and Deloitte.
"""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from segsweep.data.image_file import refuse_larger
from segsweep.data.sources.base import Sample, confined, missing_root
from segsweep.data.sources.files import FileSource, plain
from segsweep.data.sources.meaning import Table
from segsweep.data.sources.seen import Look, Seen, coded_values
from segsweep.errors import DataError, Problem

CLASSES = (
    "background", "hood", "front_door", "rear_door", "frame", "rear_quarter_panel", "trunk_lid",
    "fender", "bumper", "rest_of_car",
)  # fmt: skip
STEP = 10  # label = class × STEP
_TEST = re.compile(r"photo_00(0[1-9]|[12]\d|30)")
_EXPECTED = "expected an array of height × width × 4 bytes: RGB and label"


class CarParts(FileSource):
    """The car parts dataset.

    Args:
        root: the directory that holds ``arrays``, or the ``.npy`` files themselves.
    """

    meaning = Table({label * STEP: label for label in range(len(CLASSES))})

    def __init__(self, root: Path | None) -> None:
        super().__init__(root)
        self.classes: tuple[str, ...] = CLASSES

    def scan(self) -> tuple[list[Sample], list[Problem]]:
        """See `Source.scan`."""
        problems = missing_root(self._root, "the car parts dataset", "'arrays'")
        if problems or self._root is None:
            return [], problems
        folder = self._root / "arrays"
        folder = folder if folder.is_dir() else self._root
        samples = []
        stems: dict[str, Path] = {}
        for path in sorted(folder.iterdir()):
            if path.name.startswith(".") or (folder == self._root and path.suffix != ".npy"):
                continue
            if path.suffix != ".npy" or not path.is_file():
                problems.append(Problem("is not an .npy file", where=str(path)))
                continue
            try:
                confined(path, self._root)
            except DataError as error:
                problems += error.problems
            stem = plain(path.stem)
            if stem in stems:
                what = f"has the same name as {stems[stem].name} in another Unicode form"
                problems.append(Problem(what, str(path), hint="each image needs its own stem"))
                continue
            stems[stem] = path
            split = "test" if _TEST.fullmatch(stem) else "train"
            kind = stem.rpartition("_")[0] or stem
            samples.append(Sample(stem, (path,), {"kind": kind}, split))
        if not samples and not problems:
            hint = "expected arrays/photo_0001.npy …"
            problems.append(Problem("holds no images", where=str(folder), hint=hint))
        return sorted(samples, key=lambda sample: sample.image_id), problems

    def look(self, sample: Sample) -> Look:
        """See `Source.look`."""
        (path,) = sample.files
        pixels = _load(path)
        codes, seen = coded_values(pixels[..., 3], path)
        return Look(np.ascontiguousarray(pixels[..., :3]), codes, Seen(mask=seen))


def _load(path: Path) -> NDArray[np.uint8]:
    """(H, W, 4); nothing that would need pickle is read.

    Raises:
        DataError: see `Source.read`.
    """
    try:
        # mapped, so that a header that promises more than the file holds costs nothing
        pixels = np.load(path, mmap_mode="r", allow_pickle=False)
    except Exception as error:  # numpy raises nearly anything on damaged input
        text = str(error)
        if "pickle" in text or "Python objects" in text:
            what = "would need pickle, which can run any code: refused"
            raise DataError(Problem(what, where=str(path), hint=_EXPECTED)) from error
        what = f"damaged, or not an .npy file: {error}"
        raise DataError(Problem(what, where=str(path), hint=_EXPECTED)) from error
    if not isinstance(pixels, np.ndarray):
        pixels.close()
        raise DataError(Problem("is an archive of arrays", where=str(path), hint=_EXPECTED))
    if pixels.ndim != 3 or pixels.shape[2] != 4 or 0 in pixels.shape:
        shape = " × ".join(map(str, pixels.shape)) or "a single number"
        raise DataError(Problem(f"has the shape {shape}", where=str(path), hint=_EXPECTED))
    if pixels.dtype != np.uint8:
        raise DataError(Problem(f"holds {pixels.dtype} numbers", where=str(path), hint=_EXPECTED))
    refuse_larger(pixels.shape[1], pixels.shape[0], path)
    return np.array(pixels)
