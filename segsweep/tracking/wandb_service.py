"""Ending W&B's own process, which may wait for a server in vain."""

from __future__ import annotations

import contextlib
import threading
from typing import Any


def end(seconds: float) -> None:
    """End W&B's process and all its runs; begun again, it reads the environment anew.

    A process that does not end by itself in time is killed: it would try a lost server for as
    long as its requests are patient, and everybody who waits for it with it.
    """
    process = _process()
    ends = threading.Thread(target=_end, name="wandb-teardown", daemon=True)
    ends.start()
    ends.join(seconds)
    if ends.is_alive() and process is not None:
        process.kill()
        ends.join(seconds)


def is_offline() -> bool:
    """Was W&B begun offline in this process? It stays so, whatever the environment says later."""
    from wandb.sdk import wandb_setup

    begun = getattr(wandb_setup, "_singleton", None)
    settings = getattr(begun, "settings", None)  # private: elsewhere in other versions
    return getattr(settings, "mode", None) in ("offline", "disabled", "dryrun")


def _end() -> None:
    import wandb

    # a process that ended badly would end ours with it, by SystemExit
    with contextlib.suppress(Exception, SystemExit):
        wandb.teardown()


def _process() -> Any:
    """W&B's process, a ``Popen``; None: none runs, or W&B keeps it elsewhere now."""
    from wandb.sdk import wandb_setup

    found: Any = wandb_setup
    for name in ("_singleton", "_connection", "_proc", "_process"):
        found = getattr(found, name, None)
    return found
