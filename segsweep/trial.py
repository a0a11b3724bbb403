"""A trial: one config on one fold, as a stream of plain reports. No Ray, no logging."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from segsweep import losses, models, optim
from segsweep.data.augment import Augmenter
from segsweep.data.cache import ImageSet
from segsweep.data.folds import Folds
from segsweep.data.loader import Loader
from segsweep.engine import (
    Evaluation,
    device_of,
    evaluate,
    prepare_model,
    prepare_process,
    train_epoch,
)
from segsweep.errors import (
    Diverged,
    disk_is_away,
    disk_is_full,
    first_line,
    memory_ran_out,
    process_is_broken,
)
from segsweep.identity import trial_seed
from segsweep.losses import weighting
from segsweep.metrics import scores, wanted_extras
from segsweep.pixelcounts import fold_name
from segsweep.progress import Progress, Report, save_evidence

EXAMPLES = 4  # validation images whose prediction is kept at the best epoch


@dataclass(frozen=True)
class Inputs:
    """What every trial of a sweep shares; arrays are read-only and never in a config.

    Attributes:
        data: the images that trials may see: the holdout is not among them.
        folds: which of them validate in which fold.
        encoders: pretrained encoder weights by ``models.encoder_key``.
        run_directory: absolute path, the same on every node.
        cpus: threads a trial may use.
        gpu: share of a GPU that a trial has; 0 trains on the CPU.
    """

    data: ImageSet
    folds: Folds
    run_directory: str
    encoders: Mapping[str, Mapping[str, NDArray[Any]]] = field(default_factory=dict)
    cpus: int = 1
    gpu: float = 0


# what runs a trial: ``run_trial``, or something in its place where only what is around it matters
Train = Callable[[Mapping[str, Any], int, Inputs, Path, int, int | None], Iterator[Report]]


def directory(run_directory: str | Path, config_id: str, fold: int, replicate: int = 0) -> Path:
    """Where a trial keeps its files."""
    name = fold_name({"fold": fold, "replicate": replicate})
    return Path(run_directory) / "trials" / config_id / name


def run_trial(
    config: Mapping[str, Any],
    fold: int,
    inputs: Inputs,
    place: Path,
    replicate: int = 0,
    micro_batch: int | None = None,
) -> Iterator[Report]:
    """Train one config on one fold, from its last checkpoint where there is one.

    Args:
        config: a fully resolved trial config.
        fold: the validation fold.
        inputs: the data and what else trials share.
        place: the trial's directory.
        replicate: seeds of the same fold are told apart by it.
        micro_batch: images a pass where memory ran out with whole batches; see ``train_epoch``.

    Yields:
        One report an epoch (``epoch``, ``train_loss``, ``val_*``, …), then one with ``status``;
        ``incomplete`` where the disk is full, ``lost`` where it did not answer. When a trial goes
        on from a checkpoint, its epoch is reported once more, after a report ``damaged`` where a
        checkpoint could not be used.
    """
    try:
        yield from _epochs(config, fold, inputs, place, replicate, micro_batch)
        end: Report = {"status": "finished"}
    except Diverged as error:
        end = {"status": "diverged", "error": str(error)}
    except Exception as error:  # one trial must not end the sweep
        end = _failure(error)
    # not before: the exception holds on to the model and its memory
    if inputs.gpu:
        torch.cuda.empty_cache()  # who shares the GPU may need it before this process trains again
    yield end


def _failure(error: Exception) -> Report:
    """How a trial ends that ``error`` has ended."""
    text = first_line(error)
    if isinstance(error, (torch.OutOfMemoryError, MemoryError)) or memory_ran_out(error):
        return {"status": "out_of_memory", "error": text}
    if disk_is_full(error):
        return {"status": "incomplete", "error": text}
    if disk_is_away(error):
        return {"status": "lost", "error": text}
    if process_is_broken(error):
        raise error  # the process is broken for every later trial: let it die and be replaced
    return {"status": "failed", "error": text}


def _epochs(
    config: Mapping[str, Any],
    fold: int,
    inputs: Inputs,
    place: Path,
    replicate: int,
    micro_batch: int | None,
) -> Iterator[Report]:
    train, metric = config["train"], config["metric"]
    seed = trial_seed(config, fold, replicate)
    prepare_process(seed, inputs.cpus, device_of(inputs.gpu))
    parts = _Parts(config, fold, inputs, seed, micro_batch)
    progress = Progress(
        place, parts.model, parts.optimizer, parts.schedule, parts.scaler, parts.device
    )
    report = progress.resume()
    if progress.damaged:
        yield {"damaged": progress.damaged, "epoch": progress.epoch}
    if report is not None:
        yield report
    while not progress.done(train["epochs"], train["patience"]):
        report, result = parts.run(progress.epoch + 1)
        if result is None:  # no image validates: the last epoch is the one that counts
            value = report["train_loss"] * (-1 if metric["goal"] == "maximize" else 1)
            better = progress.accept()
        else:
            value = report[metric["name"].replace("/", "_")]
            better = progress.improved(value, metric["goal"])
        parts.schedule.step(value if value is not None else -math.inf)
        if better:
            if result is not None:
                save_evidence(place, report["epoch"], result, inputs.data, parts.examples)
            progress.save_best({**config, "loss": parts.loss_settings}, report)
        report["best_epoch"] = progress.best_epoch
        progress.save_last(report)
        yield report


class _Parts:
    """Everything that a config names, built: each setting is read here and nowhere else."""

    def __init__(
        self,
        config: Mapping[str, Any],
        fold: int,
        inputs: Inputs,
        seed: int,
        micro_batch: int | None,
    ) -> None:
        train, data = config["train"], inputs.data
        self.micro_batch = micro_batch
        self.train, self.names, self.classes = train, data.classes, len(data.classes)
        self.extra = wanted_extras(config["metric"], self.classes)
        self.device = device_of(inputs.gpu)
        self.model = prepare_model(build_model(config, inputs), self.device)
        rows = inputs.folds.train_indices(fold)
        self.loss_settings, self.balanced = trial_loss(config["loss"], data, rows)
        self.loss = losses.build(self.loss_settings).to(self.device)
        self.optimizer = optim.build_optimizer(
            train["optimizer"], self.model, lr=train["lr"], weight_decay=train["weight_decay"]
        )
        self.schedule = optim.build_schedule(
            train["schedule"],
            self.optimizer,
            epochs=train["epochs"],
            goal=config["metric"]["goal"],
            # plateau is to cut the rate before patience ends the trial
            patience=max(1, (train["patience"] or 10) // 2),
        )
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=train["precision"] == "fp16")
        height, width = data.masks.shape[1:3]
        self.batches = Loader(
            data,
            rows,
            batch_size=train["batch_size"],
            seed=seed,
            augment=Augmenter(train["augment"], (height, width), seed),
            shuffle=True,
            workers=inputs.cpus,
        )
        validation = inputs.folds.validation_indices(fold)
        self.checks = Loader(
            data,
            validation,
            batch_size=micro_batch or train["batch_size"],
            seed=seed,
            shuffle=False,
        )
        step = max(1, len(validation) // EXAMPLES)
        self.examples: list[int] = validation[::step][:EXAMPLES].tolist()

    def run(self, epoch: int) -> tuple[Report, Evaluation | None]:
        """Train once, and validate where there are images to."""
        began, rate = time.perf_counter(), self.optimizer.param_groups[0]["lr"]
        train_loss, images = train_epoch(
            self.model,
            self.batches.epoch(epoch),
            self.loss,
            self.optimizer,
            device=self.device,
            precision=self.train["precision"],
            scaler=self.scaler,
            grad_clip=self.train["grad_clip"],
            micro_batch=self.micro_batch,
        )
        trained = time.perf_counter()
        result = self._validate(epoch) if len(self.checks) else None
        report: Report = {
            "epoch": epoch,
            "train_loss": train_loss,
            **({} if result is None else self._scores(result)),
            **self.balanced,
            "lr": rate,
            "images": images,
            "parameters": sum(p.numel() for p in self.model.parameters()),
            "train_seconds": round(trained - began, 4),
            "seconds": round(time.perf_counter() - began, 4),
        }
        return report, result

    def _validate(self, epoch: int) -> Evaluation:
        return evaluate(
            self.model,
            self.checks.epoch(epoch),
            self.loss,
            classes=self.classes,
            device=self.device,
            precision=self.train["precision"],
            keep=self.examples,
            extra=self.extra,
        )

    def _scores(self, result: Evaluation) -> Report:
        return {
            "val_loss": result.loss,
            **{f"val_{name}": v for name, v in scores(result.matrix, self.names).items()},
            **{f"val_{name}": value for name, value in result.extras.items()},
            **({"score_errors": result.errors} if result.errors else {}),
        }


def trial_loss(
    config: Mapping[str, Any], data: ImageSet, rows: NDArray[np.int64]
) -> tuple[dict[str, dict[str, Any]], Report]:
    """A trial's loss with numbers for class weights, and what to record of them.

    Args:
        config: the loss of a resolved trial config.
        data: the images that trials see.
        rows: those that are trained on, whose pixels ``balanced`` counts.

    Returns:
        The loss for ``losses.build``; and ``class_weights``, the numbers of each term that is
        ``balanced``, empty where none is.
    """
    if not weighting.wants_pixels(config):
        return weighting.resolved(config, data.classes), {}
    pixels = weighting.count_pixels(data.masks, rows, len(data.classes))
    settings = weighting.resolved(config, data.classes, pixels)
    found = {
        name: settings[name][weighting.KEY]
        for name, given in config.items()
        if given.get(weighting.KEY) == weighting.BALANCED
    }
    return settings, {weighting.KEY: found}


def build_model(config: Mapping[str, Any], inputs: Inputs) -> torch.nn.Module:
    """The config's model, with its pretrained encoder where it wants one."""
    state = None
    if key := models.encoder_key(config["model"]):
        state = {name: torch.from_numpy(a.copy()) for name, a in inputs.encoders[key].items()}
    return models.build(config["model"], classes=len(inputs.data.classes), encoder_state=state)
