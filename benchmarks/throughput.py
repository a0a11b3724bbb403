"""Images a second inside a trial, over those of a bare PyTorch loop on the same model and tensors.

    python -m benchmarks.throughput [--json FILE]

The bare loop has the images as normalised float tensors from the start: no loader, no decoding,
no conversion, no metrics. Both train, in turn (A B B A …), on one thread; the first epoch of each
is not counted. Both are on the GPU where there is one. Key: ``ratio_to_bare_loop``.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

import torch

from benchmarks.common import arguments, report, spread
from segsweep import losses, models, optim, spec, yamlfile
from segsweep.check import Checked, check
from segsweep.engine import device_of, prepare_images, prepare_model, prepare_process
from segsweep.trial import Inputs, run_trial

EPOCHS = 4
GPU = float(torch.cuda.is_available())
MODELS: tuple[dict[str, Any], ...] = (
    {"name": "unet_vanilla", "width": 8},
    {"name": "segnet", "width": 8},
    {"name": "unet/resnet18", "encoder_weights": "none"},
)


def prepare(folder: Path, model: dict[str, Any]) -> Checked:
    sweep = {
        "name": "throughput",
        "storage_path": str(folder),
        "dataset": {"name": "synthetic_lesions", "images": 120, "image_size": [64, 96]},
        "folds": {"k": 3},
        "factors": {"model": [model], "loss": ["bce"]},
        "train": {"epochs": EPOCHS, "batch_size": 8, "augment": "none", "precision": "fp32"},
    }
    path = folder / "sweep.yaml"
    path.write_text(yamlfile.dump(sweep))
    return check(path)


def in_a_trial(checked: Checked, folder: Path) -> float:
    inputs = Inputs(checked.data, checked.folds, run_directory=str(folder), gpu=GPU)
    place = Path(tempfile.mkdtemp(dir=folder))
    found = list(run_trial(checked.cells[0].config, 0, inputs, place))
    assert found[-1]["status"] == "finished", found[-1]
    return float(median(r["images"] / r["train_seconds"] for r in found[1:-1]))


def bare(checked: Checked) -> float:
    device = device_of(GPU)
    prepare_process(0, 1, device)
    cell = checked.cells[0]
    model = prepare_model(models.build(cell.config["model"], classes=2), device)
    loss = losses.build(cell.config["loss"])
    train = spec.Train.model_validate(cell.config["train"])
    optimizer = optim.build_optimizer(
        train.optimizer, model, lr=train.lr, weight_decay=train.weight_decay
    )
    chosen = checked.folds.train_indices(0)
    pixels = torch.from_numpy(checked.data.images[chosen]).permute(0, 3, 1, 2)
    images = prepare_images(pixels, device)
    masks = torch.from_numpy(checked.data.masks[chosen]).long().to(device)
    rates = []
    model.train()
    for _ in range(EPOCHS):
        began = time.perf_counter()
        shuffled = torch.randperm(len(images))
        for start in range(0, len(images), train.batch_size):
            order = shuffled[start : start + train.batch_size]
            optimizer.zero_grad(set_to_none=True)
            loss(model(images[order]), masks[order]).backward()
            optimizer.step()
        if GPU:
            torch.cuda.synchronize()  # as the trial does, which reads its loss
        rates.append(len(images) / (time.perf_counter() - began))
    return median(rates[1:])


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    rows = [["model", "trial, images/s", "bare loop, images/s", "ratio"]]
    ratios: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as folder:
        for model in MODELS:
            checked = prepare(Path(folder), model)
            ours: list[float] = []
            theirs: list[float] = []
            for _ in range(options.rounds):
                ours.append(in_a_trial(checked, Path(folder)))
                theirs += [bare(checked), bare(checked)]
                ours.append(in_a_trial(checked, Path(folder)))
            ratios[model["name"]] = median(ours) / median(theirs)
            ratio = f"{ratios[model['name']]:.3f}"
            rows.append([model["name"], spread(ours), spread(theirs), ratio])
    figures = {"ratio_to_bare_loop": median(ratios.values()), "by_model": ratios}
    report("images a second while training", rows, figures, options.json)


if __name__ == "__main__":
    main()
