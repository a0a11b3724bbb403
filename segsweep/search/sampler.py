"""Where a cell's next config comes from: Optuna's ask/tell, one study a cell.

The studies are a projection of the ledger, rebuilt at every launch. A draw depends on the seed,
the cell and the number of the config alone, and on what has been told before.
"""

from __future__ import annotations

import contextlib
import itertools
import math
import os
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

from segsweep import space
from segsweep.identity import digest
from segsweep.space import Cell
from segsweep.state import ConfigState, Slot

if TYPE_CHECKING:
    import optuna

Goal = Literal["maximize", "minimize"]
TPE_REPEATS = 5  # draws in a row that were tried before, until TPE gives way to chance
MAX_STARTUP = 10  # configs drawn at random before TPE is trusted; at most half of a cell's


def budget(parameters: Mapping[str, space.Parameter], method: str, wanted: int) -> int:
    """How many configs a cell gets: never more than there are different ones."""
    values = [space.grid_values(parameter) for parameter in parameters.values()]
    if any(v is None for v in values) and parameters:
        return wanted
    combinations = math.prod(len({repr(v) for v in options or []}) for options in values)
    return combinations if method == "grid" else min(wanted, combinations)


class Sampler(Protocol):
    """What a search needs of whatever proposes a cell's configs."""

    def draw(self, number: int) -> dict[str, Any]:
        """Raw values for config ``number`` of the cell."""

    def discard(self) -> None:
        """Forget the last draw: it had been tried before."""

    def add(self, config: ConfigState) -> None:
        """Take a proposed config in."""

    def tell(self, config: ConfigState, slots: Sequence[Slot], goal: str) -> None:
        """Hear how a config ended."""


class CellSampler:
    """Proposes the configs of one cell.

    Args:
        cell: what is searched.
        method: ``bayes``, ``random`` or ``grid``.
        seed: of the sweep.
        goal: ``maximize`` or ``minimize``.
        storage: Optuna's storage for the study; None keeps it in memory.
        sampler: what ``bayes`` proposes with: ``tpe``, ``gp``, ``cmaes`` or ``random``.
    """

    def __init__(
        self,
        cell: Cell,
        method: str,
        seed: int,
        goal: Goal,
        storage: Any | None = None,
        sampler: str = "tpe",
    ) -> None:
        import optuna

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self.cell, self.method, self.sampler = cell, method, sampler
        self.seed = int(digest([seed, cell.name])[:8], 16)
        self.distributions = {
            path: space.distribution(parameter) for path, parameter in cell.parameters.items()
        }
        self.study = optuna.create_study(
            study_name=cell.name, storage=storage, direction=goal, load_if_exists=True
        )
        self.numbers: dict[str, int] = {}  # config_id → Optuna's trial number
        self._asked: int | None = None
        self._drawn = 0

    def draw(self, number: int) -> dict[str, Any]:
        """Raw values for config ``number`` of the cell; ask again where they were tried before."""
        if self.method == "grid":
            values = [space.grid_values(p) or [] for p in self.cell.parameters.values()]
            combination = next(itertools.islice(itertools.product(*values), number, None))
            return dict(zip(self.cell.parameters, combination, strict=True))
        self.discard()
        self.study.sampler = self._sampler(self.seed + 1009 * number + self._drawn)
        self._drawn += 1
        with quiet():
            trial = self.study.ask(self.distributions)
        self._asked = trial.number
        return dict(trial.params)

    def _sampler(self, seed: int) -> optuna.samplers.BaseSampler:
        from optuna import samplers

        startup = min(MAX_STARTUP, max(1, self.cell.budget // 2))
        if self.method == "random" or self._drawn > TPE_REPEATS:
            return samplers.RandomSampler(seed=seed)
        with quiet():
            if self.sampler == "gp":
                return samplers.GPSampler(
                    seed=seed, n_startup_trials=startup, deterministic_objective=False
                )
            if self.sampler == "cmaes":
                return samplers.CmaEsSampler(
                    seed=seed, n_startup_trials=startup, warn_independent_sampling=False
                )
        if self.sampler == "random":
            return samplers.RandomSampler(seed=seed)
        return samplers.TPESampler(seed=seed, n_startup_trials=startup, constant_liar=False)

    def discard(self) -> None:
        """Forget the last draw: it had been tried before."""
        import optuna

        if self._asked is not None:
            self.study.tell(self._asked, state=optuna.trial.TrialState.FAIL)
            self._asked = None

    def add(self, config: ConfigState) -> None:
        """Take a proposed config in: the last draw, or one of an earlier launch."""
        import optuna

        self._drawn = 0
        if self._asked is not None:
            self.numbers[config.config_id] = self._asked
            self._asked = None
            return
        self.study.add_trial(
            optuna.trial.create_trial(
                state=optuna.trial.TrialState.RUNNING,
                params=dict(config.draws),
                distributions=self.distributions,
            )
        )
        self.numbers[config.config_id] = len(self.study.get_trials(deepcopy=False)) - 1

    def tell(self, config: ConfigState, slots: Sequence[Slot], goal: str) -> None:
        """Tell Optuna how a config ended; one that is still undecided is passed over.

        COMPLETE only with the mean over all folds. PRUNED with its intermediate values where a
        rung or the race stopped it, and without any where the loss diverged, which TPE ranks last.
        """
        import optuna

        states = optuna.trial.TrialState
        number = self.numbers.get(config.config_id)
        status = config.status(slots)
        if number is None or status == "incomplete":
            return
        if self.study.get_trials(deepcopy=False)[number].state.is_finished():
            return
        if status == "finished":
            mean = config.mean(slots, goal)
            self.study.tell(number, mean, state=None if mean is not None else states.FAIL)
        elif status in ("stopped", "diverged"):
            if status == "stopped":
                self._report(number, config, slots)
            self.study.tell(number, state=states.PRUNED)
        else:
            self.study.tell(number, state=states.FAIL)

    def _report(self, number: int, config: ConfigState, slots: Sequence[Slot]) -> None:
        storage = self.study._storage
        trial_id = storage.get_trial_id_from_study_id_trial_number(self.study._study_id, number)
        epochs = int(config.config["train"]["epochs"])
        for slot, trial in config.trials.items():
            begun = slots.index(slot) * epochs if slot in slots else 0
            for epoch, value in trial.values.items():
                if value is not None:
                    storage.set_trial_intermediate_value(trial_id, begun + epoch, value)


def journal(path: Path | None) -> Any | None:
    """A fresh Optuna journal at ``path``; the old one, a projection of the ledger, is replaced."""
    if path is None:
        return None
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend

    for old in (path, path.with_name(path.name + ".lock")):
        if old.exists() or old.is_symlink():
            os.unlink(old)  # noqa: PTH108 - the lock is a dangling symbolic link
    with quiet():
        return JournalStorage(JournalFileBackend(str(path)))


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Without Optuna's word that a part of it is experimental."""
    from optuna.exceptions import ExperimentalWarning

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", category=ExperimentalWarning)
        yield
