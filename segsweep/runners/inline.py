"""The runner without Ray: one trial after the other in this process."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from segsweep.engine import device_facts
from segsweep.errors import Problem, RunError, first_line, process_is_broken
from segsweep.interrupt import Interrupt
from segsweep.runners import Task, take
from segsweep.search import Search
from segsweep.spec import SweepSpec
from segsweep.trial import Inputs, Train, directory, run_trial


class InlineRunner:
    """For tests, debugging, and machines where Ray is not wanted.

    Args:
        train: what runs a trial.
    """

    def __init__(self, train: Train = run_trial) -> None:
        self.train = train

    def facts(self, spec: SweepSpec) -> dict[str, Any]:
        """See ``Runner``."""
        found = device_facts()
        has_gpu = found["type"] == "cuda"
        wanted = spec.resources.gpu
        if wanted != "auto" and wanted > 0 and not has_gpu:
            hint = "remove resources.gpu to train on the CPU"
            raise RunError(Problem("this machine has no GPU", key="resources.gpu", hint=hint))
        gpu = float(has_gpu) if wanted == "auto" else wanted
        facts = found if gpu else {"device": "cpu", "type": "cpu", "precision": "fp32"}
        return {**facts, "gpu": gpu, "slots": 1}

    def require(self, place: Path, spec: SweepSpec) -> None:
        """See ``Runner``."""

    def run(self, search: Search, inputs: Inputs, interrupt: Interrupt) -> None:
        """See ``Runner``."""
        while (job := search.next()) is not None:
            place = directory(inputs.run_directory, job.config_id, job.fold, job.replicate)
            reports = self.train(
                job.config, job.fold, inputs, place, job.replicate, job.micro_batch
            )
            try:
                for report in reports:
                    interrupt.check()
                    if not take(search, job.trial_id, report):
                        reports.close()  # type: ignore[attr-defined]
                        break
            except RuntimeError as error:  # the process is broken: the next launch goes on,
                search.on_lost(job.trial_id, str(error))  # and gives up after a few times
                raise

    def map(
        self,
        function: Task,
        shared: Any,
        items: Sequence[Any],
        spec: SweepSpec,
        *,
        alone: bool = False,
    ) -> Iterator[Any]:
        """See ``Runner``."""
        for item in items:
            try:
                yield function(shared, item)
            except RuntimeError as error:  # there is no other process: what is left fails as well
                if not process_is_broken(error):
                    raise
                yield {"error": first_line(error)}

    def close(self) -> None:
        """See ``Runner``."""
