"""The calibration sweep of one model: every T of the grid, and what is fitted, cross-fitted.

Every number of a fitted scaling is of images that it was not fitted on; ``fit`` says how:

========= ==========================================================================================
others    each fold's T was fitted on the other folds, of other models: what a T of the config gains
halves    each half's T was fitted on the other half of the same model's images: what a T gains that
          is fitted on a model's own images, as those of fold models and ensembles are
given     T was fitted on other images altogether
========= ==========================================================================================
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from segsweep import bootstrap
from segsweep.bootstrap import Groups, Replicas
from segsweep.calibrate.pool import Pool, halves
from segsweep.calibrate.temperatures import wider
from segsweep.calibration.curve import cross_fit, nll_curve
from segsweep.calibration.reliability import METRICS, REGIONS, Reliability, ReliabilitySweep
from segsweep.calibration.scaling import Scaling, agreement, fit_class_temperatures, fit_vector
from segsweep.calibration.temperature import BOUNDS, Fit, fit_temperature
from segsweep.errors import CalibrationError, SegsweepError

RESAMPLES = 500  # draws of images behind an interval
TEMPERATURE: Final = "temperature"
INSIDE: Final = "inside"
SCALINGS: Final[dict[str, Callable[..., Scaling]]] = {
    "vector": fit_vector,
    "class_temperatures": fit_class_temperatures,
}
GAINS: Final = {"nll": np.inf, "brier": 2.0}  # the largest there can be; 1 of every other metric
Way = Literal["others", "halves", "given"]

Row = dict[str, Any]


@dataclass(frozen=True)
class Swept:
    """What the calibration sweep found about one set of pixels.

    Attributes:
        fit: the temperature of all its images together.
        fits: of each group, fitted on the others.
        by_image: image id → the T of its group.
        rows: of results, without the columns that say whose they are.
        temperatures: of the grid, as far as it was widened.
        diagrams: reliability diagrams, before and after: ``scaling`` and lists of 15 numbers.
    """

    fit: Fit
    fits: Sequence[Fit]
    by_image: Mapping[str, float]
    rows: list[Row]
    temperatures: Sequence[float]
    diagrams: list[Row] = field(default_factory=list)


def sweep(
    own: Pool,
    temperatures: Sequence[float],
    *,
    given: Fit | None = None,
    way: Way = "given",
    scalings: bool = True,
    widen: bool = False,
    seed: int = 0,
) -> Swept:
    """Fit on some images, report on the others.

    Args:
        own: pixels; their groups say who is fitted on whom.
        temperatures: of the grid, with 1 among them.
        given: a temperature that was fitted on other images altogether, and is reported here;
            None fits one for each group on the others.
        way: how ``given`` was fitted.
        scalings: fit vector scaling and a temperature a class, too.
        widen: the grid, where a metric is best at its end (``temperatures.wider``).
        seed: of the draws of images behind intervals.

    Raises:
        CalibrationError: no valid pixels, or logits that are not finite.
    """
    plain = _measured(own, temperatures, seed)
    while widen and (more := wider(sorted(plain), best_of(plain))):
        plain |= _measured(own, more, seed)
    base = plain[1.0]
    rows = _grid_rows(plain)
    if given is None:
        curve = nll_curve(own.logits, own.labels, own.image, own.images, where=own.where)
        fit, fits = curve.fit(), cross_fit(curve, own.groups)
        way = "halves" if own.halved else "others"
    else:
        fit, fits = given, [given] * (int(own.groups.max()) + 1)
    by_image = np.asarray([one.temperature for one in fits])[own.groups]
    found = _scaled(own, by_image[own.image], seed)
    edge = any(one.at_bound for one in [fit, *fits])
    used = list(dict.fromkeys(one.temperature for one in fits))
    facts: Row = {"fitted": True, "at_bound": edge, "fit": way, "used": used}
    rows += list(_rows(found, base, TEMPERATURE, fit.temperature, **facts))
    diagrams = [_diagram(base, "none"), _diagram(found, TEMPERATURE)]
    for name in SCALINGS if scalings and given is None else ():
        wide, at_bound, beside = _cross_scaled(own, name)
        found = _measured(own.with_logits(wide), [1.0], seed)[1.0]
        facts = {"fitted": True, "at_bound": at_bound, "fit": way, "used": None}
        rows += list(_rows(found, base, name, None, **facts, **beside))
        diagrams.append(_diagram(found, name))
    named = dict(zip(own.ids, by_image.tolist(), strict=True))
    return Swept(fit, fits, named, rows, sorted(plain), diagrams)


def own_rows(own: Pool, shipped: Sequence[Fit], seed: int = 0) -> list[Row]:
    """What each model's own T gains, on images that it was not fitted on.

    A model is exported with the T of all its validation images. What that is worth is measured
    half by half: each half of its images has the T of the other.

    Args:
        own: pixels of some models, a file each.
        shipped: of each file, fitted on all its images.
        seed: of the halves, and of draws.

    Returns:
        Rows; none where a model has pixels in one half alone.
    """
    by_pixel, used = np.ones(len(own.labels)), list[float]()
    edge = any(one.at_bound for one in shipped)
    for place in range(len(shipped)):
        mine = own.file == place
        part = own.only(mine)
        half = halves(part.units, seed)
        curve = nll_curve(part.logits, part.labels, part.image, part.images, where=own.where)
        try:
            fits = cross_fit(curve, half)
        except CalibrationError:
            return []
        by_half = np.asarray([one.temperature for one in fits])
        by_pixel[mine] = by_half[half][part.image]
        used += by_half.tolist()
        edge = edge or any(one.at_bound for one in fits)
    base, found = _measured(own, [1.0], seed)[1.0], _scaled(own, by_pixel, seed)
    alone = shipped[0].temperature if len(shipped) == 1 else None
    facts: Row = {"fitted": True, "at_bound": edge, "fit": "halves", "used": used}
    return list(_rows(found, base, TEMPERATURE, alone, **facts))


def given_rows(own: Pool, fit: Fit, seed: int = 0) -> list[Row]:
    """What a T gains that was fitted on other images altogether."""
    base = _measured(own, [1.0], seed)[1.0]
    found = _scaled(own, np.full(len(own.labels), fit.temperature), seed)
    used = [fit.temperature]
    facts: Row = {"fitted": True, "at_bound": fit.at_bound, "fit": "given", "used": used}
    return list(_rows(found, base, TEMPERATURE, fit.temperature, **facts))


def inside_rows(
    own: Pool,
    at: Callable[[float], NDArray[np.float32]],
    temperatures: Sequence[float],
    seed: int = 0,
) -> list[Row]:
    """Rows for a temperature inside a mask model, where the argmax may change.

    Args:
        own: the pixels.
        at: the per-pixel logits with T inside.
        temperatures: of the grid, with 1 among them.
        seed: of the draws.
    """
    base = _measured(own.with_logits(at(1.0)), [1.0], seed)[1.0]
    rows = []
    for value in temperatures:
        logits = at(value)
        found = _measured(own.with_logits(logits), [1.0], seed)[1.0]
        miou = agreement(logits, own.labels).miou
        rows += list(_rows(found, base, INSIDE, value, fitted=False, used=[value], miou=miou))
    return rows


@dataclass(frozen=True)
class _At:
    """One temperature: what was measured in each region, and the draws behind.

    Attributes:
        replicas: by metric and region.
        behind: by region, what the numbers rest on.
        images: how many there are.
    """

    found: Mapping[str, Reliability]
    replicas: Mapping[tuple[str, str], Replicas]
    behind: Mapping[str, Groups]
    images: int


def _measured(own: Pool, temperatures: Sequence[float], seed: int) -> dict[float, _At]:
    """By temperature."""
    classes = max(2, own.logits.shape[1])
    has_boundary = bool((own.boundary & (own.labels != 255)).any())
    counter = ReliabilitySweep(
        classes, temperatures, own.images, boundary=has_boundary, where=own.where
    )
    boundary = own.boundary if has_boundary else None
    counter.update(own.logits, own.labels, own.image, boundary)
    results = counter.result(resamples=RESAMPLES, seed=seed, groups=own.units)
    regions = REGIONS if has_boundary else REGIONS[:1]
    behind = {region: counter.behind(region) for region in regions}
    by_value = {}
    for place, value in enumerate(temperatures):
        mine = {one.region: one for one in results if one.temperature == value}
        drawn = {(m, r): counter.replicas(m, r)[place] for m in METRICS for r in regions}
        by_value[value] = _At(mine, drawn, behind, own.images)
    return by_value


def best_of(plain: Mapping[float, _At]) -> set[float]:
    """The temperatures at which some metric is lowest in some region, 1 among equals."""
    return {
        min(plain, key=lambda value: (_value(plain[value], metric, region), value != 1.0))
        for region in next(iter(plain.values())).found
        for metric in METRICS
    }


def _value(at: _At, metric: str, region: str) -> float:
    return at.found[region].estimates[metric].value


def _grid_rows(plain: Mapping[float, _At]) -> list[Row]:
    """Of every T of the grid; ``at_bound`` where a metric is best at its end."""
    base, ends, rows = plain[1.0], (min(plain), max(plain)), list[Row]()
    least = {
        (region, metric): min(_value(at, metric, region) for at in plain.values())
        for region in base.found
        for metric in METRICS
    }
    for value in sorted(plain):
        edge = value in ends and len(plain) > 1
        for row in _rows(plain[value], base, TEMPERATURE, value, fitted=False, used=[value]):
            best = row["gain"] > 0 and row["value"] == least[row["region"], row["metric"]]
            rows.append({**row, "at_bound": edge and best})
    return rows


def _rows(
    at: _At, base: _At, scaling: str, temperature: float | None, *, fitted: bool, **facts: Any
) -> Iterator[Row]:
    """A row for each region and metric; the gain is how much lower than at T = 1."""
    for region, found in at.found.items():
        before, behind = base.found[region], at.behind[region]
        for metric, estimate in found.estimates.items():
            gain = before.estimates[metric].value - estimate.value
            low, high = _gained(base, at, (metric, region), gain)
            yield {
                "region": region,
                "scaling": scaling,
                "fitted": fitted,
                "fit": None,
                "temperature": temperature,
                "metric": metric,
                "value": estimate.value,
                "low": estimate.low,
                "high": estimate.high,
                "error": estimate.error,
                "gain": gain,
                "gain_low": low,
                "gain_high": high,
                "rests_on": behind.count,
                "no_interval": behind.refused,
                "accuracy": found.accuracy,
                "pixels": found.pixels,
                "images": at.images,
                **facts,
            }


def _gained(
    base: _At, at: _At, key: tuple[str, str], gain: float
) -> tuple[float | None, float | None]:
    """The interval of a gain, from the same draws of both."""
    behind = at.behind[key[1]]
    if behind.refused is not None:
        return None, None
    most = GAINS.get(key[0], 1.0)
    spread = (base.replicas[key] - at.replicas[key]).spread(behind)
    return bootstrap.interval(gain, spread, least=-most, most=most)


def _scaled(own: Pool, by_pixel: NDArray[Any], seed: int) -> _At:
    """What logits over each pixel's own temperature are worth."""
    return _measured(own.with_logits(_divided(own.logits, by_pixel)), [1.0], seed)[1.0]


def _diagram(at: _At, scaling: str) -> Row:
    found = at.found["all"].diagram
    return {
        "scaling": scaling,
        "pixels": found.pixels.tolist(),
        "confidence": _numbers(found.confidence),
        "accuracy": _numbers(found.accuracy),
    }


def _numbers(values: NDArray[Any]) -> list[float | None]:
    """Plain numbers; None in a bin that no pixel fell into."""
    return [float(value) if np.isfinite(value) else None for value in values]


def _divided(logits: NDArray[np.float32], by_pixel: NDArray[Any]) -> NDArray[np.float32]:
    """Logits over each pixel's temperature; no argmax may change.

    Raises:
        SegsweepError: one has.
    """
    scaled: NDArray[np.float32] = (logits / by_pixel[:, None]).astype(np.float32)
    rows = np.arange(len(logits))
    if logits.shape[1] == 1:
        same = (scaled * logits >= 0).ravel()
    else:  # values, since rounding can make two logits equal
        same = scaled[rows, logits.argmax(axis=1)] == scaled.max(axis=1)
    if not same.all():
        count = int((~same).sum())
        raise SegsweepError(f"a temperature has changed the class of {count} pixels")
    return scaled


def _cross_scaled(own: Pool, name: str) -> tuple[NDArray[np.float32], bool, Row]:
    """Logits (P, K), each group's scaled by what was fitted on the others; and facts of it."""
    wide = np.zeros((len(own.labels), max(2, own.logits.shape[1])), np.float32)
    edge = False
    for group in np.unique(own.groups):
        weights = (own.groups != group).astype(np.float64)
        fitted = SCALINGS[name](
            own.logits, own.labels, image=own.image, weights=weights, where=own.where
        )
        mine = own.groups[own.image] == group
        wide[mine] = fitted.apply(own.logits[mine])
        edge = edge or fitted.at_bound
    return wide, edge, {"miou": agreement(wide, own.labels).miou}


def fit_alone(own: Pool) -> Fit:
    """The temperature of all pixels of a pool."""
    return fit_temperature(own.logits, own.labels, where=own.where)


__all__ = ["BOUNDS", "Swept", "fit_alone", "given_rows", "inside_rows", "own_rows", "sweep"]
