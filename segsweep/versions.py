"""Versions of what is installed, as far as numbers hang on it."""

from __future__ import annotations

import platform
from importlib import metadata

LIBRARIES = (
    "torch", "torchvision", "numpy", "optuna", "ray", "segmentation-models-pytorch",
    "albumentations", "opencv-python-headless", "pyarrow", "scipy",
)  # fmt: skip


def installed() -> dict[str, str]:
    """Python and each library by its version; what is not installed is left out."""
    found = {"python": platform.python_version()}
    for name in LIBRARIES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found
