"""torch and what hangs on it: is there a GPU, does torchvision fit, which weights are there?

They are imported in a process of their own: it takes seconds, and a build that does not fit the
machine may end the process that imports it.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from segsweep.doctor import child, machine, wants
from segsweep.doctor.finding import Finding

PATIENCE_S = 180.0  # a cold network drive takes its time


@dataclass(frozen=True)
class Report:
    """How importing them went.

    Attributes:
        version: of torch; empty where it cannot be imported.
        cuda: what torch was built for.
        gpus: names of those that torch sees.
        broken: package → why it cannot be imported.
        weights: ``encoder:resnet34`` → is it in the cache? None where that cannot be told.
    """

    version: str = ""
    cuda: str | None = None
    gpus: Sequence[str] = ()
    broken: Mapping[str, str] = field(default_factory=dict)
    weights: Mapping[str, bool | None] = field(default_factory=dict)


def look(wanted: Iterable[tuple[str, str]]) -> Report:
    """Import them elsewhere; ``wanted`` are ``(kind, name)`` of weights to look for."""
    names = [":".join(one) for one in wanted]
    command = [sys.executable, "-P", "-W", "ignore", str(Path(child.__file__)), *names]
    path = os.pathsep.join(place for place in sys.path if place)
    try:
        done = subprocess.run(  # noqa: S603 - a file of ours
            command, capture_output=True, text=True, check=False, timeout=PATIENCE_S,
            env={**os.environ, "PYTHONPATH": path},
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return Report(broken={"torch": f"importing it took longer than {PATIENCE_S:.0f} s"})
    try:
        found: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    except (IndexError, ValueError):
        why = f"importing it ends the process (exit status {done.returncode})"
        return Report(broken={"torch": why})
    return Report(**found)


def gpu(report: Report, wanted: float) -> Iterable[Finding]:
    """The GPUs that torch sees; ``wanted`` is the share of one that a trial needs."""
    if not report.version:  # told of torch itself
        return
    if report.gpus:
        yield Finding("GPU", "ok", f"{', '.join(report.gpus)}; CUDA {report.cuda}")
    elif not wanted:
        yield Finding("GPU", "note", _none(report), _hint())
    elif address := machine.joined():
        hint = f"trials run on the cluster at {address}, which must have one"
        yield Finding("GPU", "note", _none(report), hint)
    else:
        what = f"{_none(report)}; the sweep asks for gpu: {wanted:g}"
        hint = "set resources: {gpu: auto}, or join a cluster with --address"
        yield Finding("GPU", "missing", what, hint)


def _none(report: Report) -> str:
    driver = machine.driver()
    if driver is None:
        return "none: no NVIDIA driver answers"
    built = report.cuda or "no CUDA at all"
    return f"driver {driver} is there, but torch {report.version}, built for {built}, sees no GPU"


def _hint() -> str:
    if machine.driver() is None:
        return "trials run on the CPU; a GPU machine can be joined with --address"
    return "install the torch build that fits the driver (pytorch.org says which)"


def weights(report: Report, starts: Mapping[tuple[str, str], str]) -> Iterable[Finding]:
    """Pretrained weights: are they here already, or to be downloaded?"""
    for (kind, name), folder in starts.items():
        what = f"weights of {name}" if kind == wants.ENCODER else "weights of eomt"
        there = report.weights.get(f"{kind}:{name}")
        if folder:
            yield Finding(what, "ok", folder)
        elif there:
            yield Finding(what, "ok", "in the cache already")
        elif there is not None:
            yield _downloaded(what, "encoder_weights" if kind == wants.ENCODER else "pretrained")


def _downloaded(what: str, setting: str) -> Finding:
    other = f"set {setting}: none, or copy a machine's ~/.cache/huggingface that has them"
    if os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "ON", "YES", "TRUE"):
        found = "not in the cache, and HF_HUB_OFFLINE is set"
        return Finding(what, "missing", found, f"unset it, {other}")
    found = "not in the cache: launch downloads them"
    return Finding(what, "note", found, f"without a network: {other}")
