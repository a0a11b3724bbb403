"""Distributed, cross-validated hyperparameter sweeps for image segmentation.

``segsweep.load(run)`` and ``segsweep.launch(spec)`` are the way in from Python.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from segsweep.api import LoadedRun, launch, load

__version__ = "0.1.0"
__all__ = ["LoadedRun", "__version__", "launch", "load"]


def __getattr__(name: str) -> Any:
    """Import what is asked for, and nothing before: a command is to start at once."""
    if name in ("LoadedRun", "launch", "load"):
        return getattr(import_module("segsweep.api"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
