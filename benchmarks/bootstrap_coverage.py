"""How often do 95 % intervals hold the truth? Of compare, calibrate, evaluate and the model card.

    python -m benchmarks.bootstrap_coverage                       # seven minutes on two cores
    python -m benchmarks.bootstrap_coverage --sets 1000 --only card --json coverage.json

Data sets are drawn from a population whose truth is known, and go through the very functions that
the commands call. All have 10 images a group but ``evaluate``'s, whose images are drawn one by one.
Groups differ: by 0.12 in IoU (standard deviation), or in the scale of their logits by 30 %.
A share of 95 % is known to 1.5 % with 200 data sets.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import cache
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.common import arguments, report
from segsweep.calibrate import anomaly
from segsweep.calibrate.logits_file import VALIDATION, Logits
from segsweep.calibrate.model import Subject, Trained, judge
from segsweep.calibrate.pool import pool
from segsweep.calibrate.sweep import own_rows, sweep
from segsweep.calibration.temperature import fit_temperature
from segsweep.compare import intervals, noise, resampling
from segsweep.compare.resampling import Part
from segsweep.compare.scoring import Scorer
from segsweep.export.intervals import intervals as of_card

Array = NDArray[np.float64]
Ends = tuple[float, float | None, float | None, float]  # value, low, high, truth
Found = dict[str, Ends]

NONE = "3"  # groups, of which there is no interval
GROUPS = (4, 6, 10, 20, 40)
UNEVEN = {"40, 10, 10, 10": (40, 10, 10, 10), "2 … 34": (2, 3, 5, 8, 13, 21, 34)}
EACH = 10  # images of a group
BETWEEN = 0.12  # standard deviation of groups' IoU
GRID = [1.0, 2.0]


def scored(sizes: Sequence[int], mean: float, models: int, rng: np.random.Generator) -> Array:
    """(models, N, 4) counts of images: what groups and images are is the same for all models."""
    groups = np.repeat(np.arange(len(sizes)), sizes)
    level = rng.normal(mean, BETWEEN, len(sizes))[groups] + rng.normal(0, 0.05, len(groups))
    iou = np.clip(level + rng.normal(0, 0.03, (models, len(groups))), 0, 1)
    union = rng.integers(200, 2000, len(groups))
    hit = np.rint(iou * union)
    missed = np.floor((union - hit) / 2)
    return np.stack([hit, union - hit - missed, missed, np.full_like(hit, 4000)], axis=-1)


@cache
def expected(mean: float) -> float:
    """The IoU of endless groups; clipping at 1 takes some off."""
    rng = np.random.default_rng(99)
    level = mean + np.sqrt(BETWEEN**2 + 0.05**2 + 0.03**2) * rng.standard_normal(4_000_000)
    return float(np.clip(level, 0, 1).mean())


def card(sizes: Sequence[int], rng: np.random.Generator) -> Found:
    """The IoU of a split, as MODEL_CARD.md and metrics.json have it."""
    found: Found = {}
    names = [str(group) for group in np.repeat(np.arange(len(sizes)), sizes)]
    for mean in (0.6, 0.85):
        counts = scored(sizes, mean, 1, rng)[0].astype(np.int64)
        tp, fp, fn, valid = counts.T
        matrix = np.stack([np.stack([valid - tp - fp - fn, fp], 1), np.stack([fn, tp], 1)], axis=1)
        one = of_card(matrix, ("background", "lesion"), names)["iou"]
        found[f"IoU {mean}"] = (one["value"], one["low"], one["high"], expected(mean))
    return found


def compare(sizes: Sequence[int], rng: np.random.Generator) -> Found:
    """The mean IoU of four champions over two folds, and on a holdout of as many groups."""
    score, cells, folds = Scorer("iou"), 4, 2
    found: Found = {}
    if len(sizes) % 2 == 0:
        half = sizes[::2], sizes[1::2]
        parts = [Part(scored(own, 0.6, cells, rng)[:, :, None], _groups(own)) for own in half]
        scores = np.stack([_each(part, score) for part in parts], axis=1)
        images = resampling.over_folds(parts, 1, score, 1000, rng)
        known = noise.estimate(scores[:, :, None])
        one = intervals.of_folds(scores, known, images, alpha=0.05)[0]
        low, high = (one.low, one.high) if one else (None, None)
        found["folds"] = (float(scores[0].mean()), low, high, expected(0.6))
    part = Part(scored(sizes, 0.6, cells * folds, rng)[:, :, None], _groups(sizes))
    scores = _each(part, score).reshape(cells, folds)
    images = resampling.over_holdout(part, folds, 1, score, 1000, rng)
    one = intervals.of_holdout(scores, noise.estimate(scores[:, :, None]), images, alpha=0.05)[0]
    low, high = (one.low, one.high) if one else (None, None)
    found["holdout"] = (float(scores[0].mean()), low, high, expected(0.6))
    return found


def _groups(sizes: Sequence[int]) -> NDArray[np.int64]:
    return np.repeat(np.arange(len(sizes), dtype=np.int64), sizes)


def _each(part: Part, score: Scorer) -> Array:
    once = np.ones((1, len(part.groups)))
    return np.array([score(own, once)[0] for own in part.counts])


def logits(sizes: Sequence[int], pixels: int, rng: np.random.Generator, first: int = 0) -> Logits:
    """Two classes: labels are drawn from σ(z), and a group's model says a z, a around 2."""
    images = int(sum(sizes))
    scale = np.exp(rng.normal(np.log(2), 0.3, len(sizes)))[_groups(sizes)]
    z = rng.normal(0, 2, (images, pixels))
    labels = rng.random((images, pixels)) < 1 / (1 + np.exp(-z))
    said = (scale[:, None] * z).reshape(-1, 1).astype(np.float32)
    return _file(said, labels.reshape(-1).astype(np.uint8), None, images, first)


def _file(
    values: NDArray[np.float32],
    labels: NDArray[np.uint8],
    odd: NDArray[np.uint8] | None,
    images: int,
    first: int,
) -> Logits:
    count = len(labels)
    return Logits(
        values=values,
        labels=labels,
        anomaly=np.zeros(count, np.uint8) if odd is None else odd,
        boundary=np.zeros(count, bool),
        offsets=np.arange(0, count + 1, count // images),
        positions=np.arange(count) % (count // images),
        histogram=np.zeros((images, 2, 1500), np.int64),
        image_ids=tuple(f"i{first + i:06d}" for i in range(images)),
        facts={
            "sampling": {"pixels": 1, "of": 1}, "anomalies": [] if odd is None else ["odd"],
            "classes": ["a", "b"], "dataset": "simulated",
        },
    )  # fmt: skip


@dataclass(frozen=True)
class Population:
    """Endless groups: what metrics are at every T, and at several for parts of the images."""

    betas: Array
    nll: Array
    gaps: Array  # (betas, 15)

    def at(self, temperatures: Sequence[float]) -> dict[str, float]:
        """Of equal parts at each of these."""
        beta = 1 / np.asarray(temperatures)
        nll = float(np.mean(np.interp(beta, self.betas, self.nll)))
        gap = [np.mean(np.interp(beta, self.betas, own)) for own in self.gaps.T]
        return {"nll": nll, "ece": float(np.abs(gap).sum())}


@cache
def population() -> Population:
    """From 40,000 groups."""
    rng = np.random.default_rng(98)
    z = rng.normal(0, 2, 2_000_000)
    said = np.exp(rng.normal(np.log(2), 0.3, len(z))) * z
    truth = 1 / (1 + np.exp(-z))
    betas = np.geomspace(1 / 6, 2, 40)
    nll, gaps = [], []
    for beta in betas:
        p = 1 / (1 + np.exp(-beta * said))
        loss = truth * np.logaddexp(0, -beta * said) + (1 - truth) * np.logaddexp(0, beta * said)
        nll.append(loss.mean())
        sure, right = np.maximum(p, 1 - p), np.where(said > 0, truth, 1 - truth)
        place = np.clip(np.ceil(sure * 15).astype(int) - 1, 0, 14)
        gaps.append(np.bincount(place, sure - right, 15) / len(z))
    return Population(betas, np.array(nll), np.array(gaps))


def calibrate(sizes: Sequence[int], rng: np.random.Generator) -> Found:
    """What ``calibrate`` says of two fold models' pooled images, drawn by group."""
    half = (sizes, ()) if len(sizes) % 2 else (sizes[::2], sizes[1::2])
    parts = [logits(own, 80, rng, 10_000 * at) for at, own in enumerate(half) if own]
    names = [f"{at} {group}" for at, own in enumerate(half) for group in _groups(own)]
    ids = [name for part in parts for name in part.image_ids]
    own = pool(parts, list(range(len(parts))), "x", 0, dict(zip(ids, names, strict=True)))
    swept = sweep(own, GRID, scalings=False)
    rows = swept.rows
    if len(parts) > 1:
        fits = [fit_temperature(part.values, part.labels) for part in parts]
        rows = [*rows, *own_rows(own, fits)]
    return _calibrated(rows)


def evaluate(sizes: Sequence[int], rng: np.random.Generator) -> Found:
    """What ``evaluate`` says of one model's images, drawn one by one."""
    part = logits([1] * len(sizes), 400, rng)
    subject = Subject("x", "x", "x", "x", [Trained(None, None, "", {VALIDATION: part})])
    found = judge(subject, GRID, ["msp"], asked=[], seed=0)
    return _calibrated([row for row in found.calibration if row["scaling"] == "temperature"])


def _calibrated(rows: Sequence[dict[str, Any]]) -> Found:
    """Intervals of values at T = 1 and of gains, with their truth at the T's that were used."""
    found: Found = {}
    before = population().at([1.0])
    for row in rows:
        if row["metric"] not in before:
            continue
        truth = population().at(row["used"])[row["metric"]]
        if not row["fitted"] and row["temperature"] == 1.0:
            name, value = row["metric"].upper(), (row["value"], row["low"], row["high"], truth)
        elif row["fitted"] or row["temperature"] == 2.0:
            which = {"others": "of the other folds", "halves": "of the other half"}
            name = f"gain in {row['metric'].upper()}, T {which.get(row['fit'], '= 2')}"
            gain = before[row["metric"]] - truth
            value = (row["gain"], row["gain_low"], row["gain_high"], gain)
        else:
            continue
        found[name] = value
    return found


def strange(sizes: Sequence[int], pixels: int, rng: np.random.Generator) -> Logits:
    """Three classes; a tenth of the pixels are anomalies, which some groups tell better apart."""
    images = int(sum(sizes))
    lead = rng.normal(2.5, 0.7, len(sizes))[_groups(sizes)]
    odd = rng.random((images, pixels)) < 0.1
    values = rng.standard_normal((images, pixels, 3))
    values[..., 0] += np.where(odd, 1.0, 1.0 + lead[:, None])
    flat = values.reshape(-1, 3).astype(np.float32)
    return _file(flat, np.zeros(len(flat), np.uint8), odd.reshape(-1).astype(np.uint8), images, 0)


ANOMALIES = ("auprc", "auroc", "fpr95_first")


@cache
def strange_truth() -> dict[tuple[str, float], float]:
    """Of endless groups."""
    part = strange([1] * 40_000, 50, np.random.default_rng(97))
    units = np.zeros(len(part.image_ids), np.int64)
    one = anomaly.detect(part, GRID, ["msp"], "", fitted=np.ones(len(units)), units=units)
    return {
        (metric, value): getattr(one.at("msp", value), metric).value
        for metric in ANOMALIES
        for value in GRID
    }


def anomalies(sizes: Sequence[int], rng: np.random.Generator) -> Found:
    """What ``calibrate`` and ``evaluate`` say of anomaly scores, images drawn by group."""
    part, truth = strange(sizes, 40, rng), strange_truth()
    own = np.ones(len(part.image_ids))
    one = anomaly.detect(part, GRID, ["msp"], "", fitted=own, units=_groups(sizes))
    found: Found = {}
    for row in anomaly.rows([({"of": "fold"}, one)], GRID, 1.0, {"of": "config"}):
        metric, value = row["metric"], row["temperature"]
        if row["of"] == "config" and metric in ANOMALIES and not row["fitted"]:
            if value == 1.0:
                ends = (row["value"], row.get("low"), row.get("high"), truth[metric, 1.0])
                found[metric] = ends
            elif "gain_low" in row or row["no_interval"]:
                sign = -1 if metric in anomaly.LOWER else 1
                gain = sign * (truth[metric, value] - truth[metric, 1.0])
                ends = (row["gain"], row.get("gain_low"), row.get("gain_high"), gain)
                found[f"gain in {metric}, T = 2"] = ends
    return found


USERS: dict[str, Callable[[Sequence[int], np.random.Generator], Found]] = {
    "compare": compare, "calibrate": calibrate, "anomalies": anomalies, "evaluate": evaluate,
    "card": card,
}  # fmt: skip


def sizes_of(case: str) -> Sequence[int]:
    """Images of each group."""
    return UNEVEN[case] if case in UNEVEN else (EACH,) * int(case)


def measure(user: str, case: str, sets: int) -> tuple[str, str, dict[str, dict[str, Any]]]:
    """The share of data sets whose interval holds the truth, and how wide it is, by number."""
    torch.set_num_threads(1)
    hits: dict[str, list[bool]] = {}
    widths: dict[str, list[float]] = {}
    none: dict[str, int] = {}
    for seed in range(sets):
        found = USERS[user](sizes_of(case), np.random.default_rng((seed, len(case))))
        for name, (value, low, high, truth) in found.items():
            if low is None or high is None:
                none[name] = none.get(name, 0) + 1
                continue
            if not low <= value <= high:
                raise AssertionError(f"{user}, {name}: {value} is not in [{low}, {high}]")
            hits.setdefault(name, []).append(low <= truth <= high)
            widths.setdefault(name, []).append(high - low)
    names = {**hits, **none}
    return user, case, {
        name: {
            "covered": float(np.mean(hits[name])) if name in hits else None,
            "sets": len(hits.get(name, [])),
            "without": none.get(name, 0),
            "width": float(np.median(widths[name])) if name in widths else None,
        }
        for name in names
    }  # fmt: skip


def table(figures: Sequence[dict[str, Any]], cases: Sequence[str]) -> Iterator[list[str]]:
    """A line a number, a column a case."""
    yield ["user", "number", *(f"{c} groups" if c.isdigit() else c for c in cases)]
    for user, number in dict.fromkeys((one["user"], one["number"]) for one in figures):
        own = {
            one["case"]: one for one in figures if (one["user"], one["number"]) == (user, number)
        }
        cells = []
        for case in cases:
            one = own.get(case)
            share = None if one is None else one["covered"]
            cells.append("" if one is None else "none" if share is None else f"{share:.3f}")
        yield [user, number, *cells]


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--sets", type=int, default=200, help="data sets of each case")
    parser.add_argument("--only", choices=USERS, help="one user alone")
    parser.add_argument("--processes", type=int, default=2)
    given = parser.parse_args()
    cases = [NONE, *map(str, GROUPS), *UNEVEN]
    users = [given.only] if given.only else list(USERS)
    jobs = [
        (user, case, min(given.sets, 5) if case == NONE else given.sets)
        for case in reversed(cases)
        for user in users
        if not (user == "evaluate" and case in UNEVEN)
    ]
    began = time.monotonic()
    with ProcessPoolExecutor(given.processes, get_context("spawn")) as workers:
        futures = [workers.submit(measure, *job) for job in jobs]
        done = {future.result()[:2]: future.result()[2] for future in futures}
    figures = [
        {"user": user, "case": case, "number": number, **one}
        for user in users
        for case in cases
        for number, one in done.get((user, case), {}).items()
    ]
    seconds = time.monotonic() - began
    title = f"share of {given.sets} data sets whose 95 % interval holds the truth ({seconds:.0f} s)"
    report(title, list(table(figures, cases)), {"cases": figures, "seconds": seconds}, given.json)


if __name__ == "__main__":
    main()
