"""MVTec AD: industrial defects, as supervised segmentation of defect against background.

::

    mvtec/bottle/
      train/good/000.png …                       good ones; they take part with `train_good: true`
      test/good/000.png …  test/crack/000.png …
      ground_truth/crack/000_mask.png …          0 and 255; good images have none

The official split is for anomaly detection (nothing but good images to train on) and is of no use
here: hold out a share, ``stratify_by: kind`` (category/defect; with one category ``defect`` does).
Each image is of another object, so there is nothing to group; ``group_by: category`` asks how well
defects are found on products that were never seen.

Source: Bergmann et al. 2019, "MVTec AD – A Comprehensive Real-World Dataset for Unsupervised
Anomaly Detection"; mvtec.com/company/research/datasets/mvtec-ad.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import Field

from segsweep.data.sources.base import Sample, missing_root
from segsweep.data.sources.files import FileSource, list_files, list_folders, located, pair, plain
from segsweep.data.sources.meaning import Binary
from segsweep.errors import Problem
from segsweep.registry import suggest

GOOD = "good"


class MvTec(FileSource):
    """One category of MVTec AD, several, or all.

    Args:
        root: the directory that holds ``bottle``, ``cable``, ….
        category: a name, a list of names, or ``all``.
        train_good: do the good images of ``train`` take part, too?
    """

    def __init__(
        self,
        root: Path | None,
        *,
        category: str | Annotated[list[str], Field(min_length=1)] = "all",
        train_good: bool = False,
    ) -> None:
        super().__init__(root)
        self.classes: tuple[str, ...] = ("background", "defect")
        self.meaning = Binary()
        self._wanted = [
            plain(one) for one in ([category] if isinstance(category, str) else category)
        ]
        self._train_good = train_good

    def scan(self) -> tuple[list[Sample], list[Problem]]:
        """See `Source.scan`."""
        problems = missing_root(self._root, "MVTec AD", "'bottle', 'cable', …")
        if problems or self._root is None:
            return [], problems
        present = [
            name
            for name in list_folders(self._root)
            if located(self._root, f"{name}/test").is_dir()
        ]
        if not present:
            what = "holds no category: expected 'bottle', 'cable', … with 'test' and 'ground_truth'"
            hint = "point `dataset.root` to the directory above the categories"
            return [], [Problem(what, where=str(self._root), hint=hint)]
        chosen = present if self._wanted == ["all"] else list(dict.fromkeys(self._wanted))
        samples: list[Sample] = []
        for category in chosen:
            if category not in present:
                what, hint = f"there is no category {category!r}", suggest(category, present)
                problems.append(Problem(what, key="dataset.category", hint=hint))
                continue
            found, wrong = self._category(self._root, category)
            samples += found
            problems += wrong
        if not samples and not problems:
            problems.append(Problem("holds no images", where=str(self._root)))
        return sorted(samples, key=lambda sample: sample.image_id), problems

    def _category(self, root: Path, category: str) -> tuple[list[Sample], list[Problem]]:
        samples: list[Sample] = []
        tests, truths = f"{category}/test", f"{category}/ground_truth"
        problems = [
            Problem(
                f"has no images: there is no directory {tests}/{defect}",
                str(root / truths / defect),
            )
            for defect in list_folders(root, truths)
            if defect not in list_folders(root, tests)
        ]
        for defect in list_folders(root, tests):
            images, wrong = list_files(root, f"{tests}/{defect}")
            problems += wrong
            if defect == GOOD:
                samples += [_sample(tests, defect, stem, image) for stem, image in images.items()]
                continue
            masks, wrong = list_files(root, f"{truths}/{defect}", "_mask", masks=True)
            where = f"{truths}/{defect}"
            pairs, alone = pair(images, masks, lambda stem, at=where: f"{at}/{stem}_mask.png")  # type: ignore[misc]
            problems += wrong + alone
            samples += [_sample(tests, defect, *found) for found in pairs]
        if self._train_good:
            images, wrong = list_files(root, f"{category}/train/{GOOD}")
            problems += wrong
            samples += [
                _sample(f"{category}/train", GOOD, stem, image) for stem, image in images.items()
            ]
        return samples, problems


def _sample(folder: str, defect: str, stem: str, *files: Path) -> Sample:
    category = folder.split("/")[0]
    attributes = {"category": category, "defect": defect, "kind": f"{category}/{defect}"}
    return Sample(f"{folder}/{defect}/{stem}", files, attributes)
