"""How a calibration looks on a terminal, and as JSON."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table

if TYPE_CHECKING:
    from segsweep.calibrate.run import Outcome
    from segsweep.calibrate.summary import Best


def outcome(console: Console, ended: Outcome) -> None:
    """The best T per metric, where metrics disagree, and what to know besides."""
    rows, lines, fixed = _findings(ended)
    _fits(console, ended)
    console.print()
    _table(console, rows)
    for line in [*lines, *fixed]:
        console.print(line, markup=False, highlight=False, soft_wrap=True)
    for note in [*ended.notes, *ended.warnings]:
        console.print(f"note: {note}", style="yellow", markup=False, soft_wrap=True)
    console.print(
        f"\n{ended.computed} files of logits computed, {ended.found} were there; results in "
        f"{ended.folder}/results/calibration.parquet and anomaly.parquet, fitted temperatures in "
        f"{ended.folder}/calibration.json",
        highlight=False,
        soft_wrap=True,
    )


def as_dict(ended: Outcome) -> dict[str, Any]:
    """Everything that the tables say, and the fitted temperatures."""
    rows, lines, fixed = _findings(ended)
    return {
        "folder": str(ended.folder),
        "models": [one.entry for one in ended.judged],
        "best": [row.as_dict() for row in rows],
        "diagrams": {one.subject.config_id: one.diagrams for one in ended.judged},
        "disagreements": lines,
        "unmoved": fixed,
        "notes": [*ended.notes, *ended.warnings],
        "computed": ended.computed,
        "found": ended.found,
    }


def _findings(ended: Outcome) -> tuple[list[Best], list[str], list[str]]:
    """Best T by metric, where metrics disagree, and what no T can change."""
    from segsweep.calibrate.summary import best, disagreements, unmoved

    rows = [row for one in ended.judged for row in best(one)]
    lines = disagreements(rows, ended.temperatures)
    return rows, lines, [line for one in ended.judged for line in unmoved(one)]


def _fits(console: Console, ended: Outcome) -> None:
    grid = Table(box=None, pad_edge=False, header_style="bold")
    grid.add_column("model", no_wrap=True)
    for name in ("fitted T", "folds", "ensemble", "NLL at 1", "NLL at T"):
        grid.add_column(name, justify="right", no_wrap=True)
    for one in ended.judged:
        entry, ensemble = one.entry, one.entry["ensemble"]
        grid.add_row(
            one.subject.label,
            f"{entry['temperature']:.3f}",
            " ".join(f"{fold['temperature']:.2f}" for fold in entry["folds"]),
            f"{ensemble['temperature']:.3f}" if ensemble else "–",
            f"{entry['nll_before']:.4f}",
            f"{entry['nll']:.4f}",
        )
    console.print(grid)


def _table(console: Console, rows: list[Best]) -> None:
    """A block for each model and dataset, and region or score: so that it fits 80 columns."""
    from segsweep.calibrate.summary import better

    for (model, of, dataset, what), block in itertools.groupby(rows, key=_place):
        ensemble = " (ensemble)" if of == "ensemble" else ""
        title = f"{model}{ensemble} · {dataset} · {what}"
        console.print(title, style="bold", markup=False, highlight=False, soft_wrap=True)
        grid = Table(box=None, pad_edge=False, header_style="dim")
        grid.add_column(" metric", no_wrap=True)
        for name in ("T = 1", "best T", "gain [95 %]", "fitted T, held out"):
            grid.add_column(name, justify="right", no_wrap=True)
        for row in block:
            moves = row.temperature is not None
            fitted = _gain(row.fitted_gain, row.fitted_gain_low, row.fitted_gain_high)
            grid.add_row(
                f" {row.metric} {better(row.metric)}",
                f"{row.value_at_1:.3f}",
                f"{row.temperature:.2f}" if row.temperature is not None else "any",
                _gain(row.gain, row.gain_low, row.gain_high) if moves else "–",
                fitted if moves else "–",
            )
        console.print(grid)
        console.print()


def _place(row: Best) -> tuple[str, str, str, str]:
    return row.model, row.of, row.dataset, row.what


def _gain(value: float | None, low: float | None, high: float | None) -> str:
    if value is None:
        return "–"
    interval = f" [{low:.3f}, {high:.3f}]" if low is not None and high is not None else ""
    return f"{value:+.3f}{interval}"
