"""Both sweeps of one config: its fold models, what they say together, and their ensemble."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from segsweep.bootstrap import FEW
from segsweep.calibrate import anomaly, files
from segsweep.calibrate import sweep as sweeping
from segsweep.calibrate.draw import BINS
from segsweep.calibrate.logits_file import HOLDOUT, VALIDATION, Logits
from segsweep.calibrate.masks import inside
from segsweep.calibrate.pool import Pool, ensemble, pool
from segsweep.calibrate.sweep import Swept, fit_alone, given_rows, inside_rows, own_rows, sweep
from segsweep.calibrate.temperatures import widened
from segsweep.calibration.temperature import Fit
from segsweep.compare.together import codes
from segsweep.errors import CalibrationError
from segsweep.spec.mistakes import OWN_DATASETS

Row = dict[str, Any]


@dataclass(frozen=True)
class Trained:
    """A fold model and its logits.

    Attributes:
        fold: None of a model that was not cross-validated.
        checkpoint: SHA-256 of the file of its weights.
        logits: by dataset.
    """

    fold: int | None
    replicate: int | None
    checkpoint: str
    logits: Mapping[str, Logits]


@dataclass(frozen=True)
class Subject:
    """A config with its fold models.

    Attributes:
        label: for people.
        names: of datasets, where results call them otherwise.
        groups: image id → group of the sweep's own images, where it has ``folds.group_by``.
    """

    config_id: str
    cell: str
    model: str
    label: str
    trained: Sequence[Trained]
    names: Mapping[str, str] = field(default_factory=dict)
    groups: Mapping[str, str] = field(default_factory=dict)

    def groups_on(self, dataset: str) -> Mapping[str, str]:
        """The groups of a dataset's images; other data than the sweep's own has none."""
        return self.groups if dataset in OWN_DATASETS else {}

    def whose(self, of: str, trained: Trained | None, dataset: str) -> Row:
        """The columns that say whose a row is; ``of`` is fold, config or ensemble."""
        return {
            "config_id": self.config_id,
            "cell": self.cell,
            "model": self.model,
            "of": of,
            "fold": trained.fold if trained else None,
            "replicate": trained.replicate if trained else None,
            "dataset": self.names.get(dataset, dataset),
            "grouped": bool(self.groups_on(dataset)),
        }


@dataclass
class Judged:
    """What both sweeps found about a config.

    Attributes:
        entry: of ``calibration.json``.
        diagrams: reliability diagrams of the pooled validation images.
        shipped: of each model, the T that it is exported with, fitted on its validation images.
        notes: what was passed over, and why.
    """

    subject: Subject
    calibration: list[Row] = field(default_factory=list)
    anomaly: list[Row] = field(default_factory=list)
    entry: Row = field(default_factory=dict)
    diagrams: list[Row] = field(default_factory=list)
    shipped: list[Fit] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def judge(
    subject: Subject,
    temperatures: Sequence[float],
    scores: Sequence[str],
    *,
    asked: Sequence[str],
    seed: int,
) -> Judged:
    """Both sweeps of one config, over every dataset of its logits.

    Args:
        subject: the config.
        temperatures: of the grid, with 1 among them; it is widened where a metric is best at its
            end.
        scores: of anomalies.
        asked: datasets that were named by the user: what they lack is refused, not passed over.
        seed: of halves and draws.

    Raises:
        CalibrationError: logits that nothing can be fitted to, or a dataset with too few
            anomalous pixels or without any valid one.
    """
    judged = Judged(subject)
    swept = _validation(judged, temperatures, seed)
    for dataset in subject.trained[0].logits:
        if dataset != VALIDATION:
            _elsewhere(judged, dataset, swept, seed)
        _anomalies(judged, dataset, swept, scores, dataset in asked)
    told = widened(temperatures, swept.temperatures)
    judged.notes += [f"{subject.label}: {told}"] if told else []
    return judged


def _validation(judged: Judged, temperatures: Sequence[float], seed: int) -> Swept:
    """Fit and report on the out-of-fold images."""
    subject = judged.subject
    parts = [one.logits[VALIDATION] for one in subject.trained]
    folds = [one.fold or 0 for one in subject.trained]
    groups = subject.groups_on(VALIDATION)
    own = pool(parts, folds, f"{subject.label}, {VALIDATION}", seed, groups)
    swept = sweep(own, temperatures, widen=True, seed=seed)
    whose = subject.whose("config", None, VALIDATION)
    _add(judged, whose, swept.rows, parts)
    judged.diagrams += swept.diagrams
    shipped = _entry(judged, own, swept, parts)
    if len(parts) > 1:
        order = {fold: place for place, fold in enumerate(sorted(set(folds)))}
        if len(order) > 1:
            _add(judged, whose, own_rows(own, shipped, seed), parts)
        for place, trained in enumerate(subject.trained):
            mine = own.only(own.file == place)
            mine = replace(mine, file=np.zeros(len(mine.labels), np.int64))
            found: list[Row]
            if len(order) == 1:  # replicates of one fold: each has two halves of its own
                found = sweep(mine, swept.temperatures, scalings=False, seed=seed).rows
            else:
                fit = swept.fits[order[folds[place]]]
                alone = sweep(mine, swept.temperatures, given=fit, way="others", seed=seed)
                found = [*alone.rows, *own_rows(mine, shipped[place : place + 1], seed)]
            _add(judged, subject.whose("fold", trained, VALIDATION), found, [parts[place]])
    if all(part.queries is not None for part in parts):

        def at(value: float) -> Any:
            return np.concatenate([inside(part, value) for part in parts])

        _add(judged, whose, inside_rows(own, at, swept.temperatures, seed), parts)
    if any(part.sampled for part in parts):
        judged.calibration.append(_whole(subject, own, parts))
    judged.entry["diagrams"] = swept.diagrams
    return swept


def _entry(judged: Judged, own: Pool, swept: Swept, parts: Sequence[Logits]) -> list[Fit]:
    """The config's entry of ``calibration.json``; the T of each model, fitted on its own images."""
    subject, entries, fits = judged.subject, list[Row](), list[Fit]()
    for place, trained in enumerate(subject.trained):
        alone = own.only(own.file == place)
        fits.append(fit_alone(alone))
        entries.append(
            {
                "fold": trained.fold,
                "replicate": trained.replicate,
                "checkpoint": trained.checkpoint,
                **files.fit_entry(fits[-1], VALIDATION, alone.images),
            }
        )
    judged.entry = {
        "config_id": subject.config_id,
        "cell": subject.cell,
        "classes": list(parts[0].facts["classes"]),
        **files.fit_entry(swept.fit, VALIDATION, own.images),
        "folds": entries,
        "ensemble": None,
    }
    judged.shipped = fits
    return fits


def _elsewhere(judged: Judged, dataset: str, swept: Swept, seed: int) -> None:
    """Report what was fitted on the validation images on other ones; the ensemble has its own T."""
    subject = judged.subject
    parts = [one.logits[dataset] for one in subject.trained]
    if not (parts[0].labels != 255).any():
        return  # it says what is odd, not what is what
    groups = subject.groups_on(dataset)
    fit, temperatures = swept.fit, swept.temperatures
    for trained, part, own_fit in zip(subject.trained, parts, judged.shipped, strict=True):
        own = pool([part], [0], f"{subject.label}, {dataset}", seed, groups)
        rows = sweep(own, temperatures, given=fit, seed=seed).rows
        if own_fit.temperature != fit.temperature:
            rows += given_rows(own, own_fit, seed)
        _add(judged, subject.whose("fold", trained, dataset), rows, [part])
    if len(parts) > 1:
        together = ensemble(parts, f"{subject.label}, ensemble on {dataset}", seed, groups)
        if together.images < 2:
            judged.notes.append(f"{subject.label}: an ensemble needs two images of {dataset}")
            return
        found = sweep(together, temperatures, scalings=False, seed=seed)
        _add(judged, subject.whose("ensemble", None, dataset), found.rows, parts)
        if dataset == HOLDOUT:
            judged.entry["ensemble"] = files.fit_entry(found.fit, HOLDOUT, together.images)


def _anomalies(
    judged: Judged,
    dataset: str,
    swept: Swept,
    scores: Sequence[str],
    asked: bool,
) -> None:
    subject, found, temperatures = judged.subject, [], swept.temperatures
    groups = subject.groups_on(dataset)
    if not any(one.logits[dataset].facts["anomalies"] for one in subject.trained):
        return
    for trained in subject.trained:
        where = f"{subject.label}, {dataset}"
        where += f", fold {trained.fold}" if trained.fold is not None else ""
        own = trained.logits[dataset]
        try:
            one = anomaly.detect(
                own,
                temperatures,
                scores,
                where,
                fitted=_fitted_elsewhere(swept, own, dataset),
                units=codes(own.image_ids, groups),
            )
        except CalibrationError as error:
            if asked:
                raise
            judged.notes += [f"passed over: {problem}" for problem in error.problems]
            continue
        found.append((subject.whose("fold", trained, dataset), one))
    if found:
        mean = subject.whose("config", None, dataset)
        wide = anomaly.widen([one for _, one in found], temperatures)
        judged.anomaly += list(anomaly.rows(found, wide, swept.fit.temperature, mean))
        told = widened(temperatures, wide)
        judged.notes += [f"{subject.label} on {dataset}: {told}"] if told else []


def _fitted_elsewhere(swept: Swept, own: Logits, dataset: str) -> anomaly.Temperatures:
    """(I,) T of each image, fitted on others: on validation images that of the other groups."""
    if dataset != VALIDATION:
        return np.full(len(own.image_ids), swept.fit.temperature)
    return np.asarray([swept.by_image[name] for name in own.image_ids])


def _add(judged: Judged, whose: Row, rows: Sequence[Row], parts: Sequence[Logits]) -> None:
    sampled = any(part.sampled for part in parts)
    judged.calibration += [{**whose, **row, "sampled": sampled} for row in rows]


def _whole(subject: Subject, own: Pool, parts: Sequence[Logits]) -> Row:
    """ECE at T = 1 of all pixels, those that were not drawn among them, from the histograms."""
    counts = sum(part.histogram.sum(axis=0) for part in parts)
    wrong, right = np.asarray(counts, np.float64).reshape(2, 15, BINS // 15)
    centres = ((np.arange(BINS) + 0.5) / BINS).reshape(15, -1)
    pixels = (wrong + right).sum()
    gaps = ((wrong + right) * centres).sum(axis=1) - right.sum(axis=1)
    return {
        **subject.whose("config", None, VALIDATION),
        "region": "all",
        "scaling": sweeping.TEMPERATURE,
        "fitted": False,
        "fit": None,
        "temperature": 1.0,
        "metric": "ece_all_pixels",
        "value": float(np.abs(gaps).sum() / pixels),
        "accuracy": float(right.sum() / pixels),
        "pixels": int(pixels),
        "images": own.images,
        "no_interval": "pixels that were not drawn are known by their histogram alone",
        "used": [1.0],
        "sampled": False,
    }


def notes_of(judged: Sequence[Judged]) -> Iterator[str]:
    """What people should know: temperatures at their bounds, few images, what was passed over."""
    for one in judged:
        yield from one.notes
        yield from _at_bounds(one)
        yield from _rough(one)


def _at_bounds(one: Judged) -> Iterator[str]:
    """Fits without a minimum, of the config, of each fold model and of the ensemble."""
    fits = [("", one.entry)]
    if len(one.entry["folds"]) > 1:
        fits += [(f" of {_slot(fold)}", fold) for fold in one.entry["folds"]]
    fits += [(" of the ensemble", one.entry["ensemble"])] if one.entry["ensemble"] else []
    for whose, fit in fits:
        if fit["at_bound"]:
            yield (
                f"{one.subject.label}: T = {fit['temperature']:.3g}{whose} is at its bound: the "
                "NLL has no minimum between"
            )


def _slot(fold: Row) -> str:
    again = f", replicate {fold['replicate']}" if fold["replicate"] else ""
    return f"fold {fold['fold']}{again}"


def _rough(one: Judged) -> Iterator[str]:
    """Datasets whose numbers rest on few images or groups."""
    told = dict.fromkeys(
        (row["of"], row["dataset"], row["rests_on"], row["grouped"], row["no_interval"])
        for row in [*one.calibration, *one.anomaly]
        if row["of"] != "fold" or len(one.subject.trained) == 1
        if row.get("rests_on") is not None and row.get("region", "all") == "all"
    )
    for of, dataset, count, grouped, refused in told:
        which = f"{one.subject.label}{' (ensemble)' if of == 'ensemble' else ''} on {dataset}"
        if refused is not None:
            yield f"{which}: no intervals: {refused}"
        elif count < FEW:
            kind = "groups" if grouped else "images"
            yield f"{which}: intervals rest on {count} {kind}, and are rough"
