"""``evaluate``: both sweeps for a model that segsweep did not train.

The first dataset has the labels that T is fitted on: its images fall into two halves, and each
is reported with the T of the other. The other datasets are scored with the T of all of it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import torch
from rich.console import Console
from torch import nn

from segsweep import models, rundir
from segsweep.calibrate import compute, logits_file
from segsweep.calibrate.logits_file import VALIDATION, Logits
from segsweep.calibrate.model import Subject, Trained, judge, notes_of
from segsweep.calibrate.options import overridden
from segsweep.calibrate.run import Outcome, save, track
from segsweep.calibrate.targets import Target, foreign, told
from segsweep.calibrate.temperatures import grid
from segsweep.engine import device_facts, prepare_model, prepare_process
from segsweep.errors import DataError, Problem, SpecError
from segsweep.identity import digest
from segsweep.models import weightfile
from segsweep.opening import CACHE
from segsweep.spec import SweepSpec
from segsweep.spec.shape import Scored

BATCH: Final = 8


def evaluate(
    model: str | Mapping[str, Any],
    weights: Path,
    datasets: Mapping[str, Scored],
    out: Path,
    *,
    overrides: Sequence[str] = (),
    precision: str = "fp32",
    seed: int = 0,
    console: Console | None = None,
) -> Outcome:
    """Calibrate and judge a model from a file of weights.

    Args:
        model: a name with options, as a level of ``factors.model``.
        weights: a file of all its weights.
        datasets: by name; the first has the model's classes, in its order, and an image size.
        out: the folder that logits and results go to.
        overrides: ``calibration.key=value`` strings.
        precision: of the forward pass.
        seed: of the halves, and of pixels that are drawn.
        console: where progress is shown; None shows nothing.

    Raises:
        UserError: keys that do not fit, unusable data, and so on; nothing was written then.
    """
    console = console or Console(quiet=True)
    first = next(iter(datasets.values()))
    if first.image_size is None:
        hint = "write image_size=192x256, the height and width that the model was trained with"
        raise SpecError(Problem("has no image_size", f"dataset {next(iter(datasets))}", hint=hint))
    options = {"name": model} if isinstance(model, str) else dict(model)
    resolved = models.resolve({**options, "weights": str(weights)})
    spec = overridden(_spec(out, resolved), overrides, {})
    lock = rundir.Lock(out, "evaluate")
    try:
        with console.status("reading the images"):
            targets = _targets(datasets, first.image_size, out)
        built = _build(resolved, weights, len(targets[VALIDATION].classes))
        sha = weightfile.digest(weights)
        config_id = digest([resolved, sha, targets[VALIDATION].fingerprint])[:12]
        logits, computed = {}, 0
        for name, target in targets.items():
            with console.status(f"computing logits of {name}"):
                draw = (spec.calibration.pixels, seed)
                found, made = _logits(built, target, config_id, sha, precision, draw, out)
            logits[name], computed = found, computed + made
        label = models.title(resolved)
        trained = [Trained(None, None, sha, logits)]
        names = {VALIDATION: next(iter(datasets))}
        subject = Subject(config_id, label, str(resolved["name"]), label, trained, names)
        asked = [name for name in targets if targets[name].left_out]
        scale = grid(spec.calibration.temperatures)
        with console.status("sweeping temperatures and scores"):
            judged = judge(subject, scale, spec.calibration.scores, asked=asked, seed=seed)
        save(out, [judged], targets[VALIDATION].fingerprint)
    finally:
        lock.release()
    warnings = track(spec, out, [judged])
    notes = [*notes_of([judged]), *told(targets)]
    return Outcome(out, [judged], computed, len(targets) - computed, notes, scale, warnings)


def _spec(out: Path, model: Mapping[str, Any]) -> SweepSpec:
    """Settings as of a sweep, for what both sweeps and W&B read of it."""
    name = re.sub(r"[^A-Za-z0-9_.-]", "_", out.resolve().name).lstrip("_.-") or "evaluate"
    return SweepSpec(name=name[:100], factors={"model": [dict(model)], "loss": ["none"]})


def _targets(datasets: Mapping[str, Scored], size: tuple[int, int], out: Path) -> dict[str, Target]:
    """By name; the first one is the validation data."""
    found: dict[str, Target] = {}
    classes: tuple[str, ...] | None = None
    for name, wanted in datasets.items():
        target = foreign(
            name, wanted, classes=classes, image_size=size, cache_dir=out.parent / CACHE
        )
        if classes is None:
            classes = target.classes
            if len(classes) < 2:
                what = f"has {len(classes)} classes that are no anomaly; there must be two at least"
                raise DataError(Problem(what, f"dataset {name}"))
        found[name if found else VALIDATION] = target
    return found


def _build(resolved: Mapping[str, Any], weights: Path, classes: int) -> nn.Module:
    """The model with exactly these weights.

    Raises:
        WeightsError: every key and shape that does not fit.
    """
    state, _ = weightfile.read(weights)
    model = models.build(models.bare(resolved), classes=classes)
    weightfile.load_exactly(model, state, models.title(resolved))
    return model


def _logits(
    model: nn.Module,
    target: Target,
    config_id: str,
    sha: str,
    precision: str,
    draw: tuple[int, int],
    out: Path,
) -> tuple[Logits, bool]:
    """Of all images of a dataset, and whether they had to be computed."""
    rows = list(range(len(target.data.image_ids)))
    height, width = target.labels.shape[1:]
    facts = compute.header(
        target,
        rows,
        checkpoint_hash=sha,
        precision=precision,
        trained_on=[height, width],
        draw=draw,
        own={"config_id": config_id, "fold": None, "replicate": None},
    )
    path = out / f"logits.{target.name}.safetensors"
    if logits_file.mismatch(path, facts) is None:
        return logits_file.load(path, facts), False
    device = torch.device(device_facts()["type"])
    prepare_process(0, torch.get_num_threads(), device)
    found = compute.collect(prepare_model(model, device), target, rows, facts, device, BATCH)
    logits_file.save(path, found)
    return found, True
