"""The plan: what a sweep would run and what it would cost, from one timed step a cell."""

from __future__ import annotations

import itertools
import math
import os
import random
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch

from segsweep import losses, models, optim
from segsweep.check import Checked
from segsweep.engine import autocast, device_facts, prepare_images, prepare_model
from segsweep.losses import weighting
from segsweep.space import BATCH_SIZE, EPOCHS, Cell
from segsweep.spec import SweepSpec
from segsweep.workload import mean_epochs

TIMED_IMAGES = 4  # a timed step has at most so many images; the cost is scaled to the batch
COSTLY = (BATCH_SIZE, "train.optimizer", "train.precision")  # beside the model's own options
VARIANTS = 6  # configs of a cell that are timed, where what they cost is searched
LONG_S = 1.0  # a step on the CPU that takes longer is not repeated
LABEL_BYTES = 7  # of a kept pixel: label, anomaly, boundary, position
HISTOGRAM_BYTES = 12000  # of an image: the exact histogram of confidence
STARTUP_S = 15.0  # Ray, workers and imports, once a launch


@dataclass(frozen=True)
class CellCost:
    """One cell of the plan.

    Attributes:
        trials: at most; fewer where configs are stopped.
        epochs: of a trial, on average over what may be drawn.
        epochs_most: of a trial, at the most.
        parameters: of the model; of the largest where its size is searched.
        parameters_least: of the smallest.
        train_ms: of one training step, a image; this and what follows is the mean over the models,
            batch sizes, optimizers and precisions that may be drawn.
        evaluate_ms: of one validation pass, a image.
        seconds: of all its trials one after the other, none stopped early.
        bytes: of all its checkpoints.
        logits_bytes: of the validation logits of its configs, should all of them finish.
    """

    cell: str
    configs: int
    trials: int
    epochs: float
    epochs_most: int
    parameters: int
    parameters_least: int
    train_ms: float
    evaluate_ms: float
    seconds: float
    bytes: int
    logits_bytes: int


@dataclass(frozen=True)
class Plan:
    """A sweep before it runs.

    Attributes:
        epochs: of all trials; where epochs are searched, what is to be expected.
        epochs_most: the same, were every trial the longest that may be drawn.
    """

    name: str
    cells: list[CellCost]
    configs: int
    trials: int
    epochs: int
    epochs_most: int
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
    return Plan(
        name=spec.name,
        cells=costs,
        configs=sum(cost.configs for cost in costs),
        trials=trials,
        epochs=round(sum(cost.trials * cost.epochs for cost in costs)),
        epochs_most=sum(cost.trials * cost.epochs_most for cost in costs),
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
    found = [(_timed(checked, config, device), share) for config, share in variants(cell)]

    def mean(of: Callable[[_Step], float]) -> float:
        return sum(share * of(step) for step, share in found)

    runs, epochs = len(checked.spec.slots), mean_epochs(cell)
    trials, images = cell.budget * runs, len(checked.data.image_ids)
    validation = images / checked.folds.k
    train, evaluate = mean(lambda step: step.train), mean(lambda step: step.evaluate)
    per_epoch = (images - validation) * train + validation * evaluate
    sizes = [step.parameters for step, _ in found]
    classes, held = len(checked.data.classes), round(runs * validation)
    kept = mean(lambda step: logits_bytes(checked.spec, step.model, classes, held))
    # best of every trial, and the last of those that are stopped: thrice the weights more
    checkpoints = trials + (cell.budget if cell.budget > 1 else 0) * 3
    return CellCost(
        cell=cell.name,
        configs=cell.budget,
        trials=trials,
        epochs=epochs,
        epochs_most=cell.bounds(EPOCHS)[1],
        parameters=max(sizes),
        parameters_least=min(sizes),
        train_ms=round(1000 * train, 3),
        evaluate_ms=round(1000 * evaluate, 3),
        seconds=round(trials * epochs * per_epoch, 1),
        bytes=round(checkpoints * mean(lambda step: step.bytes)),
        logits_bytes=round(_kept(checked.spec, cell) * kept),
    )


def variants(cell: Cell, most: int = VARIANTS) -> list[tuple[dict[str, Any], float]]:
    """Configs of a cell that differ in what they cost, each with its share of what may be drawn.

    Args:
        cell: of the sweep.
        most: where there are more combinations, about so many of them stand for all: a Latin
            hypercube, in which each parameter takes its values evenly.
    """
    values = {
        path: cell.own(path)
        for path in cell.parameters
        if path in COSTLY or path.startswith("model.")
    }
    if BATCH_SIZE in values:  # larger batches are timed with so many images all the same
        values[BATCH_SIZE] = [min(TIMED_IMAGES, int(v)) for v in values[BATCH_SIZE]]  # type: ignore[arg-type]
    counts = [Counter(own) for own in values.values()]
    if math.prod(len(count) for count in counts) <= most:
        shares = [{value: n / count.total() for value, n in count.items()} for count in counts]
        weighted = {
            tuple(value for value, _ in pairs): math.prod(share for _, share in pairs)
            for pairs in itertools.product(*(own.items() for own in shares))
        }
    else:
        weighted = {drawn: n / most for drawn, n in _hypercube(list(values.values()), most).items()}
    return [
        (cell.fill(dict(zip(values, combination, strict=True))), share)
        for combination, share in weighted.items()
    ]


def _hypercube(values: Sequence[Sequence[Any]], size: int) -> Counter[tuple[Any, ...]]:
    """Draws that take the values of each axis evenly, and how often each came."""
    rng, columns = random.Random(0), []  # noqa: S311 - no secret
    for own in values:
        places = [int((i + 0.5) / size * len(own)) for i in range(size)]
        rng.shuffle(places)
        columns.append([own[place] for place in places])
    return Counter(zip(*columns, strict=True))


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


@dataclass(frozen=True)
class _Step:
    """What was measured of one config: its weights in bytes, and seconds an image."""

    model: Mapping[str, Any]
    parameters: int
    bytes: int
    train: float
    evaluate: float


def _timed(checked: Checked, config: Mapping[str, Any], device: torch.device) -> _Step:
    """One training step and one validation pass of a config."""
    classes = len(checked.data.classes)
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
    parameters = sum(p.numel() for p in model.parameters())
    return _Step(config["model"], parameters, weights, train, evaluate)


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
