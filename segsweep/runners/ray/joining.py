"""Starting Ray here, or joining a cluster: the token it asks for, secrets, and what goes wrong."""

from __future__ import annotations

import contextlib
import logging
import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import ray

from segsweep.errors import Problem, RunError
from segsweep.next_command import command

LOCAL = "local"
REACH_S = 5.0  # for a connection to a cluster's address
SECRETS = (
    "WANDB_API_KEY", "WANDB_IDENTITY_TOKEN_FILE", "MLFLOW_TRACKING_USERNAME",
    "MLFLOW_TRACKING_PASSWORD", "MLFLOW_TRACKING_TOKEN", "MLFLOW_TRACKING_URI",
)  # fmt: skip


def join(address: str) -> None:
    """Start Ray on this machine where ``address`` is ``local``, else join the cluster there.

    Raises:
        RunError: it cannot be started, or nobody answers there, or its versions are others.
    """
    if address != LOCAL:
        _reach(address)
        _show_token()
    try:
        with _without_secrets():
            ray.init(
                address=address,
                include_dashboard=False if address == LOCAL else None,
                log_to_driver=False,
                logging_level=logging.ERROR,
                configure_logging=True,
            )
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise RunError(_refused(address, error)) from error


def _show_token() -> None:
    """Let Ray show its token to an address that is given by name, which it does by mode alone.

    A cluster that is started where a token lies asks for it. Setting the variable would not do
    where Ray was imported before.
    """
    named = "RAY_AUTH_TOKEN" in os.environ or "RAY_AUTH_TOKEN_PATH" in os.environ
    if "RAY_AUTH_MODE" in os.environ or not (
        named or (Path.home() / ".ray" / "auth_token").exists()
    ):
        return
    os.environ["RAY_AUTH_MODE"] = "token"
    config: Any = getattr(ray._raylet, "Config", None)  # private: elsewhere in other versions
    if config is not None:
        config.initialize("")  # reads the environment anew


def _refused(address: str, error: Exception) -> Problem:
    text = " ".join(str(error).split())
    text = text if len(text) <= 400 else f"{text[:400]} …"
    if address == LOCAL:
        hint = f"`{command('doctor')}` says what is missing; --runner inline does without Ray"
        return Problem(f"Ray cannot be started here: {text}", hint=hint)
    hint = _way_out()
    if "mismatch" in text.lower():
        hint = f"install here the versions of Python and Ray that the cluster has; or {hint}"
    return Problem(f"no Ray cluster at {address}: {text}", hint=hint)


def _way_out() -> str:
    asked = "unset RAY_ADDRESS" if os.environ.get("RAY_ADDRESS") else "leave --address out"
    return f"is the cluster up? `ray status` says; {asked} to run here"


def _reach(address: str) -> None:
    """Fail within seconds where nobody listens: Ray itself tries for minutes.

    Raises:
        RunError: nobody does.
    """
    host, colon, port = address.removeprefix("ray://").rpartition(":")
    if not colon or not port.isdigit():
        return  # "auto": Ray looks for a cluster on this machine
    try:
        socket.create_connection((host, int(port)), timeout=REACH_S).close()
    except OSError as error:
        what = f"no Ray cluster at {address}: {error}"
        raise RunError(Problem(what, hint=_way_out())) from error


@contextlib.contextmanager
def _without_secrets() -> Iterator[None]:
    """Workers inherit the environment: secrets stay with the driver."""
    kept = {name: os.environ.pop(name) for name in SECRETS if name in os.environ}
    try:
        yield
    finally:
        os.environ.update(kept)
