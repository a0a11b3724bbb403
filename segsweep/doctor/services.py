"""Servers that results are sent to: is there a login, does anybody answer?"""

from __future__ import annotations

import os
from collections.abc import Iterable
from urllib.parse import urlsplit

from segsweep.doctor import reach
from segsweep.doctor.finding import Finding
from segsweep.spec import SweepSpec
from segsweep.tracking import wandb_login


def wandb(*, online: bool) -> Finding:
    """The login that W&B would use; ``online`` is whether the sweep streams there."""
    login = wandb_login.look()
    if not login.problem:
        return Finding("W&B login", "ok", login.found)
    hint = login.hint or "`wandb login`, or set WANDB_API_KEY; without it, runs are kept offline"
    if online:
        return Finding("W&B login", "missing", f"{login.problem}; wandb.mode is online", hint)
    return Finding("W&B login", "note", login.problem, hint)


def mlflow(spec: SweepSpec | None) -> Iterable[Finding]:
    """The MLflow server of a sweep that has one."""
    uri = os.environ.get("MLFLOW_TRACKING_URI", "")
    if spec is None or "mlflow" not in spec.tracking or not uri.startswith(("http://", "https://")):
        return
    try:
        address = urlsplit(uri)
        port = address.port or (443 if address.scheme == "https" else 80)
    except ValueError as error:
        why, place = str(error), "MLFLOW_TRACKING_URI"
    else:
        place = f"{address.hostname or ''}:{port}"  # without the password that may stand before it
        why = reach.silence(address.hostname or "", port)
    if why:
        hint = "start the server, or unset MLFLOW_TRACKING_URI; no trial is lost without it"
        yield Finding("MLflow server", "note", f"nobody answers at {place} ({why})", hint)
    else:
        yield Finding("MLflow server", "ok", f"{place} answers")
