"""How much a sweep has to run, and how far it is: in epochs, each config with its own number.

Epochs may be searched or be a factor, so that no key of the sweep file says how many a trial has.
A config that was proposed says it itself; of one that is still to come the mean is known.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Self

from segsweep.ledger import Event
from segsweep.search.rungs import RULES
from segsweep.space import EPOCHS, Cell, spread
from segsweep.spec import SweepSpec
from segsweep.state import ConfigState, SearchState, TrialState


def epochs_of(config: ConfigState) -> int:
    """Epochs of each trial of a config, where nothing ends it early."""
    return int(config.config["train"]["epochs"])


def mean_epochs(cell: Cell) -> float:
    """Epochs of a trial of a cell, on average over what may be drawn."""
    return fmean(int(value) for value in cell.own(EPOCHS))  # type: ignore[arg-type]


class Workload:
    """The epochs of a sweep: those it asks for, and those that were run or saved by stopping.

    Args:
        spec: the sweep.
        budgets: configs of each cell that are asked for; configs of other cells do not count.
        epochs: of a trial of each cell, on average over what may be drawn.

    Attributes:
        done: epochs that were run, or that stopping has saved.
    """

    def __init__(
        self, spec: SweepSpec, budgets: Mapping[str, int], epochs: Mapping[str, float]
    ) -> None:
        self.spec, self.budgets, self.epochs = spec, budgets, epochs
        self.slots = spec.slots
        self.done = 0.0
        self._known: dict[str, tuple[float, float]] = {}  # of a config: its whole, and what is done
        self._proposed = Counter[str]()
        self._asked = 0.0  # of all configs that were proposed
        self._expectations: dict[int, float] = {}

    @classmethod
    def of_cells(cls, spec: SweepSpec, cells: Sequence[Cell]) -> Self:
        """Of a sweep that is about to run."""
        budgets = {cell.name: cell.budget for cell in cells}
        return cls(spec, budgets, {cell.name: mean_epochs(cell) for cell in cells})

    @classmethod
    def of_run(cls, spec: SweepSpec, events: Sequence[Event], state: SearchState) -> Self:
        """Of a sweep that was launched; ledgers of older versions say less.

        Args:
            spec: of the last launch.
            events: of the ledger.
            state: the same events, taken in.
        """
        launch = next(event for event in reversed(events) if event["event"] == "launch")
        counts = Counter(config.cell for config in state.configs.values())
        budgets = launch.get("cells") or dict(counts)
        known = launch.get("epochs") or {}
        epochs = {cell: known.get(cell) or _recalled(spec, state, cell) for cell in budgets}
        return cls(spec, budgets, epochs)

    @property
    def total(self) -> float:
        """Epochs that the sweep asks for; a rule that lets trials wait is taken at its mean."""
        return self._asked + sum(
            self.to_come(cell) * self.expected(self.epochs[cell]) for cell in self.budgets
        )

    @property
    def share(self) -> float:
        """How far the sweep is, from 0 to 1."""
        total = self.total
        return min(1.0, self.done / total) if total else 0.0

    @property
    def over(self) -> bool:
        """Nothing is left to run."""
        return self.done >= self.total - 1e-6  # both are sums, in another order

    def to_come(self, cell: str) -> int:
        """Configs of a cell that are still to be proposed."""
        return max(0, self.budgets[cell] - self._proposed[cell])

    def expected(self, epochs: float) -> float:
        """Epochs of a config on average where trials wait at rungs, else at the most."""
        stopping, whole = self.spec.early_stopping, max(1, round(epochs))
        rule = RULES[stopping.type]
        if not rule.parks:
            return epochs * len(self.slots)
        if whole not in self._expectations:
            made = rule(stopping.grace_period, stopping.reduction_factor, whole)
            self._expectations[whole] = made.expected_epochs(len(self.slots))
        return self._expectations[whole]

    def take(self, config: ConfigState) -> None:
        """A config is new, or has changed."""
        if config.cell not in self.budgets:
            return
        if config.config_id not in self._known:
            whole = self.expected(epochs_of(config))
            self._known[config.config_id] = (whole, 0.0)
            self._proposed[config.cell] += 1
            self._asked += whole
        whole, before = self._known[config.config_id]
        now = self._run(config, whole)
        self._known[config.config_id] = (whole, now)
        self.done += now - before

    def _run(self, config: ConfigState, whole: float) -> float:
        if config.status(self.slots) != "incomplete":
            return whole
        run = sum(_share(trial, epochs_of(config)) for trial in config.trials.values())
        most = epochs_of(config) * len(self.slots)
        return run if whole == most else min(0.99 * whole, run)  # it may cost more than the mean


def _share(trial: TrialState, epochs: int) -> float:
    return float(epochs if trial.status == "finished" else len(trial.values))


def _recalled(spec: SweepSpec, state: SearchState, cell: str) -> float:
    """What a launch of an older version has not recorded: epochs of a trial of a cell."""
    if EPOCHS in spec.parameters:
        return fmean(int(value) for value in spread(spec.parameters[EPOCHS]))  # type: ignore[arg-type]
    own = state.of_cell(cell)  # a factor, or the file's
    return float(epochs_of(own[0]) if own else spec.train.epochs)
