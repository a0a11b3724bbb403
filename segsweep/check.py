"""Meaning: do the names exist, do the pairs fit, is the data sound? Starts no trial."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from segsweep import cells as cells_module
from segsweep import models, tracking
from segsweep import spec as spec_module
from segsweep.data import archive, cache, leave_out, sources
from segsweep.data.cache import ImageSet, Prepared
from segsweep.data.duplicates import duplicates
from segsweep.data.folds import Folds, make_folds
from segsweep.data.sources import Source
from segsweep.data.sources.base import Palette
from segsweep.errors import DataError, Problem, SpecError, UnknownName, UserError
from segsweep.pairs import calibration_problems
from segsweep.space import Cell
from segsweep.spec import SweepSpec
from segsweep.yamlfile import Document, KeyPath, dotted

CACHE = ".cache"  # below the storage path: decoded images, shared by all its sweeps

OnProgress = Callable[[int, int], None]


@dataclass(frozen=True)
class Checked:
    """A sweep file that can be run as it stands.

    Attributes:
        spec: its settings; ``auto`` values are not filled in yet.
        text: the file as it was given.
        cells: every combination of factor levels.
        classes: names of the labels.
        data: the images that trials see; ``holdout`` those that only the closing stage does.
        notices: what the user should know but need not change.
        palette: the dataset's own colour of each class, where its authors have given one.
    """

    spec: SweepSpec
    text: str
    source_options: Mapping[str, Any]
    cells: list[Cell]
    prepared: Prepared
    data: ImageSet
    holdout: ImageSet | None
    folds: Folds
    notices: tuple[str, ...]
    palette: Palette | None = None

    def with_spec(self, spec: SweepSpec) -> Checked:
        """The same with other settings, such as ``auto`` filled in."""
        found = Found(None)
        cells = cells_module.build(spec, self.source_options, found)
        found.stop()
        return replace(self, spec=spec, cells=cells)


@dataclass(frozen=True)
class Opened:
    """The data of a sweep, decoded, without a look at its models.

    Attributes:
        data: the images that trials see, with the masks of what is left out.
        holdout: the others, if any.
    """

    prepared: Prepared
    data: ImageSet
    holdout: ImageSet | None
    folds: Folds


def open_data(spec: SweepSpec, storage_path: Path | None = None) -> Opened:
    """Decode a sweep's data where it is not in the cache, and fold it.

    Args:
        spec: a sweep that was launched before.
        storage_path: where its cache lies, should the run have been moved.

    Raises:
        UserError: the data is not there any more, or has mistakes.
    """
    if storage_path is not None:
        spec = spec.model_copy(update={"storage_path": str(storage_path)})
    found = Found(None)
    source, options = _source(spec, found)
    found.stop()
    assert source is not None  # noqa: S101 - a missing source is a problem
    prepared = _prepare(source, spec, options, None)
    data = cache.load(prepared.train)
    folds = _folds(spec, data, found)
    found.stop()
    assert folds is not None  # noqa: S101 - missing folds are a problem
    holdout = cache.load(prepared.holdout) if prepared.holdout else None
    return Opened(prepared, data, holdout, folds)


class Found:
    """Collects mistakes, each with its place in the sweep file."""

    def __init__(self, document: Document | None, problems: Sequence[Problem] = ()) -> None:
        self.document = document
        self.problems = list(problems)

    def __call__(self, key: str, problem: Problem) -> None:
        """Note a mistake at a key path of the sweep file."""
        key = ".".join(part for part in (key, problem.key) if part)
        where = problem.where
        if not where and self.document is not None:
            where = self.document.where(self._path(key))
        self.problems.append(Problem(problem.what, where, key, problem.hint))

    def _path(self, key: str) -> KeyPath:
        """The longest known key path that begins ``key``."""
        assert self.document is not None  # noqa: S101 - only called with one
        best: KeyPath = ()
        plain = re.sub(r" \(.*\)$", "", key)
        for path in [*self.document.lines, *self.document.overridden]:
            text = dotted(path)
            if len(path) > len(best) and (
                plain == text or plain.startswith((f"{text}.", f"{text}["))
            ):
                best = path
        return best

    def stop(self) -> None:
        """Raise where anything was found."""
        if self.problems:
            raise SpecError(self.problems)


def check(
    path: Path, overrides: Sequence[str] = (), on_progress: OnProgress | None = None
) -> Checked:
    """Check a sweep file and its data, which is decoded into the cache where it is not there yet.

    Args:
        path: the sweep file.
        overrides: ``dotted.key=value`` strings.
        on_progress: is called with images decoded and their number.

    Raises:
        UserError: with every mistake of file and data.
    """
    document = spec_module.read(path, overrides)
    spec, problems = spec_module.parse(document)
    found = Found(document, problems)
    if spec is None:
        found.stop()
        raise AssertionError  # a file without a spec has problems
    spec, notices = _clip(spec)
    source, options = _source(spec, found)
    cells = cells_module.build(spec, options, found)
    for problem in tracking.problems(spec):
        found("tracking", problem)
    if source is not None:
        cells_module.meaning_problems(spec, cells, _classes(source, spec, found), found)
        _list(source, spec, found)
    for key, problem in calibration_problems(spec.calibration):
        found(f"calibration.{key}", problem)
    found.stop()
    assert source is not None  # noqa: S101 - a missing source is a problem
    prepared = _prepare(source, spec, options, on_progress)
    data = cache.load(prepared.train)
    folds = _folds(spec, data, found)
    found.stop()
    assert folds is not None  # noqa: S101 - missing folds are a problem
    holdout = cache.load(prepared.holdout) if prepared.holdout else None
    twins, accepted = duplicates(data, folds, holdout)
    for problem in twins:
        found("dataset", problem)
    found.stop()
    text = path.read_text(encoding="utf-8")
    told = (*notices, *_model_notices(cells), *folds.notices, *accepted)
    colours = _palette(source, data.classes)
    return Checked(spec, text, options, cells, prepared, data, holdout, folds, told, colours)


def _palette(source: Source, classes: Sequence[str]) -> Palette | None:
    """The colours of the classes that are left to learn."""
    if source.palette is None:
        return None
    own = dict(zip(source.classes, source.palette, strict=True))
    return tuple(own[name] for name in classes)


def _model_notices(cells: Sequence[Cell]) -> list[str]:
    """What to know about the weight files of models, each said once."""
    own = {cell.levels["model"]: cell.config["model"] for cell in cells}
    return list(dict.fromkeys(note for model in own.values() for note in models.notices(model)))


def _clip(spec: SweepSpec) -> tuple[SweepSpec, tuple[str, ...]]:
    grace, epochs = spec.early_stopping.grace_period, spec.train.epochs
    if spec.early_stopping.type == "none" or grace <= epochs:
        return spec, ()
    stopping = spec.early_stopping.model_copy(update={"grace_period": epochs})
    notice = (
        f"early_stopping.grace_period {grace} is beyond the {epochs} epochs: clipped to {epochs}"
    )
    return spec.model_copy(update={"early_stopping": stopping}), (notice,)


def _source(spec: SweepSpec, found: Found) -> tuple[Source | None, dict[str, Any]]:
    dataset = spec.dataset
    try:
        options = sources.resolve(dataset.name, dataset.options)
        return _build(spec, options), options
    except UnknownName as error:
        for problem in error.problems:
            found("dataset.name", problem)
    except UserError as error:
        for problem in error.problems:
            found("dataset", problem)
    except (OSError, ValueError) as error:
        found("dataset.root", Problem(f"cannot be used: {error}"))
    return None, {}


def _classes(source: Source, spec: SweepSpec, found: Found) -> Sequence[str]:
    """The classes that are left to learn."""
    out, wrong = spec.dataset.leave_out, False
    for place, problem in leave_out.problems(source.classes, out):
        found(f"dataset.leave_out{place}", problem)
        wrong = True
    return source.classes if wrong else leave_out.kept(source.classes, out)


def _build(spec: SweepSpec, options: Mapping[str, Any]) -> Source:
    """The source over a directory, or an archive's files, which may lie in one directory each."""
    name, given = spec.dataset.name, spec.dataset.root
    root = Path(given) if given is not None else None
    if root is None or not archive.is_archive(root):
        return sources.build(name, root=root, options=options)
    top = archive.unpack(root, Path(spec.storage_path) / CACHE)
    for place in archive.nested(top):
        source = sources.build(name, root=place, options=options)
        if source.scan()[0]:
            return source
    return sources.build(name, root=top, options=options)


def _list(source: Source, spec: SweepSpec, found: Found) -> None:
    """Is every image there, and are the attributes that folds go by?"""
    try:
        samples, problems = source.scan()
    except DataError as error:
        samples, problems = [], list(error.problems)
    except (OSError, ValueError) as error:
        samples, problems = [], [Problem(f"cannot be used: {error}")]
    if found.problems or not samples:  # else decoding names these and all others together
        for problem in problems:
            found("" if problem.where or problem.key else "dataset.root", problem)
    if not samples:
        return
    attributes = sorted(set.intersection(*(set(sample.attributes) for sample in samples)))
    for key in ("stratify_by", "group_by"):
        name = getattr(spec.folds, key)
        if name is not None and name not in attributes:
            has = f"this data has: {', '.join(attributes)}" if attributes else "it has none"
            found(f"folds.{key}", Problem(f"the images have no attribute {name!r}", hint=has))
    if len(samples) < spec.folds.k:
        hint = f"use k: {max(2, len(samples))} or fewer"
        found("folds.k", Problem(f"{spec.folds.k} folds of {len(samples)} images", hint=hint))


def _prepare(
    source: Source, spec: SweepSpec, options: Mapping[str, Any], on_progress: OnProgress | None
) -> Prepared:
    return cache.prepare(
        source,
        name=spec.dataset.name,
        options=options,
        image_size=spec.dataset.image_size,
        holdout=spec.dataset.holdout,
        seed=spec.seed,
        stratify_by=spec.folds.stratify_by,
        group_by=spec.folds.group_by,
        cache_dir=Path(spec.storage_path) / CACHE,
        leave_out=spec.dataset.leave_out,
        on_progress=on_progress,
    )


def _folds(spec: SweepSpec, data: ImageSet, found: Found) -> Folds | None:
    by, group = spec.folds.stratify_by, spec.folds.group_by
    try:
        return make_folds(
            data.image_ids,
            k=spec.folds.k,
            seed=spec.seed,
            strata=data.attributes[by] if by else None,
            groups=data.attributes[group] if group else None,
        )
    except DataError as error:
        for problem in error.problems:
            found("folds.k", problem)
        return None
