"""The anomaly sweep: can a model tell what it was not trained on? Scores × temperatures × metrics.

A config's numbers are means over its fold models. The best T is chosen where its worth is
measured, so its gain flatters a little; intervals draw images anew and choose nothing anew. A
fitted T was not fitted on the images that it is measured on.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from segsweep import bootstrap
from segsweep.bootstrap import Groups, Replicas
from segsweep.calibrate.logits_file import Logits
from segsweep.calibrate.masks import masks_of
from segsweep.calibrate.redraw import Drawn, Part, behind, resampled, together
from segsweep.calibrate.temperatures import wider
from segsweep.calibration.anomaly import (
    MASK_SCORES,
    PIXEL_SCORES,
    mask_scores,
    pixel_scores,
    ranking_depends_on_temperature,
)
from segsweep.calibration.detection import METRICS, DetectionSweep, ScoreSweep
from segsweep.calibration.pooled import Detection
from segsweep.errors import CalibrationError, Problem

LOWER: Final = ("fpr95_interpolated", "fpr95_first")  # is better
FITTED: Final = -1.0  # stands for each image's own fitted T

Row = dict[str, Any]
Key = tuple[str, float | None]  # score and T, None where no T changes the ranking
Temperatures = NDArray[np.float64]  # (I,) of each image


@dataclass(frozen=True)
class Found:
    """What scores of one fold model are worth on one dataset.

    Attributes:
        by_key: by score and T, ``FITTED`` among them; grows where the grid is widened.
        fixed: scores whose ranking no T changes; they have one entry.
        fitted: T of each image, fitted on others.
        units: (I,) from 0; images that share one are drawn together.
    """

    logits: Logits
    by_key: dict[Key, Detection]
    fixed: frozenset[str]
    fitted: Temperatures
    units: NDArray[np.int64]
    where: str = ""
    _drawn: dict[Key, Drawn] = field(default_factory=dict)

    def at(self, score: str, temperature: float) -> Detection:
        """Of a fixed score the one that there is."""
        return self.by_key[score, None if score in self.fixed else temperature]

    @cached_property
    def behind(self) -> Groups:
        """The images that scores rest on."""
        return behind(self.logits, self.units)

    def drawn(self, score: str, temperature: float) -> Drawn:
        """Every metric on images drawn with replacement, the same draws for all models."""
        at = 1.0 if score in self.fixed else temperature
        key: Key = (score, at)
        if key not in self._drawn:
            if at == FITTED:
                values = _scores_fitted(self.logits, self.fitted, [score])[score]
            else:
                values = scores_at(self.logits, at, [score])[score]
            self._drawn[key] = resampled(values, self.logits, self.units)
        return self._drawn[key]


def detect(
    logits: Logits,
    temperatures: Sequence[float],
    scores: Sequence[str],
    where: str,
    *,
    fitted: Temperatures,
    units: NDArray[np.int64] | None = None,
) -> Found:
    """All scores at all temperatures; those that the head does not have are passed over.

    Args:
        logits: of one fold model on one dataset.
        temperatures: of the grid, with 1 among them.
        scores: by name.
        where: whose they are, for messages.
        fitted: T of each image, fitted on others.
        units: of each image; those that share one are drawn together. None: each its own.

    Raises:
        CalibrationError: too few anomalous or normal pixels, or no score fits the head.
    """
    valid = scores_of(logits, scores)
    if not valid:
        what = f"none of the scores {', '.join(scores)} is one of a per-pixel head"
        hint = f"it has {', '.join(PIXEL_SCORES)}"
        raise CalibrationError(Problem(what, where, "calibration.scores", hint))
    fixed = frozenset(name for name in valid if not _moves(logits, name))
    found = _swept(logits, temperatures, valid, fixed, where)
    moved = [name for name in valid if name not in fixed]
    if moved:
        own = ScoreSweep(where=where)
        for name, values in _scores_fitted(logits, fitted, moved).items():
            own.update((name, FITTED), values, logits.anomaly)
        found |= own.result()
    alone = np.arange(len(logits.image_ids))
    return Found(logits, found, fixed, fitted, alone if units is None else units, where)


def _swept(
    logits: Logits,
    temperatures: Sequence[float],
    names: Sequence[str],
    fixed: frozenset[str],
    where: str,
) -> dict[Key, Detection]:
    """What scores are worth at every temperature of a grid."""
    of_pixels = [name for name in names if name in PIXEL_SCORES]
    of_masks = [name for name in names if name in MASK_SCORES]
    found: dict[Key, Detection] = {}
    if of_pixels:
        counter = DetectionSweep(temperatures, of_pixels, where=where)
        counter.update(logits.values, logits.anomaly)
        found |= counter.result()
    if of_masks:
        ready = ScoreSweep(where=where)
        for value in temperatures:
            wanted = [name for name in of_masks if name not in fixed or value == 1.0]
            for name, values in scores_at(logits, value, wanted).items():
                ready.update((name, None if name in fixed else value), values, logits.anomaly)
        found |= ready.result()
    return found


def widen(several: Sequence[Found], temperatures: Sequence[float]) -> list[float]:
    """Sweep on where the mean over fold models is best at the end of the grid.

    Returns:
        The temperatures that there are now.
    """
    there = sorted(temperatures)
    moved = [name for name in dict.fromkeys(n for n, _ in several[0].by_key)
             if name not in several[0].fixed]  # fmt: skip
    while moved and (more := wider(there, _bests(moved, there, several))):
        for found in several:
            found.by_key.update(_swept(found.logits, more, moved, found.fixed, found.where))
        there = sorted([*there, *more])
    return there


def _bests(
    scores: Sequence[str], temperatures: Sequence[float], several: Sequence[Found]
) -> set[float]:
    return {_best(score, metric, temperatures, several) for score in scores for metric in METRICS}


def _scores_fitted(
    logits: Logits, fitted: Temperatures, names: Sequence[str]
) -> dict[str, NDArray[np.float32]]:
    """(P,) scores by name, each image's at its own T."""
    by_pixel = fitted[logits.image_of]
    found = {name: np.zeros(len(by_pixel), np.float32) for name in names}
    for value in np.unique(fitted):
        mine = by_pixel == value
        for name, values in scores_at(logits, float(value), names).items():
            found[name][mine] = values[mine]
    return found


def _moves(logits: Logits, score: str) -> bool:
    """Can T change the ranking of a score? Per-pixel scores see the logits of any head alike."""
    classes = logits.values.shape[1]
    head = "mask" if score in MASK_SCORES else "binary" if classes == 1 else "pixel"
    return ranking_depends_on_temperature(score, head, max(2, classes))


def scores_of(logits: Logits, scores: Sequence[str]) -> list[str]:
    """Those that the model's head has."""
    return [name for name in scores if name in PIXEL_SCORES or logits.queries is not None]


def scores_at(
    logits: Logits, temperature: float, names: Sequence[str]
) -> dict[str, NDArray[np.float32]]:
    """(P,) scores by name; those of mask models image by image."""
    plain = [name for name in names if name in PIXEL_SCORES]
    queried = [name for name in names if name in MASK_SCORES]
    found = pixel_scores(logits.values, temperature, plain) if plain else {}
    if queried and logits.queries is not None:
        parts: list[dict[str, NDArray[np.float32]]] = []
        for image, classes in enumerate(logits.queries.classes):
            masks = masks_of(logits, image)[:, None]
            parts.append(mask_scores(masks, classes, temperature, queried))
        found |= {name: np.concatenate([one[name][0] for one in parts]) for name in queried}
    return found


def rows(
    folds: Sequence[tuple[Row, Found]],
    temperatures: Sequence[float],
    fitted: float,
    seldom: Mapping[str, Any],
) -> Iterator[Row]:
    """Rows of each fold model and of their mean; those of a fitted T stand by themselves.

    Args:
        folds: what says whose a fold model is, and what it found.
        temperatures: of the grid, with 1 among them.
        fitted: the config's fitted temperature, where its images have several.
        seldom: what says whose the mean is.
    """
    first = folds[0][1]
    for score in dict.fromkeys(name for name, _ in first.by_key):
        values = [None] if score in first.fixed else [*temperatures, FITTED]
        for metric in METRICS:
            each = [
                (facts, [found], _best(score, metric, temperatures, [found]))
                for facts, found in folds
            ]
            together = [found for _, found in folds]
            mean = (seldom, together, _best(score, metric, temperatures, together))
            for facts, several, best in [*each, mean]:
                for value in values:
                    yield {
                        **facts,
                        **_row(score, metric, value, several, value in (None, 1.0, best, FITTED)),
                        **(_fit_facts(several, fitted) if value == FITTED else {}),
                        "fitted": value == FITTED,
                        "best": value is None or value == best,
                        "at_bound": _at_end(value, best, temperatures),
                    }


def _at_end(value: float | None, best: float, temperatures: Sequence[float]) -> bool:
    """Is it the best T, and the grid's end?"""
    ends = (min(temperatures), max(temperatures))
    return len(temperatures) > 1 and value == best and value in ends and value != 1.0


def _fit_facts(several: Sequence[Found], fitted: float) -> Row:
    """The T of all images where it is one, else the config's; and every one that was used."""
    used = np.unique(np.concatenate([found.fitted for found in several])).tolist()
    return {"temperature": used[0] if len(used) == 1 else fitted, "used": used}


def _best(
    score: str, metric: str, temperatures: Sequence[float], several: Sequence[Found]
) -> float:
    sign = -1 if metric in LOWER else 1
    return max(
        temperatures, key=lambda value: (sign * _value(score, metric, value, several), value == 1.0)
    )


def _value(score: str, metric: str, temperature: float, several: Sequence[Found]) -> float:
    known = [getattr(found.at(score, temperature), metric).value for found in several]
    return float(np.mean([value for value in known if value is not None]))


def _row(
    score: str, metric: str, temperature: float | None, several: list[Found], interval: bool
) -> Row:
    at, sign = temperature or 1.0, -1 if metric in LOWER else 1
    detections = [found.at(score, at) for found in several]
    value = _value(score, metric, at, several)
    over = _over(several)
    row: Row = {
        "score": score,
        "temperature": temperature,
        "used": None if temperature is None else [temperature],
        "metric": metric,
        "value": value,
        "error": float(np.mean([getattr(one, metric).error for one in detections])),
        "gain": sign * (value - _value(score, metric, 1.0, several)) + 0.0,  # no negative zero
        "rests_on": over.count,
        "no_interval": over.refused,
        "anomalous": sum(one.anomalous for one in detections),
        "normal": sum(one.normal for one in detections),
        "images": sum(len(found.logits.image_ids) for found in several),
        "threshold": detections[0].threshold if len(detections) == 1 else None,
    }
    if interval and over.refused is None:
        here = together([_part(found, found.drawn(score, at)[metric]) for found in several])
        gained = together(
            [
                _part(found, found.drawn(score, at)[metric] - found.drawn(score, 1.0)[metric])
                for found in several
            ]
        )
        row["low"], row["high"] = bootstrap.interval(value, here, least=0.0, most=1.0)
        ends = bootstrap.interval(row["gain"], gained.times(sign), least=-1.0, most=1.0)
        row["gain_low"], row["gain_high"] = ends
    return row


def _part(found: Found, replicas: Replicas) -> Part:
    return Part(tuple(found.logits.image_ids), replicas, found.behind)


def _over(several: Sequence[Found]) -> Groups:
    """What the mean over fold models rests on: each set of images counts once."""
    sets = {tuple(found.logits.image_ids): found.behind for found in several}
    return next(iter(sets.values())) if len(sets) == 1 else bootstrap.together([*sets.values()])
