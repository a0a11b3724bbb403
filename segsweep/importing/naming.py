"""What W&B's files call a parameter, and where it stands here."""

from __future__ import annotations

from segsweep import cells
from segsweep.importing.conversion import Untranslatable
from segsweep.losses import LOSSES
from segsweep.models import MODELS
from segsweep.registry import options
from segsweep.spec import Train

# what a parameter is often called, without case and with _ for - and spaces → ours
PATHS: dict[str, str] = {
    "lr": "train.lr", "learning_rate": "train.lr", "base_lr": "train.lr",
    "batch_size": "train.batch_size", "bs": "train.batch_size", "batchsize": "train.batch_size",
    "epochs": "train.epochs", "epoch": "train.epochs", "num_epochs": "train.epochs",
    "n_epochs": "train.epochs", "max_epochs": "train.epochs",
    "weight_decay": "train.weight_decay", "wd": "train.weight_decay",
    "optimizer": "train.optimizer", "optim": "train.optimizer", "opt": "train.optimizer",
    "schedule": "train.schedule", "scheduler": "train.schedule", "lr_scheduler": "train.schedule",
    "augment": "train.augment", "augmentation": "train.augment",
    "grad_clip": "train.grad_clip", "clip_grad": "train.grad_clip",
    "gradient_clip_val": "train.grad_clip", "patience": "train.patience",
    "precision": "train.precision", "gamma": "loss.focal.gamma",
    "focal_gamma": "loss.focal.gamma", "seed": "seed", "random_seed": "seed",
    "model": "model", "arch": "model", "architecture": "model", "network": "model",
    "model_name": "model", "encoder": "encoder", "backbone": "encoder",
    "encoder_name": "encoder", "loss": "loss", "criterion": "loss", "loss_fn": "loss",
    "loss_function": "loss", "image_size": "dataset.image_size",
    "img_size": "dataset.image_size", "input_size": "dataset.image_size",
    "folds": "folds.k", "k_folds": "folds.k", "n_folds": "folds.k", "num_folds": "folds.k",
}  # fmt: skip

# sections that mean nothing by themselves: what is below them is as if it were not nested
AROUND = {"hparams", "hyperparameters", "hyperparams", "params", "config", "args"}
_TRAIN = {"train", "training", "trainer"}
_OPTIMIZER = _TRAIN | {"optimizer", "optim", "opt"}
_DATA = _TRAIN | {"data", "dataset", "datamodule", "dataloader"}
_MODEL = {"model", "network", "net"}
_LOSS = {"loss", "criterion", "loss_fn", "loss_function"}
# ours → the sections below which a name of PATHS means it
BELOW: dict[str, set[str]] = {
    "train.lr": _OPTIMIZER, "train.weight_decay": _OPTIMIZER, "train.grad_clip": _OPTIMIZER,
    "train.optimizer": _OPTIMIZER, "train.schedule": _OPTIMIZER, "train.batch_size": _DATA,
    "train.augment": _DATA, "train.epochs": _TRAIN, "train.precision": _TRAIN,
    "train.patience": _TRAIN | {"early_stopping", "earlystopping", "early_stop"},
    "loss.focal.gamma": _LOSS | {"focal", "focal_loss"}, "seed": _TRAIN,
    "model": _MODEL | _TRAIN, "encoder": _MODEL, "loss": _LOSS | _TRAIN,
    "dataset.image_size": _DATA, "folds.k": _DATA | {"cv", "cross_validation"},
}  # fmt: skip
FACTORS = ("model", "encoder", "loss")


def parts_of(name: str) -> list[str]:
    """The words of a dotted name that say what it is, without case."""
    parts = name.lower().replace("-", "_").replace(" ", "_").split(".")
    while len(parts) > 1 and parts[0] in AROUND:
        del parts[0]
    while len(parts) > 1 and parts[-1] in ("name", "type"):  # optimizer: {name: …}
        del parts[-1]
    return parts


def path_of(name: str) -> str:
    """Our path for a parameter's name.

    A name that is not nested is looked up. Of a nested one the end is, where its sections mean
    the same: ``optim.lr`` is the learning rate, ``discriminator.lr`` another. What is nested as
    our paths are, ``loss.focal.alpha``, is one of them.

    Raises:
        Untranslatable: there is none.
    """
    *sections, end = parts = parts_of(name)
    plain, known = ".".join(parts), PATHS.get(end)
    if not sections:
        if known is None:
            raise Untranslatable("is no setting here")
        return known
    if known is not None and set(sections) <= BELOW[known]:
        return known
    if _is_ours(parts):
        if plain in cells.FIXED:
            raise Untranslatable("belongs to the levels of factors.model here")
        return plain
    if known is not None:
        what = f"{end} below {'.'.join(sections)} may be another than {written(known)}"
        raise Untranslatable(what, f"if it is the same, write it as {written(known)}")
    raise Untranslatable("is no setting here")


def _is_ours(parts: list[str]) -> bool:
    """Is it a path of our trial configs, in a sweep of some models and losses?"""
    match parts:
        case ["train", key]:
            return key in Train.model_fields
        case ["model", key]:
            own = {option for model in MODELS.values() for option in options(model).model_fields}
            return key in own or f"model.{key}" in cells.FIXED
        case ["loss", term, key] if term in LOSSES:
            return key == "weight" or key in options(LOSSES[term]).model_fields
    return False


def is_guess(name: str) -> bool:
    """Is what the name means to be read from the rest of the file? StepLR has a gamma, too."""
    return parts_of(name) == ["gamma"]


def written(path: str) -> str:
    """Where our file says it."""
    if path == "encoder":
        return "factors.model"
    return f"factors.{path}" if path in FACTORS else path
