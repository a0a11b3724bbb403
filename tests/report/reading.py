"""A report as a test reads it: its figures, its tables, its text."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any


class Report(HTMLParser):
    """A parsed report.

    Attributes:
        figures: Plotly's data and layout by name.
        text: what a reader sees, in one string.
        tables: of each section its tables' rows of cells.
        tags: names of all elements with their attributes.
    """

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.source = path.read_text(encoding="utf-8")
        self.figures: dict[str, Any] = {}
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.tables: dict[str, list[list[list[str]]]] = {}
        self._words: list[str] = []
        self._inside: list[str] = []
        self._section = ""
        self._data = ""
        self.feed(self.source)
        self.text = re.sub(r"\s+", " ", " ".join(self._words))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        own = dict(attrs)
        self.tags.append((tag, own))
        if tag == "section":
            self._section = str(own["id"])
        if tag == "table":
            self.tables.setdefault(self._section, []).append([])
        if tag == "tr":
            self.tables[self._section][-1].append([])
        if tag in ("td", "th"):
            self.tables[self._section][-1][-1].append("")
        if tag in ("script", "style"):
            self._inside.append(str(own.get("id", tag)))
        if tag in ("td", "th"):
            self._inside.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag in ("script", "style", "td", "th"):
            self._inside.pop()

    def handle_data(self, data: str) -> None:
        inside = self._inside[-1] if self._inside else ""
        if inside == "figures":
            self.figures = json.loads(data)
        elif inside in ("td", "th"):
            row = self.tables[self._section][-1][-1]
            row[-1] = f"{row[-1]} {data.strip()}".strip()
            self._words.append(data)
        elif inside not in ("script", "style"):
            self._words.append(data)

    def trace(self, figure: str, name: str) -> dict[str, Any]:
        """The line or the points of a figure that have a name."""
        found: dict[str, Any] = next(
            t for t in self.figures[figure]["data"] if t.get("name") == name
        )
        return found
