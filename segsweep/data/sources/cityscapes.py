"""Cityscapes: street scenes of 50 cities, in 19 classes or 8 categories.

::

    cityscapes/
      leftImg8bit/train/aachen/aachen_000000_000019_leftImg8bit.png
      gtFine/train/aachen/aachen_000000_000019_gtFine_labelIds.png      label ids 0 … 33

``classes: 19`` are the classes that are trained and scored officially, all others are ignored;
``classes: 8cat`` are the 8 categories that all 34 ids belong to, void among them (add
``leave_out: [void]`` to ignore it).

``train`` and ``val`` have public labels, 2975 and 500 images. ``holdout: official`` holds out
``val``; the labels of ``test`` are not public, it is passed over, as is ``train_extra``. A new
split of all 3475 in about 2953 / 261 / 261 with no city on two sides: ``holdout: 0.0751`` and
``folds: {k: 12, group_by: city, run: 1}``. Cities are not divided, so that the numbers depend on
the seed: 2952 / 250 / 273 with ``seed: 0``.

Source of ids, categories and colours: github.com/mcordts/cityscapesScripts, ``helpers/labels.py``
(Cordts et al. 2016).
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from segsweep.data.sources.base import IGNORE, Palette, Sample, missing_root
from segsweep.data.sources.files import FileSource, list_files, list_folders, pair
from segsweep.data.sources.meaning import Table
from segsweep.errors import Problem

SPLITS = ("train", "val")
IDS = 34
CATEGORIES = {
    "void": range(7),  # unlabeled, ego vehicle, rectification border, out of roi, static, …, ground
    "flat": range(7, 11),  # road, sidewalk, parking, rail track
    "construction": range(11, 17),  # building, wall, fence, guard rail, bridge, tunnel
    "object": range(17, 21),  # pole, polegroup, traffic light, traffic sign
    "nature": range(21, 23),  # vegetation, terrain
    "sky": range(23, 24),
    "human": range(24, 26),  # person, rider
    "vehicle": range(26, 34),  # car, truck, bus, caravan, trailer, train, motorcycle, bicycle
}
CLASSES = {
    "road": (7, (128, 64, 128)), "sidewalk": (8, (244, 35, 232)), "building": (11, (70, 70, 70)),
    "wall": (12, (102, 102, 156)), "fence": (13, (190, 153, 153)), "pole": (17, (153, 153, 153)),
    "traffic_light": (19, (250, 170, 30)), "traffic_sign": (20, (220, 220, 0)),
    "vegetation": (21, (107, 142, 35)), "terrain": (22, (152, 251, 152)),
    "sky": (23, (70, 130, 180)), "person": (24, (220, 20, 60)), "rider": (25, (255, 0, 0)),
    "car": (26, (0, 0, 142)), "truck": (27, (0, 0, 70)), "bus": (28, (0, 60, 100)),
    "train": (31, (0, 80, 100)), "motorcycle": (32, (0, 0, 230)), "bicycle": (33, (119, 11, 32)),
}  # fmt: skip
PAINTED_AS = {  # the class whose colour stands for its category; void is black, as unlabelled is
    "flat": "road", "construction": "building", "object": "pole", "nature": "vegetation",
    "sky": "sky", "human": "person", "vehicle": "car",
}  # fmt: skip
_IMAGES, _MASKS = "leftImg8bit", "gtFine"


class Cityscapes(FileSource):
    """The Cityscapes dataset with its fine labels.

    Args:
        root: the directory that holds ``leftImg8bit`` and ``gtFine``.
        classes: 19, or ``8cat``.
    """

    official_holdout = "val"

    def __init__(self, root: Path | None, *, classes: Literal["8cat", 19] = 19) -> None:
        super().__init__(root)
        if classes == 19:
            self.classes: tuple[str, ...] = tuple(CLASSES)
            self.palette: Palette | None = tuple(colour for _, colour in CLASSES.values())
            labels = {value: label for label, (value, _) in enumerate(CLASSES.values())}
            self.meaning = Table({value: labels.get(value, IGNORE) for value in range(IDS)})
        else:
            self.classes = tuple(CATEGORIES)
            colours = {name: CLASSES[one][1] for name, one in PAINTED_AS.items()}
            self.palette = tuple(colours.get(name, (0, 0, 0)) for name in CATEGORIES)
            self.meaning = Table(
                {value: label for label, ids in enumerate(CATEGORIES.values()) for value in ids}
            )

    def scan(self) -> tuple[list[Sample], list[Problem]]:
        """See `Source.scan`."""
        problems = missing_root(self._root, "Cityscapes", f"{_IMAGES!r} and {_MASKS!r}")
        if problems or self._root is None:
            return [], problems
        absent = [name for name in (_IMAGES, _MASKS) if not (self._root / name).is_dir()]
        if absent:
            hint = "unpack leftImg8bit_trainvaltest.zip and gtFine_trainvaltest.zip side by side"
            what = f"Cityscapes has no {' and no '.join(map(repr, absent))} here"
            return [], [Problem(what, where=str(self._root), hint=hint)]
        samples: list[Sample] = []
        splits: dict[str, str] = {}
        for split in SPLITS:
            cities = {
                city
                for kind in (_IMAGES, _MASKS)
                for city in list_folders(self._root, f"{kind}/{split}")
            }
            for city in sorted(cities):
                if splits.setdefault(city, split) != split:
                    what = f"the city {city!r} is in the split {splits[city]!r}, too"
                    where = str(self._root / _IMAGES / split / city)
                    problems.append(Problem(what, where, hint="a city belongs to one split"))
                    continue
                found, wrong = _city(self._root, split, city)
                samples += found
                problems += wrong
        if not samples and not problems:
            hint = f"expected {_IMAGES}/train/aachen/…"
            problems.append(Problem("holds no images", where=str(self._root), hint=hint))
        return sorted(samples, key=lambda sample: sample.image_id), problems


def _city(root: Path, split: str, city: str) -> tuple[list[Sample], list[Problem]]:
    images, problems = list_files(root, f"{_IMAGES}/{split}/{city}", f"_{_IMAGES}")
    folder = f"{_MASKS}/{split}/{city}"
    masks, wrong = list_files(root, folder, "_gtFine_labelIds", masks=True, others=True)
    pairs, alone = pair(images, masks, lambda stem: f"{folder}/{stem}_gtFine_labelIds.png")
    samples = [Sample(stem, (image, mask), {"city": city}, split) for stem, image, mask in pairs]
    return samples, problems + wrong + alone
