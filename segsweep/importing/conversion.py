"""What every part of a conversion shares: what W&B's file says, what ours says, what is left."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from segsweep import yamlfile
from segsweep.errors import Problem
from segsweep.yamlfile import Document, KeyPath


@dataclass
class Imported:
    """A sweep file of ours.

    Attributes:
        data: its keys and values.
        left: what was not taken over, or in other words, each with its line.
        missing: what is to be filled in or mended before it can be launched.
        fill: where all of that is to be filled in, an example for ``--set`` of each.
    """

    data: dict[str, Any]
    left: list[Problem] = field(default_factory=list)
    missing: list[Problem] = field(default_factory=list)
    fill: list[str] = field(default_factory=list)

    @property
    def text(self) -> str:
        """As YAML; its first line tells whether somebody changed it since."""
        text = yamlfile.dump(self.data)
        return _first_line(text) + text


def untouched(path: Path) -> bool:
    """Is that a file that an import wrote, and nobody changed?"""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return False
    first, end, rest = text.partition("\n")
    return first + end == _first_line(rest)


def _first_line(text: str) -> str:
    digest = hashlib.sha256(text.encode()).hexdigest()[:12]
    return f"# by segsweep import-wandb, which may write it anew while it is unchanged ({digest})\n"


class Untranslatable(Exception):
    """A parameter that has no counterpart; the text says why, ``hint`` what to do about it."""

    def __init__(self, why: str, hint: str = "") -> None:
        super().__init__(why)
        self.hint = hint


class Conversion:
    """A W&B sweep file on its way.

    Args:
        document: W&B's file, read without the environment.

    Attributes:
        given: what it says, without values that our file could not hold as they stand.
        data: what ours says so far.
        places: our path, of a parameter or another key → where W&B's file says it.
        renamed: our path of a parameter → what W&B's file calls it, where that is not our word.
    """

    def __init__(self, document: Document) -> None:
        self.document = document
        self.data: dict[str, Any] = {}
        self.places: dict[str, KeyPath] = {}
        self.renamed: dict[str, str] = {}
        self.result = Imported(self.data)
        self.given: dict[str, Any] = dict(document.data)

    def leave(self, path: KeyPath, why: str, hint: str = "") -> None:
        """Say what was not taken over as it stands."""
        where = self.document.where(path)
        self.result.left.append(Problem(why, where, yamlfile.dotted(path), hint))

    def where(self, key: str) -> str:
        """The line of W&B's file from which a key of ours comes; the file where none does.

        Args:
            key: as in a problem of our file, ``parameters.train.lr.min`` or ``factors.model[0]``.
        """
        plain = re.sub(r"^(parameters|factors)\.|\[\d+\]| \(.*\)$", "", key)
        for path in sorted(self.places, key=len, reverse=True):
            if plain == path or plain.startswith(f"{path}."):
                rest = plain[len(path) + 1 :]
                return self.document.where((*self.places[path], *([rest] if rest else [])))
        return self.document.name

    def whole(self, path: KeyPath, least: int) -> int | None:
        """The whole number at ``path``; None where there is none, which is said of other values."""
        value: Any = self.given
        for part in path:
            value = value.get(part) if isinstance(value, Mapping) else None
        if value is None:
            return None
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        if isinstance(value, bool) or not isinstance(value, int) or value < least:
            self.leave(path, f"{value!r} is no whole number from {least}: left out")
            return None
        return value

    def without_variables(self, key: str) -> None:
        """Leave out what reading our file would take from the environment, below one key.

        To W&B ``${name}`` is text, or a macro of its commands; a sweep file of ours has no way to
        write it down.
        """
        kept = self._without(self.given.pop(key, None), (key,))
        if kept is not None:
            self.given[key] = kept

    def _without(self, value: Any, path: KeyPath) -> Any:
        if isinstance(value, str) and (found := yamlfile.VARIABLE.search(value)):
            what = f"{found[0]} would be taken from the environment here: left out"
            self.leave(path, what, "write out what it stands for")
            return None
        if not value or not isinstance(value, (dict, list)):
            return value
        pairs = value.items() if isinstance(value, dict) else enumerate(value)
        kept = {k: self._without(one, (*path, k)) for k, one in pairs}
        dropped = {k for k, one in kept.items() if one is None and value[k] is not None}
        left = {k: one for k, one in kept.items() if k not in dropped}
        if not left:
            return None
        return left if isinstance(value, dict) else list(left.values())
