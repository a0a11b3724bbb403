"""The commands: arguments in, messages and exit codes out; no logic."""

from segsweep.cli.main import app

__all__ = ["app"]
