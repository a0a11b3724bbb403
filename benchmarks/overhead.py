"""Wall time a trial beyond its training: segsweep, a default Ray Tune script, bare Optuna.

    python -m benchmarks.overhead [--json FILE]

All three train the same small U-Net on the same images for the same epochs with the same engine,
one trial at a time, each in a process of its own, in turn (A B C C B A …). What counts is the
time from asking for the first trial to the end of the last, less the time inside training and
validation, over the number of trials; starting Ray is not counted, starting workers is. segsweep
writes its ledger and checkpoints in that time, the others write what they do by default.
Key: ``ratio_to_default_tune``.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.common import arguments, report, spread

CONTENDERS = ("segsweep", "tune", "optuna")


def sweep(folder: Path, trials: int) -> Path:
    from segsweep import yamlfile

    data = {
        "name": "overhead",
        "storage_path": str(folder / "runs"),
        "dataset": {"name": "synthetic_lesions", "images": 40, "image_size": [32, 48]},
        "folds": {"k": 2, "run": 1},
        "factors": {"model": [{"name": "unet_vanilla", "width": 4}], "loss": ["bce"]},
        "parameters": {"train.lr": {"min": 0.001, "max": 0.01}},
        "configs_per_cell": trials,
        "train": {"epochs": 3, "batch_size": 8, "augment": "none", "precision": "fp32"},
        "early_stopping": {"type": "none"},
        "max_concurrent": 1,
    }
    path = folder / "sweep.yaml"
    path.write_text(yamlfile.dump(data))
    return path


def objective(config: dict[str, Any], data: Any, folds: Any, on_epoch: Any) -> float:
    """What a script of one's own would do; the time inside training, in seconds."""
    import torch

    from segsweep import losses, models, optim
    from segsweep.data.loader import Loader
    from segsweep.engine import evaluate, prepare_model, prepare_process, train_epoch
    from segsweep.metrics import scores

    prepare_process(0, 1, torch.device("cpu"))
    device = torch.device("cpu")
    model = prepare_model(models.build(config["model"], classes=2), device)
    loss = losses.build(config["loss"])
    train = config["train"]
    optimizer = optim.build_optimizer(
        train["optimizer"], model, lr=train["lr"], weight_decay=train["weight_decay"]
    )
    batches = Loader(data, folds.train_indices(0), batch_size=8, seed=0, shuffle=True)
    checks = Loader(data, folds.validation_indices(0), batch_size=8, seed=0, shuffle=False)
    spent = 0.0
    for epoch in range(1, train["epochs"] + 1):
        began = time.perf_counter()
        train_epoch(model, batches.epoch(epoch), loss, optimizer, device=device)
        result = evaluate(model, checks.epoch(epoch), loss, classes=2, device=device)
        spent += time.perf_counter() - began
        on_epoch({"iou": scores(result.matrix)["iou"] or 0.0, "spent": spent})
    return spent


def run_segsweep(folder: Path, trials: int) -> tuple[float, float]:
    from segsweep import ledger
    from segsweep.launching import launch

    outcome = launch(sweep(folder, trials))
    assert outcome.exit_code == 0
    events = ledger.read(outcome.run_directory / ledger.LEDGER)
    first = next(e["time"] for e in events if e["event"] == "start")
    last = max(e["time"] for e in events if e["event"] == "end")
    spent = sum(e["seconds"] for e in events if e["event"] == "epoch")
    return last - first, spent


def run_tune(folder: Path, trials: int) -> tuple[float, float]:
    import logging

    import ray
    from ray import tune
    from ray.tune.search import ConcurrencyLimiter
    from ray.tune.search.optuna import OptunaSearch

    from segsweep.check import check

    checked = check(sweep(folder, trials))
    base = dict(checked.cells[0].config)

    def train(config: dict[str, Any], data: Any, folds: Any) -> None:
        full = {**base, "train": {**base["train"], "lr": config["lr"]}}
        objective(full, data, folds, tune.report)

    ray.init(logging_level=logging.ERROR, log_to_driver=False, include_dashboard=False)
    began = time.perf_counter()
    tuner = tune.Tuner(
        tune.with_resources(
            tune.with_parameters(train, data=checked.data, folds=checked.folds), {"cpu": 1}
        ),
        param_space={"lr": tune.uniform(0.001, 0.01)},
        tune_config=tune.TuneConfig(
            metric="iou",
            mode="max",
            num_samples=trials,
            search_alg=ConcurrencyLimiter(OptunaSearch(), max_concurrent=1),
        ),
        run_config=tune.RunConfig(storage_path=str(folder / "tune"), verbose=0),
    )
    results = tuner.fit()
    wall = time.perf_counter() - began
    ended = [results[i].metrics for i in range(len(results))]
    spent = sum(metrics["spent"] for metrics in ended if metrics)
    ray.shutdown()
    return wall, spent


def run_optuna(folder: Path, trials: int) -> tuple[float, float]:
    import optuna

    from segsweep.check import check

    checked = check(sweep(folder, trials))
    base = dict(checked.cells[0].config)
    spent: list[float] = []

    def score(trial: optuna.Trial) -> float:
        rate = trial.suggest_float("lr", 0.001, 0.01)
        found: list[float] = []
        full = {**base, "train": {**base["train"], "lr": rate}}
        took = objective(full, checked.data, checked.folds, lambda r: found.append(r["iou"]))
        spent.append(took)
        return max(found)

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study = optuna.create_study(direction="maximize")
    began = time.perf_counter()
    study.optimize(score, n_trials=trials)
    return time.perf_counter() - began, sum(spent)


def contend(name: str, trials: int) -> float:
    """Seconds a trial beyond its training, measured in a process of its own."""
    with tempfile.TemporaryDirectory() as folder:
        call = [sys.executable, "-m", "benchmarks.overhead", "--contender", name]
        environment = {**os.environ, "PYTHONPATH": str(Path.cwd()), "WANDB_MODE": "disabled"}
        done = subprocess.run(
            [*call, "--trials", str(trials), "--folder", folder],
            capture_output=True, text=True, check=False, env=environment,
        )  # fmt: skip
        if done.returncode:
            raise SystemExit(done.stderr)
        wall, spent = json.loads(done.stdout.strip().splitlines()[-1])
    return float((wall - spent) / trials)


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--trials", type=int, default=12)
    parser.add_argument("--contender", choices=CONTENDERS, help="run one, here")
    parser.add_argument("--folder", type=Path)
    options = parser.parse_args()
    if options.contender:
        runs = {"segsweep": run_segsweep, "tune": run_tune, "optuna": run_optuna}
        print(json.dumps(runs[options.contender](options.folder, options.trials)))
        return
    found: dict[str, list[float]] = {name: [] for name in CONTENDERS}
    for _ in range(options.rounds):
        for name in (*CONTENDERS, *reversed(CONTENDERS)):
            found[name].append(contend(name, options.trials))
    ratio = median(found["segsweep"]) / median(found["tune"])
    rows = [["", "seconds a trial beyond training"]]
    rows += [[name, spread(values)] for name, values in found.items()]
    rows.append(["segsweep / tune", f"{ratio:.3f}"])
    figures = {"ratio_to_default_tune": ratio, "seconds_a_trial": found}
    report(f"overhead of {options.trials} trials, one at a time", rows, figures, options.json)


if __name__ == "__main__":
    main()
