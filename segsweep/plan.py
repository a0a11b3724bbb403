"""The plan: what a sweep would run and what it would cost, from one timed step a cell."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch

from segsweep import losses, models, optim
from segsweep.check import Checked
from segsweep.engine import autocast, device_facts, prepare_images, prepare_model
from segsweep.losses import weighting
from segsweep.space import Cell
from segsweep.spec import SweepSpec

TIMED_IMAGES = 4  # a timed step has at most so many images; the cost is scaled to the batch
LONG_S = 1.0  # a step on the CPU that takes longer is not repeated
LABEL_BYTES = 7  # of a kept pixel: label, anomaly, boundary, position
HISTOGRAM_BYTES = 12000  # of an image: the exact histogram of confidence
STARTUP_S = 15.0  # Ray, workers and imports, once a launch


@dataclass(frozen=True)
class CellCost:
    """One cell of the plan.

    Attributes:
        trials: at most; fewer where configs are stopped.
        parameters: of the model.
        train_ms: of one training step, a image.
        evaluate_ms: of one validation pass, a image.
        seconds: of all its trials one after the other, none stopped early.
        bytes: of all its checkpoints.
        logits_bytes: of the validation logits of its configs, should all of them finish.
    """

    cell: str
    configs: int
    trials: int
    parameters: int
    train_ms: float
    evaluate_ms: float
    seconds: float
    bytes: int
    logits_bytes: int


@dataclass(frozen=True)
class Plan:
    """A sweep before it runs."""

    name: str
    cells: list[CellCost]
    configs: int
    trials: int
    epochs: int
    images: int
    holdout_images: int
    folds: int
    concurrent: int
    device: str
    seconds: float
    bytes: int
    logits_bytes: int
    notices: tuple[str, ...]

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for ``--json``."""
        return asdict(self)


def plan(checked: Checked, on_cell: Callable[[str], None] = lambda _: None) -> Plan:
    """Measure every cell and add up.

    Args:
        checked: the sweep.
        on_cell: is told each cell's name before it is measured.
    """
    spec = checked.spec
    gpu = torch.cuda.is_available() and spec.resources.gpu != 0
    device = torch.device("cuda" if gpu else "cpu")
    concurrent = _concurrent(spec.resources.cpu, spec.resources.gpu, gpu)
    concurrent = min(concurrent, spec.max_concurrent or concurrent)
    before = torch.get_num_threads()
    torch.set_num_threads(spec.resources.cpu)
    costs = []
    try:
        for cell in checked.cells:
            on_cell(cell.name)
            costs.append(_cost(checked, cell, device))
    finally:
        torch.set_num_threads(before)
    trials = sum(cost.trials for cost in costs)
    epochs = sum(
        cost.trials * int(cell.config["train"]["epochs"])
        for cost, cell in zip(costs, checked.cells, strict=True)
    )
    return Plan(
        name=spec.name,
        cells=costs,
        configs=sum(cost.configs for cost in costs),
        trials=trials,
        epochs=epochs,
        images=len(checked.data.image_ids),
        holdout_images=len(checked.holdout.image_ids) if checked.holdout else 0,
        folds=spec.folds.count,
        concurrent=concurrent,
        device=torch.cuda.get_device_name() if gpu else "cpu",
        seconds=STARTUP_S + sum(cost.seconds for cost in costs) / concurrent,
        bytes=sum(cost.bytes for cost in costs),
        logits_bytes=round(
            min(1e9 * spec.calibration.disk_gb, sum(cost.logits_bytes for cost in costs))
        ),
        notices=checked.notices,
    )


def _concurrent(cpu: int, share: float | str, gpu: bool) -> int:
    by_cpu = max(1, (os.cpu_count() or 1) // cpu)
    if not gpu:
        return by_cpu
    each = share if isinstance(share, float) else 1.0  # auto
    return max(1, min(by_cpu, math.floor(torch.cuda.device_count() / each)))


def _cost(checked: Checked, cell: Cell, device: torch.device) -> CellCost:
    parameters, bytes_best, train, evaluate = _timed(checked, cell, device)
    runs, epochs = len(checked.spec.slots), int(cell.config["train"]["epochs"])
    trials = cell.budget * runs
    images = len(checked.data.image_ids)
    validation = images / checked.folds.k
    per_epoch = (images - validation) * train + validation * evaluate
    return CellCost(
        cell=cell.name,
        configs=cell.budget,
        trials=trials,
        parameters=parameters,
        train_ms=round(1000 * train, 3),
        evaluate_ms=round(1000 * evaluate, 3),
        seconds=round(trials * epochs * per_epoch, 1),
        # best of every trial, and the last of those that are stopped: thrice the weights more
        bytes=trials * bytes_best + (cell.budget if cell.budget > 1 else 0) * 3 * bytes_best,
        logits_bytes=_kept(checked.spec, cell)
        * logits_bytes(
            checked.spec, cell.config["model"], len(checked.data.classes), round(runs * validation)
        ),
    )


def _kept(spec: SweepSpec, cell: Cell) -> int:
    """Configs of a cell whose validation logits are kept, if all of them finish."""
    return {"none": 0, "champions": 1, "finished": cell.budget}[spec.calibration.keep]


def logits_bytes(spec: SweepSpec, model: Mapping[str, Any], classes: int, images: int) -> int:
    """Bytes of a model's logits on some images: float32, and what stands beside each pixel.

    Args:
        spec: says how many pixels of an image are kept.
        model: resolved; a mask model's queries are kept besides.
        classes: of the data set.
        images: how many.
    """
    height, width = spec.dataset.image_size
    pixel = 4 * models.out_channels(classes) + LABEL_BYTES
    total = min(spec.calibration.pixels, height * width) * pixel + HISTOGRAM_BYTES
    if "queries" in model:
        side = int(model["patch_size"])
        cells = 16 * -(-height // side) * -(-width // side)
        total += 4 * int(model["queries"]) * (cells + classes + 1)
    return images * total


def _timed(checked: Checked, cell: Cell, device: torch.device) -> tuple[int, int, float, float]:
    """Parameters, bytes of the weights, seconds an image of training and of evaluation."""
    config, classes = cell.config, len(checked.data.classes)
    # the weights cost the same, whatever they are
    model = prepare_model(models.build(models.bare(config["model"]), classes=classes), device)
    size = min(TIMED_IMAGES, int(config["train"]["batch_size"]), len(checked.data.image_ids))
    size = max(2, size)
    chosen = [i % len(checked.data.image_ids) for i in range(size)]
    images = torch.from_numpy(checked.data.images[chosen]).permute(0, 3, 1, 2)
    masks = torch.from_numpy(checked.data.masks[chosen]).long().to(device)
    ones = np.ones(classes, np.int64)  # class weights cost the same, too
    loss = losses.build(weighting.resolved(config["loss"], checked.data.classes, ones)).to(device)
    optimizer = optim.build_optimizer(
        config["train"]["optimizer"], model, lr=1e-4, weight_decay=0.0
    )

    precision = config["train"]["precision"]
    if precision == "auto":
        precision = device_facts()["precision"] if device.type == "cuda" else "fp32"

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        with autocast(device, precision):
            value = loss(model(prepare_images(images, device)), masks)
        value.backward()
        optimizer.step()

    def check() -> None:
        with torch.inference_mode(), autocast(device, precision):
            model(prepare_images(images, device))

    model.train()
    train = _measure(step, device) / size
    model.eval()
    evaluate = _measure(check, device) / size
    weights = sum(t.numel() * t.element_size() for t in model.state_dict().values())
    return sum(p.numel() for p in model.parameters()), weights, train, evaluate


def _measure(action: Callable[[], None], device: torch.device) -> float:
    """Seconds of a call. The first one warms up, and counts where it is long all the same."""
    for _ in range(2):
        began = time.perf_counter()
        action()
        if device.type == "cuda":
            torch.cuda.synchronize()
        seconds = time.perf_counter() - began
        if device.type == "cpu" and seconds > LONG_S:
            break
    return seconds
