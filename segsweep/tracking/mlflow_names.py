"""What a number is called in MLflow, which refuses many characters in names."""

from __future__ import annotations

import posixpath
import re

from segsweep.identity import digest

REFUSED = re.compile(r"[^/\w.\- :]")  # all else of a name MLflow takes
LONGEST = 250


class Names:
    """Gives each name one that MLflow takes; different names never share one.

    Who comes first keeps the plain form, so that names asked for in the ledger's order are the same
    in every launch.
    """

    def __init__(self) -> None:
        self._given: dict[str, str] = {}
        self._taken: set[str] = set()

    def of(self, name: str) -> str:
        """``val/iou_road+kerb (wet)`` is ``val/iou_road_kerb _wet_``."""
        if name not in self._given:
            given = plain(name)
            if given.lower() in self._taken:  # some databases do not tell A from a
                given = f"{given[: LONGEST - 9]}_{digest(name)[:8]}"
            self._taken.add(given.lower())
            self._given[name] = given
        return self._given[name]


def plain(name: str) -> str:
    """Without what MLflow refuses: characters, and paths that lead elsewhere (``a//b``, ``..``)."""
    clean = REFUSED.sub("_", name)[:LONGEST] or "_"
    if posixpath.normpath(clean) != clean or clean.startswith(("/", "..")) or clean == ".":
        clean = clean.replace("/", "_")
    return f"_{clean[1:]}" if clean.startswith("..") or clean == "." else clean
