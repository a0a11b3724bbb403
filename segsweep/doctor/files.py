"""Files and folders that a sweep names: its images are listed, none is decoded."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from segsweep.doctor import wants
from segsweep.doctor.finding import Finding
from segsweep.errors import Problem, UserError
from segsweep.identity import counted
from segsweep.spec import SweepSpec
from segsweep.yamlfile import Document

if TYPE_CHECKING:
    from segsweep.data.sources import Source
    from segsweep.data.sources.base import Sample

LISTED = 3  # problems of one data set that are shown; `validate` shows them all


def data(spec: SweepSpec, document: Document | None) -> Iterable[Finding]:
    """The images of a sweep, and of the data that its models are scored on afterwards."""
    try:
        yield from _own(spec, document)
        for name in spec.calibration.datasets:
            yield from _scored(spec, name)
    except ImportError as error:  # one of the packages that are named as missing
        hint = "install what is missing above first"
        yield Finding("data", "missing", f"cannot be listed: {error}", hint)


class _Listed:
    """A source whose images are listed once, however often that is asked for."""

    def __init__(self, source: Source) -> None:
        self.source, self.official_holdout = source, source.official_holdout
        self.images: list[Sample] = []
        self.problems: list[Problem] = []
        self.done = False

    def scan(self) -> tuple[list[Sample], list[Problem]]:
        """See ``Source.scan``."""
        if not self.done:
            self.images, self.problems = self.source.scan()
            self.done = True
        return self.images, self.problems


def _own(spec: SweepSpec, document: Document | None) -> Iterable[Finding]:
    from segsweep.opening import Found, list_images, source_of

    root = spec.dataset.root
    if root is not None and Path(root).suffix.lower() == ".zip" and Path(root).is_file():
        yield _archive(Path(root), "data")
        return
    found = Found(document)
    source, _ = source_of(spec, found)
    if source is None:
        yield from _told("data", found.problems)
        return
    listed = _Listed(source)
    list_images(listed, spec, found)
    # what is wrong with single images is left to decoding there
    yield from _told("data", found.problems or listed.problems)
    if not found.problems and not listed.problems:
        yield Finding("data", "ok", _count(len(listed.images), root))


def _scored(spec: SweepSpec, name: str) -> Iterable[Finding]:
    from segsweep.data import sources

    wanted = spec.calibration.datasets[name]
    what = f"data of calibration.datasets.{name}"
    root = Path(wanted.root) if wanted.root is not None else None
    try:
        images, problems = sources.build(wanted.name, root=root, options=wanted.options).scan()
    except UserError as error:
        images, problems = [], list(error.problems)
    except (OSError, ValueError) as error:
        images, problems = [], [Problem(f"cannot be used: {error}")]
    yield from _told(what, problems)
    if not problems:
        yield Finding(what, "ok", _count(len(images), wanted.root))


def _count(images: int, root: str | None) -> str:
    number = counted(images, "image")
    return f"{number}, generated" if root is None else f"{number} in {root}"


def _archive(root: Path, what: str) -> Finding:
    """Unpacking it would write, so that its images are not counted."""
    if zipfile.is_zipfile(root):
        return Finding(what, "ok", f"{root}, which launch unpacks")
    return Finding(what, "missing", f"{root} is no zip file", "download it again")


def _told(what: str, problems: Sequence[Problem]) -> Iterable[Finding]:
    for problem in problems[:LISTED]:
        place = ": ".join(part for part in (problem.where, problem.key) if part)
        found = f"{place}: {problem.what}" if place else problem.what
        yield Finding(what, "missing", found, problem.hint or "validate says more")
    if len(problems) > LISTED:
        more = f"and {counted(len(problems) - LISTED, 'problem')} more"
        yield Finding(what, "missing", more, "validate lists them all")


def data_variable() -> Finding:
    """Where the sweep files that come with segsweep look."""
    place = os.environ.get("SEGSWEEP_DATA")
    if place is None:
        hint = "the sweep files in sweeps/ look there, else in data/"
        return Finding("data", "note", "SEGSWEEP_DATA is not set", hint)
    hint = "set SEGSWEEP_DATA to where the images lie"
    root = Path(place)
    if not root.exists():
        return Finding("data", "missing", f"{root} does not exist", hint)
    if not root.is_dir() or not any(root.iterdir()):
        return Finding("data", "missing", f"{root} holds nothing", hint)
    return Finding("data", "ok", str(root))


def weights(spec: SweepSpec) -> Iterable[Finding]:
    """The files that models start from."""
    for path in wants.weight_files(spec):
        if Path(path).is_file():
            yield Finding("weights", "ok", path)
        else:
            hint = "set factors.model's weights to a file of all the model's weights"
            yield Finding("weights", "missing", f"{path} is no file", hint)
