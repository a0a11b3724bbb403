"""The keys of a sweep file, their types and defaults; ``SweepSpec`` is the whole of it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, Strict

from segsweep.space import Parameter

Positive = Annotated[int, Field(ge=1)]
NAME = r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,99}$"
# what W&B takes in WANDB_MODE, and what it means here
WANDB_MODES = {
    "": "offline", "offline": "offline", "dryrun": "offline", "online": "online",
    "run": "online", "shared": "online", "disabled": "disabled",
}  # fmt: skip


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)


class Dataset(_Section):
    """Where the images come from and how large they are; further keys are the source's own."""

    model_config = ConfigDict(extra="allow", strict=True, frozen=True, allow_inf_nan=False)

    name: str = "synthetic_lesions"
    root: str | None = None
    image_size: Annotated[tuple[Positive, Positive], Strict(False)] = (96, 128)
    holdout: Annotated[float, Field(ge=0, lt=1)] | Literal["official"] = 0.2
    leave_out: list[str] = []

    @property
    def options(self) -> dict[str, Any]:
        """The keys that are the source's own."""
        return dict(self.model_extra or {})


class FoldsSpec(_Section):
    """Cross-validation: k folds, of which the first ``run`` are run.

    ``stratify_by`` is an attribute of the images, or ``classes`` for the classes in their masks.
    """

    k: Annotated[int, Field(ge=2)] = 5
    stratify_by: str | None = None
    group_by: str | None = None
    run: Positive | None = None

    @property
    def count(self) -> int:
        """How many folds a config must finish."""
        return self.k if self.run is None else self.run


class Train(_Section):
    """How one trial is trained."""

    epochs: Annotated[int, Field(ge=1, le=1_000_000)] = 50
    batch_size: Positive = 16
    optimizer: str = "adamw"
    lr: Annotated[float, Field(gt=0)] = 1e-3
    weight_decay: Annotated[float, Field(ge=0)] = 1e-2
    schedule: str = "cosine"
    patience: Positive | None = None
    augment: str = "light"
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    grad_clip: Annotated[float, Field(gt=0)] | None = None


class Metric(_Section):
    """What is compared, and which way is better; which costly scores are recorded beside it."""

    name: str = "val/iou"
    goal: Literal["maximize", "minimize"] = "maximize"
    also: list[str] = []


class EarlyStopping(_Section):
    """Which trials get more epochs; ``search.rungs`` has the rules."""

    type: Literal["asha", "asha_promote", "halving", "hyperband", "median", "none"] = "asha"
    grace_period: Positive = 1
    reduction_factor: Annotated[int, Field(ge=2)] = 3
    compare_within: Literal["cell", "sweep"] = "cell"


class RaceSpec(_Section):
    """Whether a config deserves its next folds."""

    rule: Literal["predictive", "forgiving", "none"] = "predictive"
    p: Annotated[float, Field(gt=0, lt=1)] = 0.05


class Resources(_Section):
    """What one trial occupies; gpu: auto is one GPU a trial where the cluster has any."""

    cpu: Annotated[int, Field(ge=1, le=100_000)] = 1
    gpu: Annotated[float, Field(ge=0)] | Literal["auto"] = "auto"


class Wandb(_Section):
    """The file (or --set) wins over WANDB_MODE; without either, offline."""

    mode: Literal["offline", "online", "disabled"] | None = None


class Temperatures(_Section):
    """The temperatures of the sweep over probabilities, evenly spaced in their logarithm."""

    min: Annotated[float, Field(gt=0, le=1000)] = 0.25
    max: Annotated[float, Field(gt=0, le=1000)] = 4.0
    steps: Annotated[int, Field(ge=2, le=1000)] = 64


class Scored(_Section):
    """A dataset that models are scored on after training; further keys are the source's own.

    ``anomaly`` names the classes that no model was trained on, ``image_size`` is the sweep's where
    it is left out.
    """

    model_config = ConfigDict(extra="allow", strict=True, frozen=True, allow_inf_nan=False)

    name: str
    root: str | None = None
    image_size: Annotated[tuple[Positive, Positive], Strict(False)] | None = None
    anomaly: list[str] = []

    @property
    def options(self) -> dict[str, Any]:
        """The keys that are the source's own."""
        return dict(self.model_extra or {})


class Calibration(_Section):
    """What ``calibrate`` sweeps, and whose validation logits ``launch`` keeps for it.

    ``pixels`` of an image are kept at most; ``disk_gb`` caps all that ``launch`` keeps.
    """

    temperatures: Temperatures = Temperatures()
    scores: Annotated[list[str], Field(min_length=1)] = ["msp", "max_logit", "max_entropy"]
    keep: Literal["finished", "champions", "none"] = "finished"
    pixels: Annotated[int, Field(ge=100)] = 20_000
    disk_gb: Annotated[float, Field(ge=0)] = 10.0
    datasets: dict[Annotated[str, Field(pattern=NAME)], Scored] = {}


class SweepSpec(_Section):
    """A whole sweep file with its defaults."""

    name: Annotated[str, Field(pattern=NAME)]
    project: str = "segsweep"
    entity: str | None = None
    description: str = ""
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 0
    dataset: Dataset = Dataset()
    folds: FoldsSpec = FoldsSpec()
    factors: dict[str, Annotated[list[Any], Field(min_length=1)]]
    exclude: list[dict[str, Any]] = []
    parameters: dict[str, Parameter] = {}
    method: Literal["bayes", "random", "grid"] = "bayes"
    sampler: Literal["tpe", "gp", "cmaes", "random"] = "tpe"
    configs_per_cell: Positive | None = None
    metric: Metric = Metric()
    train: Train = Train()
    early_stopping: EarlyStopping = EarlyStopping()
    race: RaceSpec = RaceSpec()
    replicates: Positive = 1
    resources: Resources = Resources()
    max_concurrent: Positive | None = None
    max_failures: Annotated[int, Field(ge=0)] = 3
    storage_path: str = "runs"
    tracking: list[Literal["wandb", "mlflow"]] = ["wandb"]
    wandb: Wandb = Wandb()
    calibration: Calibration = Calibration()

    @property
    def run_directory(self) -> Path:
        """``<storage_path>/<name>``, relative to the working directory."""
        return Path(self.storage_path) / self.name

    @property
    def slots(self) -> list[tuple[int, int]]:
        """Fold and replicate of each trial of a config, in the order in which they run."""
        return [
            (fold, replicate)
            for replicate in range(self.replicates)
            for fold in range(self.folds.count)
        ]

    @property
    def wandb_mode(self) -> str:
        """The file's word, else the environment's, else offline."""
        return self.wandb.mode or WANDB_MODES.get(os.environ.get("WANDB_MODE", ""), "offline")

    def better(self, a: float, b: float) -> bool:
        """Is metric value ``a`` better than ``b``?"""
        return a > b if self.metric.goal == "maximize" else a < b


def to_plain(spec: SweepSpec) -> dict[str, Any]:
    """Every key with its default, as plain values for ``resolved.yaml``."""
    plain = spec.model_dump(mode="json")
    plain["parameters"] = {
        name: parameter.model_dump(mode="json", exclude_unset=True)
        for name, parameter in spec.parameters.items()
    }
    return plain
