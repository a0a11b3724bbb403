"""Can the probabilities be trusted? NLL, Brier score and ECE at every temperature, in one pass.

Everything is counted by image first, so that drawing images anew costs next to nothing. Memory
beside the logits: for each image, temperature and region 2 KB and 120 bytes a class.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from segsweep import bootstrap
from segsweep.bootstrap import Groups, Replicas
from segsweep.calibration.anomaly import check_temperatures
from segsweep.calibration.bins import STARTS, Diagram, adaptive, adaptive_error, diagram
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
from segsweep.calibration.tally import Tally

METRICS = ("nll", "brier", "ece", "ece_adaptive", "ece_classwise")
REGIONS = ("all", "boundary")
_HIGHEST = {"nll": np.inf, "brier": 2.0}  # and 1 of every other


@dataclass(frozen=True)
class Estimate:
    """A number with its interval; ``no_interval`` says why there is none, where there is none.

    ``error``: how far the number can be from that of the pixels themselves, for being counted in
    bins; 0 where it is exact.
    """

    value: float
    low: float | None
    high: float | None
    no_interval: str | None = None
    error: float = 0.0


@dataclass(frozen=True)
class Reliability:
    """At one temperature, in one region.

    Attributes:
        temperature: T.
        region: ``all`` valid pixels, or those in the ``boundary`` mask.
        pixels: valid ones in the region.
        accuracy: share whose argmax is the label; the same at every T.
        estimates: by METRICS. ``nll``: mean, nats. ``brier``: mean of Σ_k (p_k - y_k)², in [0, 2].
            ``ece``: Σ_bins |Σ confidence - Σ correct| / N. ``ece_adaptive``: the same in 15 bins of
            equally many pixels, within ``error``, ``bins.adaptive``; its draws are coarser.
            ``ece_classwise``: mean over classes of the ECE of p_k against y = k (Kull et al. 2019).
        diagram: of the pooled pixels.
    """

    temperature: float
    region: str
    pixels: int
    accuracy: float
    estimates: dict[str, Estimate]
    diagram: Diagram


class ReliabilitySweep:
    """Takes pixels in, for all temperatures at once.

    Args:
        classes: K, 2 for a binary head.
        temperatures: grid and fitted ones, any order.
        images: how many there are.
        boundary: boundary masks are given too.
        threads: that compute; left out, as many as torch has.
        where: what the pixels are of, for messages.

    Raises:
        CalibrationError: no temperature.
    """

    def __init__(
        self,
        classes: int,
        temperatures: Sequence[float],
        images: int,
        *,
        boundary: bool = False,
        threads: int | None = None,
        where: str = "",
    ) -> None:
        check_temperatures(temperatures, where)
        self._temperatures = [float(one) for one in temperatures]
        self._classes, self._images, self._boundary = classes, images, boundary
        self._threads, self._where = threads, where
        self._regions = 2 if boundary else 1
        self._counts = [Tally(self._regions, images, classes) for _ in temperatures]
        self._correct = np.zeros(self._regions)
        self._replicas: dict[tuple[str, str], list[Replicas]] = {}
        self._behind: dict[str, Groups] = {}

    def update(
        self,
        logits: Floats,
        labels: Labels,
        image: Images,
        boundary: NDArray[np.bool_] | None = None,
    ) -> None:
        """Take pixels in: logits (N, K), or (N,) or (N, 1); labels, image and boundary (N,).

        Raises:
            CalibrationError: see ``pixels.blocks``; another number of classes; boundary masks
                missing, or given and not announced; an image that there is not.
        """
        check_shapes(logits, labels, image, self._where)
        if classes_of(logits) != self._classes:
            what = f"logits of {classes_of(logits)} classes, not {self._classes}"
            raise refuse(what, self._where)
        if (boundary is not None) != self._boundary:
            raise refuse("boundary masks are for all pixels or for none", self._where)
        if len(image) and not 0 <= int(image.min()) <= int(image.max()) < self._images:
            raise refuse(f"an image is not in 0 to {self._images - 1}", self._where)
        for block in blocks(logits, labels, image, size=BLOCK, where=self._where):
            cells = block.image
            if boundary is not None:
                cells = 2 * cells + boundary[block.index]
            self._take(block, cells)

    def _take(self, block: Block, cells: NDArray[np.int64]) -> None:
        """Count a block into ``cells``, a temperature a thread."""
        logits, labels = block.logits, block.labels
        if (np.diff(cells) < 0).any():
            order = np.argsort(cells, kind="stable")
            logits, labels, cells = logits[:, order], labels[order], cells[order]
        best = logits.argmax(axis=0)
        logits -= logits.max(axis=0)
        correct = best == labels
        self._correct += np.bincount(cells % self._regions, correct, self._regions)

        def one(place: int) -> None:
            beta = np.float32(1 / self._temperatures[place])
            for part in parts(len(cells)):
                self._counts[place].add(
                    logits[:, part], beta, labels[part], cells[part], correct[part]
                )

        in_threads(one, range(len(self._counts)), self._threads)

    def result(
        self,
        *,
        resamples: int = 1000,
        level: float = 0.95,
        seed: int = 0,
        groups: Images | None = None,
    ) -> list[Reliability]:
        """One for each temperature and region, temperatures in the order given.

        Regions without a valid pixel are left out. Intervals are of ``segsweep.bootstrap``, from
        ``resamples`` draws of images that have a pixel in the region, and end where the metric
        does. The draws are the same for all temperatures, so that differences between these can
        be judged from ``replicas``. ``groups`` (images,) from 0: those that share one (a patient, a
        scene) are drawn together; left out, each is its own.

        Raises:
            CalibrationError: no valid pixel.
        """
        if not self._counts[0].pixels.any():
            raise nothing_valid(self._where)
        own = np.arange(self._images) if groups is None else groups.astype(np.int64)
        drawn = {}
        for region in REGIONS[: self._regions]:
            pixels = self._counts[0].pixels[:, _pick(region)].sum(axis=(1, 2))
            self._behind[region] = bootstrap.groups(own, pixels)
            drawn[region] = _drawn(own, pixels, resamples, seed)
        jobs = [
            (temperature, counts, region, drawn[region], level)
            for temperature, counts in zip(self._temperatures, self._counts, strict=True)
            for region in REGIONS[: self._regions]
        ]
        judged = in_threads(lambda job: self._judge(*job), jobs, self._threads)
        known = [one for one in judged if one is not None]
        self._replicas = {
            (name, region): [own[name] for one, own in known if one.region == region]
            for name in METRICS
            for region in {one.region for one, _ in known}
        }
        return [one for one, _ in known]

    def replicas(self, metric: str, region: str = "all") -> list[Replicas]:
        """By temperature, the draws behind the intervals of the last ``result``.

        Raises:
            KeyError: there is no pixel in the region.
        """
        return self._replicas[metric, region]

    def behind(self, region: str = "all") -> Groups:
        """What the numbers of a region rest on."""
        return self._behind[region]

    def _judge(
        self,
        temperature: float,
        counts: Tally,
        region: str,
        drawn: Doubles,
        level: float,
    ) -> tuple[Reliability, dict[str, Replicas]] | None:
        """One row of the result, and the draws behind its intervals."""
        pick = _pick(region)
        pixels = counts.pixels[:, pick].sum(axis=1)
        total = int(pixels.sum())
        if not total:
            return None
        gaps = counts.gaps[:, pick].sum(axis=1)
        sums = counts.sums[:, :, pick].sum(axis=2)
        classes = counts.classes[:, pick].sum(axis=1)
        once = _metrics(np.ones((1, self._images)), pixels, gaps, sums, classes)
        values = {name: float(value[0]) for name, value in once.items()}
        moved = _metrics(drawn, pixels, gaps, sums, classes) if len(drawn) else once
        replicas = {name: Replicas(values[name], moved[name]) for name in METRICS}
        finest = counts.finest[:, pick].sum(axis=1)[:, None]
        values["ece_adaptive"] = float(adaptive(*finest)[0])
        behind = self._behind[region]
        estimates = {
            name: _estimate(values[name], replicas[name], behind, _HIGHEST.get(name, 1.0), level)
            for name in METRICS
        }
        error = adaptive_error(*finest[:, 0])
        estimates["ece_adaptive"] = replace(estimates["ece_adaptive"], error=error)
        accuracy = float(self._correct[pick].sum() / total)
        picture = diagram(pixels.sum(axis=0), gaps.sum(axis=0), counts.confidence[pick].sum(axis=0))
        return Reliability(temperature, region, total, accuracy, estimates, picture), replicas


def _pick(region: str) -> slice:
    """Of a tally's regions; the boundary's pixels are among all."""
    return slice(None) if region == "all" else slice(1, None)


def _drawn(own: NDArray[np.int64], pixels: Doubles, resamples: int, seed: int) -> Doubles:
    """(R, images) how often each image comes up, in draws with a pixel of the region."""
    if not pixels.any():
        return np.zeros((0, len(own)))
    rng = np.random.default_rng(seed)
    return bootstrap.weights(own, resamples, rng, lambda counts: counts @ pixels > 0)


def _estimate(
    value: float, replicas: Replicas, behind: Groups, most: float, level: float
) -> Estimate:
    if behind.refused is not None:
        return Estimate(value, None, None, behind.refused)
    spread = replicas.spread(behind)
    return Estimate(value, *bootstrap.interval(value, spread, level=level, least=0.0, most=most))


def _metrics(
    weights: Doubles, pixels: Doubles, gaps: Doubles, sums: Doubles, classes: Doubles
) -> dict[str, Doubles]:
    """(R,) by metric, of images weighted by (R, I) ``weights``."""
    fine = weights @ pixels
    off = weights @ gaps
    total = fine.sum(axis=1)
    wide = np.add.reduceat(off, STARTS, axis=1)
    by_class = np.abs(np.tensordot(weights, classes, axes=1)).sum(axis=2).mean(axis=1)
    return {
        "nll": weights @ sums[0] / total,
        "brier": weights @ sums[1] / total,
        "ece": np.abs(wide).sum(axis=1) / total,
        "ece_adaptive": adaptive(fine, off),
        "ece_classwise": by_class / total,
    }


def reliability(
    logits: Floats,
    labels: Labels,
    image: Images,
    temperatures: Sequence[float],
    boundary: NDArray[np.bool_] | None = None,
    *,
    resamples: int = 1000,
    seed: int = 0,
    threads: int | None = None,
    where: str = "",
) -> list[Reliability]:
    """``ReliabilitySweep`` of pixels that are all there; image (N,) from 0.

    Raises:
        CalibrationError: as in ReliabilitySweep.
    """
    images = int(image.max()) + 1 if len(image) else 1
    sweep = ReliabilitySweep(
        classes_of(logits),
        temperatures,
        images,
        boundary=boundary is not None,
        threads=threads,
        where=where,
    )
    sweep.update(logits, labels, image, boundary)
    return sweep.result(resamples=resamples, seed=seed)
