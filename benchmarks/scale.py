"""What a trial costs the driver in a small and a large sweep, and what a W&B out of reach costs.

    python -m benchmarks.scale [--json FILE] [--runner inline|ray] [--sizes 300 3000]

Trials that do nothing (``method: random``, one epoch each) are run through the whole launch:
search, ledger, Optuna's journal, results. Each size runs in processes of its own, in turn. Time is
from asking for the first trial to the end of the last. Memory is what Python holds at the end
beyond what it held at the tenth trial, over the trials since (tracemalloc, in a run that is not
timed). Processor time is beside it, which other work on the machine disturbs less.

Then 60 real short trials with W&B disabled (A), kept offline (B), and with ``mode: online`` and a
server that refuses connections (C), A B C C B A, whole launches from their first event to the exit
of the process.

overhead_ratio           seconds a trial at the larger size over those at the smaller
cpu_ratio                the same of the driver's processor time
memory_ratio             bytes a trial at the larger size over those at the smaller
offline_wandb_ratio      seconds of B over those of A
unreachable_wandb_ratio  seconds of C over those of A
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import subprocess
import sys
import tempfile
import time
import tracemalloc
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.common import arguments, report, spread

SIZES = (300, 3000)
WARM = 10  # trials before memory is counted
DEAD = "http://127.0.0.1:9"  # the discard port: nobody listens
KEY = "0" * 40
MODES = ("disabled", "offline", "online")  # of W&B


def sweep(folder: Path, trials: int, *, epochs: int, wandb: str, images: int = 12) -> Path:
    from segsweep import yamlfile

    data = {
        "name": "scale",
        "storage_path": str(folder / "runs"),
        "dataset": {
            "name": "synthetic_lesions",
            "images": images,
            "image_size": [32, 32],
            "holdout": 0,
        },
        "folds": {"k": 2, "run": 1},
        "factors": {"model": [{"name": "unet_vanilla", "width": 2}], "loss": ["bce"]},
        "parameters": {"train.lr": {"min": 0.001, "max": 0.01}},
        "method": "random",
        "configs_per_cell": trials,
        "train": {"epochs": epochs, "batch_size": 4, "augment": "none", "precision": "fp32"},
        "max_concurrent": 1,
        "wandb": {"mode": wandb},
    }
    path = folder / "sweep.yaml"
    path.write_text(yamlfile.dump(data))
    return path


def nothing(config: Mapping[str, Any], *_: Any) -> Iterator[dict[str, Any]]:
    """A trial that is over at once: its score is its learning rate."""
    score = float(config["train"]["lr"])
    names = ("iou", "dice", "precision", "recall", "pixel_accuracy", "iou_per_image")
    yield {
        "epoch": 1, "best_epoch": 1, "train_loss": 1.0, "val_loss": 1.0, "lr": score,
        **{f"val_{name}": score for name in names},
        "images": 1, "parameters": 1, "train_seconds": 0.001, "seconds": 0.001,
    }  # fmt: skip
    yield {"status": "finished"}


class Watched:
    """A runner whose search is watched: when it is asked first, and what memory it needs."""

    def __init__(self, runner: Any) -> None:
        self.runner = runner
        self.asked = 0
        self.began = self.seconds = self.cpu = 0.0
        self.held = self.bytes = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self.runner, name)

    def run(self, search: Any, inputs: Any, interrupt: Any) -> None:
        """As the runner does, and note what it cost."""
        ask = search.next

        def next_() -> Any:
            if self.asked == 0:
                self.began, self.cpu = time.perf_counter(), time.process_time()
            if self.asked == WARM:
                self.held = held()
            self.asked += 1
            return ask()

        search.next = next_
        self.runner.run(search, inputs, interrupt)
        self.seconds = time.perf_counter() - self.began
        self.cpu = time.process_time() - self.cpu
        self.bytes = held() - self.held


def held() -> int:
    if not tracemalloc.is_tracing():
        return 0
    gc.collect()
    return tracemalloc.get_traced_memory()[0]


def run_here(options: argparse.Namespace) -> dict[str, float]:
    """One launch of no-op trials in this process."""
    from segsweep.launching import launch
    from segsweep.runners.inline import InlineRunner

    path = sweep(options.folder, options.trials, epochs=1, wandb="disabled")
    if options.memory:
        tracemalloc.start()
    if options.runner == "ray":
        from segsweep.runners.ray import RayRunner

        watched = Watched(RayRunner(train=nothing))
    else:
        watched = Watched(InlineRunner(nothing))
    outcome = launch(path, runner=watched)
    assert outcome.exit_code == 0
    assert outcome.started == options.trials
    return {
        "seconds": watched.seconds / options.trials,
        "cpu": watched.cpu / options.trials,
        "bytes": watched.bytes / (options.trials - WARM),
    }


def measure(trials: int, runner: str, *, memory: bool) -> dict[str, float]:
    """The same in a process of its own."""
    call = ["--trials", str(trials), "--runner", runner, *(["--memory"] if memory else [])]
    found: dict[str, float] = json.loads(python(["-m", "benchmarks.scale", *call]))
    return found


def python(call: Sequence[str], **environment: str) -> str:
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run(
            [sys.executable, *call, "--folder", folder],
            capture_output=True, text=True, check=False,
            env={**os.environ, "PYTHONPATH": str(Path.cwd()), **environment},
        )  # fmt: skip
    if done.returncode:
        raise SystemExit(done.stderr + done.stdout)
    return done.stdout.strip().splitlines()[-1]


def real_here(options: argparse.Namespace) -> str:
    """One launch of short real trials; when its first trial began."""
    from segsweep import ledger
    from segsweep.launching import launch

    path = sweep(options.folder, options.trials, epochs=6, wandb=options.wandb, images=60)
    outcome = launch(path, runner="inline")
    assert outcome.exit_code == 0
    events = ledger.read(outcome.run_directory / ledger.LEDGER)
    return json.dumps(next(event["time"] for event in events if event["event"] == "launch"))


def with_wandb(mode: str, trials: int) -> float:
    """Seconds of a launch, from its first event to the exit of its process."""
    call = ["-m", "benchmarks.scale", "--wandb", mode, "--trials", str(trials)]
    began = json.loads(python(call, WANDB_BASE_URL=DEAD, WANDB_API_KEY=KEY))
    return time.time() - float(began)


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--rounds", type=int, default=2, help="of each size")
    parser.add_argument("--sizes", type=int, nargs=2, default=SIZES)
    parser.add_argument("--runner", choices=("inline", "ray"), default="inline")
    parser.add_argument("--real", type=int, default=60, help="trials of the launches with W&B")
    parser.add_argument("--trials", type=int, help="run one launch, here")
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--memory", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--wandb", choices=MODES, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.wandb:
        print(real_here(options))
        return
    if options.trials:
        print(json.dumps(run_here(options)))
        return
    small, large = options.sizes
    seconds: dict[int, list[float]] = {small: [], large: []}
    cpu: dict[int, list[float]] = {small: [], large: []}
    for _ in range(options.rounds):
        for size in (small, large):
            found = measure(size, options.runner, memory=False)
            seconds[size].append(found["seconds"])
            cpu[size].append(found["cpu"])
    memory = {size: measure(size, options.runner, memory=True)["bytes"] for size in (small, large)}
    real: dict[str, list[float]] = {mode: [] for mode in MODES}
    for mode in (*MODES, *reversed(MODES)):
        real[mode].append(with_wandb(mode, options.real))
    overhead = median(seconds[large]) / median(seconds[small])
    kept, lost = (median(real[mode]) / median(real["disabled"]) for mode in MODES[1:])
    rows = [["", f"{small} trials", f"{large} trials", "ratio"]]
    times = [spread([1000 * value for value in seconds[size]]) for size in (small, large)]
    rows.append(["driver, ms a trial", *times, f"{overhead:.3f}"])
    busy = median(cpu[large]) / median(cpu[small])
    times = [spread([1000 * value for value in cpu[size]]) for size in (small, large)]
    rows.append(["of it processor", *times, f"{busy:.3f}"])
    kib = [f"{memory[size] / 1024:.2f}" for size in (small, large)]
    rows.append(["memory, KiB a trial", *kib, f"{memory[large] / memory[small]:.3f}"])
    for name, mode, ratio in (("offline", "offline", kept), ("out of reach", "online", lost)):
        rows.append(["", "W&B disabled", name, "ratio"])
        both = [spread(real[one]) for one in ("disabled", mode)]
        rows.append([f"s, {options.real} real trials", *both, f"{ratio:.3f}"])
    figures = {
        "overhead_ratio": overhead,
        "cpu_ratio": busy,
        "memory_ratio": memory[large] / memory[small],
        "offline_wandb_ratio": kept,
        "unreachable_wandb_ratio": lost,
        "runner": options.runner,
        "seconds_a_trial": seconds,
        "cpu_seconds_a_trial": cpu,
        "bytes_a_trial": memory,
        "seconds_with_wandb": real,
    }
    report(f"trials that do nothing, {options.runner} runner", rows, figures, options.json)


if __name__ == "__main__":
    main()
