"""A trial as a Tune trainable: one ``step`` is one report of ``run_trial``."""

from __future__ import annotations

import os
import socket
from typing import Any

import ray
from ray.tune import Trainable

from segsweep.trial import Inputs, Train, directory, run_trial


class TrialActor(Trainable):
    """Lives on through many trials: only the first one of a slot pays for the imports."""

    def setup(
        self, config: dict[str, Any], inputs: Inputs | None = None, train: Train = run_trial
    ) -> None:
        """Begin the first trial."""
        if inputs is not None:
            self.inputs, self.run_trial = inputs, train
            node = ray.get_runtime_context().get_node_id()[:6]
            self.node = f"{socket.gethostname()}/{node}/{os.getpid()}"
        job = config["job"]
        place = directory(
            self.inputs.run_directory, job["config_id"], job["fold"], job["replicate"]
        )
        self.reports = self.run_trial(
            job["config"], job["fold"], self.inputs, place, job["replicate"], job["micro_batch"]
        )

    def step(self) -> dict[str, Any]:
        """The next epoch, or how the trial ended."""
        report = next(self.reports)
        report["node"] = self.node
        return {"report": [report], "done": "status" in report}  # Tune would flatten a dict

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Begin the next trial in the same process."""
        self.cleanup()
        self.setup(new_config)
        return True

    def cleanup(self) -> None:
        """End the trial that runs, if it still does."""
        self.reports.close()  # type: ignore[attr-defined]
