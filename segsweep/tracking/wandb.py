"""The one writer to Weights & Biases: a thread of the driver, a W&B run a trial.

Workers need neither key nor network. Runs are grouped by config, their job type is the fold,
and factors and parameters stand in their config. A last run holds the table of the sweep.
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open

from segsweep import results
from segsweep.identity import digest, short_params
from segsweep.ledger import Event
from segsweep.spec import SweepSpec

PATIENCE_S = 60.0  # how long `close` waits for what is still to be written
TABLE = (
    "trial_id", "config_id", "cell", "fold", "params", "status", "stopped_by", "epochs",
    "best_epoch", "metric", "train_seconds", "champion",
)  # fmt: skip


class WandbTracker:
    """Listens to the ledger and writes in a thread of its own.

    Args:
        spec: the sweep.
        run_directory: W&B's files go to its ``wandb/``.
    """

    def __init__(self, spec: SweepSpec, run_directory: Path) -> None:
        self.spec, self.place = spec, run_directory
        self.metric = spec.metric.name.replace("/", "_")
        self.configs: dict[str, Event] = {}
        self.trials: dict[str, Event] = {}
        self.runs: dict[str, Any] = {}
        self.history: list[Event] = []
        self.errors: list[str] = []
        self._events: queue.SimpleQueue[Event | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._work, name="wandb-writer", daemon=True)
        self._thread.start()

    def remember(self, events: Sequence[Event]) -> None:
        """See ``Tracker``."""
        for event in events:
            self.history.append(event)
            if event["event"] == "config":
                self._on_config(event)
            elif event["event"] == "start":
                self.trials[event["trial_id"]] = event

    def on_event(self, event: Event) -> None:
        """See ``Tracker``."""
        self._events.put(event)

    def close(self) -> list[str]:
        """See ``Tracker``."""
        self._events.put(None)
        self._thread.join(PATIENCE_S)
        if self._thread.is_alive():
            self.errors.append(f"W&B did not finish within {PATIENCE_S:.0f} s")
        return self.errors

    # the thread

    def _work(self) -> None:
        while (event := self._events.get()) is not None:
            self._guarded(event)
        for run in list(self.runs.values()):
            self._guarded_call(run.finish)
        self._guarded_call(self._summarise)

    def _guarded(self, event: Event) -> None:
        self.history.append(event)
        handler = getattr(self, f"_on_{event['event']}", None)
        if handler is not None:
            self._guarded_call(handler, event)

    def _guarded_call(self, action: Any, *arguments: Any) -> None:
        try:
            action(*arguments)
        except Exception as error:  # losing W&B never costs a trial
            text = f"{type(error).__name__}: {str(error).strip()[:200]}"
            if text not in self.errors:
                self.errors.append(text)

    def _on_config(self, event: Event) -> None:
        self.configs[event["config_id"]] = event

    def _on_start(self, event: Event) -> None:
        name = event["trial_id"]
        if name in self.runs:  # handed out again after its worker died
            return
        self.trials[name] = event
        config = self.configs[event["config_id"]]
        seed = f"r{event['replicate']}" if event["replicate"] else ""
        parts = [config["cell"], short_params(config["params"]), f"f{event['fold']}", seed]
        title = " ".join(parts)
        self.runs[name] = self._init(
            name,
            name=" ".join(title.split()),
            group=event["config_id"],
            job_type=f"fold{event['fold']}",
            tags=[config["cell"][:64]],  # W&B takes no longer ones
            config={
                **config["levels"],
                **config["params"],
                "cell": config["cell"],
                "fold": event["fold"],
                "replicate": event["replicate"],
                "config_id": event["config_id"],
                "trial": config["config"],
            },
        )

    def _on_epoch(self, event: Event) -> None:
        run = self.runs.get(event["trial_id"])
        if run is None:
            return
        row = {
            name.replace("val_", "val/").replace("train_loss", "train/loss"): value
            for name, value in event.items()
            if isinstance(value, (int, float)) and name not in ("time", "best_epoch")
        }
        run.log(row, step=event["epoch"])

    def _on_end(self, event: Event) -> None:
        run = self.runs.pop(event["trial_id"], None)
        if run is None:
            return
        run.summary["status"] = event["status"]
        run.summary["stopped_by"] = event.get("stopped_by")
        start = self.trials[event["trial_id"]]
        folder = self.place / "trials" / start["config_id"] / results.fold_name(start)
        overlays = read_overlays(folder / "evidence.safetensors")
        if overlays is not None:
            run.log({"best_epoch_examples": [self._overlay(*example) for example in overlays]})
        run.finish(exit_code=0 if event["status"] in ("finished", "stopped") else 1)

    def _summarise(self) -> None:
        import wandb

        rows = results.trial_rows(self.history, self.metric, self.spec.metric.goal)
        if not rows:
            return
        run = self._init(
            "sweep", name=self.spec.name, job_type="sweep", config=self.spec.model_dump(mode="json")
        )
        table = wandb.Table(columns=list(TABLE), data=[[row[c] for c in TABLE] for row in rows])
        run.log({"trials": table})
        run.finish()

    def _init(self, key: str, **settings: Any) -> Any:
        import wandb

        with _mode(self.spec.wandb_mode):
            return wandb.init(
                project=self.spec.project,
                entity=self.spec.entity,
                dir=str(self.place),
                id=digest([self.spec.name, key])[:16],
                resume="allow" if self.spec.wandb_mode == "online" else None,
                reinit="create_new",
                mode=self.spec.wandb_mode,  # type: ignore[arg-type]
                settings=wandb.Settings(silent=True, console="off", x_disable_stats=True),
                **settings,
            )

    def _overlay(
        self,
        image: NDArray[np.uint8],
        truth: NDArray[np.uint8],
        prediction: NDArray[np.uint8],
        classes: list[str],
        caption: str,
    ) -> Any:
        import wandb

        labels = dict(enumerate(classes))
        masks = {
            "prediction": {"mask_data": prediction, "class_labels": labels},
            "truth": {"mask_data": truth, "class_labels": labels},
        }
        return wandb.Image(image, masks=masks, caption=caption)


@contextlib.contextmanager
def _mode(mode: str) -> Iterator[None]:
    """The sweep's word wins over WANDB_MODE, which W&B would prefer."""
    before = os.environ.get("WANDB_MODE")
    os.environ["WANDB_MODE"] = mode
    try:
        yield
    finally:
        if before is None:
            del os.environ["WANDB_MODE"]
        else:
            os.environ["WANDB_MODE"] = before


Example = tuple[
    NDArray[np.uint8], NDArray[np.uint8], NDArray[np.uint8], list[str], str
]  # image, truth, prediction, classes, caption


def read_overlays(path: Path) -> list[Example] | None:
    """The example predictions that a trial kept; None where there are none."""
    try:
        with safe_open(path, framework="numpy") as file:
            facts = json.loads(file.metadata()["segsweep"])
            images = file.get_tensor("examples.image")
            truths = file.get_tensor("examples.truth")
            predictions = file.get_tensor("examples.prediction")
    except (OSError, SafetensorError, KeyError, ValueError):
        return None
    return [
        (image, truth, prediction, facts["classes"], f"{name}, epoch {facts['epoch']}")
        for image, truth, prediction, name in zip(
            images, truths, predictions, facts["examples"], strict=True
        )
    ]
