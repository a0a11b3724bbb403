"""The closing stage: the champions meet the holdout, once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from segsweep import checkpoint, losses, models
from segsweep.data.cache import ImageSet
from segsweep.data.loader import Loader
from segsweep.engine import Evaluation, evaluate, prepare_model, prepare_process
from segsweep.errors import TrialError
from segsweep.metrics import scores
from segsweep.progress import BEST
from segsweep.trial import directory

HOLDOUT = "holdout.safetensors"


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
        ``trial_id`` and ``holdout_<score>`` of every score; counts lie beside the checkpoint.
        Where the checkpoint cannot be used, ``trial_id`` and ``error``.
    """
    trial_id, config_id, fold, replicate = item
    place = directory(shared.run_directory, config_id, fold, replicate)
    try:
        tensors, facts = checkpoint.load(place / BEST)
    except TrialError as error:
        return {"trial_id": trial_id, "error": str(error)}
    config, data = facts["config"], shared.holdout
    prepare_process(0, shared.cpus)
    device = torch.device("cuda" if shared.gpu else "cpu")
    # the checkpoint holds every weight, so nothing is to be fetched
    model = models.build(models.bare(config["model"]), classes=len(data.classes))
    model.load_state_dict(checkpoint.unprefixed("model", tensors))
    try:
        result = _evaluate(prepare_model(model, device), data, config, device)
    except torch.OutOfMemoryError as error:
        return {"trial_id": trial_id, "error": f"out of memory on the holdout: {error}"}
    kept = {
        "image_ids": [data.image_ids[i] for i in result.indices],
        "classes": list(data.classes),
    }
    checkpoint.save(Path(place) / HOLDOUT, {"matrix": torch.from_numpy(result.matrix)}, kept)
    found = {f"holdout_{name}": value for name, value in scores(result.matrix).items()}
    return {"trial_id": trial_id, "holdout_loss": result.loss, **found}


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
            )
        except torch.OutOfMemoryError:
            if size == 1:
                raise
        size //= 2
