"""How often are equals told apart? The race and ``compare`` on generated sweeps.

    python -m benchmarks.coverage --json coverage.json    # three minutes of processor time
    python -m benchmarks.coverage --quick                 # a few sweeps a case, to see that it runs

All configs of a sweep are equally good: every config that the race drops, every claim of
``compare`` is an error. Both come from the functions that a sweep calls, on the noise that a sweep
estimates. ``race``: configs dropped, of those that it looked at (of the noisy cell's, where there
is one). ``compare``: sweeps in which any two champions are told apart on the folds. ``holdout``:
the same there. ``pairs``: pairs whose p is below the nominal level, before it is corrected for
their number. The last rows are the power: ``race``: worse configs dropped; ``compare``: pairs of
the one worse champion told apart.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field, replace
from multiprocessing import get_context
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.common import arguments, report
from benchmarks.crossvalidated import Array, Sweep, Truth, draw
from segsweep.compare import claims, influence, noise
from segsweep.compare.claims import Entrant
from segsweep.compare.comparison import Pair
from segsweep.compare.scoring import Scorer
from segsweep.noise import overlap
from segsweep.search.race import Race, Scores
from segsweep.search.standings import Residuals

NOMINAL = 0.05
SKEWED = Truth("images", tail=0.04)
UNEQUAL = Truth("images", sizes=(60, 30, 15, 8, 4, 2, 2, *(1,) * 13), group=0.03)


@dataclass(frozen=True)
class Case:
    """A row of the table.

    Attributes:
        chosen: the champion is the best of its cell; else the first one, as where one was tried.
        races: sweeps for the race, ``comparisons`` for ``compare``.
    """

    name: str
    truth: Truth
    chosen: bool = False
    races: int = 100
    comparisons: int = 2000


EQUAL = [
    Case("3 folds", Truth(folds=3), races=120),
    Case("5 folds", Truth()),
    Case("10 folds", Truth(folds=10), races=40),
    Case("20 cells", Truth(cells=20, configs=3), races=30, comparisons=600),
    Case("champions of 8 configs", Truth(), chosen=True, races=60),
    Case("one cell 3 times as noisy", Truth(noisy=3), races=200),
    Case("one cell 5 times as noisy", Truth(noisy=5), races=200),
    Case("one of 9, 5 times, 3 folds", Truth(folds=3, cells=9, configs=3, noisy=5), races=400),
    Case("the same, champions of 3", Truth(folds=3, cells=9, configs=3, noisy=5), True, 0),
    Case("groups of 1 to 60 images", UNEQUAL),
    Case("skewed image scores", SKEWED),
    Case("trained: least squares", Truth("trained", configs=4), races=100, comparisons=400),
    Case("the same, 2 cells", Truth("trained", cells=2, configs=4), races=100, comparisons=600),
    Case("trained: one channel", Truth("trained", configs=4, learner="one channel"), races=100,
         comparisons=400),
    Case("shared luck of a half", Truth(luck=0.5)),
    Case("the same, 10 folds", Truth(folds=10, luck=0.5), races=40),
    Case("shared luck as large", Truth(luck=1.0)),
]  # fmt: skip
WORSE = [
    Case(f"worse by {size}", Truth(worse=size), races=60, comparisons=600) for size in (1, 2, 3, 5)
]


@dataclass
class Counts:
    """Of one case: a share for each sweep."""

    race: list[float] = field(default_factory=list)
    compare: list[float] = field(default_factory=list)
    holdout: list[float] = field(default_factory=list)
    pairs: list[float] = field(default_factory=list)


def race(truth: Truth, scores: Array) -> float:
    """The share of configs that are dropped, cells taking turns as they do in a sweep."""
    cells, configs, folds = scores.shape
    left = Residuals(folds)
    judge = Race("predictive", NOMINAL, folds, shared=overlap(folds))
    whole: list[dict[int, Scores]] = [{} for _ in range(cells)]
    dropped = []
    for number in range(configs):
        for cell in range(cells):
            out = _runs(judge, left, scores[cell, number], whole[cell], f"{cell}", number)
            watched = truth.noisy == 1 or cell == 0
            if number and watched and (truth.worse == 0 or number >= configs // 2):
                dropped.append(out)
    return fmean(dropped)


def _runs(
    judge: Race, left: Residuals, scores: Array, whole: dict[int, Scores], cell: str, number: int
) -> bool:
    """One config, fold after fold, until all are done or it is dropped."""
    own = {}
    for fold, value in enumerate(scores.tolist()):
        own[fold, 0] = value
        left.take(cell, f"{number}", [slot[0] for slot in own], list(own.values()))
        if whole and len(own) < len(scores):
            best = max(whole.values(), key=lambda one: fmean(one.values()))
            if not judge.judge(own, best, number + 1, left.noise(cell)).keep:
                return True
    whole[number] = own
    return False


def told(sweep: Sweep, chosen: bool) -> dict[str, Sequence[Pair]]:
    """All pairs of champions, on the folds and on the holdout."""
    cells, configs, folds = sweep.scores.shape
    tried = configs if chosen else 1
    at = sweep.scores.mean(axis=2).argmax(axis=1) if chosen else np.zeros(cells, dtype=int)
    scores = sweep.scores[np.arange(cells), at]
    finished = [own[:tried, :, None] for own in sweep.scores]
    entrants = [Entrant(str(cell), tried) for cell in range(cells)]
    known = noise.estimate(scores[..., None], finished)
    rule: dict[str, Any] = {"goal": "maximize", "alpha": NOMINAL, "shared": overlap(folds)}
    found = {"folds": claims.test("folds", entrants, scores, known, None, **rule).pairs}
    if sweep.part is not None and sweep.held is not None:
        images = influence.over_holdout(sweep.part, folds, 1, Scorer("iou"))
        known = noise.estimate_alone(sweep.held[..., None])
        found["holdout"] = claims.test("holdout", entrants, sweep.held, known, images, **rule).pairs
    return found


def measure(case: Case, seed: int) -> dict[str, Any]:
    """One row: rates, and the standard errors of their simulation."""
    truth, counts = case.truth, Counts()
    rng = np.random.default_rng((seed, len(case.name), truth.folds))
    raced = np.repeat(np.arange(truth.configs) >= truth.configs // 2, truth.folds)
    lost = truth.worse * raced.reshape(truth.configs, truth.folds)
    for _ in range(case.races):
        counts.race.append(race(truth, draw(truth, rng).scores - lost))
    few = truth if case.chosen else replace(truth, configs=1)
    for _ in range(case.comparisons):
        sweep = draw(few, rng)
        sweep.scores[-1] -= truth.worse
        _count(told(sweep, case.chosen), truth, counts)
    row: dict[str, Any] = {"case": case.name, "nominal": None if truth.worse else NOMINAL}
    for name in ("race", "compare", "holdout", "pairs"):
        values = getattr(counts, name)
        row[name] = fmean(values) if values else None
        row[f"{name}_error"] = float(np.std(values) / len(values) ** 0.5) if values else None
    return row


def _count(found: dict[str, Sequence[Pair]], truth: Truth, counts: Counts) -> None:
    pairs = found["folds"]
    if truth.worse:
        last = str(truth.cells - 1)
        counts.compare.append(fmean(pair.told_apart for pair in pairs if pair.worse == last)
                              if any(pair.worse == last for pair in pairs) else 0.0)  # fmt: skip
        return
    counts.compare.append(float(any(pair.told_apart for pair in pairs)))
    counts.pairs.append(fmean(pair.p is not None and pair.p < NOMINAL for pair in pairs))
    if "holdout" in found:
        counts.holdout.append(float(any(pair.told_apart for pair in found["holdout"])))


def shown(rows: Sequence[dict[str, Any]]) -> list[list[str]]:
    """Percentages with their standard errors."""
    table = [["case", "race", "compare", "holdout", "pairs"]]
    for row in rows:
        names = ("race", "compare", "holdout", "pairs")
        table.append([row["case"], *(_percent(row[n], row[f"{n}_error"]) for n in names)])
    return table


def _percent(value: float | None, error: float | None) -> str:
    if value is None or error is None:
        return "–"
    return f"{100 * value:.1f} ± {100 * error:.1f}"


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--quick", action="store_true", help="two sweeps a case")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    cases, seeds = [*EQUAL, *WORSE], [options.seed] * (len(EQUAL) + len(WORSE))
    if options.quick:
        few = [replace(one, races=min(2, one.races), comparisons=2) for one in cases]
        rows = list(map(measure, few, seeds))
    else:
        os.environ.setdefault("OMP_NUM_THREADS", "1")  # one core a process
        with ProcessPoolExecutor(mp_context=get_context("spawn")) as pool:
            rows = list(pool.map(measure, cases, seeds))
    title = f"equals told apart, in %, where {100 * NOMINAL:g} % are allowed; then the power"
    figures = {
        "cases": [row for row in rows if row["nominal"] is not None],
        "power": [row for row in rows if row["nominal"] is None],
    }
    report(title, shown(rows), figures, options.json)


if __name__ == "__main__":
    main()
