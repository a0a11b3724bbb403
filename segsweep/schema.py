"""A JSON Schema of sweep files, with the names that the registries hold, for editors."""

from __future__ import annotations

from typing import Any

from segsweep import losses, models, optim, space
from segsweep.data import augment, sources
from segsweep.metrics.scores import BINARY, BOUNDARY, MULTICLASS, RANKING
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
    scores = dict.fromkeys(["loss", *BINARY, *MULTICLASS, *RANKING, *BOUNDARY])
    score = {
        "anyOf": [
            {"enum": [f"val/{name}" for name in scores]},
            {"type": "string", "pattern": "^val/iou_.+", "description": "IoU of one class"},
        ]
    }
    metric = definitions["Metric"]["properties"]
    metric["name"] = {**score, "default": metric["name"]["default"]}
    metric["also"]["items"] = score
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
