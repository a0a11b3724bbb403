"""The W&B sweep page that a sweep's online runs belong to.

W&B groups runs on a sweep page by the sweep id that each is made with. The page is made once, with
a local controller, which tells the server to propose nothing, and remembered in ``wandb/``.
Nobody but segsweep decides: W&B's own local controller would need its extra ``sweeps``, and agents
that start one process a run.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

from segsweep.cells import level_label
from segsweep.spec import SweepSpec, to_plain
from segsweep.tracking import wandb_remembered

REMEMBERED = "sweep.json"  # in the run directory's wandb/
MUTATION = """
mutation UpsertSweep(
    $config: String, $description: String, $entityName: String, $projectName: String,
    $displayName: String
) {
    upsertSweep(input: {
        config: $config, description: $description, entityName: $entityName,
        projectName: $projectName, displayName: $displayName
    }) { sweep { name } }
}
"""


def page(spec: SweepSpec, run_directory: Path, timeout: float) -> str:
    """The id of the sweep's page, which is made where there is none yet.

    Args:
        spec: the sweep.
        run_directory: the id is kept in its ``wandb/``.
        timeout: seconds for the server to answer.

    Raises:
        Exception: whatever W&B raises where it cannot be made.
    """
    import wandb

    place = run_directory / "wandb" / REMEMBERED
    known = wandb_remembered.read(place, spec.project, spec.entity)
    if "id" in known:
        return str(known["id"])
    asked = {
        "config": json.dumps(config(spec)),  # the server reads YAML, of which JSON is a part
        "description": spec.description or None,
        "entityName": spec.entity,
        "projectName": spec.project,
        "displayName": spec.name,
    }
    api = wandb.Api(timeout=math.ceil(timeout))  # it asks the server who we are
    answer: Any = api._service_api.execute_graphql(MUTATION, asked, timeout)
    made = str(answer["upsertSweep"]["sweep"]["name"])
    wandb_remembered.write(place, spec.project, spec.entity, {"id": made})
    return made


def config(spec: SweepSpec) -> dict[str, Any]:
    """The sweep in W&B's words; the values of a factor are the labels that runs carry."""
    plain = to_plain(spec)
    factors = {
        name: {"values": [level_label(name, level) for level in levels]}
        for name, levels in plain["factors"].items()
    }
    return {
        "name": spec.name,
        "method": spec.method,
        "metric": {"name": spec.metric.name, "goal": spec.metric.goal},
        "parameters": {**factors, **plain["parameters"]},
        "controller": {"type": "local"},
    }
