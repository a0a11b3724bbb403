"""Replay: the very same rungs and race over recorded curves instead of training.

A sweep that was run in full, once, tells what any rule would have saved on this data and what it
would have cost: configs arrive in many random orders, and the rule's choice is compared with the
truth, which is the config with the best mean over all folds. Needs neither torch nor Ray.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np

from segsweep.errors import DataError, Problem
from segsweep.ledger import MemoryLedger
from segsweep.search import Search
from segsweep.space import Cell, Parameter
from segsweep.spec import SweepSpec
from segsweep.state import ConfigState, Slot

Curves = dict[str, dict[str, dict[int, list[float]]]]  # cell → config → fold → value by epoch
ANY = {"recorded": Parameter(value="")}  # what is drawn: the name of a recorded config
COLUMNS = ("cell", "config", "fold", "epoch", "metric")


@dataclass(frozen=True)
class Rule:
    """One way to stop early, in the sweep file's words."""

    name: str
    early_stopping: Mapping[str, Any]
    race: Mapping[str, Any]


@dataclass(frozen=True)
class Score:
    """What a rule did over all orders.

    Attributes:
        share_of_epochs: run epochs over those of the exhaustive sweep.
        regret: how much worse the chosen config is than the best one, mean over orders; ``_p90``
            its 90th percentile.
        rank: of the chosen config among all (1 is best), mean; ``_p90`` as above.
    """

    rule: str
    share_of_epochs: float
    regret: float
    regret_p90: float
    rank: float
    rank_p90: float

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for ``--json``."""
        return dict(self.__dict__)


def rules(epochs: int, folds: int) -> list[Rule]:
    """The rules that a sweep file can name, where ``epochs`` and ``folds`` let them act."""
    never, alone, race = {"type": "none"}, {"rule": "none"}, {"rule": "predictive"}
    found = [Rule("none", never, alone)]
    found += [Rule(f"race {name}", never, {"rule": name}) for name in ("predictive", "forgiving")]
    settings = [("median", 1, 3), ("hyperband", 1, 2), ("hyperband", 1, 3)]
    for kind in ("asha", "asha_promote", "halving"):
        settings += [(kind, grace, factor) for grace in (1, 2, 4) for factor in (2, 3, 4)]
    for kind, grace, factor in settings:
        if grace < epochs:
            stopping = {"type": kind, "grace_period": grace, "reduction_factor": factor}
            name = f"{kind} {grace}/{factor}"
            found += [Rule(name, stopping, alone), Rule(f"{name} + race", stopping, race)]
    return [rule for rule in found if folds > 1 or rule.race["rule"] == "none"]


def read_csv(path: Path) -> Curves:
    """Curves from a CSV file with the columns cell, config, fold, epoch, metric.

    Raises:
        DataError: every line that is not such a row, and every curve with a hole.
    """
    problems: list[Problem] = []
    rows: list[tuple[str, str, int, int, float]] = []
    try:
        with path.open(newline="", encoding="utf-8") as file:
            reader = csv.DictReader(file)
            missing = [name for name in COLUMNS if name not in (reader.fieldnames or [])]
            if missing:
                hint = f"a header with {', '.join(COLUMNS)} is expected"
                raise DataError(Problem(f"has no column {', '.join(missing)}", str(path), "", hint))
            for number, row in enumerate(reader, start=2):
                try:
                    place = int(row["fold"]), int(row["epoch"])
                    rows.append((row["cell"], row["config"], *place, float(row["metric"])))
                except (TypeError, ValueError) as error:
                    problems.append(Problem(str(error), f"{path}:{number}"))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(Problem(f"cannot be read: {error}", str(path))) from error
    if problems:
        raise DataError(problems)
    return build(rows, str(path))


def read_run(path: Path, metric: str, folds: int) -> Curves:
    """Curves of a finished run, from its Parquet files.

    Raises:
        DataError: no results, or trials that a rule has cut short.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        trials = pq.read_table(path / "results" / "trials.parquet").to_pylist()
        epochs = pq.read_table(path / "results" / "epochs.parquet").to_pylist()
    except (OSError, pa.ArrowInvalid) as error:
        raise DataError(Problem(f"cannot be read: {error}", str(path / "results"))) from error
    whole = {t["trial_id"]: t for t in trials if t["replicate"] == 0 and t["fold"] < folds}
    cut = [t["trial_id"] for t in whole.values() if t["status"] == "stopped"]
    if cut:
        what = f"{len(cut)} trials were cut short by a rule, {cut[0]} among them"
        hint = "replay needs full curves: early_stopping: {type: none}, race: {rule: none}"
        raise DataError(Problem(what, str(path), hint=hint))
    rows = []
    for epoch in epochs:
        trial = whole.get(epoch["trial_id"])
        if trial is not None and trial["status"] == "finished" and epoch[metric] is not None:
            place = trial["cell"], trial["config_id"], trial["fold"]
            rows.append((*place, epoch["epoch"], epoch[metric]))
    return build(rows, str(path))


def build(rows: Sequence[tuple[str, str, int, int, float]], where: str) -> Curves:
    """Curves from (cell, config, fold, epoch, value) rows; all configs must have all folds.

    Raises:
        DataError: nothing there, or curves that are not whole.
    """
    found: dict[str, dict[str, dict[int, dict[int, float]]]] = {}
    for cell, config, fold, epoch, value in rows:
        found.setdefault(cell, {}).setdefault(config, {}).setdefault(fold, {})[epoch] = value
    if not found:
        raise DataError(Problem("holds no finished curve", where))
    folds = {fold for configs in found.values() for c in configs.values() for fold in c}
    problems: list[Problem] = []
    curves: Curves = {}
    for cell, configs in found.items():
        for config, by_fold in configs.items():
            if set(by_fold) != folds:
                absent = sorted(folds - set(by_fold))
                problems.append(Problem(f"{config} of {cell} has no fold {absent}", where))
            for fold, values in by_fold.items():
                if sorted(values) != list(range(1, len(values) + 1)):
                    what = f"{config} of {cell}, fold {fold}: epochs are not 1, 2, …"
                    problems.append(Problem(what, where))
                    continue
                whole = [values[epoch] for epoch in sorted(values)]
                curves.setdefault(cell, {}).setdefault(config, {})[fold] = whole
    if problems:
        raise DataError(problems)
    return curves


class _Arrival:
    """A sampler that hands out recorded configs in a given order."""

    def __init__(self, order: Sequence[str]) -> None:
        self.order = list(order)

    def draw(self, number: int) -> dict[str, Any]:
        return {"recorded": self.order[number]}

    def observe(self, configs: Sequence[ConfigState], slots: Sequence[Slot], goal: str) -> None:
        """Nothing: the order is fixed."""

    def add(self, config: ConfigState) -> None:
        """Nothing: the order is fixed."""

    def tell(self, config: ConfigState, slots: Sequence[Slot], goal: str) -> None:
        """Nothing: the order is fixed."""


def replay(curves: Curves, rule: Rule, *, goal: str, orders: int, seed: int = 0) -> Score:
    """Run a rule over recorded curves in many random arrival orders.

    Args:
        curves: in full.
        rule: what stops.
        goal: ``maximize`` or ``minimize``.
        orders: how many.
        seed: of the orders.
    """
    truth = true_scores(curves, goal)
    sign = 1 if goal == "maximize" else -1
    ranked = sorted(truth, key=lambda name: -sign * truth[name])
    exhaustive = sum(
        len(c) for configs in curves.values() for by in configs.values() for c in by.values()
    )
    shares, regrets, ranks = [], [], []
    for order in range(orders):
        rng = np.random.default_rng((seed, order))
        used, chosen = _once(curves, rule, goal, rng)
        shares.append(used / exhaustive)
        regrets.append(sign * (truth[ranked[0]] - truth[chosen]))
        ranks.append(1 + ranked.index(chosen))
    return Score(
        rule.name,
        fmean(shares),
        fmean(regrets),
        float(np.percentile(regrets, 90)),
        fmean(ranks),
        float(np.percentile(ranks, 90)),
    )


def longest(curves: Curves) -> int:
    """Epochs of the longest curve."""
    return max(
        len(c) for configs in curves.values() for by in configs.values() for c in by.values()
    )


def folds_of(curves: Curves) -> int:
    """Folds of every config."""
    return len(next(iter(next(iter(curves.values())).values())))


def true_scores(curves: Curves, goal: str) -> dict[str, float]:
    """Mean over folds of the best epoch, of every config."""
    best = max if goal == "maximize" else min
    return {
        config: fmean(best(curve) for curve in by_fold.values())
        for configs in curves.values()
        for config, by_fold in configs.items()
    }


def _once(curves: Curves, rule: Rule, goal: str, rng: np.random.Generator) -> tuple[int, str]:
    """Epochs used, and the config chosen, in one random order of arrival."""
    search = _search(curves, rule, goal, rng)
    used = 0
    while (job := search.next()) is not None:
        curve = curves[job.cell][job.config["recorded"]][job.fold]
        for epoch, value in enumerate(curve, start=1):
            known = epoch in search.state.trials[job.trial_id].values
            used += not known  # a revived trial goes on from its checkpoint
            if not search.on_epoch(job.trial_id, {"epoch": epoch, "val_recorded": value}):
                break
        else:
            search.on_end(job.trial_id, "finished")
    search.conclude()
    sign = 1 if goal == "maximize" else -1
    champions = [search.state.configs[name] for name in search.state.champions.values()]
    best = max(champions, key=lambda c: sign * (c.mean(search.slots, goal) or 0.0))
    return used, str(best.config["recorded"])


def _search(curves: Curves, rule: Rule, goal: str, rng: np.random.Generator) -> Search:
    first = next(iter(next(iter(curves.values())).values()))
    epochs = longest(curves)
    spec = SweepSpec.model_validate(
        {
            "name": "replay",
            "factors": {"model": ["recorded"], "loss": ["recorded"]},
            "folds": {"k": max(2, len(first)), "run": len(first)},
            "metric": {"name": "val/recorded", "goal": goal},
            "train": {"epochs": epochs},
            "early_stopping": dict(rule.early_stopping),
            "race": dict(rule.race),
        }
    )
    cells = [
        Cell(name, {}, {"recorded": "", "train": {"epochs": epochs}}, ANY, len(configs))
        for name, configs in curves.items()
    ]
    samplers = {
        name: _Arrival([list(configs)[i] for i in rng.permutation(len(configs))])
        for name, configs in curves.items()
    }
    return Search(
        spec, cells, MemoryLedger(), lambda config: str(config["recorded"]), samplers=samplers
    )
