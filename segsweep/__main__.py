"""``python -m segsweep`` is ``segsweep``."""

from segsweep.cli import app

app()
