"""The closing stage: the champions meet the holdout, once."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from segsweep import checkpoint, losses, models
from segsweep.data.cache import ImageSet
from segsweep.data.loader import Loader
from segsweep.engine import evaluate, prepare_model, prepare_process
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
    plain = {**config["model"], "encoder_weights": "none"}
    model_config = plain if "encoder_weights" in config["model"] else config["model"]
    model = models.build(model_config, classes=len(data.classes))
    model.load_state_dict(checkpoint.unprefixed("model", tensors))
    result = evaluate(
        prepare_model(model, device),
        Loader(
            data,
            range(len(data.image_ids)),
            batch_size=config["train"]["batch_size"],
            seed=0,
            shuffle=False,
        ).epoch(1),
        losses.build(config["loss"]).to(device),
        classes=len(data.classes),
        device=device,
        precision=config["train"]["precision"],
    )
    kept = {
        "image_ids": [data.image_ids[i] for i in result.indices],
        "classes": list(data.classes),
    }
    checkpoint.save(Path(place) / HOLDOUT, {"matrix": torch.from_numpy(result.matrix)}, kept)
    found = {f"holdout_{name}": value for name, value in scores(result.matrix).items()}
    return {"trial_id": trial_id, "holdout_loss": result.loss, **found}
