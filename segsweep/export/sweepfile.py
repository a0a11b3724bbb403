"""One config of a sweep as a sweep file of its own, which ``segsweep launch`` accepts."""

from __future__ import annotations

from typing import Any

from segsweep import yamlfile
from segsweep.spec import SweepSpec, to_plain
from segsweep.state import ConfigState

_SEARCH = ("factors", "parameters", "exclude", "configs_per_cell", "method", "sampler")


def text(spec: SweepSpec, config: ConfigState) -> str:
    """The file: one model, one loss, every setting filled in, nothing searched or stopped.

    The config keeps its id, since all that can change a number is as it was.
    """
    return f"# config {config.config_id} of the sweep {spec.name}, {config.cell}\n" + yamlfile.dump(
        as_sweep(spec, config)
    )


def as_sweep(spec: SweepSpec, config: ConfigState) -> dict[str, Any]:
    """As ``text``, as plain values."""
    plain = {key: value for key, value in to_plain(spec).items() if key not in _SEARCH}
    own = config.config
    return {
        **plain,
        "name": f"{spec.name[:80]}-{config.config_id}",
        "description": f"Config {config.config_id} of {spec.name}: {config.cell}"[:1000],
        "seed": own["seed"],
        "factors": {"model": [dict(own["model"])], "loss": [dict(own["loss"])]},
        "train": dict(own["train"]),
        "early_stopping": {"type": "none"},
        "race": {"rule": "none"},
    }
