"""The data of a sweep: found, listed, decoded once, split into folds; and every mistake in it."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from segsweep.data import archive, cache, leave_out, sources
from segsweep.data.cache import ImageSet, Prepared
from segsweep.data.content import Counts, by_classes, label_counts
from segsweep.data.folds import Folds, make_folds
from segsweep.data.room import Room
from segsweep.data.sources import Sample, Source
from segsweep.errors import DataError, Problem, SpecError, UnknownName, UserError
from segsweep.rundir import Run
from segsweep.spec import SweepSpec
from segsweep.yamlfile import Document, KeyPath, dotted

CACHE = ".cache"  # below the storage path: decoded images, shared by all its sweeps

OnProgress = Callable[[int, int], None]


class Found:
    """Collects mistakes, each with its place in the sweep file."""

    def __init__(self, document: Document | None, problems: Sequence[Problem] = ()) -> None:
        self.document = document
        self.problems = list(problems)

    def __call__(self, key: str, problem: Problem) -> None:
        """Note a mistake at a key path of the sweep file."""
        if not key or not f"{problem.key}.".startswith(f"{key}."):
            key = ".".join(part for part in (key, problem.key) if part)
        else:
            key = problem.key
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


@dataclass(frozen=True)
class Opened:
    """The data of a sweep, decoded, without a look at its models.

    Attributes:
        data: the images that trials see, with the masks of what is left out.
        holdout: the others, if any.
        counts: of the masks that trials see, where the folds go by them.
    """

    prepared: Prepared
    data: ImageSet
    holdout: ImageSet | None
    folds: Folds
    counts: Counts | None


def open_data(run: Run) -> Opened:
    """The images of a sweep that was launched before, from whichever directory this is called in.

    Raises:
        UserError: the data is not there any more, or has mistakes.
    """
    dataset = run.spec.dataset
    if dataset.root is not None:
        dataset = dataset.model_copy(update={"root": run.located(dataset.root)})
    # its cache lies beside the run, which may have been moved
    place = {"dataset": dataset, "storage_path": str(run.path.parent)}
    spec = run.spec.model_copy(update=place)
    found = Found(None)
    source, options = source_of(spec, found)
    found.stop()
    assert source is not None  # noqa: S101 - a missing source is a problem
    return decoded(source, spec, options, found)


def located(run: Run) -> SweepSpec:
    """Its settings; paths of other datasets begin where its own data's do, at the launch's."""
    section = run.spec.calibration
    datasets = {
        name: one.model_copy(update={"root": run.located(one.root)}) if one.root else one
        for name, one in section.datasets.items()
    }
    section = section.model_copy(update={"datasets": datasets})
    return run.spec.model_copy(update={"calibration": section})


def decoded(
    source: Source,
    spec: SweepSpec,
    options: Mapping[str, Any],
    found: Found,
    on_progress: OnProgress | None = None,
) -> Opened:
    """The images of a source, decoded into the cache, and their folds.

    Raises:
        UserError: with every mistake in them.
    """
    prepared = prepare(source, spec, options, on_progress)
    data = cache.load(prepared.train)
    spread = by_classes(spec.folds.stratify_by, data.attributes)
    counts = label_counts(data.masks, len(data.classes)) if spread else None
    folds = folds_of(spec, data, counts, found)
    found.stop()
    assert folds is not None  # noqa: S101 - missing folds are a problem
    holdout = cache.load(prepared.holdout) if prepared.holdout else None
    return Opened(prepared, data, holdout, folds, counts)


def source_of(spec: SweepSpec, found: Found) -> tuple[Source | None, dict[str, Any]]:
    """Where the images are, and its options; None where that cannot be."""
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


def classes_of(source: Source, spec: SweepSpec, found: Found) -> Sequence[str]:
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


class Listing(Protocol):
    """What of a source lists its images; see ``Source``."""

    @property
    def official_holdout(self) -> str:
        """The official split that ``holdout: official`` holds out."""

    def scan(self) -> tuple[list[Sample], list[Problem]]:
        """The images that can be used, and what is wrong besides."""


def list_images(source: Listing, spec: SweepSpec, found: Found) -> None:
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
    if not samples or problems:
        return
    attributes = sorted(set.intersection(*(set(sample.attributes) for sample in samples)))
    spread = by_classes(spec.folds.stratify_by, {key for s in samples for key in s.attributes})
    for key in ("stratify_by", "group_by"):
        name = getattr(spec.folds, key)
        if name is not None and name not in attributes and not (spread and key == "stratify_by"):
            has = f"this data has: {', '.join(attributes)}" if attributes else "it has none"
            found(f"folds.{key}", Problem(f"the images have no attribute {name!r}", hint=has))
    if (tight := _room(source, spec, samples).problem()) is not None:
        found(tight.key, tight)


def _room(source: Listing, spec: SweepSpec, samples: Sequence[Sample]) -> Room:
    """What folds and holdout are made of; groups only where each image has one."""
    by = spec.folds.group_by
    groups = [sample.attributes.get(by, "") for sample in samples] if by is not None else []
    return Room(
        groups if all(groups) and groups else None,
        [sample.split == source.official_holdout for sample in samples],
        spec.folds.k,
        spec.dataset.holdout,
        spec.folds.run,
        source.official_holdout,
    )


def prepare(
    source: Source, spec: SweepSpec, options: Mapping[str, Any], on_progress: OnProgress | None
) -> Prepared:
    """Decode into the cache what is not there yet."""
    return cache.prepare(
        source,
        name=spec.dataset.name,
        options=options,
        image_size=spec.dataset.image_size,
        holdout=spec.dataset.holdout,
        seed=spec.seed,
        stratify_by=spec.folds.stratify_by,
        group_by=spec.folds.group_by,
        folds=spec.folds.k,
        cache_dir=Path(spec.storage_path) / CACHE,
        leave_out=spec.dataset.leave_out,
        on_progress=on_progress,
    )


def folds_of(spec: SweepSpec, data: ImageSet, counts: Counts | None, found: Found) -> Folds | None:
    """Which image validates in which fold; None where they cannot be had.

    ``counts`` of the masks are those to go by, if any.
    """
    by, group = spec.folds.stratify_by, spec.folds.group_by
    try:
        return make_folds(
            data.image_ids,
            k=spec.folds.k,
            seed=spec.seed,
            strata=data.attributes[by] if by and counts is None else None,
            groups=data.attributes[group] if group else None,
            classes=counts[:, :-1] > 0 if counts is not None else None,
        )
    except DataError as error:
        for problem in error.problems:
            found("folds.k", problem)
        return None


def renamed_classes(was: Sequence[str], now: Sequence[str]) -> str | None:
    """In what the classes of a run differ from those of today; None: in nothing."""
    if list(was) == list(now):
        return None
    if len(was) != len(now):
        return f"there were {len(was)} classes ({', '.join(was)}), now {len(now)}"
    pairs = [f"{a!r}, now {b!r}" for a, b in zip(was, now, strict=True) if a != b]
    return f"the class names differ: {'; '.join(pairs)}"


def groups_of(group_by: str, parts: Sequence[ImageSet | None]) -> dict[str, str]:
    """Image id → its group, of all images."""
    return {
        image_id: group
        for part in parts
        if part is not None
        for image_id, group in zip(part.image_ids, part.attributes[group_by], strict=True)
    }


def shared_groups(by: str | None, data: ImageSet, holdout: ImageSet | None) -> list[str]:
    """An official split is taken as it is; where it parts a group, that is said."""
    if by is None or holdout is None:
        return []
    both = sorted(set(data.attributes[by]) & set(holdout.attributes[by]))
    if not both:
        return []
    names = ", ".join(both[:5]) + (" …" if len(both) > 5 else "")
    return [
        f"{len(both)} of {by} are on both sides of the official holdout ({names}): "
        "holdout scores flatter"
    ]
