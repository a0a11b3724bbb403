"""A JSON Schema of sweep files, with the names that the registries hold, for editors."""

from __future__ import annotations

from typing import Any

from segsweep import losses, models, optim, space
from segsweep.data import augment, sources
from segsweep.metrics.scores import BINARY, MULTICLASS
from segsweep.spec import SweepSpec


def json_schema() -> dict[str, Any]:
    """The schema of a sweep file; editors complete keys and names with it."""
    schema = SweepSpec.model_json_schema()
    definitions = schema["$defs"]
    definitions["Dataset"]["properties"]["name"]["enum"] = sorted(sources.SOURCES)
    train = definitions["Train"]["properties"]
    train["optimizer"]["enum"] = list(optim.OPTIMIZERS)
    train["schedule"]["enum"] = list(optim.SCHEDULES)
    train["augment"]["enum"] = list(augment.PRESETS)
    scores = dict.fromkeys(["loss", *BINARY, *MULTICLASS])
    definitions["Metric"]["properties"]["name"]["enum"] = [f"val/{name}" for name in scores]
    distribution = {"enum": [*space.DISTRIBUTIONS, None], "default": None}
    definitions["Parameter"]["properties"]["distribution"] = distribution
    schema["properties"]["factors"]["properties"] = {
        "model": {"type": "array", "items": _level(list(models.MODELS), "architecture/encoder")},
        "loss": {"type": "array", "items": _level(list(losses.LOSSES), "bce+dice")},
    }
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}


def _level(names: list[str], pattern: str) -> dict[str, Any]:
    return {
        "anyOf": [
            {"enum": names},
            {"type": "string", "description": f"such as {pattern}"},
            {"type": "object"},
        ]
    }
