"""Any dataset of image files with mask files of the same name.

::

    root/
      images/a.jpg b.png …
      masks/a.png b.png …          same stem, or stem + mask_suffix
      metadata.csv                 optional: image,patient,diagnosis,split,…
"""

from __future__ import annotations

import csv
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

from pydantic import Field

from segsweep.data.sources.base import IGNORE, Sample, missing_root
from segsweep.data.sources.files import FileSource, list_files, pair, plain
from segsweep.data.sources.meaning import Binary, Table
from segsweep.errors import Problem, UserError

PixelValue = Annotated[int, Field(ge=0, le=65535)]
UNNAMED = ("background", "foreground")


class Folder(FileSource):
    """Images and masks in two directories.

    Args:
        root: the directory that holds ``images`` and ``masks``.
        classes: class name → its pixel value in the mask files; the order gives the labels.
            Without it there are two, background (0) and foreground (1 or 255).
        ignore_index: the pixel value that means "no label here".
        mask_suffix: what mask files have after the image's stem, ``"_mask"``.
    """

    def __init__(
        self,
        root: Path | None,
        *,
        classes: dict[str, PixelValue] | None = None,
        ignore_index: PixelValue | None = None,
        mask_suffix: str = "",
    ) -> None:
        super().__init__(root)
        self.classes: tuple[str, ...] = tuple(classes) if classes is not None else UNNAMED
        self._suffix = mask_suffix
        if classes is None:
            self.meaning = Binary(ignore_index, options=True)
        else:
            self.meaning = Table(_table(classes, ignore_index))
        if classes is None and ignore_index in (0, 1):
            what = f"ignore_index: {ignore_index} is the value of a class"
            raise UserError(
                Problem(what, key="ignore_index", hint="binary masks are 0 and 1 or 255")
            )

    def scan(self) -> tuple[list[Sample], list[Problem]]:
        """See `Source.scan`."""
        problems = missing_root(self._root, "the dataset", "'images' and 'masks'")
        if problems or self._root is None:
            return [], problems
        images, problems = list_files(self._root, "images")
        masks, wrong = list_files(self._root, "masks", self._suffix, masks=True)
        rows, wrong_rows = _metadata(self._root / "metadata.csv", images) if images else ({}, [])
        problems += wrong + wrong_rows
        if not problems and not images:
            problems.append(Problem("holds no images", where=str(self._root / "images")))
        pairs, alone = pair(images, masks, lambda stem: f"masks/{stem}{self._suffix}.png")
        samples = []
        for stem, image, mask in pairs:
            attributes = dict(rows.get(stem, {}))
            split = attributes.pop("split", None) or None
            samples.append(Sample(stem, (image, mask), attributes, split))
        return samples, problems + alone


def _table(classes: Mapping[str, int], ignore_index: int | None) -> dict[int, int]:
    problems: list[Problem] = []
    if not 2 <= len(classes) < IGNORE:
        what = f"{len(classes)} classes; there must be 2 to {IGNORE - 1}"
        problems.append(Problem(what, key="classes", hint="background is a class, too"))
    table: dict[int, int] = {}
    for label, (name, value) in enumerate(classes.items()):
        if value in table:
            what = f"{list(classes)[table[value]]!r} and {name!r} have the same pixel value {value}"
            problems.append(Problem(what, key=f"classes.{name}"))
        table.setdefault(value, label)
    if ignore_index is not None:
        if ignore_index in table:
            what = f"ignore_index: {ignore_index} is the value of a class"
            problems.append(Problem(what, key="ignore_index"))
        table[ignore_index] = IGNORE
    if problems:
        raise UserError(problems)
    return table


def _metadata(
    path: Path, images: Mapping[str, Path]
) -> tuple[dict[str, dict[str, str]], list[Problem]]:
    """Image stem → attributes; every image needs exactly one row, where there is a file."""
    if not path.exists():
        return {}, []
    try:
        with path.open(encoding="utf-8-sig", newline="") as stream:
            reader = csv.DictReader(stream, restval="")
            titles = [plain(title.strip()) for title in reader.fieldnames or []]
            reader.fieldnames = titles
            lines = [(reader.line_num, line) for line in reader]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        return {}, [Problem(f"cannot be read: {error}", where=str(path))]
    if "image" not in titles or len(set(titles)) < len(titles) or "" in titles:
        what = f"its columns are {', '.join(titles) or 'missing'}"
        hint = "the first line names the columns, each once: image,patient,…"
        return {}, [Problem(what, where=str(path), hint=hint)]
    rows: dict[str, dict[str, str]] = {}
    problems: list[Problem] = []
    by_name = {plain(image.name): stem for stem, image in images.items()}
    by_name |= {stem: stem for stem in images}
    for number, line in lines:
        where, name = f"{path}:{number}", plain((line["image"] or "").strip())
        stem = by_name.get(name, "")
        if None in line:
            problems.append(Problem("has more fields than columns", where=where))
        elif not stem:
            problems.append(Problem(f"there is no image {name!r}", where=where))
        elif stem in rows:
            problems.append(Problem(f"{name!r} is listed twice", where=where))
        else:
            rows[stem] = {key: plain(line[key].strip()) for key in titles if key != "image"}
    problems += [
        Problem(f"has no row for {images[stem].name}", where=str(path))
        for stem in sorted(images.keys() - rows.keys())
    ]
    return rows, problems
