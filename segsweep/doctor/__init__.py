"""What this machine lacks for a sweep, and how to get it. Nothing is started or changed.

What ``launch`` would be refused for is ``missing``; what it does without is a ``note``.
"""

from __future__ import annotations

import platform
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from segsweep import spec as spec_module
from segsweep.doctor import files, libraries, machine, packages, services, wants
from segsweep.doctor.finding import Finding, State
from segsweep.errors import SpecError, UserError
from segsweep.next_command import command
from segsweep.spec import SweepSpec
from segsweep.yamlfile import Document

__all__ = ["Finding", "State", "examine"]


def examine(sweep: Path | None = None, storage_path: Path = Path("runs")) -> list[Finding]:
    """Look at everything; with a sweep file, at what it needs, too."""
    spec, document, problems = _read(sweep) if sweep is not None else (None, None, [])
    starts = wants.starts(spec)
    with ThreadPoolExecutor(1) as pool:
        # torch takes seconds to import: in a process of its own, while all else is looked at
        answer = pool.submit(libraries.look, [one for one in starts if not starts[one]])
        rest = [
            *machine.ray_cluster(),
            services.wandb(online=wants.stream(spec)),
            *services.mlflow(spec),
            machine.disk(Path(spec.storage_path) if spec is not None else storage_path),
            machine.shared_memory(),
            *problems,
            *_files(sweep, spec, document),
        ]
        report = answer.result()
    return [
        Finding("Python", "ok", platform.python_version()),
        *packages.look(wants.packages(spec), report.broken, wants.torchvision(spec)),
        *libraries.gpu(report, wants.gpus(spec)),
        *rest,
        *libraries.weights(report, starts),
    ]


def _files(
    sweep: Path | None, spec: SweepSpec | None, document: Document | None
) -> Iterable[Finding]:
    if spec is not None:
        yield from files.data(spec, document)
        yield from files.weights(spec)
    elif sweep is None:
        yield files.data_variable()


def _read(sweep: Path) -> tuple[SweepSpec | None, Document | None, list[Finding]]:
    """A sweep file, and what keeps it from being read."""
    try:
        document = spec_module.read(sweep)
        spec, problems = spec_module.parse(document)
        if spec is None or problems:
            raise SpecError(problems)
    except UserError as error:
        hint = f"`{command('validate', sweep)}` lists every mistake"
        return None, None, [Finding("sweep file", "missing", str(error), hint)]
    return spec, document, [Finding("sweep file", "ok", str(sweep))]
