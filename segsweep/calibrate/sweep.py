"""The calibration sweep of one model: every T of the grid, and what is fitted, cross-fitted.

Every number of a fitted scaling is of images that it was not fitted on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from segsweep.calibrate.pool import Pool
from segsweep.calibration.curve import cross_fit, nll_curve, widened
from segsweep.calibration.reliability import METRICS, REGIONS, Reliability, ReliabilitySweep
from segsweep.calibration.scaling import Scaling, agreement, fit_class_temperatures, fit_vector
from segsweep.calibration.temperature import BOUNDS, Fit, fit_temperature
from segsweep.errors import SegsweepError
from segsweep.spec.shape import Temperatures

RESAMPLES = 500  # draws of images behind an interval
TEMPERATURE: Final = "temperature"
INSIDE: Final = "inside"
SCALINGS: Final[dict[str, Callable[..., Scaling]]] = {
    "vector": fit_vector,
    "class_temperatures": fit_class_temperatures,
}

Row = dict[str, Any]
Draws = NDArray[np.float64]


@dataclass(frozen=True)
class Swept:
    """What the calibration sweep found about one set of pixels.

    Attributes:
        fit: the temperature of all its images together.
        fits: of each group, fitted on the others.
        by_image: image id → the T of its group.
        rows: of results, without the columns that say whose they are.
        diagrams: reliability diagrams, before and after: ``scaling`` and lists of 15 numbers.
    """

    fit: Fit
    fits: Sequence[Fit]
    by_image: Mapping[str, float]
    rows: list[Row]
    diagrams: list[Row] = field(default_factory=list)


def grid(span: Temperatures) -> list[float]:
    """The temperatures of a sweep, evenly spaced in their logarithm, and 1."""
    found = np.geomspace(span.min, span.max, span.steps).tolist()
    near = [value for value in found if abs(value - 1) < 1e-9]
    return sorted({*(value for value in found if value not in near), 1.0})


def sweep(
    own: Pool,
    temperatures: Sequence[float],
    *,
    given: Fit | None = None,
    scalings: bool = True,
    seed: int = 0,
) -> Swept:
    """Fit on some images, report on the others.

    Args:
        own: pixels; their groups say who is fitted on whom.
        temperatures: of the grid, with 1 among them.
        given: a temperature that was fitted on other images altogether, and is reported here;
            None fits one for each group on the others.
        scalings: fit vector scaling and a temperature a class, too.
        seed: of the draws of images behind intervals.

    Raises:
        CalibrationError: no valid pixels, or logits that are not finite.
    """
    plain = _measured(own, temperatures, seed)
    base = plain.at(1.0)
    rows = [
        row
        for value in temperatures
        for row in _rows(plain.at(value), base, TEMPERATURE, value, fitted=False)
    ]
    if given is None:
        curve = nll_curve(own.logits, own.labels, own.image, own.images, where=own.where)
        fit, fits = curve.fit(), cross_fit(curve, own.groups)
    else:
        fit, fits = given, [given] * (int(own.groups.max()) + 1)
    by_image = np.asarray([one.temperature for one in fits])[own.groups]
    scaled = _divided(own.logits, by_image[own.image])
    found = _measured(own.with_logits(scaled), [1.0], seed).at(1.0)
    edge = any(one.at_bound for one in [fit, *fits])
    facts = {"fitted": True, "at_bound": edge}
    rows += list(_rows(found, base, TEMPERATURE, fit.temperature, **facts))
    diagrams = [_diagram(base, "none"), _diagram(found, TEMPERATURE)]
    for name in SCALINGS if scalings and given is None else ():
        wide, at_bound, beside = _cross_scaled(own, name)
        found = _measured(own.with_logits(wide), [1.0], seed).at(1.0)
        rows += list(_rows(found, base, name, None, fitted=True, at_bound=at_bound, **beside))
        diagrams.append(_diagram(found, name))
    named = dict(zip(own.ids, by_image.tolist(), strict=True))
    return Swept(fit, fits, named, rows, diagrams)


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
    base = _measured(own.with_logits(at(1.0)), [1.0], seed).at(1.0)
    rows = []
    for value in temperatures:
        logits = at(value)
        found = _measured(own.with_logits(logits), [1.0], seed).at(1.0)
        miou = agreement(logits, own.labels).miou
        rows += list(_rows(found, base, INSIDE, value, fitted=False, miou=miou))
    return rows


@dataclass(frozen=True)
class _At:
    """One temperature: what was measured in each region, and the draws behind.

    Attributes:
        draws: by metric and region; none where there is one image, or one group of them.
        units: that were drawn from.
    """

    found: Mapping[str, Reliability]
    draws: Mapping[tuple[str, str], Draws]
    images: int
    units: int


@dataclass(frozen=True)
class _Measured:
    """Some temperatures of some pixels."""

    by_value: Mapping[float, _At]

    def at(self, temperature: float) -> _At:
        return self.by_value[temperature]


def _measured(own: Pool, temperatures: Sequence[float], seed: int) -> _Measured:
    classes = max(2, own.logits.shape[1])
    has_boundary = bool((own.boundary & (own.labels != 255)).any())
    counter = ReliabilitySweep(
        classes, temperatures, own.images, boundary=has_boundary, where=own.where
    )
    boundary = own.boundary if has_boundary else None
    counter.update(own.logits, own.labels, own.image, boundary)
    results = counter.result(resamples=RESAMPLES, seed=seed, groups=own.units)
    regions = REGIONS if has_boundary else REGIONS[:1]
    units = int(own.units.max()) + 1
    draws = {(m, r): counter.draws(m, r) for m in METRICS for r in regions} if units > 1 else {}
    by_value = {}
    for place, value in enumerate(temperatures):
        mine = {one.region: one for one in results if one.temperature == value}
        drawn = {key: many[place] for key, many in draws.items()}
        by_value[value] = _At(mine, drawn, own.images, units)
    return _Measured(by_value)


def _rows(
    at: _At, base: _At, scaling: str, temperature: float | None, *, fitted: bool, **facts: Any
) -> Iterator[Row]:
    """A row for each region and metric; the gain is how much lower than at T = 1."""
    for region, found in at.found.items():
        before = base.found[region]
        for metric, estimate in found.estimates.items():
            low, high = _gained(base, at, (metric, region))
            yield {
                "region": region,
                "scaling": scaling,
                "fitted": fitted,
                "temperature": temperature,
                "metric": metric,
                "value": estimate.value,
                "low": estimate.low,
                "high": estimate.high,
                "gain": before.estimates[metric].value - estimate.value,
                "gain_low": low,
                "gain_high": high,
                "accuracy": found.accuracy,
                "pixels": found.pixels,
                "images": at.images,
                **facts,
            }


def _gained(base: _At, at: _At, key: tuple[str, str]) -> tuple[float | None, float | None]:
    """The interval of a gain, from the same draws of both."""
    if key not in at.draws:
        return None, None
    gains = base.draws[key] - at.draws[key]
    mean = gains.mean()
    low, high = np.quantile(mean + widened(gains - mean, at.units), [0.025, 0.975])
    return float(low), float(high)


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


__all__ = ["BOUNDS", "Swept", "fit_alone", "grid", "inside_rows", "sweep"]
