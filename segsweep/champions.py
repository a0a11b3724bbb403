"""The closing stage, from the driver: champions are scored and timed, logits kept."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from segsweep import closing
from segsweep.calibrate.keep import keep
from segsweep.check import Checked
from segsweep.interrupt import Interrupt
from segsweep.ledger import Ledger
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
        """Time each champion's model, alone."""
        spec = self.checked.spec
        timed = {event["config_id"] for event in self.ledger.events if event["event"] == "runtime"}
        classes, cpus = len(self.checked.data.classes), spec.resources.cpu
        shared = closing.Timing(str(self.place), classes, cpus, self.gpu)
        items = [(c, *spec.slots[0]) for c in self.state.champions.values() if c not in timed]
        results = self.runner.map(closing.time_champion, shared, items, spec, alone=True)
        for item, found in zip(items, results, strict=True):
            if "error" in found:
                self.notes.append(f"config {item[0]} {found['error']}")
            else:
                self.ledger.append("runtime", config_id=item[0], **found)
            self.interrupt.check()
