"""Speaking to W&B's server: the key, the mode, and what its errors say."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator

from segsweep.errors import Problem, RunError

# parts of W&B's messages where a server does not answer
SILENT = ("did not respond", "timed out", "timeout", "refused", "unreachable")
REFUSED = re.compile(r"HTTP 4\d\d")  # W&B says "timed out" of these, too


def is_refusal(error: Exception) -> bool:
    """Does ``error`` say that the server answered, and wants none of it?"""
    return REFUSED.search(str(error)) is not None


def is_silent(error: Exception) -> bool:
    """Does ``error`` say that the server does not answer?"""
    return not is_refusal(error) and any(word in str(error) for word in SILENT)


def log_in(verify: bool) -> None:
    """Find the key without asking for it: a sweep has nobody to ask.

    Raises:
        RunError: there is none.
    """
    import wandb

    if not wandb.login(prompt=False, verify=verify):
        hint = "run `wandb login`, set WANDB_API_KEY, or use wandb.mode: offline"
        raise RunError(Problem("no API key of W&B is configured", key="wandb.mode", hint=hint))


@contextlib.contextmanager
def environment(mode: str) -> Iterator[None]:
    """The sweep's word wins over WANDB_MODE, which W&B would prefer; and W&B keeps quiet."""
    wanted = {"WANDB_MODE": mode, "WANDB_SILENT": "true"}
    before = {name: os.environ.get(name) for name in wanted}
    os.environ.update(wanted)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
