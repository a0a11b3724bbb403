"""A launch on Ray with too little memory: ``python -m tests.faults.starved SWEEP``.

Ray's memory monitor kills the first worker at its first epoch (as the driver sees it: what
``ray.get`` raises then), and every worker's device holds one image a pass.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import ray
from ray.air.execution._internal.event_manager import RayEventManager
from ray.exceptions import OutOfMemoryError
from rich.console import Console

from segsweep.launching import launch
from segsweep.runners.ray import runner
from segsweep.runners.ray.trainable import TrialActor
from segsweep.trial import run_trial

KILLED: list[bool] = []


class Starved(TrialActor):
    """Lives in ``__main__``, so that Ray sends it whole to the workers."""

    def setup(self, config: dict[str, Any], inputs: Any = None, train: Any = run_trial) -> None:
        """Take the worker's memory away first."""
        import torch

        from segsweep import engine

        real = engine.prepare_images

        def prepare(images: torch.Tensor, device: torch.device) -> torch.Tensor:
            if len(images) > 1:  # a second wrapping says the same
                raise torch.OutOfMemoryError(f"CUDA out of memory: {len(images)} images")
            return real(images, device)

        engine.prepare_images = prepare
        super().setup(config, inputs, train)


def resolve_future(self: Any, future: Any) -> None:
    """As Ray's own, but the first report of a trial is lost with its worker."""
    on_result, on_error = self._tracked_futures.pop(future)
    try:
        result = ray.get(future)
    except Exception as error:
        on_error(error)
        return
    if isinstance(result, dict) and "report" in result and not KILLED:
        KILLED.append(True)
        on_error(OutOfMemoryError("1 worker(s) were killed as the node ran low on memory"))
    elif on_result:
        on_result(result)


if __name__ == "__main__":
    vars(runner)["TrialActor"] = Starved
    RayEventManager.resolve_future = resolve_future  # type: ignore[method-assign]
    ended = launch(Path(sys.argv[1]), runner="ray", console=Console())
    sys.exit(ended.exit_code)
