"""Generated dermoscopy-like images: no download, yet hard enough that models differ.

Image ``i`` depends on the seed and ``i`` alone, never on how many there are, so that a larger
set continues a smaller one. Drawing is in `segsweep.data.sources.lesion_art`.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Annotated

import numpy as np
from pydantic import Field

from segsweep.data.sources import lesion_art
from segsweep.data.sources.base import BINARY, Palette, Sample
from segsweep.data.sources.reading import Reading
from segsweep.data.sources.seen import Look, Seen
from segsweep.errors import Problem

VERSION = 1
"""Raised whenever the same seed gives other pixels."""

SIZE = (192, 256)
_PATIENT, _DIAGNOSIS, _IMAGE = range(3)
_BLOCK = ("common", "common", "atypical", "atypical", "melanoma")


class SyntheticLesions(Reading):
    """Generated lesions of three diagnoses, with one to three images a patient.

    Args:
        root: not used.
        images: how many.
        seed: another seed, another set.
    """

    palette: Palette | None = None
    official_holdout: str = "test"

    def __init__(
        self,
        root: Path | None = None,
        *,
        images: Annotated[int, Field(ge=4, le=100_000)] = 120,
        seed: Annotated[int, Field(ge=0)] = 0,
    ) -> None:
        self.classes: tuple[str, ...] = BINARY
        self._images = images
        self._seed = seed

    def scan(self) -> tuple[list[Sample], list[Problem]]:
        """See `Source.scan`."""
        return self.samples(), []

    def samples(self) -> list[Sample]:
        """See `Source.samples`."""
        found: list[Sample] = []
        patient = 0
        while len(found) < self._images:
            for _ in range(int(self._rng(_PATIENT, patient).integers(1, 4))):
                index = len(found)
                attributes = {"diagnosis": self._diagnosis(index), "patient": f"p{patient:05d}"}
                found.append(Sample(f"synthetic_{index:05d}", (), attributes))
            patient += 1
        return found[: self._images]

    def look(self, sample: Sample) -> Look:
        """See `Source.look`; masks are drawn as labels."""
        patient = self._rng(_PATIENT, int(sample.attributes["patient"][1:]))
        patient.integers(1, 4)  # how many images, drawn first in `samples`
        tone = float(patient.random())
        rng = self._rng(_IMAGE, _index(sample))
        image, labels = lesion_art.draw(rng, SIZE, sample.attributes["diagnosis"], tone)
        return Look(image, labels, Seen())

    def digest(self, sample: Sample) -> str:
        """See `Source.digest`."""
        settings = f"synthetic_lesions {VERSION} {SIZE} {self._seed} {_index(sample)}"
        return hashlib.sha256(settings.encode()).hexdigest()

    def _diagnosis(self, index: int) -> str:
        """In every five images in a row: two common, two atypical, one melanoma."""
        block, place = divmod(index, len(_BLOCK))
        return _BLOCK[int(self._rng(_DIAGNOSIS, block).permutation(len(_BLOCK))[place])]

    def _rng(self, purpose: int, index: int) -> np.random.Generator:
        return np.random.default_rng([self._seed, purpose, index])


def _index(sample: Sample) -> int:
    return int(sample.image_id.rsplit("_", 1)[1])
