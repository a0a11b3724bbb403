"""The commands: arguments in, messages and exit codes out; no logic."""

from segsweep.cli import wandb_commands  # its commands are added to the app
from segsweep.cli.main import app

__all__ = ["app", "wandb_commands"]
