"""The W&B sweep page that a sweep's online runs belong to.

W&B groups runs on a sweep page by the sweep id that each is made with. The page is made once, with
a local controller, which tells the server to propose nothing, and remembered in ``wandb/``.
Nobody but segsweep decides: W&B's own local controller would need its extra ``sweeps``, and agents
that start one process a run.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from segsweep.cells import level_label
from segsweep.spec import SweepSpec, to_plain

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

    remembered = run_directory / "wandb" / REMEMBERED
    where = {"project": spec.project, "entity": spec.entity}
    try:
        known = json.loads(remembered.read_text(encoding="utf-8"))
        if {key: known[key] for key in where} == where:
            return str(known["id"])
    except (OSError, ValueError, KeyError):
        pass  # none yet
    asked = {
        "config": json.dumps(config(spec)),  # the server reads YAML, of which JSON is a part
        "description": spec.description or None,
        "entityName": spec.entity,
        "projectName": spec.project,
        "displayName": spec.name,
    }
    answer: Any = wandb.Api()._service_api.execute_graphql(MUTATION, asked, timeout)
    made = str(answer["upsertSweep"]["sweep"]["name"])
    remembered.parent.mkdir(exist_ok=True)
    remembered.write_text(json.dumps({"id": made, **where}), encoding="utf-8")
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
