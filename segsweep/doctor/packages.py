"""Installed packages, compared with what segsweep requires of their versions."""

from __future__ import annotations

from collections.abc import Mapping, Set
from importlib import metadata
from typing import TYPE_CHECKING

from segsweep.doctor.finding import Finding, State

if TYPE_CHECKING:
    from packaging.requirements import Requirement

NEEDED = (
    "torch", "torchvision", "ray", "optuna", "segmentation-models-pytorch", "albumentations",
    "pyarrow",
)  # fmt: skip
EXTRAS = {  # what a package is for, and the extra that brings it
    "wandb": ("results in Weights & Biases", ""),
    "mlflow": ("results in MLflow", "mlflow"),
    "wandb-workspaces": ("the command dashboard", "dashboard"),
    "transformers": ("the model eomt", "eomt"),
    "onnx": ("exported models as ONNX", "export"),
    "onnxscript": ("exported models as ONNX", "export"),
    "onnxruntime": ("exported models as ONNX", "export"),
}
ALSO = {  # the same under other names
    "mlflow": ("mlflow-skinny",),
    "opencv-python-headless": (
        "opencv-python", "opencv-contrib-python", "opencv-contrib-python-headless",
    ),
}  # fmt: skip
REINSTALL = {
    "torch": "pip install --force-reinstall torch torchvision",
    "torchvision": "pip install -U torch torchvision: both at once, from one index, so that "
    "they fit each other",
}


def look(needed: Set[str], broken: Mapping[str, str], torchvision: bool = True) -> list[Finding]:
    """Every package that somebody may miss; of the others, those that do not fit.

    Args:
        needed: those of ``EXTRAS`` that the sweep needs.
        broken: package → why it cannot be imported.
        torchvision: whether that is imported.
    """
    required = requirements()
    found = []
    for name in NEEDED:
        must = name != "torchvision" or torchvision
        found.append(_fits(name, required, "pip install segsweep", must=must))
    for name, (purpose, extra) in EXTRAS.items():
        hint = f'pip install "segsweep[{extra}]"' if extra else f"pip install {name}"
        must = name in needed
        why = f"the sweep asks for {purpose}" if must else f"{purpose} cannot be had"
        found.append(_fits(name, required, hint, why, must=must))
    others = [name for name in required if name not in NEEDED and name not in EXTRAS]
    rest = [_fits(name, required, "pip install segsweep") for name in others]
    skinny = {other for names in ALSO.values() for other in names}
    found += [one for one in rest if one.state != "ok" and one.what not in skinny]
    return [_broken(one, broken, torchvision) for one in found]


def _broken(finding: Finding, broken: Mapping[str, str], torchvision: bool) -> Finding:
    """The same, or that it cannot be imported; what has the wrong version, or none, is told so."""
    name = finding.what
    if finding.state != "ok" or name not in broken:
        return finding
    must = name != "torchvision" or torchvision
    what = f"{finding.found} cannot be imported: {broken[name]}"
    return Finding(name, "missing" if must else "note", what, REINSTALL[name])


def requirements() -> dict[str, Requirement]:
    """What segsweep says that it requires, by name; of its extras, those of ``EXTRAS``."""
    try:
        from packaging.requirements import Requirement

        texts = metadata.requires("segsweep") or []
    except (ImportError, metadata.PackageNotFoundError):  # run from a folder, not installed
        return {}
    extras = ["", *{extra for _, extra in EXTRAS.values() if extra}]
    found: dict[str, Requirement] = {}
    for text in texts:
        one = Requirement(text)
        marker, one.marker = one.marker, None
        if marker is None or any(marker.evaluate({"extra": extra}) for extra in extras):
            found.setdefault(one.name.lower(), one)
    return found


def _fits(
    name: str, required: Mapping[str, Requirement], hint: str, why: str = "", *, must: bool = True
) -> Finding:
    """A package's version, held against what is required of it."""
    names = (name, *ALSO.get(name, ()))
    wrong: State = "missing" if must else "note"
    own = next(((one, version) for one in names if (version := _version(one))), None)
    if own is None:
        return Finding(name, wrong, f"not installed{': ' if why else ''}{why}", hint)
    version = own[1]
    wanted = next((required[one] for one in names if one in required), None)
    if wanted is None or _within(wanted, version):
        return Finding(name, "ok", version)
    what = f"{version} is installed, {wanted.specifier} required"
    return Finding(name, wrong, what, f'pip install -U "{wanted}"')


def _within(wanted: Requirement, version: str) -> bool:
    from packaging.version import InvalidVersion, Version

    try:
        return wanted.specifier.contains(Version(version), prereleases=True)
    except InvalidVersion:  # of somebody's own build
        return True


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None
