"""What this machine lacks for a sweep, and how to get it. Nothing is started or changed."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
from collections.abc import Iterable, Mapping, Set
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Any, Literal

from segsweep import spec as spec_module
from segsweep.errors import UserError
from segsweep.fulldisk import human
from segsweep.spec import SweepSpec

LEAST_DISK = 2_000_000_000  # bytes; less is worth a word before checkpoints are written
LEAST_SHARED = 500_000_000  # bytes of /dev/shm, where Ray keeps the images
NEEDED = ("torch", "ray", "optuna", "segmentation-models-pytorch", "albumentations", "pyarrow")
EXTRAS = {  # what a package is for, and the extra that brings it
    "wandb": ("results in Weights & Biases", ""),
    "mlflow": ("results in MLflow", "mlflow"),
    "wandb-workspaces": ("`segsweep dashboard`", "dashboard"),
    "transformers": ("the model eomt", "eomt"),
    "onnx": ("exported models as ONNX", "export"),
    "onnxscript": ("exported models as ONNX", "export"),
    "onnxruntime": ("exported models as ONNX", "export"),
}
ALSO = {"mlflow": "mlflow-skinny"}  # the same under another name
State = Literal["ok", "note", "missing"]


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        what: its name.
        state: ``missing`` keeps a sweep from running, ``note`` does not.
        found: what is there.
        hint: how to get what is not.
    """

    what: str
    state: State
    found: str
    hint: str = ""

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for ``--json``."""
        return asdict(self)


def examine(sweep: Path | None = None, storage_path: Path = Path("runs")) -> list[Finding]:
    """Look at everything; with a sweep file, at what it needs, too."""
    spec, problems = _read(sweep) if sweep is not None else (None, [])
    if spec is not None:
        storage_path = Path(spec.storage_path)
    return [
        Finding("Python", "ok", platform.python_version()),
        *_packages(_needed(spec) if spec is not None else set()),
        _gpu(),
        *_ray(),
        _wandb(online=spec is not None and _streams(spec) and spec.wandb_mode == "online"),
        _disk(storage_path),
        _shared_memory(),
        *problems,
        *(_files(spec) if spec is not None else [] if sweep is not None else [_data_variable()]),
    ]


def _needed(spec: SweepSpec) -> set[str]:
    """The packages of ``EXTRAS`` without which the sweep cannot run as it is written."""
    levels = spec.factors.get("model", [])
    names = {level if isinstance(level, str) else _option(level, "name") for level in levels}
    wanted = {
        "wandb": _streams(spec) and spec.wandb_mode != "disabled",
        "mlflow": "mlflow" in spec.tracking,
        "transformers": "eomt" in names,
    }
    return {name for name, needed in wanted.items() if needed}


def _streams(spec: SweepSpec) -> bool:
    return "wandb" in spec.tracking


def _option(level: Any, name: str) -> str:
    """An option of a factor's level that is text; empty where there is none."""
    value = level.get(name) if isinstance(level, Mapping) else None
    return value if isinstance(value, str) else ""


def _files(spec: SweepSpec) -> Iterable[Finding]:
    """Files and folders that a sweep names."""
    if spec.dataset.root:
        yield _data(Path(spec.dataset.root))
    for name, dataset in spec.calibration.datasets.items():
        if dataset.root:
            yield _data(Path(dataset.root), f"data of calibration.datasets.{name}")
    for level in spec.factors.get("model", []):
        if path := _option(level, "weights"):
            if Path(path).is_file():
                yield Finding("weights", "ok", path)
            else:
                hint = "set factors.model's weights to a file of all the model's weights"
                yield Finding("weights", "missing", f"{path} is no file", hint)


def _packages(needed: Set[str]) -> Iterable[Finding]:
    for name in NEEDED:
        version = _version(name)
        if version is None:
            yield Finding(name, "missing", "not installed", "pip install segsweep")
        else:
            yield Finding(name, "ok", version)
    for name, (purpose, extra) in EXTRAS.items():
        version = _version(name) or (_version(ALSO[name]) if name in ALSO else None)
        if version is not None:
            yield Finding(name, "ok", version)
            continue
        hint = f'pip install "segsweep[{extra}]"' if extra else f"pip install {name}"
        if name in needed:
            yield Finding(name, "missing", f"not installed: the sweep asks for {purpose}", hint)
        else:
            yield Finding(name, "note", f"not installed: {purpose} cannot be had", hint)


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _gpu() -> Finding:
    try:
        import torch
    except (ImportError, OSError) as error:
        return Finding("GPU", "missing", f"torch cannot be imported: {error}", "install it again")
    if torch.cuda.is_available():
        names = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
        return Finding("GPU", "ok", f"{', '.join(names)}; CUDA {torch.version.cuda}")
    driver = _driver()
    if driver is None:
        hint = "trials run on the CPU; a GPU machine can be joined with --address"
        return Finding("GPU", "note", "none: no NVIDIA driver answers", hint)
    built = torch.version.cuda or "no CUDA at all"
    hint = "install the torch build that fits the driver (pytorch.org says which)"
    what = (
        f"driver {driver} is there, but torch {torch.__version__}, built for {built}, sees no GPU"
    )
    return Finding("GPU", "note", what, hint)


def _driver() -> str | None:
    """The NVIDIA driver's version; None where there is none."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return None
    query = [program, "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        done = subprocess.run(query, capture_output=True, text=True, timeout=20, check=False)  # noqa: S603
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip().splitlines()[0] if done.returncode == 0 and done.stdout else None


def _ray() -> Iterable[Finding]:
    address = os.environ.get("RAY_ADDRESS")
    if address:
        yield Finding("Ray cluster", "ok", f"RAY_ADDRESS is {address}: launch will join it")
    # Ray's sockets lie below it, in a path of which the system allows 107 characters
    place = os.environ.get("RAY_TMPDIR") or os.environ.get("TMPDIR") or "/tmp"  # noqa: S108
    if len(place) > 40:
        hint = "set RAY_TMPDIR to a short path, /tmp for one"
        yield Finding("Ray", "missing", f"{place} is too long for Ray's sockets", hint)


def _wandb(*, online: bool) -> Finding:
    host = os.environ.get("WANDB_BASE_URL", "https://api.wandb.ai").split("//")[-1].split("/")[0]
    netrc = Path(os.environ.get("NETRC", "~/.netrc")).expanduser()
    if os.environ.get("WANDB_API_KEY"):
        return Finding("W&B login", "ok", "WANDB_API_KEY is set")
    try:
        if netrc.is_file() and f"machine {host.split(':')[0]}" in netrc.read_text():
            return Finding("W&B login", "ok", f"a key for {host} is in {netrc}")
    except (OSError, UnicodeDecodeError):
        pass
    hint = "`wandb login`, or set WANDB_API_KEY; without it, runs are kept offline"
    if online:
        return Finding("W&B login", "missing", f"no key for {host}, and wandb.mode is online", hint)
    return Finding("W&B login", "note", f"no key for {host}", hint)


def _disk(storage_path: Path) -> Finding:
    place = storage_path.absolute()
    while not place.exists():
        place = place.parent
    if not os.access(place, os.W_OK):
        hint = "choose another with storage_path:"
        return Finding("disk", "missing", f"{place} cannot be written to", hint)
    free = shutil.disk_usage(place).free
    if free < LEAST_DISK:
        hint = "free some, or set storage_path:; `segsweep plan` says how much a sweep takes"
        return Finding("disk", "note", f"{human(free)} free at {place}", hint)
    return Finding("disk", "ok", f"{human(free)} free at {place}")


def _shared_memory() -> Finding:
    place = Path("/dev/shm")  # noqa: S108 - looked at, not written to
    if not place.is_dir():
        return Finding("shared memory", "ok", "this system has no /dev/shm; Ray uses files")
    size = shutil.disk_usage(place).total
    if size < LEAST_SHARED:
        hint = "start the container with --shm-size=2g, or Ray falls back to slow files"
        return Finding("shared memory", "note", f"{human(size)} in /dev/shm", hint)
    return Finding("shared memory", "ok", f"{human(size)} in /dev/shm")


def _data_variable() -> Finding:
    place = os.environ.get("SEGSWEEP_DATA")
    if place is None:
        hint = "the sweep files in sweeps/ look there, else in data/"
        return Finding("data", "note", "SEGSWEEP_DATA is not set", hint)
    return _data(Path(place))


def _data(root: Path, what: str = "data") -> Finding:
    if root.exists():
        return Finding(what, "ok", str(root))
    hint = "set its root or SEGSWEEP_DATA to where the images lie"
    return Finding(what, "missing", f"{root} does not exist", hint)


def _read(sweep: Path) -> tuple[SweepSpec | None, list[Finding]]:
    """A sweep file, and what keeps it from being read."""
    try:
        return spec_module.load(sweep), [Finding("sweep file", "ok", str(sweep))]
    except UserError as error:
        hint = f"`segsweep validate {sweep}` lists every mistake"
        return None, [Finding("sweep file", "missing", str(error), hint)]
