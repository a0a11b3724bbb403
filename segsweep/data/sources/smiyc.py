"""Road scenes with unknown objects, for scoring: SegmentMeIfYouCan, Fishyscapes, RoadAnomaly.

::

    root/images/…  root/labels_masks/…      0 known, 1 anomaly, 255 void (ignored)

============  ==================================================================================
``layout``    file names
============  ==================================================================================
smiyc         ``validation0000.jpg`` or ``.webp`` and ``validation0000_labels_semantic.png``;
              images that are not called validation have no public masks and are passed over
fishyscapes   ``0.png`` and ``0.png``, equal stems, as Fishyscapes and RoadObstacle21 are passed
              around with the code of later papers
road_anomaly  equal stems; the anomaly is 2, as RoadAnomaly of 2019 writes it
============  ==================================================================================

All images count as the split ``test``: they are meant for scoring, and ``holdout: official`` would
leave nothing to train on.

Sources: Chan et al. 2021, "SegmentMeIfYouCan"; Blum et al. 2021, "The Fishyscapes Benchmark"; Lis
et al. 2019, "Detecting the Unexpected via Image Resynthesis".
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from segsweep.data.sources.base import IGNORE, Sample, missing_root
from segsweep.data.sources.files import FileSource, list_files, pair
from segsweep.data.sources.meaning import Table
from segsweep.errors import Problem

_SUFFIX = {"smiyc": "_labels_semantic", "fishyscapes": "", "road_anomaly": ""}
_ANOMALY = {"smiyc": 1, "fishyscapes": 1, "road_anomaly": 2}


class Smiyc(FileSource):
    """Images with anomalies.

    Args:
        root: the directory that holds ``images`` and ``labels_masks``.
        layout: whose file names and values they are.
    """

    def __init__(
        self,
        root: Path | None,
        *,
        layout: Literal["smiyc", "fishyscapes", "road_anomaly"] = "smiyc",
    ) -> None:
        super().__init__(root)
        self.classes: tuple[str, ...] = ("known", "anomaly")
        self.meaning = Table({0: 0, _ANOMALY[layout]: 1, 255: IGNORE})
        self._layout = layout

    def scan(self) -> tuple[list[Sample], list[Problem]]:
        """See `Source.scan`."""
        problems = missing_root(self._root, "the dataset", "'images' and 'labels_masks'")
        if problems or self._root is None:
            return [], problems
        suffix = _SUFFIX[self._layout]
        images, problems = list_files(self._root, "images")
        masks, wrong = list_files(
            self._root, "labels_masks", suffix, masks=True, others=bool(suffix)
        )
        if self._layout == "smiyc":
            images = {
                stem: path
                for stem, path in images.items()
                if stem.startswith("validation") or stem in masks
            }
        pairs, alone = pair(images, masks, lambda stem: f"labels_masks/{stem}{suffix}.png")
        problems += wrong + alone
        if not pairs and not problems:
            hint = f"layout {self._layout!r} expects images/… and labels_masks/…{suffix}.png"
            problems.append(Problem("holds no images with masks", str(self._root), hint=hint))
        return [Sample(stem, (image, mask), {}, "test") for stem, image, mask in pairs], problems
