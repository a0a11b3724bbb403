"""``cluster/slurm.sh`` with commands that only write down how they were called."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path

import pytest

from tests.runners.processes import wait_for

SCRIPT = Path(__file__).parent.parent / "cluster" / "slurm.sh"
STUBS = {
    "scontrol": "printf 'a1\\na2\\n'",
    "srun": """echo "srun $*" >> "$CALLS"
        while [[ "$1" == --* ]]; do shift; done
        if [ "$1" = hostname ]; then echo '10.0.0.1 10.0.0.2'; exit; fi
        exec "$@" """,
    "ray": """echo "ray $* $RAY_AUTH_MODE ${#RAY_AUTH_TOKEN}" >> "$CALLS"
        if [ "$1" = start ]; then exec sleep 60; fi
        grep '^ray start' "$CALLS" | sed 's/.*/ 1 node_x/'
        printf 'Pending:\\n 1 node_z\\n' """,
    "segsweep": """trap 'exit 130' TERM
        echo "segsweep $*" >> "$CALLS"
        if [ -n "${LONG:-}" ]; then sleep 60 & wait; fi
        exit 3""",
}


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    for name, body in STUBS.items():
        path = tmp_path / "bin" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(f"#!/usr/bin/env bash\n{body}\n")
        path.chmod(0o755)
    return {
        **os.environ,
        "PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}",
        "CALLS": str(tmp_path / "calls"),
        "SLURM_JOB_NODELIST": "a[1-2]",
        "SLURM_CPUS_PER_TASK": "8",
        "SLURM_GPUS_ON_NODE": "4",
        "RAY_PORT": "7001",
    }


def test_every_node_has_its_part_and_the_exit_code_is_the_launchs(
    environment: dict[str, str], tmp_path: Path
) -> None:
    command = [str(SCRIPT), "my.yaml", "--set", "name=two words"]
    done = subprocess.run(command, env=environment, capture_output=True, timeout=60, check=False)
    assert done.returncode == 3, done.stderr
    calls = (tmp_path / "calls").read_text().splitlines()
    size = "--num-cpus=8 --num-gpus=4"
    (head,) = [call for call in calls if call.startswith("ray start --head")]
    assert "--node-ip-address=10.0.0.1 --port=7001" in head
    assert head.endswith(f"{size} token 64")  # a token of the job's own
    (worker,) = [call for call in calls if call.startswith("ray start --block")]
    assert worker.endswith(f"--address=10.0.0.1:7001 {size} token 64")
    steps = [call for call in calls if call.startswith("srun") and "ray start" in call]
    assert sorted(step.split("--nodelist=")[1][:2] for step in steps) == ["a1", "a2"]
    assert calls[-1] == "segsweep launch my.yaml --set name=two words --address 10.0.0.1:7001"


def test_the_end_of_the_time_reaches_the_launch(
    environment: dict[str, str], tmp_path: Path
) -> None:
    calls = tmp_path / "calls"
    process = subprocess.Popen([str(SCRIPT), "my.yaml"], env={**environment, "LONG": "1"})
    wait_for(lambda: calls.exists() and "segsweep" in calls.read_text(), 30, "the launch")
    process.send_signal(signal.SIGTERM)
    assert process.wait(30) == 130
