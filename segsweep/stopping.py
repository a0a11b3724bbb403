"""``stop``: asks the launch of a run directory to end in good order, and waits until it has."""

from __future__ import annotations

import os
import signal
import socket
import time
from pathlib import Path

from segsweep import rundir
from segsweep.errors import Problem, RunError
from segsweep.next_command import command
from segsweep.rundir import Holder

EVERY = 0.2  # seconds between two looks


def stop(path: Path) -> Holder | None:
    """Interrupt the launch that holds a run directory, as Ctrl-C would, and wait for its end.

    Returns:
        Who was stopped; None where no launch was running.

    Raises:
        RunError: it is no launch, runs on another host, or belongs to another user.
    """
    found = rundir.holder(path)
    if found is None or found.alive is False:
        return None
    if found.what != rundir.LAUNCH:
        who = f"`segsweep {found.what}` (pid {found.pid} on {found.host})"
        what = f"no launch is running here, but {who}"
        raise RunError(Problem(what, str(path), hint="wait for it, or end it with Ctrl-C there"))
    if found.alive is None:
        what = f"its launch runs on {found.host} (pid {found.pid}), and this is "
        hint = f"on {found.host}: {command('stop', path.absolute())}"
        raise RunError(Problem(what + socket.gethostname(), str(path), hint=hint))
    try:
        os.kill(found.pid, signal.SIGINT)
    except ProcessLookupError:
        return found  # it has just ended
    except PermissionError as error:
        what = f"its launch (pid {found.pid}) is another user's"
        raise RunError(Problem(what, str(path), hint="ask them to stop it")) from error
    while (now := rundir.holder(path)) is not None and now.alive and now.pid == found.pid:
        time.sleep(EVERY)
    return found
