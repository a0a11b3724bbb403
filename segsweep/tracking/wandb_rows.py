"""What W&B is told of each trial, from the ledger: its run's settings, rows, summary, overlays."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import Any

from segsweep import pixelcounts, results
from segsweep.data import palette
from segsweep.identity import short_params
from segsweep.ledger import Event
from segsweep.spec import SweepSpec
from segsweep.tracking import examples
from segsweep.tracking.wandb_runs import OpenRun, Upto

SWEEP = "sweep"  # the key and job type of the run that holds the table
EXAMPLES = "best_epoch_examples"
PAINTED = "best_epoch_painted"  # image, truth and prediction side by side
TRIALS = "trials"  # the table
TABLE = (
    "trial_id", "config_id", "cell", "fold", "params", "status", "stopped_by", "epochs",
    "best_epoch", "metric", "train_seconds", "champion",
)  # fmt: skip
BEST = "best/"  # goes before the metric's name


class Known:
    """What the ledger has said so far, as W&B is to hear it.

    Args:
        spec: the sweep.
        run_directory: where ``trials/`` lies.

    Attributes:
        trials: by trial, its last start.
        epochs: by trial, each epoch once.
        parked: trials that wait at a rung: their runs are closed.
        ends: by trial, how it ended.
    """

    def __init__(self, spec: SweepSpec, run_directory: Path) -> None:
        self.spec, self.place = spec, run_directory
        self.metric = spec.metric.name.replace("/", "_")
        self.configs: dict[str, Event] = {}
        self.trials: dict[str, Event] = {}
        self.epochs: dict[str, list[Event]] = {}
        self.parked: set[str] = set()
        self.ends: dict[str, Event] = {}
        self.history: list[Event] = []

    def note(self, event: Event) -> bool:
        """Keep an event; True where it is an epoch that the ledger had before."""
        self.history.append(event)
        if event["event"] == "config":
            self.configs[event["config_id"]] = event
        elif event["event"] == "start":
            self.trials[event["trial_id"]] = event
            self.ends.pop(event["trial_id"], None)
            self.parked.discard(event["trial_id"])
        elif event["event"] == "rung" and event.get("parked"):
            self.parked.add(event["trial_id"])
        elif event["event"] == "end":
            self.ends[event["trial_id"]] = event
        elif event["event"] == "epoch":
            earlier = self.epochs.setdefault(event["trial_id"], [])
            if earlier and earlier[-1]["epoch"] >= event["epoch"]:
                return True
            earlier.append(event)
        return False

    def upto(self, name: str) -> Upto:
        """How far a trial, or the sweep with its table, has come."""
        if name == SWEEP:
            return Upto(len(self.ends))
        epochs = self.epochs.get(name)
        return Upto(epochs[-1]["epoch"] if epochs else -1, name in self.ends)

    def settings(self, name: str) -> dict[str, Any]:
        """What a trial's run is made with."""
        start = self.trials[name]
        config = self.configs[start["config_id"]]
        seed = f"r{start['replicate']}" if start["replicate"] else ""
        title = [config["cell"], short_params(config["params"]), f"f{start['fold']}", seed]
        return {
            "name": " ".join(" ".join(title).split()),
            "group": start["config_id"],
            "job_type": f"fold{start['fold']}",
            "tags": [config["cell"][:64]],  # W&B takes no longer ones
            "config": {
                **config["levels"],
                **config["params"],
                "cell": config["cell"],
                "fold": start["fold"],
                "replicate": start["replicate"],
                "config_id": start["config_id"],
                "colours": self.colours,
                "trial": config["config"],
            },
        }

    def conclude(self, name: str, opened: OpenRun) -> int:
        """Write how a trial ended, and what its best epoch's predictions look like.

        Returns:
            The exit code that its run ends with.
        """
        event, run, start = self.ends[name], opened.run, self.trials[name]
        run.summary["status"] = event["status"]
        run.summary["stopped_by"] = event.get("stopped_by")
        if (best := self.best(name)) is not None:
            run.summary[f"{BEST}{self.spec.metric.name}"] = best
        folder = self.place / "trials" / start["config_id"] / pixelcounts.fold_name(start)
        found = examples.read(folder / "evidence.safetensors")
        if found is not None and EXAMPLES not in run.summary.keys():  # noqa: SIM118 - no dict
            last = self.epochs[name][-1]["epoch"] if name in self.epochs else 0
            shown = {
                EXAMPLES: [examples.with_masks(one) for one in found],
                PAINTED: [examples.painted(one, self.colours) for one in found],
            }
            opened.log(shown, max(opened.first, last))
        return 0 if event["status"] in ("finished", "stopped") else 1

    @cached_property
    def colours(self) -> dict[str, str]:
        """Class → colour, of the sweep's data."""
        dataset = self.spec.dataset
        return palette.of(dataset.name, dataset.options, dataset.leave_out)

    def best(self, name: str) -> float | None:
        """The compared metric at a trial's best epoch; W&B's summary has the last epoch's."""
        values = [event.get(self.metric) for event in self.epochs.get(name, [])]
        known = [value for value in values if value is not None]
        choose = max if self.spec.metric.goal == "maximize" else min
        return choose(known, default=None)

    def table_settings(self) -> dict[str, Any]:
        """What the run that holds the table is made with."""
        return {
            "name": self.spec.name,
            "job_type": SWEEP,
            "config": self.spec.model_dump(mode="json"),
        }

    def table(self) -> dict[str, Any] | None:
        """The row with the table of all trials; None where there is none."""
        import wandb

        rows = results.trial_rows(self.history, self.metric, self.spec.metric.goal)
        if not rows:
            return None
        cells: list[Any] = [[row[column] for column in TABLE] for row in rows]
        return {TRIALS: wandb.Table(columns=list(TABLE), data=cells)}
