"""The closing stage: the champions meet the holdout, once, and are timed in turn."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from segsweep import checkpoint, losses, models
from segsweep.data.cache import ImageSet
from segsweep.data.loader import Loader
from segsweep.engine import Evaluation, device_of, evaluate, prepare_model, prepare_process
from segsweep.errors import SegsweepError, first_line, process_is_broken
from segsweep.metrics import scores, wanted_extras
from segsweep.models import runtime
from segsweep.progress import BEST
from segsweep.trial import directory

HOLDOUT = "holdout.safetensors"
# what one champion may fail by while the others go on: a damaged file, numbers that overflow,
# memory (torch's is a RuntimeError)
CANNOT = (SegsweepError, ValueError, RuntimeError, OSError)


@dataclass(frozen=True)
class Shared:
    """What scoring needs beside the checkpoint: the images that no trial could read."""

    holdout: ImageSet
    run_directory: str
    cpus: int
    gpu: float


def score_holdout(shared: Shared, item: tuple[str, str, int, int]) -> dict[str, Any]:
    """Score the best checkpoint of one trial on the holdout.

    Args:
        shared: holdout and place.
        item: trial id, config id, fold and replicate.

    Returns:
        ``holdout_<score>`` of every score; counts lie beside the checkpoint. Where it cannot be
        scored, ``error``.
    """
    _, config_id, fold, replicate = item
    place = directory(shared.run_directory, config_id, fold, replicate)
    data, device = shared.holdout, device_of(shared.gpu)
    prepare_process(0, shared.cpus, device)
    try:
        tensors, facts = checkpoint.load(place / BEST)
        model = model_of(tensors, facts, len(data.classes), device)
        result = _evaluate(model, data, facts["config"], device)
    except CANNOT as error:
        if process_is_broken(error):
            raise
        return {"error": f"cannot be scored on the holdout: {first_line(error)}"}
    kept = {
        "image_ids": [data.image_ids[i] for i in result.indices],
        "classes": list(data.classes),
    }
    checkpoint.save(Path(place) / HOLDOUT, {"matrix": torch.from_numpy(result.matrix)}, kept)
    values = scores(result.matrix, data.classes) | result.extras
    found = {f"holdout_{name}": value for name, value in values.items()}
    errors = {"score_errors": result.errors} if result.errors else {}
    return {"holdout_loss": result.loss, **found, **errors}


def _evaluate(
    model: torch.nn.Module, data: ImageSet, config: Mapping[str, Any], device: torch.device
) -> Evaluation:
    """Score with the trial's batch size, halved for as long as memory does not suffice."""
    size = int(config["train"]["batch_size"])
    while True:
        indices = range(len(data.image_ids))
        try:
            return evaluate(
                model,
                Loader(data, indices, batch_size=size, seed=0, shuffle=False).epoch(1),
                losses.build(config["loss"]).to(device),
                classes=len(data.classes),
                device=device,
                precision=config["train"]["precision"],
                extra=wanted_extras(config["metric"], len(data.classes)),
            )
        except torch.OutOfMemoryError:
            if size == 1:
                raise
        size //= 2


@dataclass(frozen=True)
class Timing:
    """What timing needs beside the checkpoint."""

    run_directory: str
    classes: int
    cpus: int
    gpu: float


def time_in_turn(
    shared: Timing, items: Sequence[tuple[str, str, int, int]]
) -> dict[str, dict[str, Any]]:
    """Milliseconds that models take for an image, each from the checkpoint of one trial.

    All of them are timed in this process, in turn; one at a time is in memory.

    Args:
        shared: place, classes, and what a trial has of the machine.
        items: what each model is called, and its trial's config id, fold and replicate.

    Returns:
        By name ``runtime_ms``, the least, ``runtime_spread_ms`` between turns, and under what it
        was measured (``runtime.Turns``); or ``error`` where a model cannot be timed.
    """
    places = {name: directory(shared.run_directory, *rest) for name, *rest in items}
    turns: dict[str, list[runtime.Runtime]] = {name: [] for name in places}
    errors: dict[str, str] = {}
    device = device_of(shared.gpu)
    for name in runtime.order(list(places)):
        if name in errors:
            continue
        prepare_process(0, shared.cpus, device)  # which frees what the model before has held
        try:
            turns[name].append(_turn(places[name] / BEST, shared.classes, device))
        except CANNOT as error:
            if process_is_broken(error):
                raise
            errors[name] = f"cannot be timed: {first_line(error)}"
    return {
        name: {"error": errors[name]} if name in errors else _told(runtime.together(own))
        for name, own in turns.items()
    }


def _turn(path: Path, classes: int, device: torch.device) -> runtime.Runtime:
    tensors, facts = checkpoint.load(path)
    height, width = facts["config"]["dataset"]["image_size"]
    return runtime.measure(
        model_of(tensors, facts, classes, device),
        (height, width),
        device=device,
        precision=facts["config"]["train"]["precision"],
        repeats=runtime.TURN_REPEATS,
        seconds=runtime.TURN_SECONDS,
    )


def _told(found: runtime.Turns) -> dict[str, Any]:
    return {
        "runtime_ms": found.milliseconds,
        "runtime_spread_ms": found.spread,
        "runtime_turns": found.turns,
        "runtime_repeats": found.repeats,
        "runtime_device": found.device,
        "runtime_threads": found.threads,
        "runtime_precision": found.precision,
    }


def model_of(
    tensors: dict[str, torch.Tensor], facts: dict[str, Any], classes: int, device: torch.device
) -> torch.nn.Module:
    """The model of a checkpoint, which holds every weight, so that nothing is to be fetched."""
    config = models.bare(facts["config"]["model"])
    model = models.build(config, classes=classes)
    model.load_state_dict(checkpoint.unprefixed("model", tensors))
    return prepare_model(model, device)
