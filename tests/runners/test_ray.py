"""The real Ray: the same numbers as in this process, killed workers, a cluster of two nodes."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from segsweep import checkpoint
from segsweep.errors import RunError
from segsweep.launching import launch
from tests.data.builders import make_folder
from tests.helpers import events, tiny, write_sweep
from tests.runners.processes import PATIENCE_S, descendants, free_port, trial_workers, wait_for

RAY = str(Path(sys.executable).parent / "ray")


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "segsweep", *arguments]


def segsweep(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(*arguments),
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )


def curves(run: Path) -> dict[tuple[str, int], dict[str, Any]]:
    """Everything reported about each epoch, but what a clock says."""
    return {
        (e["trial_id"], e["epoch"]): {
            k: v for k, v in e.items() if "seconds" not in k and k != "time"
        }
        for e in events(run, "epoch")
    }


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The same sweep with either runner."""
    runs = []
    stopping = {
        "type": "halving",
        "grace_period": 1,
        "reduction_factor": 2,
    }  # trials wait and go on
    for runner in ("inline", "ray"):
        folder = tmp_path_factory.mktemp(runner)
        data = tiny(early_stopping=stopping, configs_per_cell=4, max_concurrent=1)
        path = write_sweep(folder, data)
        done = segsweep("launch", str(path), "--runner", runner, cwd=folder)
        assert done.returncode == 0, done.stdout + done.stderr
        runs.append(folder / "runs" / "tiny")
    return runs[0], runs[1]


def test_ray_gives_the_same_numbers_and_decisions(both: tuple[Path, Path]) -> None:
    inline, ray = both
    assert curves(ray) == curves(inline)

    def decisions(run: Path) -> list[tuple[Any, ...]]:
        kinds = ("config", "rung", "end", "champion")
        names = ("event", "config_id", "trial_id", "keep", "status", "stopped_by", "cell")
        return [tuple(e.get(n) for n in names) for e in events(run) if e["event"] in kinds]

    assert decisions(ray) == decisions(inline)
    assert any(e["status"] == "stopped" for e in events(ray, "end"))


def test_the_holdout_scores_are_the_same(both: tuple[Path, Path]) -> None:
    def scores(run: Path) -> list[dict[str, Any]]:
        return [{k: v for k, v in e.items() if k != "time"} for e in events(run, "holdout")]

    inline, ray = both
    assert scores(ray) == scores(inline)


def test_the_logits_that_are_kept_are_the_same(both: tuple[Path, Path]) -> None:
    inline, ray = both
    kept = sorted(path.relative_to(inline) for path in inline.glob("trials/*/*/logits.*"))
    assert kept
    assert kept == sorted(path.relative_to(ray) for path in ray.glob("trials/*/*/logits.*"))
    for name in kept:  # headers differ: they name checkpoints, which hold times
        one, other = (checkpoint.load(run / name)[0] for run in both)
        assert all(torch.equal(one[key], other[key]) for key in one)


def test_one_worker_process_serves_many_trials(both: tuple[Path, Path]) -> None:
    _, ray = both
    nodes = [event["node"] for event in events(ray, "end") if event.get("node")]
    assert len(nodes) > 4
    assert len(set(nodes)) == 1


def test_launching_again_starts_nothing(both: tuple[Path, Path]) -> None:
    _, ray = both
    path = ray.parent.parent / "sweep.yaml"
    starts = len(events(ray, "start"))
    done = segsweep("launch", str(path), cwd=path.parent)
    assert done.returncode == 0, done.stdout + done.stderr
    assert len(events(ray, "start")) == starts


def test_a_killed_worker_costs_at_most_an_epoch(tmp_path: Path) -> None:
    changes: dict[str, Any] = {
        "train__epochs": 40, "configs_per_cell": 1, "factors__loss": ["bce"], "folds__run": 1,
        "dataset__images": 40,
    }  # fmt: skip
    for name in ("whole", "killed"):
        (tmp_path / name).mkdir()
    launch(write_sweep(tmp_path / "whole", tiny(**changes)), runner="inline")
    path = write_sweep(tmp_path / "killed", tiny(**changes))
    ledger = tmp_path / "killed/runs/tiny/ledger/events.jsonl"
    process = subprocess.Popen(
        command("launch", str(path)), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    wait_for(lambda: ledger.exists() and '"epoch":5,' in ledger.read_text(), PATIENCE_S, "epoch 5")
    workers = trial_workers(process.pid)
    assert workers
    for pid in workers:
        os.kill(pid, signal.SIGKILL)
    output, _ = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 0, output
    run = tmp_path / "killed/runs/tiny"
    assert len(events(run, "lost")) >= 1
    assert curves(run) == curves(tmp_path / "whole/runs/tiny")
    assert len(curves(run)) == len(events(run, "epoch")) == 40  # none was reported twice


def test_ctrl_c_leaves_no_process_and_exit_code_130(tmp_path: Path) -> None:
    path = write_sweep(tmp_path, tiny(train__epochs=500, configs_per_cell=1))
    ledger = tmp_path / "runs/tiny/ledger/events.jsonl"
    process = subprocess.Popen(
        command("launch", str(path)), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    wait_for(lambda: ledger.exists() and '"epoch":2,' in ledger.read_text(), PATIENCE_S, "epoch 2")
    workers = descendants(process.pid, "ray::")
    assert workers
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 130, output
    assert "segsweep launch" in output
    assert "Traceback" not in output
    wait_for(lambda: not [p for p in workers if _runs(p)], 10, "the end of all workers")


def _runs(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Two raylets on the loopback, each in a directory of its own."""
    port = free_port()
    folders = [Path(tempfile.mkdtemp(prefix="seg", dir="/tmp")) for _ in range(3)]
    common = ["--num-cpus=1", "--node-ip-address=127.0.0.1", "--block", "--disable-usage-stats"]
    store = "--object-store-memory=100000000"
    head = [RAY, "start", "--head", f"--port={port}", "--include-dashboard=false", store, *common]
    head.append(f"--temp-dir={folders[2]}")
    other = [RAY, "start", f"--address=127.0.0.1:{port}", store, *common]
    # the driver has the token too, but is not told the mode
    monkeypatch.setenv("RAY_AUTH_TOKEN", "0123456789abcdef" * 4)
    environment = {**os.environ, "RAY_AUTH_MODE": "token"}
    quiet: dict[str, Any] = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    started = [subprocess.Popen(head, cwd=folders[0], env=environment, **quiet)]
    try:
        wait_for(lambda: _listens(port), PATIENCE_S, "the head node")
        started.append(subprocess.Popen(other, cwd=folders[1], env=environment, **quiet))
        # a launch counts its slots when it begins: the second node must have joined by then
        wait_for(lambda: _nodes(port, environment) == 2, PATIENCE_S, "the second node")
        yield f"127.0.0.1:{port}"
    finally:
        for process in started[::-1]:
            process.terminate()
        for process in started:
            process.wait(30)
        for folder in folders:
            shutil.rmtree(folder, ignore_errors=True)


def _nodes(port: int, environment: dict[str, str]) -> int:
    command = [RAY, "status", f"--address=127.0.0.1:{port}"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    return done.stdout.split("Pending")[0].count(" node_")


def _listens(port: int) -> bool:
    import socket

    with socket.socket() as probe:
        probe.settimeout(0.2)
        return probe.connect_ex(("127.0.0.1", port)) == 0


def test_a_cluster_needs_nothing_of_the_driver_but_the_storage_path(
    cluster: str, tmp_path: Path
) -> None:
    make_folder(tmp_path / "data", 12)
    dataset = {"name": "folder", "root": "data", "image_size": [32, 32], "holdout": 0.25}
    # both paths are relative to the driver's working directory, which no raylet has
    data = {**tiny(dataset=dataset, configs_per_cell=4), "storage_path": "runs"}
    data["train"]["epochs"] = 30  # long enough for both nodes to have a share
    path = write_sweep(tmp_path, data)
    done = segsweep("launch", path.name, "--address", cluster, cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    run = tmp_path / "runs/tiny"
    ends = events(run, "end")
    assert len(ends) == 16
    assert len({end["node"].split("/")[1] for end in ends}) == 2
    assert len(events(run, "holdout")) == 4


def test_a_node_without_the_run_directory_is_named_before_anything_runs(tmp_path: Path) -> None:
    from segsweep.runners.ray import disks

    nodes = [{"NodeID": name, "NodeManagerHostname": f"host-{name}"} for name in "abc"]
    disks.require(nodes, tmp_path, lambda some, marker: [(disks.sees(marker), "") for _ in some])

    def blind(some: Any, marker: str) -> list[tuple[str, str]]:
        return [(disks.sees(marker), ""), (disks.sees(f"{marker}.elsewhere"), ""), ("", "is ill")]

    with pytest.raises(RunError, match="not the same folder on host-b") as caught:
        disks.require(nodes, tmp_path, blind)
    first, second = caught.value.problems
    assert (first.key, second.key) == ("storage_path", "storage_path")
    assert "host-c" not in first.what
    assert second.what.startswith("host-c could not be asked")
    assert second.what.endswith("is ill")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("error", "ends"),
    [
        ("CUDA error: illegal memory access", True),
        ("CUDA error: out of memory", False),
        ("?", False),
    ],
)
def test_a_worker_whose_gpu_is_broken_takes_no_further_item(
    monkeypatch: pytest.MonkeyPatch, error: str, ends: bool
) -> None:
    from segsweep.runners.ray.tasks import run_task

    def leave(code: int) -> None:
        raise SystemExit(code)

    def function(shared: Any, item: Any) -> Any:
        raise RuntimeError(item)

    monkeypatch.setattr(os, "_exit", leave)
    with pytest.raises(SystemExit if ends else RuntimeError):
        run_task(function, 0.0, None, error)


def test_a_task_leaves_no_gpu_memory_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    from segsweep.runners.ray.tasks import run_task

    freed: list[int] = []
    monkeypatch.setattr("torch.cuda.empty_cache", lambda: freed.append(1))
    assert run_task(lambda shared, item: shared + item, 0.5, 1, 2) == 3
    assert freed == [1]
    assert run_task(lambda shared, item: shared + item, 0.0, 1, 2) == 3
    assert freed == [1]


DYING = """
import json, os
from segsweep.runners.ray import RayRunner
from segsweep.spec import SweepSpec

def square(shared, item):
    if item == 2:
        os._exit(1)
    return {"value": shared * item**2}

spec = SweepSpec.model_validate({"name": "x", "factors": {"model": ["segnet"], "loss": ["bce"]}})
runner = RayRunner()
print(json.dumps(list(runner.map(square, 10, [1, 2, 3], spec, alone=True))))
runner.close()
"""


def test_an_item_whose_worker_dies_costs_no_other(tmp_path: Path) -> None:
    script = [sys.executable, "-c", DYING]
    done = subprocess.run(
        script, cwd=tmp_path, capture_output=True, text=True, timeout=PATIENCE_S, check=False
    )
    assert done.returncode == 0, done.stderr
    first, lost, last = json.loads(done.stdout.splitlines()[-1])
    assert (first, last) == ({"value": 10}, {"value": 90})
    assert "the worker was lost" in lost["error"]


def test_a_cluster_that_is_not_there_is_refused(tmp_path: Path) -> None:
    address = f"127.0.0.1:{free_port()}"
    path = write_sweep(tmp_path, tiny())
    done = segsweep("launch", str(path), "--address", address, cwd=tmp_path)
    assert done.returncode == 2, done.stdout + done.stderr
    assert address in done.stderr
    assert "Traceback" not in done.stderr


def test_a_trial_that_fits_nowhere_is_refused(tmp_path: Path) -> None:
    path = write_sweep(tmp_path, tiny(resources={"cpu": 4096}))
    done = segsweep("launch", str(path), cwd=tmp_path)
    assert done.returncode == 2, done.stdout + done.stderr
    assert "fits nowhere" in done.stderr
    assert events_of_nothing(tmp_path)


def events_of_nothing(folder: Path) -> bool:
    """No ledger was begun."""
    return not (folder / "runs/tiny/ledger/events.jsonl").exists()
