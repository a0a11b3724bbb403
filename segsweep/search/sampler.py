"""Where a cell's next config comes from: Optuna's ask/tell, one study a cell.

The studies are a projection of the ledger, rebuilt at every launch. A draw depends on the seed,
the cell and the number of the config alone, and on what has been told before.
"""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, Protocol

from segsweep import space
from segsweep.identity import digest
from segsweep.search.journal import quiet
from segsweep.space import Cell
from segsweep.state import ConfigState, Slot

if TYPE_CHECKING:
    import optuna

    # state, value, intermediate values by step, is a constraint violated?
    Outcome = tuple[optuna.trial.TrialState, float | None, dict[int, float], bool]

Goal = Literal["maximize", "minimize"]
TPE_REPEATS = 5  # draws in a row that were tried before, until TPE gives way to chance
PATIENCE = 20  # draws in a row that were tried before, until what is left is listed
LISTED = 100_000  # combinations that are listed at the most
MAX_STARTUP = 10  # configs drawn at random before TPE is trusted; at most half of a cell's


def budget(parameters: Mapping[str, space.Parameter], method: str, wanted: int) -> int:
    """How many configs a cell gets: never more than there are different ones."""
    values = [space.finite_values(parameter) for parameter in parameters.values()]
    if any(v is None for v in values) and parameters:
        return wanted
    combinations = math.prod(_different(options or []) for options in values)
    return combinations if method == "grid" else min(wanted, combinations)


def _different(values: Sequence[space.Value]) -> int:
    return len(values) if isinstance(values, range) else len({repr(v) for v in values})


class Sampler(Protocol):
    """What a search needs of whatever proposes a cell's configs.

    Attributes:
        remembers: its draws hang on more than configs and outcomes; see ``recall``.
    """

    remembers: bool

    def observe(self, configs: Sequence[ConfigState], slots: Sequence[Slot], goal: str) -> None:
        """See how the configs of the cell stand, before the next draw."""

    def draw(self, number: int) -> dict[str, Any]:
        """Raw values for config ``number`` of the cell."""

    def recall(self, config_id: str, number: int, draws: Mapping[str, Any]) -> bool:
        """Draw a config of an earlier launch once more; False where something else comes out."""

    def add(self, config: ConfigState) -> None:
        """Take a proposed config in."""

    def tell(self, config: ConfigState, slots: Sequence[Slot], goal: str) -> None:
        """Hear how a config ended."""


class CellSampler:
    """Proposes the configs of one cell.

    Two studies: the one in ``storage`` is for people and holds what is decided; each draw is made
    on one in memory that shows trials which wait at a rung as pruned there, since they may wait
    to the end and the next config should profit from them.

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

        optuna.logging.set_verbosity(optuna.logging.ERROR)
        self.cell, self.goal = cell, goal
        self.longest = cell.bounds(space.EPOCHS)[1]  # epochs of a trial at the most
        self.method = "random" if method == "bayes" and sampler == "random" else method
        self.sampler = sampler
        self.seed = int(digest([seed, cell.name])[:8], 16)
        self.distributions = {
            path: space.distribution(parameter) for path, parameter in cell.parameters.items()
        }
        self.study = optuna.create_study(
            study_name=cell.name, storage=storage, direction=goal, load_if_exists=True
        )
        self.numbers: dict[str, int] = {}  # config_id → Optuna's trial number
        self._told: set[str] = set()
        self._known: Sequence[ConfigState] = ()
        self.remembers = method == "bayes" and sampler == "cmaes"
        self._drawn, self._asked = 0, dict[str, Any]()
        self._memory: dict[str, dict[str, Any]] = {}  # config_id → Optuna's notes on its draw
        self._history: list[optuna.trial.FrozenTrial] = []
        self._decided: dict[str, tuple[str, optuna.trial.FrozenTrial]] = {}

    def observe(self, configs: Sequence[ConfigState], slots: Sequence[Slot], goal: str) -> None:
        """See how the configs of the cell stand, before the next draw."""
        self._drawn, self._asked = 0, {}
        self._known = configs
        if self.method == "bayes":
            self._history = [self._seen(config, slots, goal) for config in configs]

    def _seen(
        self, config: ConfigState, slots: Sequence[Slot], goal: str
    ) -> optuna.trial.FrozenTrial:
        name, status = config.config_id, config.status(slots)
        known = self._decided.get(name)
        if known is not None and known[0] == status:  # what failed or was stopped may go on
            return known[1]
        outcome = _outcome(config, slots, goal, self.longest)
        trial = _frozen(config, self.distributions, outcome, self._memory.get(name, {}))
        if status != "incomplete":
            self._decided[name] = status, trial
        return trial

    def draw(self, number: int) -> dict[str, Any]:
        """Raw values for config ``number`` of the cell; draw again where they were tried before."""
        import optuna

        if self.method == "grid":
            values = [space.grid_values(p) or [] for p in self.cell.parameters.values()]
            combination = next(itertools.islice(itertools.product(*values), number, None))
            return dict(zip(self.cell.parameters, combination, strict=True))
        self._asked = {}
        if self._drawn >= PATIENCE and (left := self._left()):
            self._drawn += 1
            return random.Random(self.seed + number).choice(left)  # noqa: S311 - no secret
        sampler = self._sampler((self.seed + 1009 * number + self._drawn) % 2**32)
        self._drawn += 1
        study = optuna.create_study(direction=self.goal, sampler=sampler)
        study.add_trials(self._history)
        with quiet():
            trial = study.ask(self.distributions)
        if self.remembers:
            self._asked = dict(study.get_trials(deepcopy=False)[-1].system_attrs)
        return dict(trial.params)

    def recall(self, config_id: str, number: int, draws: Mapping[str, Any]) -> bool:
        """Draw a config of an earlier launch once more; False where something else comes out.

        CMA-ES notes its distribution on the trials that it draws. The notes live in this process
        alone; after a restart they come from the same draws, each after what was known then.
        """
        tried = {_key(config.draws) for config in self._known}
        again = self.draw(number)
        while _key(again) != _key(draws) and _key(again) in tried and self._drawn < PATIENCE:
            again = self.draw(number)
        same = _key(again) == _key(draws)
        self._memory[config_id] = self._asked if same else {}
        self._asked = {}
        return same

    def _left(self) -> list[dict[str, Any]]:
        """What has not been tried yet, where that can be listed."""
        parameters = self.cell.parameters
        values = [space.finite_values(parameter) for parameter in parameters.values()]
        if any(v is None for v in values) or math.prod(len(v or []) for v in values) > LISTED:
            return []
        found = [
            dict(zip(parameters, combination, strict=True))
            for combination in itertools.product(*[v or [] for v in values])
        ]
        tried = {_key(config.draws) for config in self._known}
        return [draws for draws in found if _key(draws) not in tried]

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
        return samplers.TPESampler(seed=seed, n_startup_trials=startup, constant_liar=False)

    def add(self, config: ConfigState) -> None:
        """Take a proposed config in: the last draw, or one of an earlier launch."""
        import optuna

        trial = optuna.trial.create_trial(
            state=optuna.trial.TrialState.RUNNING,
            params=dict(config.draws),
            distributions=self.distributions,
        )
        self.study.add_trial(trial)
        self.numbers[config.config_id] = len(self.numbers)
        self._memory.setdefault(config.config_id, self._asked)
        self._asked = {}

    def tell(self, config: ConfigState, slots: Sequence[Slot], goal: str) -> None:
        """Tell Optuna how a config ended; one that is still undecided is passed over.

        COMPLETE only with the mean over all folds. PRUNED with its intermediate values where a
        rung or the race stopped it, and with a violated constraint where the loss diverged.
        """
        import optuna

        name = config.config_id
        if name not in self.numbers or name in self._told or config.status(slots) == "incomplete":
            return
        self._told.add(name)
        state, value, steps, violated = _outcome(config, slots, goal, self.longest)
        number = self.numbers[name]
        storage = self.study._storage
        trial_id = storage.get_trial_id_from_study_id_trial_number(self.study._study_id, number)
        trial = optuna.trial.Trial(self.study, trial_id)
        for step, reported in steps.items():
            trial.report(reported, step)
        if violated:
            trial.set_constraint("diverged", 1.0)
        self.study.tell(trial, value, state=state if value is None else None)


def _key(draws: Mapping[str, Any]) -> str:
    return repr(sorted(draws.items()))


def _outcome(config: ConfigState, slots: Sequence[Slot], goal: str, longest: int) -> Outcome:
    """How a config ended, or stands where a trial of it waits at a rung, in Optuna's words.

    Args:
        config: the config.
        slots: of every config of the sweep.
        goal: ``maximize`` or ``minimize``.
        longest: epochs of a trial of the cell at the most.
    """
    import optuna

    states = optuna.trial.TrialState
    status = config.status(slots)
    if status == "finished":
        mean = config.mean(slots, goal)
        return (states.COMPLETE if mean is not None else states.FAIL), mean, {}, False
    if status == "diverged":
        return states.PRUNED, None, {}, True
    if status == "stopped" or any(trial.parked for trial in config.trials.values()):
        return states.PRUNED, None, _steps(config, slots, longest), False
    return (states.RUNNING if status == "incomplete" else states.FAIL), None, {}, False


def _steps(config: ConfigState, slots: Sequence[Slot], longest: int) -> dict[int, float]:
    """Intermediate values by fold × longest + epoch: a step is as far for every config."""
    return {
        slots.index(slot) * longest + epoch: value
        for slot, trial in config.trials.items()
        if slot in slots
        for epoch, value in trial.values.items()
        if value is not None
    }


def _frozen(
    config: ConfigState,
    distributions: Mapping[str, Any],
    outcome: Outcome,
    notes: Mapping[str, Any],
) -> optuna.trial.FrozenTrial:
    from optuna.trial import create_trial

    state, value, steps, violated = outcome
    return create_trial(
        state=state,
        value=value,
        params=dict(config.draws),
        distributions=dict(distributions),
        intermediate_values=steps,
        system_attrs={**notes, **({"constraints:diverged": 1.0} if violated else {})},
    )
