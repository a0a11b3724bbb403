"""``RayRunner``: one machine or a cluster, one Tune run a launch."""

from __future__ import annotations

import logging
import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

# before Ray is imported: it reads most of these once
QUIET = {
    "RAY_AIR_NEW_OUTPUT": "0",
    "RAY_CHDIR_TO_TRIAL_DIR": "0",
    "RAY_TRAIN_ENABLE_V2_MIGRATION_WARNINGS": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_DEDUP_LOGS": "0",
    "RAY_USAGE_STATS_ENABLED": "0",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_DISABLE_SIGINT_HANDLER": "1",
    "TUNE_GLOBAL_CHECKPOINT_S": "86400",
    "TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S": "0",
}
for _name, _value in QUIET.items():
    os.environ.setdefault(_name, _value)

import ray  # noqa: E402 - after the environment
from ray import tune  # noqa: E402

from segsweep.engine import device_facts  # noqa: E402
from segsweep.errors import Problem, RunError, first_line  # noqa: E402
from segsweep.interrupt import Interrupt  # noqa: E402
from segsweep.runners import Task  # noqa: E402
from segsweep.runners.ray import disks, joining  # noqa: E402
from segsweep.runners.ray.adapters import (  # noqa: E402
    Bridge,
    RungAdapter,
    SearchAdapter,
    StepCallback,
    Stop,
)
from segsweep.runners.ray.tasks import run_task  # noqa: E402
from segsweep.runners.ray.trainable import TrialActor  # noqa: E402
from segsweep.search import Search  # noqa: E402
from segsweep.spec import SweepSpec  # noqa: E402
from segsweep.trial import Inputs, Train, run_trial  # noqa: E402

LOST = (  # of the process or node that ran a task
    ray.exceptions.WorkerCrashedError,
    ray.exceptions.NodeDiedError,
    ray.exceptions.OutOfMemoryError,
)


class RayRunner:
    """Trials on Ray actors that are started once and reused.

    Args:
        address: of a running cluster; None takes ``RAY_ADDRESS``, else starts one here.
        train: what runs a trial.
    """

    def __init__(self, address: str | None = None, train: Train = run_trial) -> None:
        self.train = train
        self._devices: dict[float, dict[str, Any]] = {}
        address = address or os.environ.get("RAY_ADDRESS") or joining.LOCAL
        self._local = address == joining.LOCAL
        logging.getLogger("ray.tune").setLevel(logging.CRITICAL)
        joining.join(address)

    def facts(self, spec: SweepSpec) -> dict[str, Any]:
        """See ``Runner``."""
        wanted = spec.resources
        cluster = ray.cluster_resources()
        gpu = wanted.gpu
        if gpu == "auto":
            gpu = 1.0 if cluster.get("GPU", 0) >= 1 else 0.0
        nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
        slots = sum(_fit(resources, wanted.cpu, gpu) for resources in nodes)
        if slots == 0:
            has = f"the largest node has {_largest('CPU'):g} CPUs and {_largest('GPU'):g} GPUs"
            what = f"a trial with cpu: {wanted.cpu}, gpu: {gpu:g} fits nowhere"
            raise RunError(Problem(what, key="resources", hint=has))
        facts = {"precision": "fp32", **self._device(gpu), "gpu": gpu}
        return {**facts, "slots": min(slots, spec.max_concurrent or slots)}

    def _device(self, gpu: float) -> dict[str, Any]:
        """What a worker sees, asked once."""
        if gpu not in self._devices:
            probe: Any = ray.remote(num_cpus=0, num_gpus=gpu)(device_facts)
            self._devices[gpu] = (
                ray.get(probe.remote()) if gpu else {"device": "cpu", "type": "cpu"}
            )
        return self._devices[gpu]

    def require(self, place: Path, spec: SweepSpec) -> None:
        """See ``Runner``."""
        if self._local:
            return
        cpu, gpu = spec.resources.cpu, self.facts(spec)["gpu"]
        alive = [node for node in ray.nodes() if node["Alive"]]
        disks.require([node for node in alive if _fit(node["Resources"], cpu, gpu)], place)

    def run(self, search: Search, inputs: Inputs, interrupt: Interrupt) -> None:
        """See ``Runner``."""
        slots = self.facts(search.spec)["slots"]
        bridge = Bridge(search, slots, interrupt)
        trainable = tune.with_resources(
            tune.with_parameters(TrialActor, inputs=inputs, train=self.train),
            {"cpu": inputs.cpus, "gpu": inputs.gpu},
        )
        scratch = Path(tempfile.mkdtemp(prefix="segsweep-tune-"))
        tuner = tune.Tuner(
            trainable,
            tune_config=tune.TuneConfig(
                search_alg=SearchAdapter(bridge),
                scheduler=RungAdapter(bridge),
                num_samples=-1,
                max_concurrent_trials=slots,
                reuse_actors=True,
            ),
            run_config=tune.RunConfig(
                name="run",
                storage_path=str(scratch),
                verbose=0,
                callbacks=[StepCallback(bridge)],
                checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),
                failure_config=tune.FailureConfig(max_failures=0),
            ),
        )
        try:
            tuner.fit()
        except Exception:
            if bridge.error is None:
                raise
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
        if bridge.error is not None:
            raise bridge.error

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
        gpu = self.facts(spec)["gpu"]
        # without max_calls=0, Ray starts a process for every task that has a GPU
        task: Any = ray.remote(num_cpus=spec.resources.cpu, num_gpus=gpu, max_calls=0)(run_task)
        reference = ray.put(shared)
        pending = (task.remote(function, gpu, reference, item) for item in items)
        for one in pending if alone else list(pending):
            try:
                yield ray.get(one)
            except LOST as error:
                yield {"error": f"the worker was lost: {first_line(error)}"}

    def close(self) -> None:
        """See ``Runner``."""
        ray.shutdown()


def _fit(resources: dict[str, float], cpu: int, gpu: float) -> int:
    """How many trials fit on one node."""
    by_cpu = int(resources.get("CPU", 0) // cpu)
    if not gpu:
        return by_cpu
    gpus = resources.get("GPU", 0)
    by_gpu = int(gpus) * int(1 / gpu + 1e-9) if gpu < 1 else int(gpus // gpu)
    return min(by_cpu, by_gpu)


def _largest(kind: str) -> float:
    return max((node["Resources"].get(kind, 0.0) for node in ray.nodes()), default=0.0)


__all__ = ["RayRunner", "Stop"]
