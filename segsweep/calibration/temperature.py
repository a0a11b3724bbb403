"""One temperature for a model: T > 0 that minimises the NLL of softmax(z / T) (Guo et al. 2017).

With β = 1/T the mean NLL is convex in β: its slope is E_p[z] - z_y, its curvature Var_p[z], both
averaged over pixels. Newton's steps, kept inside a bracket that shrinks by the slope's sign, find
the one minimum there is. Two classes have a histogram instead of logits: see ``margins``.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from segsweep.calibration.margins import Margins
from segsweep.calibration.newton import Bend, minimum
from segsweep.calibration.pixels import (
    BLOCK,
    Block,
    Doubles,
    Floats,
    Images,
    Labels,
    blocks,
    check_shapes,
    classes_of,
    in_threads,
    nothing_valid,
    parts,
    refuse,
)

BOUNDS = (0.05, 20.0)  # of T
SAMPLE = 2**16  # pixels that the first steps are made on
_CLOSE = 3e-4  # a Newton step, over β, after which the next would be below 1e-6


@dataclass(frozen=True)
class Fit:
    """A fitted temperature.

    Attributes:
        temperature: T.
        error: the T that minimises the NLL of the pixels themselves is in [T - error, T + error].
            Proved for two classes (``Margins.certain``); for more it is the size of Newton's next
            step, estimated as the square of the last one.
        nll: mean NLL at T, nats a pixel.
        nll_before: at T = 1.
        at_bound: the NLL falls beyond the bound that T is at: no minimum was found.
        steps: of Newton.
        pixels: valid ones, of images with a weight.
    """

    temperature: float
    error: float
    nll: float
    nll_before: float
    at_bound: bool
    steps: int
    pixels: int


def fit_temperature(
    logits: Floats,
    labels: Labels,
    *,
    image: Images | None = None,
    weights: Doubles | None = None,
    bounds: tuple[float, float] = BOUNDS,
    threads: int | None = None,
    where: str = "",
) -> Fit:
    """T of some pixels; two classes by a fine histogram, more from the logits.

    Args:
        logits: (N, K), or (N,) or (N, 1) of a binary head.
        labels: (N,); 255 does not count.
        image: (N,) image of each pixel, needed for weights.
        weights: (I,) weight ≥ 0 of each image; those of weight 0 are not even looked at.
        bounds: of T.
        threads: that compute; left out, as many as torch has.
        where: what the pixels are of, for messages.

    Raises:
        CalibrationError: see ``pixels.blocks``; no valid pixel; bounds or weights that make no
            sense; logits that are equal in all classes at every pixel.
    """
    check_bounds(bounds, where)
    check_shapes(logits, labels, image, where)
    logits, labels, image = weighed(logits, labels, image, weights, where)
    if classes_of(logits) == 2:
        return _fit_two(logits, labels, image, weights, bounds, where)
    return _fit_many(logits, labels, image, weights, bounds, threads, where)


def check_bounds(bounds: tuple[float, float], where: str = "") -> None:
    """Are these bounds of a temperature?

    Raises:
        CalibrationError: they are not.
    """
    if not 0 < bounds[0] < bounds[1] < np.inf:
        raise refuse(f"{bounds} are no bounds of a temperature", where, "0 < low < high")


def weighed(
    logits: Floats, labels: Labels, image: Images | None, weights: Doubles | None, where: str
) -> tuple[Floats, Labels, Images | None]:
    """The pixels of images that have a weight.

    Raises:
        CalibrationError: weights without images, negative ones, or none above 0.
    """
    if weights is None:
        return logits, labels, image
    if image is None:
        raise refuse("weights are of images, but no image is given", where)
    if not np.isfinite(weights).all() or (weights < 0).any() or not weights.any():
        raise refuse("weights must be finite, not negative, and not all 0", where)
    if len(image) and int(image.max()) >= len(weights):
        raise refuse(f"image {int(image.max())} has no weight, there are {len(weights)}", where)
    if not weights.all():
        kept = np.flatnonzero(weights[image] > 0)
        return logits[kept], labels[kept], image[kept]
    return logits, labels, image


def _fit_two(
    logits: Floats, labels: Labels, image: Images | None, weights: Doubles | None,
    bounds: tuple[float, float], where: str,
) -> Fit:  # fmt: skip
    """T of two classes."""
    margins = Margins()
    for block in blocks(logits, labels, image, where=where):
        margins.add(margin(block), None if weights is None else weights[block.image])
    if not margins.pixels:
        raise nothing_valid(where)
    table = margins.table()
    if not table.total:
        raise flat(where)
    found = minimum(table.at, (1 / bounds[1], 1 / bounds[0]), 1.0, close=1e-9)
    error = 0.0 if found.at_bound else table.certain(found.beta)
    return Fit(
        temperature=1 / found.beta,
        error=error / found.beta,
        nll=found.value,
        nll_before=table.at(1.0).value,
        at_bound=found.at_bound,
        steps=found.steps,
        pixels=margins.pixels,
    )


def _fit_many(
    logits: Floats, labels: Labels, image: Images | None, weights: Doubles | None,
    bounds: tuple[float, float], threads: int | None, where: str,
) -> Fit:  # fmt: skip
    """T of any number of classes: Newton on a sample first, then on all pixels from there."""
    full = _Passes(logits, labels, image, weights, threads, where)
    limits = (1 / bounds[1], 1 / bounds[0])
    start, steps = 1.0, 0
    if len(labels) > 4 * SAMPLE:
        every = np.arange(0, len(labels), len(labels) // SAMPLE)
        some = None if image is None else image[every]
        sample = _Passes(logits[every], labels[every], some, weights, threads, where)
        if sample.valid():
            first = minimum(sample.at, limits, start, close=_CLOSE)
            start, steps = first.beta, first.steps
    found = minimum(full.at, limits, start, close=_CLOSE)
    return Fit(
        temperature=1 / found.beta,
        error=found.left / found.beta,
        nll=found.value,
        nll_before=full.before,
        at_bound=found.at_bound,
        steps=steps + found.steps,
        pixels=full.pixels,
    )


class _Passes:
    """Mean NLL, slope and curvature at a β, in one pass over all logits each time."""

    def __init__(
        self, logits: Floats, labels: Labels, image: Images | None, weights: Doubles | None,
        threads: int | None, where: str,
    ) -> None:  # fmt: skip
        self._data = logits, labels, image
        self._weights, self._threads, self._where = weights, threads, where
        self.before = np.nan  # the mean NLL at β = 1, known after the first pass
        self.pixels = 0

    def valid(self) -> bool:
        return any(True for _ in blocks(*self._data, where=self._where))

    def at(self, beta: float) -> Bend:
        first = bool(np.isnan(self.before))

        def one(block: Block) -> tuple[Doubles, float, int]:
            share = None if self._weights is None else self._weights[block.image]
            found = moments(block, [beta, 1.0] if first else [beta], share)
            pixels = len(block.labels)
            return found, float(pixels if share is None else share.sum()), pixels

        size = min(BLOCK, max(4096, len(self._data[1]) // 8))
        done = in_threads(one, blocks(*self._data, size=size, where=self._where), self._threads)
        if not done:
            raise nothing_valid(self._where)
        total = np.sum([found for found, _, _ in done], axis=0)
        mean: Doubles = total / sum(weight for _, weight, _ in done)
        pixels = sum(count for _, _, count in done)
        if first:
            self.before, self.pixels = float(mean[1, 0]), pixels
        if not mean[0, 2] and not mean[0, 1]:
            raise flat(self._where)
        return Bend(*(float(number) for number in mean[0]))


def moments(block: Block, betas: list[float], weights: Doubles | None = None) -> Doubles:
    """(len(betas), 3): sums of NLL, slope and curvature; weights are (n,)."""
    total = np.zeros((len(betas), 3))
    for part, found in pixel_moments(block, betas):
        for place, values in enumerate(found):
            if weights is None:
                total[place] += values.sum(axis=1, dtype=np.float64)
            else:
                total[place] += values.astype(np.float64) @ weights[part]
    return total


def pixel_moments(block: Block, betas: list[float] | Doubles):  # type: ignore[no-untyped-def]
    """Parts of a block, and for each β (3, part) float32: NLL, slope and curvature by pixel."""
    for part in parts(len(block.labels)):
        t = np.ascontiguousarray(block.logits[:, part])
        t -= t.max(axis=0)
        own = np.take_along_axis(t, block.labels[None, part], axis=0)[0]
        yield part, [_at(t, own, np.float32(beta)) for beta in betas]


def _at(t: Floats, own: Floats, beta: np.float32) -> Floats:
    """(3, n): NLL, slope and curvature of logits (K, n) whose maximum is 0, at β."""
    found = np.empty((3, len(own)), np.float32)
    e = t * beta
    np.exp(e, out=e)
    total = e.sum(axis=0)
    e *= t
    mean = e.sum(axis=0) / total
    e *= t
    found[0] = np.log(total) - beta * own
    found[1] = mean - own
    found[2] = e.sum(axis=0) / total - mean * mean
    return found


def margin(block: Block) -> Floats:
    """(n,) logit of the true class less that of the other, of two."""
    gap: Floats = block.logits[1] - block.logits[0]
    return np.where(block.labels == 1, gap, -gap)


def flat(where: str) -> Exception:
    """The error where T changes nothing."""
    hint = "the model tells nothing apart; was it trained?"
    return refuse("at every pixel all logits are equal: no temperature matters", where, hint)
