"""What the benchmarks share: the machine they ran on, medians with their spread, a table."""

from __future__ import annotations

import argparse
import json
import os
import platform
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

import torch


def machine() -> str:
    """One line about where a figure comes from."""
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else "no GPU"
    python = platform.python_version()
    return f"{os.cpu_count()} cores, {gpu}, Python {python}, torch {torch.__version__}"


def spread(values: Sequence[float]) -> str:
    """``median (least – most)``."""
    return f"{median(values):.3f} ({min(values):.3f} – {max(values):.3f})"


def arguments(description: str | None) -> argparse.ArgumentParser:
    """A parser with ``--json FILE``."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    return parser


def report(
    title: str, rows: Sequence[Sequence[str]], figures: dict[str, Any], to: Path | None
) -> None:
    """Print a table with the machine under it, and write the figures."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    print(title)
    for row in rows:
        print("  " + "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)))
    print(f"  on {machine()}")
    if to is not None:
        to.write_text(json.dumps({**figures, "machine": machine()}, indent=2) + "\n")
