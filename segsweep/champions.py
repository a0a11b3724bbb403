"""The closing stage, from the driver: champions are scored and timed, logits kept."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from segsweep import closing, models
from segsweep.calibrate.keep import keep
from segsweep.check import Checked
from segsweep.identity import digest
from segsweep.interrupt import Interrupt
from segsweep.ledger import Ledger
from segsweep.results import timings
from segsweep.runners import Runner
from segsweep.state import SearchState


@dataclass
class Closing:
    """The closing stage of one launch.

    Attributes:
        unscored: trials that could not be scored on the holdout, and why.
        notes: what else went wrong, a line each.
    """

    checked: Checked
    state: SearchState
    ledger: Ledger
    place: Path
    runner: Runner
    gpu: float
    interrupt: Interrupt
    unscored: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def run(self) -> None:
        """All of it; what an earlier launch has done is not done again.

        Raises:
            KeyboardInterrupt: the user asked for the end.
        """
        self._score()
        self._time()
        self.notes += keep(
            self.checked, self.state, self.place, self.runner, self.gpu, self.interrupt
        )

    def _score(self) -> None:
        """Score on the holdout what was not scored yet."""
        spec, state = self.checked.spec, self.state
        if self.checked.holdout is None:
            return
        names = {cell.name for cell in self.checked.cells}
        items = [
            (trial.trial_id, trial.config_id, *slot)
            for cell, config_id in state.champions.items()
            for slot, trial in state.configs[config_id].trials.items()
            if cell in names and slot in spec.slots and trial.trial_id not in state.holdout
        ]
        shared = closing.Shared(self.checked.holdout, str(self.place), spec.resources.cpu, self.gpu)
        results = self.runner.map(closing.score_holdout, shared, items, spec)
        for item, found in zip(items, results, strict=True):
            if "error" in found:
                self.unscored[item[0]] = found["error"]
            else:
                state.apply(self.ledger.append("holdout", trial_id=item[0], **found))
            self.interrupt.check()

    def _time(self) -> None:
        """Time the champions' models, alone and in turn; those of one architecture share a timing.

        Timings of two moments say nothing about each other. So where one is missing all are made
        anew.
        """
        spec, cells = self.checked.spec, {cell.name for cell in self.checked.cells}
        wanted = [c for cell, c in self.state.champions.items() if cell in cells]
        known = timings(self.ledger.events)
        rounds = {known[name].timing if name in known else None for name in wanted}
        if not wanted or (len(rounds) == 1 and None not in rounds):
            return
        groups: dict[str, list[str]] = {}
        for name in wanted:
            groups.setdefault(architecture(self.state.configs[name].config), []).append(name)
        classes, cpus = len(self.checked.data.classes), spec.resources.cpu
        shared = closing.Timing(str(self.place), classes, cpus, self.gpu)
        items = [(key, own[0], *spec.slots[0]) for key, own in groups.items()]
        (found,) = self.runner.map(closing.time_in_turn, shared, [items], spec, alone=True)
        number = 1 + max((one.timing or 0 for one in known.values()), default=0)
        for key, names in groups.items():
            own = found if "error" in found else found[key]
            for name in names:
                if "error" in own:
                    self.notes.append(f"config {name} {own['error']}")
                else:
                    told = {"architecture": key, "timing": number, **own}
                    self.ledger.append("runtime", config_id=name, **told)
        self.interrupt.check()


def architecture(config: Mapping[str, Any]) -> str:
    """A name for all that the time of a trial config's model hangs on, whatever its weights are."""
    size, precision = config["dataset"]["image_size"], config["train"]["precision"]
    return digest([models.bare(config["model"]), size, precision])[:12]
