"""Pixel AUROC, AP and FPR at 95 % TPR of many pixels, over the time scikit-learn takes for them.

    python -m benchmarks.metrics [--pixels N] [--rounds N] [--largest N] [--json FILE]

One score and one label a pixel, a tenth of them positive. Both get the same arrays, in turn
(A B B A …), on one thread, each in a process of its own, so that each one's memory can be told.
Seconds are the processor's, which other load on the machine does not lengthen.
scikit-learn computes ``roc_auc_score``, ``average_precision_score`` and ``roc_curve``; segsweep
streams batches of 2^20 pixels through ``PixelScores``, into bins and, again, exactly.
``--largest`` (default 10^8, 0 leaves it out) is then streamed once by segsweep alone and compared
with its own exact mode; ``--pixels 100000000 --rounds 1 --largest 0`` lets scikit-learn have its
turn at it, for which it needs 6 GB and two minutes.

Keys: ``speedup`` and ``max_difference`` of the bins, ``exact_speedup``, ``exact_max_difference``,
``bound`` (the largest error that the bins state), ``largest``.
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
import torch

from benchmarks.common import arguments, report, spread
from segsweep.metrics import PixelScores

BATCH = 2**20
NAMES = ("auroc", "ap", "fpr95")


def draw(pixels: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Scores of two overlapping normal distributions, and labels."""
    generator = torch.Generator().manual_seed(0)
    target = (torch.rand(pixels, generator=generator) < 0.1).to(torch.uint8)
    scores = torch.randn(pixels, generator=generator)
    for some, labels in zip(torch.split(scores, BATCH), torch.split(target, BATCH), strict=True):
        some += 1.5 * labels
    return scores, target


def ours(pixels: int, exact: bool) -> dict[str, Any]:
    torch.set_num_threads(1)
    scores, target = draw(pixels)
    before, began = memory(), time.process_time()
    counts = PixelScores(exact=exact)
    for some, labels in zip(torch.split(scores, BATCH), torch.split(target, BATCH), strict=True):
        counts.update(some, labels)
    found = counts.ranking()
    seconds = time.process_time() - began
    values = [getattr(found, name) for name in NAMES]
    return {
        "seconds": seconds,
        "values": [one.value for one in values],
        "bound": max(one.error for one in values),
        "gigabytes": memory() - before,
        "peak": memory(),
    }


def bins(pixels: int) -> dict[str, Any]:
    return ours(pixels, exact=False)


def exactly(pixels: int) -> dict[str, Any]:
    return ours(pixels, exact=True)


def theirs(pixels: int) -> dict[str, Any]:
    from sklearn.metrics import average_precision_score, roc_auc_score, roc_curve

    torch.set_num_threads(1)
    scores, target = (tensor.numpy() for tensor in draw(pixels))
    before, began = memory(), time.process_time()
    auroc, ap = roc_auc_score(target, scores), average_precision_score(target, scores)
    false, true, _ = roc_curve(target, scores, drop_intermediate=False)
    values = [float(auroc), float(ap), float(false[np.argmax(true >= 0.95)])]
    seconds = time.process_time() - began
    return {"seconds": seconds, "values": values, "gigabytes": memory() - before}


def memory() -> float:
    """The most that this process has held so far, in GB."""
    return float(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9)


def alone(function: Callable[[int], dict[str, Any]], pixels: int) -> dict[str, Any]:
    """``function(pixels)`` in a fresh process."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        found: dict[str, Any] = pool.submit(function, pixels).result()
        return found


def difference(a: dict[str, Any], b: dict[str, Any]) -> float:
    pairs = zip(a["values"], b["values"], strict=True)
    return max(abs(float(x) - float(y)) for x, y in pairs)


def compare(pixels: int, rounds: int) -> tuple[list[list[str]], dict[str, Any]]:
    """Rows of the table, and figures."""
    runs: dict[str, list[dict[str, Any]]] = {"bins": [], "exact": [], "sklearn": []}
    plan = {"bins": bins, "exact": exactly, "sklearn": theirs}
    for turn in range(rounds):
        names = list(plan) if turn % 2 == 0 else list(plan)[::-1]
        for name in names:
            runs[name].append(alone(plan[name], pixels))
    seconds = {name: [run["seconds"] for run in found] for name, found in runs.items()}
    truth = runs["sklearn"][0]
    figures: dict[str, Any] = {"pixels": pixels, "bound": runs["bins"][0]["bound"]}
    rows = []
    for name, prefix in (("bins", ""), ("exact", "exact_")):
        speedup = median(seconds["sklearn"]) / median(seconds[name])
        off = difference(runs[name][0], truth)
        figures |= {f"{prefix}speedup": speedup, f"{prefix}max_difference": off}
        memory_used = f"{runs[name][0]['gigabytes']:.2f}"
        rows.append(
            [
                f"segsweep, {name}",
                spread(seconds[name]),
                memory_used,
                f"{speedup:.1f}",
                f"{off:.1e}",
            ]
        )
    rows.append(["scikit-learn", spread(seconds["sklearn"]), f"{truth['gigabytes']:.2f}", "1", "0"])
    return rows, figures


def largest(pixels: int) -> tuple[list[list[str]], dict[str, Any]]:
    """As many pixels as are asked for, by segsweep alone."""
    rows, figures = [], {}
    runs = {"bins": alone(bins, pixels), "exact": alone(exactly, pixels)}
    for name, run in runs.items():
        off = difference(run, runs["exact"])
        figures[name] = {**run, "difference_to_exact": off}
        title = f"segsweep, {name}, {pixels:.0e} pixels"
        used = f"{run['gigabytes']:.2f}"
        rows.append([title, f"{run['seconds']:.3f}", used, "", f"{off:.1e}"])
    return rows, {"largest": {"pixels": pixels, **figures}}


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--pixels", type=int, default=10_000_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--largest", type=int, default=100_000_000)
    options = parser.parse_args()
    head = ["AUROC, AP, FPR95", "seconds", "GB beside the input", "speed-up", "difference"]
    rows, figures = compare(options.pixels, options.rounds)
    if options.largest:
        more, found = largest(options.largest)
        rows, figures = rows + more, figures | found
    title = f"scores of {options.pixels:.0e} pixels"
    report(title, [head, *rows], figures, options.json)


if __name__ == "__main__":
    main()
