"""The commands: arguments in, messages and exit codes out; no logic."""

from segsweep.cli import sweeps, runs, models, weights_and_biases  # isort: skip - the help's order
from segsweep.cli.app import app

__all__ = ["app", "models", "runs", "sweeps", "weights_and_biases"]
