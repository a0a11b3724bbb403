"""PH2: 200 dermoscopic images with lesion masks and diagnoses, in the layout of its release.

::

    PH2Dataset/
      PH2_dataset.txt                                   diagnosis of each image
      PH2 Dataset images/IMD003/
        IMD003_Dermoscopic_Image/IMD003.bmp
        IMD003_lesion/IMD003_lesion.bmp                 1 bit, 8 bits or RGB
"""

from __future__ import annotations

import re
from pathlib import Path

from segsweep.data.sources.base import BINARY, Sample, confined, missing_root
from segsweep.data.sources.files import FileSource
from segsweep.data.sources.meaning import Binary
from segsweep.errors import DataError, Problem

IMAGES = "PH2 Dataset images"
TABLE = "PH2_dataset.txt"
DIAGNOSES = {"0": "common", "1": "atypical", "2": "melanoma"}
_NAME = re.compile(r"IMD\d+")
_GET_IT = (
    "PH2 is free for research, on request: https://www.fc.up.pt/addi/ph2%20database.html; "
    "unpack it unchanged and point `dataset.root` to the directory with "
    f"{TABLE!r}, or set SEGSWEEP_DATA to the directory above it"
)


class Ph2(FileSource):
    """The PH2 dataset.

    Args:
        root: the directory that holds ``PH2_dataset.txt`` and ``PH2 Dataset images``.
    """

    def __init__(self, root: Path | None) -> None:
        super().__init__(root)
        self.classes: tuple[str, ...] = BINARY
        self.meaning = Binary()

    def scan(self) -> tuple[list[Sample], list[Problem]]:
        """See `Source.scan`."""
        problems = missing_root(self._root, "PH2", f"{TABLE!r} and {IMAGES!r}")
        if problems or self._root is None:
            return [], [Problem(p.what, p.where, p.key, f"{p.hint}. {_GET_IT}") for p in problems]
        images = self._root / IMAGES
        if not images.is_dir():
            return [], [Problem(f"PH2 has no {IMAGES!r} here", str(self._root), hint=_GET_IT)]
        diagnoses, problems = _diagnoses(self._root / TABLE)
        entries = [path for path in images.iterdir() if not path.name.startswith(".")]
        names = {path.name for path in entries if path.is_dir() and _NAME.fullmatch(path.name)}
        problems += [
            Problem("not an image of PH2", where=str(path))
            for path in sorted(entries)
            if path.name not in names
        ]
        if diagnoses:
            problems += self._differences(names, set(diagnoses))
        if not names and not problems:
            problems.append(Problem("holds no images", where=str(images), hint=_GET_IT))
        samples = []
        for name in sorted(names):
            found, wrong = self._sample(name, diagnoses.get(name))
            samples += found
            problems += wrong
        return samples, problems

    def _differences(self, present: set[str], listed: set[str]) -> list[Problem]:
        root = self._root or Path()
        absent = [
            Problem(f"missing, although {TABLE} lists it", where=str(root / IMAGES / name))
            for name in sorted(listed - present)
        ]
        hint = f"add a line for it to {TABLE}, or remove the directory"
        return absent + [
            Problem(f"has no diagnosis in {TABLE}", where=str(root / IMAGES / name), hint=hint)
            for name in sorted(present - listed)
        ]

    def _sample(self, name: str, diagnosis: str | None) -> tuple[list[Sample], list[Problem]]:
        root = self._root or Path()
        folder = root / IMAGES / name
        files: list[Path] = []
        problems: list[Problem] = []
        for subfolder, what in (("Dermoscopic_Image", "image"), ("lesion", "mask")):
            suffix = "_lesion" if what == "mask" else ""
            path = folder / f"{name}_{subfolder}" / f"{name}{suffix}.bmp"
            try:
                files.append(confined(path, root))
            except DataError as error:
                problems += error.problems
                continue
            if not path.is_file():
                problems.append(Problem(f"the {what} is missing", where=str(path)))
        if problems or diagnosis is None:
            return [], problems
        return [Sample(name, tuple(files), {"diagnosis": diagnosis})], []


def _diagnoses(path: Path) -> tuple[dict[str, str], list[Problem]]:
    """Image name → diagnosis, from the release's ``||`` table or a table with tabs."""
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError as error:
        what = f"cannot be read: {error.strerror}"
        return {}, [Problem(what, where=str(path), hint=_GET_IT)]
    columns: dict[str, int] = {}
    diagnoses: dict[str, str] = {}
    problems: list[Problem] = []
    for number, line in enumerate(lines, start=1):
        cells = _cells(line)
        if not columns:
            header = {cell.lower(): place for place, cell in enumerate(cells)}
            columns = header if {"name", "clinical diagnosis"} <= header.keys() else {}
            continue
        name = cells[columns["name"]] if len(cells) > columns["name"] else ""
        if not _NAME.fullmatch(name):
            continue  # the legend below the table
        code = (cells + [""] * len(columns))[columns["clinical diagnosis"]]
        where = f"{path}:{number}"
        if name in diagnoses:
            problems.append(Problem(f"{name} is listed twice", where=where))
        elif code not in DIAGNOSES:
            what = f"{name} has the clinical diagnosis {code!r}"
            problems.append(Problem(what, where=where, hint="0 common, 1 atypical, 2 melanoma"))
        diagnoses[name] = DIAGNOSES.get(code, "")
    if not columns:
        what = "has no line with the column titles Name and Clinical Diagnosis"
        problems.append(Problem(what, where=str(path), hint=_GET_IT))
    return diagnoses, problems


def _cells(line: str) -> list[str]:
    separator = r"\|\|?" if "|" in line else r"\t"
    return [cell.strip() for cell in re.split(separator, line.strip(" \r\n"))]
