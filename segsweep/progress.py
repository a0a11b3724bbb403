"""What a running trial keeps on disk: how far it has come, and the evidence of its best epoch.

========================== =====================================================================
last.safetensors           model, optimizer, schedule, random state: all that going on needs
last.previous.safetensors  the same one epoch earlier, should the last one be damaged
best.safetensors           the model at its best epoch, with the config that rebuilds it
evidence.safetensors       counts of every validation image at that epoch, and a few predictions
========================== =====================================================================
"""

from __future__ import annotations

import errno
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from segsweep import checkpoint, optim
from segsweep.data.cache import ImageSet
from segsweep.engine import Evaluation
from segsweep.errors import TrialError

Report = dict[str, Any]
LAST, BEST, EVIDENCE = "last.safetensors", "best.safetensors", "evidence.safetensors"
PREVIOUS = "last.previous.safetensors"


class Progress:
    """How far a trial has come, and its checkpoints ``last`` and ``best``.

    Attributes:
        damaged: checkpoints that ``resume`` could not use, and why.
        unread: ``last`` was passed over, though it may be whole.
    """

    def __init__(
        self,
        place: Path,
        model: torch.nn.Module,
        optimizer: torch.optim.Optimizer,
        schedule: optim.Schedule,
        scaler: torch.amp.GradScaler,
        device: torch.device,
    ) -> None:
        self.place, self.last, self.best = place, place / LAST, place / BEST
        self.model, self.optimizer = model, optimizer
        self.schedule, self.scaler, self.device = schedule, scaler, device
        self.epoch = self.best_epoch = 0
        self.best_value: float | None = None
        self.damaged: list[str] = []
        self.unread = False

    def done(self, epochs: int, patience: int | None) -> bool:
        """All epochs are done, or ``patience`` epochs have brought nothing better."""
        waited = self.epoch - self.best_epoch
        return self.epoch >= epochs or (patience is not None and waited >= patience)

    def improved(self, value: float | None, goal: str) -> bool:
        """Note an epoch's metric; True where it is the best so far (or the first)."""
        self.epoch += 1
        best = self.best_value
        if self.best_epoch and (value is None or best is not None):
            if value is None or best is None:
                return False
            if not (value > best if goal == "maximize" else value < best):
                return False
        self.best_epoch, self.best_value = self.epoch, value
        return True

    def accept(self) -> bool:
        """Note an epoch that nothing judges, and so is the best so far: always True."""
        self.epoch += 1
        self.best_epoch = self.epoch
        return True

    def save_best(self, config: Mapping[str, Any], report: Report) -> None:
        """The model at its best epoch, with the config that rebuilds it."""
        tensors = checkpoint.prefixed("model", self.model.state_dict())
        checkpoint.save(self.best, tensors, {"config": dict(config), "report": report})

    def save_last(self, report: Report) -> None:
        """Everything that going on needs; what was saved before is kept until the next time."""
        slots, rest = checkpoint.pack_optimizer(self.optimizer)
        tensors = {
            **checkpoint.prefixed("model", self.model.state_dict()),
            **checkpoint.prefixed("optimizer", slots),
            "rng.cpu": torch.get_rng_state(),
        }
        if self.device.type == "cuda":
            tensors["rng.cuda"] = torch.cuda.get_rng_state(self.device)
        facts = {
            "report": report,
            "best_epoch": self.best_epoch,
            "best_value": self.best_value,
            "optimizer": rest,
            "schedule": self.schedule.state_dict(),
            "scaler": self.scaler.state_dict(),
        }
        fresh = self.last.with_name(f".{self.last.name}.{os.getpid()}.tmp")
        try:
            checkpoint.save(fresh, tensors, facts)
            if self.last.exists() and not self.unread:  # else ``previous`` is the better one
                self.last.replace(self.place / PREVIOUS)
            fresh.replace(self.last)
            self.unread = False
        finally:
            fresh.unlink(missing_ok=True)

    def resume(self) -> Report | None:
        """Go back to the last checkpoint that is whole; its report, or None to begin at epoch 1.

        Any of them leads to the same numbers: epochs after it are run again.

        Raises:
            TrialError: the disk did not answer, and nothing else can be used.
        """
        checkpoint.remove_leftovers(self.place)
        silent: TrialError | None = None
        for path in (self.last, self.place / PREVIOUS):
            if path.exists():
                try:
                    return self._restore(*checkpoint.load(path))
                except TrialError as error:
                    self.damaged.append(f"{path.name} cannot be used: {error.__cause__ or error}")
                    if not _unreachable(error.__cause__):
                        path.unlink()
                        continue
                    if not _unreadable(error.__cause__):
                        raise  # nor will the other be; another attempt goes on from this one
                    silent, self.unread = error, self.unread or path == self.last
        if silent is not None:
            raise silent
        return None

    def _restore(self, tensors: Mapping[str, torch.Tensor], facts: Mapping[str, Any]) -> Report:
        self.model.load_state_dict(checkpoint.unprefixed("model", tensors))
        slots = checkpoint.unprefixed("optimizer", tensors)
        checkpoint.unpack_optimizer(self.optimizer, slots, facts["optimizer"])
        self.schedule.load_state_dict(facts["schedule"])
        self.scaler.load_state_dict(facts["scaler"])
        torch.set_rng_state(tensors["rng.cpu"])
        if "rng.cuda" in tensors and self.device.type == "cuda":
            torch.cuda.set_rng_state(tensors["rng.cuda"], self.device)
        report: Report = facts["report"]
        self.epoch = report["epoch"]
        self.best_epoch, self.best_value = facts["best_epoch"], facts["best_value"]
        return report


def _unreachable(cause: BaseException | None) -> bool:
    """Did the disk not answer, which says nothing about what the file holds?"""
    return isinstance(cause, OSError) and not isinstance(cause, FileNotFoundError)


def _unreadable(cause: BaseException | None) -> bool:
    """Was this one file not read, where others may be?"""
    return isinstance(cause, OSError) and cause.errno == errno.EIO


def save_evidence(
    place: Path, epoch: int, result: Evaluation, data: ImageSet, examples: Sequence[int]
) -> None:
    """Counts of every validation image, and a few images with truth and prediction."""
    tensors = {
        "matrix": torch.from_numpy(result.matrix),
        "examples.image": torch.from_numpy(np.ascontiguousarray(data.images[list(examples)])),
        "examples.truth": torch.from_numpy(np.ascontiguousarray(data.masks[list(examples)])),
        "examples.prediction": torch.from_numpy(result.predictions),
    }
    facts = {
        "epoch": epoch,
        "image_ids": [data.image_ids[i] for i in result.indices],
        "examples": [data.image_ids[i] for i in examples],
        "classes": list(data.classes),
    }
    checkpoint.save(place / EVIDENCE, tensors, facts)
