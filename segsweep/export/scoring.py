"""What is said about an exported model: scores with intervals, and a temperature."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, stdev
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar
from torch.nn import functional as F

from segsweep import results
from segsweep.closing import HOLDOUT
from segsweep.data.cache import ImageSet
from segsweep.data.loader import Loader
from segsweep.engine import classify, prepare_images, prepare_model
from segsweep.losses import IGNORE
from segsweep.metrics import scores
from segsweep.metrics.counts import confusion
from segsweep.progress import EVIDENCE
from segsweep.rundir import Run
from segsweep.state import ConfigState, Slot
from segsweep.trial import directory

RESAMPLES: Final = 1000
INTERVAL: Final = (
    f"95 % percentile bootstrap: images are drawn {RESAMPLES} times with replacement (seed 0), "
    "each as if independent of the others"
)
LOWEST, HIGHEST = 0.05, 20.0  # temperatures that are looked at
_PIXELS = 20_000  # of an image, at most, for the temperature


def intervals(
    matrix: NDArray[np.int64], classes: Sequence[str], resamples: int = RESAMPLES
) -> dict[str, dict[str, float | None]]:
    """Every score of a split with its bootstrap interval over images.

    Args:
        matrix: (N, K, K) confusion matrices of N images.
        classes: names of the K classes.
        resamples: how often N images are drawn.

    Returns:
        name → ``value``, ``low``, ``high``; None where undefined, the ends too where there is
        one image only.
    """
    value = scores(matrix, classes)
    rng = np.random.default_rng(0)
    count = len(matrix)
    drawn: dict[str, list[float]] = {name: [] for name in value}
    for _ in range(resamples if count > 1 else 0):
        for name, found in scores(matrix[rng.integers(count, size=count)], classes).items():
            if found is not None:
                drawn[name].append(found)
    result: dict[str, dict[str, float | None]] = {}
    for name, point in value.items():
        ends = np.percentile(drawn[name], [2.5, 97.5]) if drawn[name] else (None, None)
        low, high = (None if end is None else float(end) for end in ends)
        result[name] = {"value": point, "low": low, "high": high}
    return result


def of_config(run: Run, config: ConfigState, classes: Sequence[str]) -> dict[str, Any]:
    """How the config did in the cross-validation: by fold, and over all validation images."""
    by_slot = {
        slot: value
        for slot, value in config.scores(run.spec.metric.goal).items()
        if slot in run.spec.slots
    }
    values = list(by_slot.values())
    found: dict[str, Any] = {
        "metric": run.spec.metric.name,
        "goal": run.spec.metric.goal,
        "folds": [{"fold": f, "replicate": r, "value": v} for (f, r), v in by_slot.items()],
        "mean": fmean(values),
        "std": stdev(values) if len(values) > 1 else None,
        "interval": INTERVAL,
    }
    parts = [evidence(run, config, slot, EVIDENCE) for slot in by_slot if slot[1] == 0]
    known = [part for part in parts if part is not None]
    if known and len(known) == len(parts):
        found["out_of_fold"] = {
            "images": sum(len(part) for part in known),
            "scores": intervals(np.concatenate(known), classes),
        }
    return found


def evidence(run: Run, config: ConfigState, slot: Slot, name: str) -> NDArray[np.int64] | None:
    """(N, K, K) counts that a trial has left; None where there are none, or damaged ones."""
    found = results.read_evidence(directory(run.path, config.config_id, *slot) / name)
    return None if found is None else found[0]


def holdout_of_fold(
    run: Run, config: ConfigState, slot: Slot, classes: Sequence[str]
) -> dict[str, Any] | None:
    """What the closing stage has found for one fold model; None where it scored none."""
    matrix = evidence(run, config, slot, HOLDOUT)
    if matrix is None:
        return None
    return {"images": len(matrix), "scores": intervals(matrix, classes)}


@dataclass(frozen=True)
class Judged:
    """A model on images that it has not seen: counts (N, K, K), and the fitted temperature."""

    matrix: NDArray[np.int64]
    temperature: float


@torch.inference_mode()
def judge(model: torch.nn.Module, data: ImageSet, config: Mapping[str, Any]) -> Judged:
    """Count pixels and fit a temperature on images that no member of the model was trained on.

    A temperature changes no mask, so scores of masks on these images stay honest; scores of the
    probabilities would not.
    """
    model = prepare_model(model, torch.device("cpu")).eval()
    classes, rng = len(data.classes), np.random.default_rng(0)
    loader = Loader(
        data,
        range(len(data.image_ids)),
        batch_size=int(config["train"]["batch_size"]),
        seed=0,
        shuffle=False,
    )
    matrices, kept, truth = [], [], []
    for batch in loader.epoch(1):
        target = batch.masks.long()
        logits = model(prepare_images(batch.images, torch.device("cpu")))
        matrices.append(confusion(classify(logits), target, classes))
        for row, labels in zip(two_sided(logits), target, strict=True):
            valid = np.flatnonzero((labels != IGNORE).numpy().ravel())
            chosen = rng.permutation(valid)[:_PIXELS]
            kept.append(row.flatten(1)[:, chosen].T)
            truth.append(labels.flatten()[chosen])
    counts: NDArray[np.int64] = torch.cat(matrices).numpy()
    return Judged(counts, fit_temperature(torch.cat(kept), torch.cat(truth)))


def two_sided(logits: torch.Tensor) -> torch.Tensor:
    """(N, 1, H, W) logits z of a binary head as the two classes' (0, z); others as they are."""
    if logits.shape[1] != 1:
        return logits
    return torch.cat([torch.zeros_like(logits), logits], dim=1)


def fit_temperature(logits: torch.Tensor, truth: torch.Tensor) -> float:
    """The temperature of least negative log-likelihood (Guo et al. 2017, arXiv:1706.04599).

    Args:
        logits: (N, K).
        truth: (N,) classes.

    Returns:
        Between ``LOWEST`` and ``HIGHEST``; 1 where there are no pixels. The likelihood has one
        minimum, since it is convex in 1/T.
    """
    if not len(truth):
        return 1.0
    exact = logits.double()

    def loss(log_t: float) -> float:
        return float(F.cross_entropy(exact / np.exp(log_t), truth))

    ends = (float(np.log(LOWEST)), float(np.log(HIGHEST)))
    best = minimize_scalar(loss, bounds=ends, method="bounded", options={"xatol": 1e-4})
    return float(np.exp(best.x))


def inside(temperature: float) -> bool:
    """Is a fitted temperature away from both ends of what was looked at?"""
    return 1.01 * LOWEST < temperature < HIGHEST / 1.01


def example_images(place: Path) -> NDArray[np.uint8] | None:
    """A few validation images (N, H, W, 3) that a trial has kept; None where they are damaged."""
    found = results.read_evidence(place / EVIDENCE, "examples.image")
    return None if found is None else found[0].astype(np.uint8)
