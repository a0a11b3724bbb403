"""What each rule saves and costs, and whether the search beats random: on generated sweeps.

    python benchmarks/search.py                       # all tables, about ten minutes
    python benchmarks/search.py --sweeps 2 --part rules --csv mine.csv

Part ``rules`` replays recorded curves through the rungs and the race that a sweep uses, in random
orders of arrival, against plain ASHA and against random search with as many epochs as ``halving``
used. Part ``search`` lets Optuna propose the configs of nine cells, against random proposals with
the same rules and against plain random search, which trains every config in full.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.common import arguments, report
from benchmarks.generated import AXES, KINDS, Array, Surface
from segsweep.identity import digest
from segsweep.ledger import MemoryLedger
from segsweep.runners.recorded import Curves, read_csv
from segsweep.runners.replay import Rule, Score, replay, true_scores
from segsweep.search import Pool, Search
from segsweep.space import Cell, Parameter
from segsweep.spec import SweepSpec

EPOCHS = 20
SIZES = (8, 30, 60)
CELLS = 9
ALONE, RACE = {"rule": "none"}, {"rule": "predictive"}


def rules(folds: int) -> list[Rule]:
    """Those that are worth a row; with several folds, with the race beside."""
    settings = [("none", 1, 3), ("median", 1, 3), ("hyperband", 1, 3)]
    settings += [("asha", 1, 2), ("asha", 2, 2), ("asha", 1, 3)]
    settings += [("asha_promote", 1, 2), ("asha_promote", 1, 3)]
    settings += [("halving", 1, 2), ("halving", 1, 3)]
    race = RACE if folds > 1 else ALONE
    return [
        Rule(
            f"{kind} {grace}/{factor}" if kind != "none" else kind,
            {"type": kind, "grace_period": grace, "reduction_factor": factor},
            ALONE if kind == "none" else race,
        )
        for kind, grace, factor in settings
    ]


def recorded(kind: str, configs: int, folds: int, seed: int) -> Curves:
    """A sweep of one cell that was run in full, at random configs."""
    rng = np.random.default_rng((seed, configs, folds))
    surface = Surface(KINDS[kind], EPOCHS, rng, folds)
    points = rng.random((configs, len(AXES)))
    return {
        "cell": {
            str(i): {fold: surface.curve(x, fold).tolist() for fold in range(folds)}
            for i, x in enumerate(points)
        }
    }


def random_search(curves: Curves, share: float, orders: int) -> Score:
    """As many configs in full as ``share`` of the epochs pays for, at random."""
    truth = np.array(list(true_scores(curves, "maximize").values()))
    count = max(1, round(share * len(truth)))
    rng = np.random.default_rng(0)
    found = [truth[rng.permutation(len(truth))[:count]].max() for _ in range(50 * orders)]
    regrets = truth.max() - np.array(found)
    ranks = np.array([1 + (truth > value).sum() for value in found])
    return Score(
        "random, same epochs",
        count / len(truth),
        float(regrets.mean()),
        float(np.percentile(regrets, 90)),
        float(ranks.mean()),
        float(np.percentile(ranks, 90)),
    )


def mean_score(name: str, scores: Sequence[Score]) -> dict[str, Any]:
    """Over sweeps."""
    keys = [key for key in scores[0].as_dict() if key != "rule"]
    return {"rule": name, **{key: fmean(getattr(s, key) for s in scores) for key in keys}}


def compare_rules(sweeps: Mapping[str, Sequence[Curves]], folds: int, orders: int) -> list[Any]:
    """A row a rule: over all sweeps, and the regret on each kind."""
    rows = []
    for rule in rules(folds):
        by_kind = {
            kind: [replay(curves, rule, goal="maximize", orders=orders) for curves in several]
            for kind, several in sweeps.items()
        }
        rows.append(_row(rule.name, by_kind))
    share = next(row["share_of_epochs"] for row in rows if row["rule"] == "halving 1/2")
    by_kind = {k: [random_search(c, share, orders) for c in v] for k, v in sweeps.items()}
    return [*rows, _row("random, same epochs", by_kind)]


def _row(name: str, by_kind: Mapping[str, Sequence[Score]]) -> dict[str, Any]:
    whole = mean_score(name, [score for scores in by_kind.values() for score in scores])
    return {**whole, "by_kind": {k: fmean(s.regret for s in v) for k, v in by_kind.items()}}


def print_rules(title: str, rows: Sequence[Mapping[str, Any]], to: Path | None) -> None:
    kinds = list(rows[0]["by_kind"])
    table = [["rule", "epochs", "regret", "90 %", "rank 90 %", *kinds]]
    table += [
        [
            row["rule"],
            f"{100 * row['share_of_epochs']:.1f} %",
            f"{row['regret']:.4f}",
            f"{row['regret_p90']:.4f}",
            f"{row['rank_p90']:.1f}",
            *(f"{row['by_kind'][kind]:.4f}" for kind in kinds),
        ]
        for row in rows
    ]
    report(title, table, {}, to)


# Optuna's proposals against random ones


def spec_of(method: str, stopping: Mapping[str, Any], configs: int, folds: int) -> SweepSpec:
    return SweepSpec.model_validate(
        {
            "name": "generated",
            "factors": {"model": ["a"], "loss": ["b"]},
            "folds": {"k": max(2, folds), "run": folds},
            "method": "random" if method == "random" else "bayes",
            "sampler": method,
            "configs_per_cell": configs,
            "train": {"epochs": EPOCHS},
            "early_stopping": dict(stopping),
            "race": RACE if folds > 1 and stopping["type"] != "none" else ALONE,
        }
    )


def one_search(spec: SweepSpec, surfaces: Mapping[str, Surface]) -> tuple[float, float]:
    """Regret of the chosen config against the best one there is, and the share of epochs run."""
    axes = {f"x.{axis}": Parameter.model_validate({"min": 0.0, "max": 1.0}) for axis in AXES}
    blank = {"x": dict.fromkeys(AXES, 0.5), "train": {"epochs": EPOCHS}}
    count = spec.configs_per_cell or 1
    cells = [Cell(name, {}, {**blank, "cell": name}, axes, count) for name in surfaces]
    search = Search(Pool(spec, cells, MemoryLedger(), lambda config: digest(config)))
    used = 0
    while (job := search.next()) is not None:
        x = _point(job.config)
        for epoch, value in enumerate(surfaces[job.cell].curve(x, job.fold), start=1):
            used += epoch not in search.state.trials[job.trial_id].values
            if not search.on_epoch(job.trial_id, {"epoch": epoch, "val_iou": float(value)}):
                break
        else:
            search.on_end(job.trial_id, "finished")
    search.conclude()
    champions = [search.state.configs[name] for name in search.state.champions.values()]
    chosen = max(champions, key=lambda c: c.mean(search.slots, "maximize") or 0.0)
    best = max(surface.top for surface in surfaces.values())
    share = used / (len(cells) * count * len(spec.slots) * EPOCHS)
    return best - surfaces[chosen.cell].end(_point(chosen.config)), share


def _point(config: Mapping[str, Any]) -> Array:
    return np.array([config["x"][axis] for axis in AXES])


def compare_search(configs: int, sweeps: int, folds: int, gp: bool) -> list[dict[str, Any]]:
    """Nine cells each: paired regrets of random search, and of what Optuna proposes."""
    halving = {"type": "halving", "grace_period": 1, "reduction_factor": 2}
    asha = {"type": "asha", "grace_period": 1, "reduction_factor": 2}
    ways: dict[str, tuple[str, Mapping[str, Any]]] = {
        "random, in full": ("random", {"type": "none"}),
        "random + asha 1/2": ("random", asha),
        "random + halving 1/2": ("random", halving),
        "tpe, in full": ("tpe", {"type": "none"}),
        "tpe + asha 1/2": ("tpe", asha),
        "tpe + halving 1/2": ("tpe", halving),
    }
    if gp:
        ways |= {"gp, in full": ("gp", {"type": "none"}), "gp + asha 1/2": ("gp", asha)}
    regrets: dict[str, list[float]] = {name: [] for name in ways}
    shares: dict[str, list[float]] = {name: [] for name in ways}
    for seed in range(sweeps):
        for kind in KINDS:
            for name, (method, stopping) in ways.items():
                rng = np.random.default_rng((seed, folds, len(kind)))
                tops = 0.86 - 0.02 * rng.permutation(CELLS)
                surfaces = {
                    f"cell{i}": Surface(KINDS[kind], EPOCHS, rng, folds, float(top))
                    for i, top in enumerate(tops)
                }
                spec = spec_of(method, stopping, configs, folds).model_copy(update={"seed": seed})
                regret, share = one_search(spec, surfaces)
                regrets[name].append(regret)
                shares[name].append(share)
    base = regrets["random, in full"]
    rows = []
    for name in ways:
        gains = [a - b for a, b in zip(base, regrets[name], strict=True)]
        error = stdev(gains) / len(gains) ** 0.5 if len(gains) > 1 else 0.0
        rows.append(
            {
                "configs": configs,
                "way": name,
                "share_of_epochs": fmean(shares[name]),
                "regret": fmean(regrets[name]),
                "gain": fmean(gains),
                "gain_error": error,
            }
        )
    return rows


def print_search(title: str, rows: Sequence[Mapping[str, Any]], to: Path | None) -> None:
    table = [["configs a cell", "way", "epochs", "regret", "better than random by"]]
    for row in rows:
        gain = f"{row['gain']:+.4f} ± {row['gain_error']:.4f}"
        table.append(
            [
                str(row["configs"]),
                row["way"],
                f"{100 * row['share_of_epochs']:.1f} %",
                f"{row['regret']:.4f}",
                gain,
            ]
        )
    report(title, table, {}, to)


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--sweeps", type=int, default=10, help="of each kind")
    parser.add_argument("--orders", type=int, default=10, help="of arrival")
    parser.add_argument("--sizes", type=int, nargs="+", default=list(SIZES), help="configs a cell")
    parser.add_argument("--folds", type=int, nargs="+", default=[1, 5])
    parser.add_argument("--gp", action="store_true", help="with Gaussian processes, which are slow")
    parser.add_argument("--part", choices=["rules", "search"], help="one of the two only")
    parser.add_argument("--csv", type=Path, help="rules on recorded curves instead (see replay)")
    options = parser.parse_args()
    figures: dict[str, Any] = {"rules": [], "search": []}
    if options.part != "search":
        for folds in options.folds if options.csv is None else [0]:
            for size in options.sizes if options.csv is None else [0]:
                if options.csv is not None:
                    sweeps = {"recorded": [read_csv(options.csv)]}
                    title = str(options.csv)
                else:
                    title = f"{size} configs in one cell, {folds} folds, {EPOCHS} epochs"
                    sweeps = {
                        kind: [recorded(kind, size, folds, s) for s in range(options.sweeps)]
                        for kind in KINDS
                    }
                rows = compare_rules(sweeps, folds, options.orders)
                figures["rules"] += [{"configs": size, "folds": folds, **row} for row in rows]
                print_rules(title, rows, None)
    if options.part != "rules" and options.csv is None:
        for size in options.sizes:
            rows = compare_search(size, options.sweeps, options.folds[0], options.gp)
            figures["search"] += rows
            print_search(f"{CELLS} cells of {size} configs", rows, None)
    if options.json is not None:
        report("written", [["to", str(options.json)]], figures, options.json)


if __name__ == "__main__":
    main()
