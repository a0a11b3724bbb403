"""One thing that was looked at on this machine."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

State = Literal["ok", "note", "missing"]


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        what: its name.
        state: ``missing`` keeps a sweep from running, ``note`` does not.
        found: what is there.
        hint: how to get what is not.
    """

    what: str
    state: State
    found: str
    hint: str = ""

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for ``--json``."""
        return asdict(self)
