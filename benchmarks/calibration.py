"""A sweep of temperatures over anomaly scores, and the fit of one, against doing it the plain way.

    python -m benchmarks.calibration [--pixels N] [--classes N] [--temperatures N] [--pairs N]
        [--fit-pixels N] [--rounds N] [--json FILE]

The sweep: ``msp``, ``max_logit``, ``max_entropy`` and ``energy`` at 64 temperatures, AuPRC, AUROC
and FPR95 of each, over pixels × 19 classes of float32 logits. Otherwise: for every pair of score
and temperature the score with NumPy in float32 (scipy's softmax and logsumexp), then scikit-learn's
``average_precision_score``, ``roc_auc_score`` and ``roc_curve``. As that takes hours, it is timed
on ``--pairs`` pairs spread evenly over scores and temperatures, and scaled to all by their number;
both are printed. What segsweep finds is compared with those pairs in float64, computed off the
clock: in float32 the surest pixels tie at a probability of 1.

The fit: one temperature, against torch's L-BFGS (strong Wolfe, on log T, float32) and
scikit-learn's ``CalibratedClassifierCV(method="temperature")`` around a classifier that hands the
logits on, on the same pixels. Equal NLL: of all three at their T, in float64.

Each runs in a process of its own, in turn (A B B A …). Speed-ups are ratios of processor seconds,
which other load on the machine does not lengthen and several threads do not shorten; wall-clock is
beside. Memory is the most a process holds, the logits included, over the logits.

Keys: ``speedup``, ``max_difference``, ``memory_ratio``, ``fit_speedup_lbfgs``,
``fit_speedup_sklearn``, ``fit_nll_difference``.
"""

from __future__ import annotations

import resource
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from statistics import median
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.common import arguments, report, spread
from segsweep.calibration.anomaly import PIXEL_SCORES
from segsweep.calibration.detection import DetectionSweep
from segsweep.calibration.temperature import fit_temperature

Found = dict[str, Any]
Floats = NDArray[np.float32]
NAMES = ("auprc", "auroc", "fpr95_first")


def draw(pixels: int, classes: int) -> tuple[Floats, NDArray[np.uint8], NDArray[np.uint8]]:
    """Logits that are too sure by a factor of 1.5, their classes, and an anomaly mask."""
    generator = np.random.default_rng(0)
    logits = np.empty((pixels, classes), np.float32)
    labels = np.empty(pixels, np.uint8)
    anomalous = (generator.random(pixels) < 0.05).astype(np.uint8)
    for begin in range(0, pixels, 2**14):  # small, so that memory is that of the arrays
        part = slice(begin, min(begin + 2**14, pixels))
        z = generator.standard_normal((part.stop - begin, classes), dtype=np.float32)
        rows = np.arange(len(z))
        z[rows, generator.integers(0, classes, len(z))] += np.where(anomalous[part], 1, 4)
        p = np.exp(z)
        cumulative = p.cumsum(axis=1)
        where = generator.random((len(z), 1), dtype=np.float32) * cumulative[:, -1:]
        labels[part] = (where > cumulative).sum(axis=1).clip(0, classes - 1)
        logits[part] = 1.5 * z
    return logits, labels, anomalous


def temperatures(count: int) -> list[float]:
    return [float(one) for one in np.geomspace(0.25, 4.0, count)]


def memory() -> float:
    """The most that this process has held so far, in GB."""
    return float(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9)


class Watch:
    """Seconds, processor seconds and memory since it was made."""

    def __init__(self, logits: Floats) -> None:
        self._logits = logits.nbytes / 1e9
        self._memory, self._processor, self._began = memory(), time.process_time(), time.time()

    def stop(self) -> Found:
        """Since then."""
        return {
            "seconds": time.time() - self._began,
            "processor": time.process_time() - self._processor,
            "memory": (self._logits + memory() - self._memory) / self._logits,
        }


def sweep(options: Found) -> Found:
    logits, _, anomalous = draw(options["pixels"], options["classes"])
    watch = Watch(logits)
    counts = DetectionSweep(temperatures(options["temperatures"]))
    counts.update(logits, anomalous)
    found = counts.result()
    values = {
        f"{score} {temperature}": [getattr(one, name).value for name in NAMES]
        for (score, temperature), one in found.items()
    }
    return {**watch.stop(), "values": values}


def plainly(options: Found) -> Found:
    """Some pairs of score and temperature; then the same off the clock in float64."""
    logits, _, anomalous = draw(options["pixels"], options["classes"])
    watch = Watch(logits)
    for pair in chosen(options):
        judged(plain_score(logits, *pair), anomalous)
    found = watch.stop()
    values = {}
    for score, temperature in chosen(options) if options["check"] else []:
        parts = [
            plain_score(logits[begin : begin + 2**18].astype(np.float64), score, temperature)
            for begin in range(0, len(logits), 2**18)
        ]
        key = f"{score} {None if score == 'max_logit' else temperature}"
        values[key] = judged(np.concatenate(parts), anomalous)
    return {**found, "values": values}


def plain_score(
    logits: NDArray[np.floating[Any]], score: str, temperature: float
) -> NDArray[np.floating[Any]]:
    """(N,) of (N, K)."""
    from scipy.special import logsumexp, softmax

    z = logits / logits.dtype.type(temperature)
    if score == "msp":
        numbers = -softmax(z, axis=1).max(axis=1)
    elif score == "max_logit":
        numbers = -z.max(axis=1)
    elif score == "max_entropy":
        p = softmax(z, axis=1)
        numbers = -(p * np.log(np.maximum(p, 1e-30))).sum(axis=1)
    else:
        numbers = -temperature * logsumexp(z, axis=1)
    return np.asarray(numbers)


def judged(numbers: NDArray[np.floating[Any]], anomalous: NDArray[np.uint8]) -> list[float]:
    """NAMES, by scikit-learn."""
    from sklearn.metrics import average_precision_score, roc_auc_score, roc_curve

    false, true, _ = roc_curve(anomalous, numbers, drop_intermediate=False)
    return [
        float(average_precision_score(anomalous, numbers)),
        float(roc_auc_score(anomalous, numbers)),
        float(false[np.argmax(true >= 0.95)]),
    ]


def chosen(options: Found) -> list[tuple[str, float]]:
    """The pairs that are computed plainly: scores in turn, temperatures from end to end."""
    grid = temperatures(options["temperatures"])
    places = np.linspace(0, len(grid) - 1, options["pairs"]).round().astype(int)
    return [
        (PIXEL_SCORES[turn % len(PIXEL_SCORES)], grid[place]) for turn, place in enumerate(places)
    ]


def ours(options: Found) -> Found:
    logits, labels, _ = draw(options["fit_pixels"], options["classes"])
    watch = Watch(logits)
    fit = fit_temperature(logits, labels)
    return {
        **watch.stop(),
        "temperature": fit.temperature,
        "nll": nll(logits, labels, fit.temperature),
    }


def lbfgs(options: Found) -> Found:
    import torch

    logits, labels, _ = draw(options["fit_pixels"], options["classes"])
    watch = Watch(logits)
    z, y = torch.from_numpy(logits), torch.from_numpy(labels).long()
    log_t = torch.zeros(1, requires_grad=True)
    optimizer = torch.optim.LBFGS(
        [log_t], max_iter=100, tolerance_grad=1e-7, line_search_fn="strong_wolfe"
    )

    def closure() -> float:
        optimizer.zero_grad()
        loss = torch.nn.functional.cross_entropy(z / log_t.exp(), y)
        loss.backward()  # type: ignore[no-untyped-call]
        return float(loss.detach())

    optimizer.step(closure)  # type: ignore[no-untyped-call]
    found = watch.stop()
    t = float(log_t.detach().exp())
    return {**found, "temperature": t, "nll": nll(logits, labels, t)}


def sklearns(options: Found) -> Found:
    from sklearn.base import BaseEstimator, ClassifierMixin
    from sklearn.calibration import CalibratedClassifierCV
    from sklearn.frozen import FrozenEstimator

    class Logits(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
        def fit(self, x: Floats, y: NDArray[np.uint8]) -> Logits:
            self.classes_ = np.unique(y)
            return self

        def predict(self, x: Floats) -> NDArray[np.intp]:
            found: NDArray[np.intp] = x.argmax(axis=1)
            return found

        def decision_function(self, x: Floats) -> Floats:
            return x

    logits, labels, _ = draw(options["fit_pixels"], options["classes"])
    model = FrozenEstimator(Logits().fit(logits, labels))
    watch = Watch(logits)
    fitted = CalibratedClassifierCV(model, method="temperature").fit(logits, labels)
    found = watch.stop()
    calibrators = fitted.calibrated_classifiers_[0].calibrators
    t = 1 / float(calibrators[0].beta_)
    return {**found, "temperature": t, "nll": nll(logits, labels, t)}


def nll(logits: Floats, labels: NDArray[np.uint8], temperature: float) -> float:
    """Mean, in float64."""
    total = 0.0
    for begin in range(0, len(labels), 2**18):
        z = logits[begin : begin + 2**18].astype(np.float64) / temperature
        z -= z.max(axis=1, keepdims=True)
        own = z[np.arange(len(z)), labels[begin : begin + 2**18]]
        total += float((np.log(np.exp(z).sum(axis=1)) - own).sum())
    return total / len(labels)


def alone(function: Callable[[Found], Found], options: Found) -> Found:
    """``function(options)`` in a fresh process."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(function, options).result()


def in_turn(plan: dict[str, Callable[[Found], Found]], options: Found) -> dict[str, list[Found]]:
    runs: dict[str, list[Found]] = {name: [] for name in plan}
    for turn in range(options["rounds"]):
        for name in plan if turn % 2 == 0 else list(plan)[::-1]:
            runs[name].append(alone(plan[name], {**options, "check": turn == 0}))
    return runs


def compare_sweeps(options: Found) -> tuple[list[list[str]], Found]:
    runs = in_turn({"segsweep": sweep, "plain": plainly}, options)
    pairs, every = options["pairs"], len(PIXEL_SCORES) * options["temperatures"]
    a, b = runs["segsweep"][0]["values"], runs["plain"][0]["values"]
    off = max(abs(x - y) for key in b for x, y in zip(a[key], b[key], strict=True))
    mine = [run["seconds"] for run in runs["segsweep"]]
    part = [run["seconds"] for run in runs["plain"]]
    whole = [one * every / pairs for one in part]
    processor = median(run["processor"] for run in runs["segsweep"])
    others = median(run["processor"] for run in runs["plain"]) * every / pairs
    figures = {
        "speedup": others / processor,
        "speedup_wall": median(whole) / median(mine),
        "max_difference": off,
        "memory_ratio": max(run["memory"] for run in runs["segsweep"]),
        "seconds": mine,
        "plain_seconds_of_pairs": part,
        "plain_memory_ratio": max(run["memory"] for run in runs["plain"]),
        "pixels": options["pixels"],
        "pairs_timed": pairs,
        "pairs_in_all": every,
    }
    rows = [
        [
            f"segsweep, all {every} pairs", spread(mine), f"{processor:.1f}",
            f"{figures['memory_ratio']:.2f}", f"{figures['speedup']:.1f}", f"{off:.1e}",
        ],
        [
            f"NumPy and scikit-learn, {pairs} pairs", spread(part), f"{others * pairs / every:.1f}",
            f"{figures['plain_memory_ratio']:.2f}", "", "",
        ],
        [f"the same, scaled to {every}", spread(whole), f"{others:.1f}", "", "1", "0"],
    ]  # fmt: skip
    return rows, figures


def compare_fits(options: Found) -> tuple[list[list[str]], Found]:
    plan: dict[str, Callable[[Found], Found]] = {
        "segsweep": ours,
        "lbfgs": lbfgs,
        "sklearn": sklearns,
    }
    runs = in_turn(plan, options)
    seconds = {name: [run["seconds"] for run in found] for name, found in runs.items()}
    cost = {name: median(run["processor"] for run in found) for name, found in runs.items()}
    best = min(runs[name][0]["nll"] for name in plan)
    rows = []
    for name, title in zip(
        plan, ("segsweep, fit", "torch L-BFGS, fit", "scikit-learn, fit"), strict=True
    ):
        one = runs[name][0]
        rows.append(
            [
                title, spread(seconds[name]), f"{cost[name]:.2f}", f"{one['memory']:.2f}",
                f"{cost['sklearn'] / cost[name]:.1f}", f"{one['nll'] - best:.1e}",
            ]
        )  # fmt: skip
    return rows, {
        "fit_speedup_lbfgs": cost["lbfgs"] / cost["segsweep"],
        "fit_speedup_sklearn": cost["sklearn"] / cost["segsweep"],
        "fit_nll_difference": max(abs(runs[n][0]["nll"] - best) for n in plan),
        "fit_temperatures": {name: runs[name][0]["temperature"] for name in plan},
        "fit_seconds": seconds,
        "fit_pixels": options["fit_pixels"],
    }


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--pixels", type=int, default=1_000_000)
    parser.add_argument("--classes", type=int, default=19)
    parser.add_argument("--temperatures", type=int, default=64)
    parser.add_argument("--pairs", type=int, default=8, help="pairs that are computed plainly")
    parser.add_argument("--fit-pixels", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=2)
    given = parser.parse_args()
    options = {name: value for name, value in vars(given).items() if name != "json"}
    head = ["", "seconds", "processor", "memory / logits", "speed-up", "difference"]
    rows, figures = compare_sweeps(options)
    more, fits = compare_fits(options)
    title = (
        f"{given.pixels:.0e} pixels × {given.classes} classes × {given.temperatures} temperatures; "
        f"fits on {given.fit_pixels:.0e}, their difference that of the NLL"
    )
    report(title, [head, *rows, *more], {**figures, **fits}, given.json)


if __name__ == "__main__":
    main()
