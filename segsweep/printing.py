"""Numbers and tables as a terminal shows them: no digit is cut, and nothing is no minus nothing."""

from __future__ import annotations

from rich.console import Console
from rich.measure import Measurement
from rich.table import Table

LABEL = 16  # characters that a column of text keeps at least


def number(value: float, digits: int = 3) -> str:
    """``0.027``; what rounds to nothing has no sign."""
    text = f"{value:.{digits}f}"
    return text.removeprefix("-") if float(text) == 0 else text


def signed(value: float, digits: int = 3) -> str:
    """``+0.027``, ``-0.027``, and ``0.000``."""
    text = number(value, digits)
    return text if float(text) <= 0 else f"+{text}"


def whole(console: Console, table: Table) -> None:
    """Print a table of which columns that may wrap give way, and no other one.

    Where the rest is wider than the terminal, lines run over its edge: numbers are never cut.
    """
    options = console.options.update(max_width=10_000)
    natural = Measurement.get(console, options, table).maximum
    for column in table.columns:
        if not column.no_wrap:
            cells = [column.header, *column.cells]
            width = max(Measurement.get(console, options, cell).maximum for cell in cells)
            natural -= max(0, width - LABEL)
    wide = max(console.width, natural)
    console.print(table, width=wide, crop=False, no_wrap=True, overflow="ignore")
