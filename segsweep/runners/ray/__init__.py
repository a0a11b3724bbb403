"""The only place that imports Ray: trials as Ray Tune trials on warm, reused actors."""

from segsweep.runners.ray.runner import RayRunner

__all__ = ["RayRunner"]
