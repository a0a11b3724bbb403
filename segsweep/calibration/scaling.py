"""Scalings with more freedom than one temperature: vector scaling, and a temperature a class.

Both minimise the NLL of softmax(a ∘ z + b), a and b of K numbers; b = 0 for a temperature a class
(Guo et al. 2017, section 4.2; there vector scaling is W diagonal). That is convex in (a, b). Both
may change the argmax, so that accuracy and mIoU are to be reported beside: ``agreement``.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from segsweep.calibration.boxed import Quadratic, boxed_minimum
from segsweep.calibration.pixels import (
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
)
from segsweep.calibration.temperature import BOUNDS, SAMPLE, weighed

BOUND = 50.0  # of |a| and |b| of vector scaling
RIDGE = 1e-7  # of |a - 1|² + |b|², half of it added to the mean NLL, so that there is one minimum


@dataclass(frozen=True)
class Scaling:
    """softmax(scale ∘ z + bias).

    Attributes:
        scale: (K,) a; 1/T_k for a temperature a class.
        bias: (K,) b.
        nll: mean NLL, nats a pixel.
        nll_before: of the logits as they are.
        at_bound: a number is at its bound: classes that can be told apart perfectly, or are absent.
        steps: of Newton.
        pixels: valid ones.
    """

    scale: Doubles
    bias: Doubles
    nll: float
    nll_before: float
    at_bound: bool
    steps: int
    pixels: int

    def apply(self, logits: Floats) -> Floats:
        """Scaled logits, (N, K); a binary head's z becomes (N, 2)."""
        if classes_of(logits) == 2 and (logits.ndim == 1 or logits.shape[1] == 1):
            z = logits.reshape(-1)
            logits = np.stack([np.zeros_like(z), z], axis=1)
        return logits * self.scale.astype(np.float32) + self.bias.astype(np.float32)


def fit_vector(
    logits: Floats,
    labels: Labels,
    *,
    image: Images | None = None,
    weights: Doubles | None = None,
    threads: int | None = None,
    where: str = "",
) -> Scaling:
    """Vector scaling; arguments and errors as of ``temperature.fit_temperature``."""
    classes = classes_of(logits)
    bounds = np.full((2, 2 * classes), BOUND) * [[-1], [1]]
    return _fit(logits, labels, image, weights, bounds, threads, where)


def fit_class_temperatures(
    logits: Floats,
    labels: Labels,
    *,
    image: Images | None = None,
    weights: Doubles | None = None,
    threads: int | None = None,
    where: str = "",
) -> Scaling:
    """A temperature for every class's logit, T_k = 1/scale_k in [0.05, 20]; bias 0.

    Arguments and errors as of ``temperature.fit_temperature``. A binary head's class 0 has the
    logit 0, which no temperature changes: its scale stays 1.
    """
    classes = classes_of(logits)
    bounds = np.zeros((2, 2 * classes))
    bounds[0, :classes], bounds[1, :classes] = 1 / BOUNDS[1], 1 / BOUNDS[0]
    return _fit(logits, labels, image, weights, bounds, threads, where)


def _fit(
    logits: Floats,
    labels: Labels,
    image: Images | None,
    weights: Doubles | None,
    bounds: Doubles,
    threads: int | None,
    where: str,
) -> Scaling:
    """Newton on a sample first, then on all pixels from there."""
    check_shapes(logits, labels, image, where)
    classes = classes_of(logits)
    logits, labels, image = weighed(logits, labels, image, weights, where)
    start = np.repeat([1.0, 0.0], classes)
    free = bounds[0] < bounds[1]

    def run(every: int, begin: Doubles) -> tuple[Doubles, Quadratic, int]:
        some = None if image is None else image[::every]
        data = logits[::every], labels[::every], some

        def at(values: Doubles) -> Quadratic:
            return _pass(data, weights, values, threads, where)

        return boxed_minimum(at, begin, bounds)

    steps = 0
    begin = start
    if len(labels) > 4 * SAMPLE:
        begin, _, steps = run(len(labels) // SAMPLE, start)
    before = _pass((logits, labels, image), weights, start, threads, where)
    values, end, more = run(1, begin)
    edge = free & ((values == bounds[0]) | (values == bounds[1]))
    return Scaling(
        scale=values[:classes],
        bias=values[classes:],
        nll=end.value - _ridge(values),
        nll_before=before.value - _ridge(start),
        at_bound=bool(edge.any()),
        steps=steps + more,
        pixels=int((labels != 255).sum()),
    )


def _ridge(values: Doubles) -> float:
    classes = len(values) // 2
    away = values - np.repeat([1.0, 0.0], classes)
    return RIDGE / 2 * float(away @ away)


def _pass(
    data: tuple[Floats, Labels, Images | None],
    weights: Doubles | None,
    values: Doubles,
    threads: int | None,
    where: str,
) -> Quadratic:
    """Mean NLL and ridge at (a, b), with gradient (2K,) and Hessian (2K, 2K)."""

    def one(block: Block) -> tuple[float, float, Doubles, Doubles]:
        return _sums(block, values, None if weights is None else weights[block.image])

    found = in_threads(one, blocks(*data, size=2**16, where=where), threads)
    if not found:
        raise nothing_valid(where)
    total = sum(sums[0] for sums in found)
    value = sum(sums[1] for sums in found) / total
    slope = np.sum([sums[2] for sums in found], axis=0) / total
    bend = np.sum([sums[3] for sums in found], axis=0) / total
    classes = len(values) // 2
    away = values - np.repeat([1.0, 0.0], classes)
    return Quadratic(
        value + _ridge(values), slope + RIDGE * away, bend + RIDGE * np.eye(len(values))
    )


def _sums(
    block: Block, values: Doubles, weights: Doubles | None
) -> tuple[float, float, Doubles, Doubles]:
    """Weight, and sums of NLL, gradient and Hessian over a block."""
    classes = len(values) // 2
    a, b = (one.astype(np.float32)[:, None] for one in (values[:classes], values[classes:]))
    nll, weight = 0.0, 0.0
    slope, bend = np.zeros(2 * classes), np.zeros((2 * classes, 2 * classes))
    lower = np.arange(classes)
    for part in parts(len(block.labels)):
        z, truth = block.logits[:, part], block.labels[part]
        w = np.ones(len(truth), np.float32) if weights is None else weights[part].astype(np.float32)
        p = a * z + b
        p -= p.max(axis=0)
        own = np.take_along_axis(p, truth[None], axis=0)[0]
        np.exp(p, out=p)
        total = p.sum(axis=0)
        p /= total
        nll += float(((np.log(total) - own) * w).sum(dtype=np.float64))
        weight += float(w.sum(dtype=np.float64))
        both = np.concatenate([p * z, p])
        weighted = both * w
        bend -= weighted @ both.T
        bend[lower, lower] += (weighted[:classes] * z).sum(axis=1)
        cross = weighted[:classes].sum(axis=1, dtype=np.float64)
        bend[lower, lower + classes] += cross
        bend[lower + classes, lower] += cross
        bend[lower + classes, lower + classes] += weighted[classes:].sum(axis=1)
        slope += weighted.sum(axis=1, dtype=np.float64)
        mine = np.take_along_axis(z, truth[None], axis=0)[0]
        slope[:classes] -= np.bincount(truth, mine * w, classes)
        slope[classes:] -= np.bincount(truth, w, classes)
    return weight, nll, slope, bend


@dataclass(frozen=True)
class Agreement:
    """What the argmax is worth.

    Attributes:
        accuracy: share of valid pixels whose argmax is the label.
        miou: mean of IoU over the classes in the labels.
        changed: share of valid pixels whose argmax differs from that of the logits as they were.
    """

    accuracy: float
    miou: float
    changed: float


def agreement(
    logits: Floats, labels: Labels, scaling: Scaling | None = None, *, where: str = ""
) -> Agreement:
    """Accuracy and mIoU of logits (N, K), scaled or as they are; ties go to the lower class."""
    classes = classes_of(logits)
    counts = np.zeros((classes, classes), np.int64)
    changed = 0
    for block in blocks(logits, labels, where=where):
        guess = before = block.logits.argmax(axis=0)
        if scaling is not None:
            scale, bias = (one.astype(np.float32) for one in (scaling.scale, scaling.bias))
            guess = (block.logits * scale[:, None] + bias[:, None]).argmax(axis=0)
        changed += int((guess != before).sum())
        pairs = np.bincount(block.labels * classes + guess, minlength=classes**2)
        counts += pairs.reshape(classes, classes)
    pixels = int(counts.sum())
    if not pixels:
        raise nothing_valid(where)
    hits = np.diag(counts)
    either = counts.sum(axis=0) + counts.sum(axis=1) - hits
    seen = counts.sum(axis=1) > 0
    return Agreement(
        hits.sum() / pixels, float((hits[seen] / either[seen]).mean()), changed / pixels
    )
