"""Uploading a dashboard, over what was uploaded before."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from segsweep.next_command import called, command
from segsweep.rundir import Run
from segsweep.tracking import wandb_remembered, wandb_service
from segsweep.tracking.dashboard import Dashboard, Keys, build
from segsweep.tracking.wandb_runs import FINISH_S, INIT_S, WandbRuns
from segsweep.tracking.wandb_session import environment
from segsweep.tracking.writer import describe

SAVED = "dashboard.json"  # in the run directory's wandb/


@dataclass
class Upload:
    """What became of a workspace and a report.

    Attributes:
        addresses: of what is on the server.
        why: why that is not both of them, where it is not.
        failed: it was tried.
    """

    addresses: list[str] = field(default_factory=list)
    why: str = ""
    failed: bool = False


def upload(run: Run, keys: Keys) -> Upload:
    """Upload both where the server has runs of the sweep; raises nothing that W&B raises."""
    import wandb

    files = WandbRuns(run.spec, run.path, online=True)
    if not any(files.has_all_of(run_id) for run_id in files.folders):
        why = f"the server has no run of it yet; `{command('sync', called(run.path))}` sends them"
        return Upload(why=why)
    done = Upload()
    try:
        with environment("online"):
            files.log_in(verify=True)
            entity = run.spec.entity or str(wandb.Api(timeout=math.ceil(INIT_S)).default_entity)
            _save(run, build(run, keys, entity), done)
    except Exception as error:  # W&B's are of many kinds
        wandb_service.end(FINISH_S)  # else it may wait for an answer when this ends
        done.failed = True
        done.why = f"W&B cannot be used ({describe(error)}); run the same again to go on"
    return done


def _save(run: Run, made: Dashboard, done: Upload) -> None:
    """Save workspace and report; each is remembered as soon as it is there."""
    workspace, report = made.workspace, made.report
    place, project, entity = run.path / "wandb" / SAVED, run.spec.project, str(workspace.entity)
    known = wandb_remembered.read(place, project, entity)
    if "workspace" in known:
        workspace._internal_name, workspace._internal_id = known["workspace"]
    if "report" in known:
        report.id = known["report"]
    workspace.save()
    known["workspace"] = [workspace._internal_name, workspace._internal_id]
    wandb_remembered.write(place, project, entity, known)
    done.addresses.append(str(workspace.url))
    report.save()
    wandb_remembered.write(place, project, entity, {**known, "report": report.id})
    done.addresses.append(str(report.url))
