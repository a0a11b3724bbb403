"""The champion fitted once more, on all images that its folds were made of."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

from segsweep import models
from segsweep.batches import fewer
from segsweep.check import Checked
from segsweep.data.folds import everything
from segsweep.errors import Problem, RunError, Undecided
from segsweep.identity import counted
from segsweep.progress import BEST
from segsweep.rundir import Lock, Run
from segsweep.runners.inline import InlineRunner
from segsweep.state import ConfigState
from segsweep.trial import Inputs, run_trial

FOLDER = "retrained"  # below the run directory: an interrupted fit goes on from there


@dataclass(frozen=True)
class Retrained:
    """Where its checkpoint lies, and how it was fitted."""

    checkpoint: Path
    epochs: int
    images: int


def epochs_of(run: Run, config: ConfigState) -> int:
    """The mean of the folds' best epochs, rounded; the schedule stays that of all epochs."""
    sign = 1 if run.spec.metric.goal == "maximize" else -1
    best = []
    for slot, trial in config.trials.items():
        known = {epoch: sign * v for epoch, v in trial.values.items() if v is not None}
        if slot in run.spec.slots and known:
            best.append(max(known, key=lambda epoch: (known[epoch], -epoch)))
    return max(1, round(fmean(best))) if best else int(config.config["train"]["epochs"])


def retrain(
    run: Run,
    config: ConfigState,
    checked: Checked,
    told: Callable[[int, int], None] = lambda _epoch, _of: None,
) -> Retrained:
    """Train the config on every image that is not held out, and validate on none.

    The trial machinery, seed, schedule and augmentation are those of fold 0; it ends after
    ``epochs_of`` epochs, at the learning rate that the folds had there; ``plateau`` alone goes by
    the training loss, for want of a validation score. Where memory runs out, half as many images a
    pass are tried.

    Args:
        run: the run; its directory keeps the checkpoint.
        config: what to train.
        checked: its sweep file, with the images.
        told: is called with the epoch and their number.

    Raises:
        RunError: a launch or another export is at work in the run directory.
        WeightsError: pretrained weights cannot be had.
        Undecided: the training ended before its last epoch.
    """
    epochs, place = epochs_of(run, config), run.path / FOLDER / config.config_id
    facts = InlineRunner().facts(checked.spec)
    encoders = {}
    if key := models.encoder_key(config.config["model"]):
        state = models.fetch_encoder(checked.cells[0].config["model"])  # which knows its place
        encoders[key] = {name: tensor.numpy() for name, tensor in state.items()}
    inputs = Inputs(
        data=checked.data.for_trials(),
        folds=everything(checked.data.image_ids),
        run_directory=str(run.path),
        encoders=encoders,
        cpus=checked.spec.resources.cpu,
        gpu=facts["gpu"],
    )
    known = [trial.micro_batch for trial in config.trials.values() if trial.micro_batch]
    lock = Lock(place, "export")
    try:
        micro = min(known, default=None)
        while not _train(config, inputs, place, epochs, micro, told):
            whole = int(config.config["train"]["batch_size"])
            least = checked.tried.of(config.config["model"]).least
            less = fewer(whole, micro, least)
            if less is None:
                passes = counted(micro or whole, "image")
                raise Undecided(f"retraining: out of memory with {passes} a pass")
            micro = less
    finally:
        lock.release()
    return Retrained(place / BEST, epochs, len(checked.data.image_ids))


def _train(
    config: ConfigState,
    inputs: Inputs,
    place: Path,
    epochs: int,
    micro: int | None,
    told: Callable[[int, int], None],
) -> bool:
    """Train to the end; False where memory ran out."""
    reports = run_trial(config.config, 0, inputs, place, micro_batch=micro)
    try:
        for report in reports:
            if report.get("status") == "out_of_memory":
                return False
            if "status" in report:
                raise Undecided(
                    f"retraining ended early: {report['status']}: {report.get('error')}"
                )
            if "damaged" in report:
                continue
            told(report["epoch"], epochs)
            if report["epoch"] > epochs:  # the run was extended, and its best epochs moved
                hint = f"remove {place} to train anew"
                what = f"a fit of {report['epoch']} epochs is there, and {epochs} are wanted"
                raise RunError(Problem(what, str(place), hint=hint))
            if report["epoch"] == epochs:
                return True
    finally:
        reports.close()  # type: ignore[attr-defined]
    raise Undecided("retraining ended without its last epoch")
