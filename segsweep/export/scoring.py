"""What is said about an exported model: scores with intervals, and a temperature."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from segsweep import pixelcounts
from segsweep.calibration.temperature import Fit, fit_temperature
from segsweep.closing import HOLDOUT
from segsweep.compare.ranking import undefined
from segsweep.data.cache import ImageSet
from segsweep.data.loader import Loader
from segsweep.engine import classify, prepare_images, prepare_model
from segsweep.errors import CalibrationError
from segsweep.export.intervals import groups_of, intervals, remarks, words
from segsweep.losses import IGNORE
from segsweep.metrics.counts import confusion
from segsweep.progress import EVIDENCE
from segsweep.rundir import Run
from segsweep.state import ConfigState, SearchState, Slot
from segsweep.trial import directory

_PIXELS = 20_000  # of an image, at most, for the temperature


def of_config(run: Run, config: ConfigState, classes: Sequence[str]) -> dict[str, Any]:
    """How the config did in the cross-validation: by fold, and over all validation images.

    Mean and standard deviation are over folds, replicates averaged, as ``compare`` has them. There
    is no mean over some of the folds: it is None where the metric is undefined on one.
    """
    by_slot = {
        slot: value
        for slot, value in config.scores(run.spec.metric.goal).items()
        if slot in run.spec.slots
    }
    slots = sorted(slot for slot in config.trials if slot in run.spec.slots)
    values = []
    if len(by_slot) == len(slots):
        numbers = sorted({fold for fold, _ in slots})
        values = [fmean(v for slot, v in by_slot.items() if slot[0] == fold) for fold in numbers]
    replicates = run.spec.replicates
    found: dict[str, Any] = {
        "metric": run.spec.metric.name,
        "goal": run.spec.metric.goal,
        "folds": [{"fold": f, "replicate": r, "value": by_slot.get((f, r))} for f, r in slots],
        "mean": fmean(values) if values else None,
        "std": stdev(values) if len(values) > 1 else None,
        "replicates": replicates,
        "undefined": None if values else undefined_on(run, config),
        "interval": words(run),
    }
    each = [_out_of_fold(run, config, slots, replicate) for replicate in range(replicates)]
    known = [one for one in each if one is not None]
    if known and len(known) == replicates and all(o.image_ids == known[0].image_ids for o in known):
        together = Counted(np.stack([one.matrix for one in known]), known[0].image_ids)
        precision = config.config["train"]["precision"]
        found["out_of_fold"] = together.described(run, classes, precision)
    return found


def _out_of_fold(
    run: Run, config: ConfigState, slots: Sequence[Slot], replicate: int
) -> Counted | None:
    """All validation images, each counted by the fold model that has not seen it."""
    parts = [evidence(run, config, slot, EVIDENCE) for slot in slots if slot[1] == replicate]
    known = [part for part in parts if part is not None]
    if not known or len(known) < len(parts):
        return None
    return Counted(
        np.concatenate([part.matrix for part in known]),
        [image for part in known for image in part.image_ids],
    )


def undefined_on(run: Run, config: ConfigState) -> str | None:
    """On which folds of the config the metric is undefined, and why."""
    state = SearchState(run.metric, [])
    state.configs = {config.config_id: config}
    return undefined(run.spec, state)


@dataclass(frozen=True)
class Counted:
    """(N, K, K) confusion matrices of N images, or (R, N, K, K) of R replicates on them."""

    matrix: NDArray[np.int64]
    image_ids: Sequence[str]

    def described(self, run: Run, classes: Sequence[str], precision: str) -> dict[str, Any]:
        """How many images there are, what they were computed in, every score with its interval."""
        groups = groups_of(run, self.image_ids)
        drawn = len(set(groups)) if groups else len(self.image_ids)
        found = intervals(self.matrix, classes, groups)
        kind = "groups" if groups else "images"
        return {
            "images": len(self.image_ids),
            **({"groups": drawn} if groups else {}),
            "precision": precision,
            "replicates": len(self.matrix) if self.matrix.ndim == 4 else 1,
            "scores": found,
            "remarks": list(remarks(found, kind, drawn)),
        }


def evidence(run: Run, config: ConfigState, slot: Slot, name: str) -> Counted | None:
    """What a trial has counted; None where there is nothing, or it is damaged."""
    found = pixelcounts.read(directory(run.path, config.config_id, *slot) / name)
    return None if found is None else Counted(found[0], found[1]["image_ids"])


def holdout_of_fold(
    run: Run, config: ConfigState, slot: Slot, classes: Sequence[str]
) -> dict[str, Any] | None:
    """What the closing stage has found for one fold model; None where it scored none."""
    counted = evidence(run, config, slot, HOLDOUT)
    precision = config.config["train"]["precision"]
    return None if counted is None else counted.described(run, classes, precision)


@torch.inference_mode()
def judge(
    model: torch.nn.Module, data: ImageSet, config: Mapping[str, Any]
) -> tuple[Counted, Fit | CalibrationError]:
    """Count pixels and fit a temperature on images that no member of the model was trained on.

    A temperature changes no mask, so scores of masks on these images stay honest; scores of the
    probabilities would not.

    Returns:
        The counts, and the fit or why there can be none.
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
        for row, labels in zip(logits, target, strict=True):
            valid = np.flatnonzero((labels != IGNORE).numpy().ravel())
            chosen = rng.permutation(valid)[:_PIXELS]
            kept.append(row.flatten(1)[:, chosen].T)
            truth.append(labels.flatten()[chosen])
    counted = Counted(torch.cat(matrices).numpy(), data.image_ids)
    pixels, labels = torch.cat(kept).float().numpy(), torch.cat(truth).to(torch.uint8).numpy()
    try:
        return counted, fit_temperature(pixels, labels, where="the holdout")
    except CalibrationError as error:
        return counted, error


def examples(place: Path) -> tuple[NDArray[np.uint8], NDArray[np.uint8]] | None:
    """A few validation images (N, H, W, 3) that a trial has kept, and its masks of them.

    None where they are damaged.
    """
    found = [pixelcounts.read(place / EVIDENCE, f"examples.{n}") for n in ("image", "prediction")]
    images, masks = found
    if images is None or masks is None:
        return None
    return images[0].astype(np.uint8), masks[0].astype(np.uint8)


@dataclass(frozen=True)
class Masks:
    """How many pixels of the shipped model's masks are not the trial's own."""

    images: int
    pixels: int
    differing: int

    def as_dict(self) -> dict[str, Any]:
        """Plain values, with their share."""
        share = self.differing / self.pixels if self.pixels else 0.0
        return {**asdict(self), "share": share}


@torch.inference_mode()
def masks(model: torch.nn.Module, place: Path) -> Masks | None:
    """Compare the model's masks, in float32, with those that its trial has kept.

    A trial in half precision rounds logits, so that those close to a tie may fall to either side.
    """
    kept = examples(place)
    if kept is None:
        return None
    images = torch.from_numpy(kept[0]).permute(0, 3, 1, 2)
    found = [
        classify(model(prepare_images(one[None], torch.device("cpu"))))[0].numpy() for one in images
    ]
    differing = sum(int((a != b).sum()) for a, b in zip(found, kept[1], strict=True))
    return Masks(len(images), int(kept[1].size), differing)
