"""Replay: the very same rungs and race over recorded curves instead of training.

A sweep that was run in full, once, tells what any rule would have saved on this data and what it
would have cost: configs arrive in many random orders, and the rule's choice is compared with the
truth, which is the config with the best mean over all folds. Needs neither torch nor Ray.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

import numpy as np

from segsweep.ledger import MemoryLedger
from segsweep.runners.recorded import Curves
from segsweep.search import Pool, Search
from segsweep.space import Cell, Parameter
from segsweep.spec import SweepSpec
from segsweep.state import ConfigState, Slot

ANY = {"recorded": Parameter(value="")}  # what is drawn: the name of a recorded config


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


class _Arrival:
    """A sampler that hands out recorded configs in a given order."""

    remembers = False

    def __init__(self, order: Sequence[str]) -> None:
        self.order = list(order)

    def draw(self, number: int) -> dict[str, Any]:
        return {"recorded": self.order[number]}

    def observe(self, configs: Sequence[ConfigState], slots: Sequence[Slot], goal: str) -> None:
        """Nothing: the order is fixed."""

    def recall(self, config_id: str, number: int, draws: Mapping[str, Any]) -> bool:
        """Nothing: the order is fixed."""
        return True

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


def true_scores(curves: Curves, goal: str) -> dict[tuple[str, str], float]:
    """Mean over folds of the best epoch, of every config by its cell and its name."""
    best = max if goal == "maximize" else min
    return {
        (cell, config): fmean(best(curve) for curve in by_fold.values())
        for cell, configs in curves.items()
        for config, by_fold in configs.items()
    }


def _once(
    curves: Curves, rule: Rule, goal: str, rng: np.random.Generator
) -> tuple[int, tuple[str, str]]:
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
    return used, (best.cell, str(best.config["recorded"]))


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
        Cell(
            name, {}, {"recorded": "", "cell": name, "train": {"epochs": epochs}}, ANY, len(configs)
        )
        for name, configs in curves.items()
    ]
    samplers = {
        name: _Arrival([list(configs)[i] for i in rng.permutation(len(configs))])
        for name, configs in curves.items()
    }
    return Search(Pool(spec, cells, MemoryLedger(), _identify, samplers=samplers))


def _identify(config: Mapping[str, Any]) -> str:
    """Of both names: files may number the configs of each cell anew."""
    return json.dumps([config["cell"], config["recorded"]])
