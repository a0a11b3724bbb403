"""How a calibration looks on a terminal, and as JSON."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table

from segsweep import printing

if TYPE_CHECKING:
    from segsweep.calibrate.run import Outcome
    from segsweep.calibrate.summary import Best

AT_BOUND = "*"  # beside a temperature: no minimum was found, or the grid ends there
SHOWN = 6  # temperatures that are listed one by one
SHOWS = 5e-4  # an error from which on a number of three digits may be another one


def outcome(console: Console, ended: Outcome) -> None:
    """The best T per metric, where metrics disagree, and what to know besides."""
    rows, lines, fixed = _findings(ended)
    _fits(console, ended)
    console.print()
    _table(console, rows)
    for line in [*lines, *fixed]:
        console.print(line, markup=False, highlight=False, soft_wrap=True)
    if any(row.at_end or row.at_bound or row.own_at_bound for row in rows) or any(
        fit["at_bound"] for one in ended.judged for fit in [one.entry, *one.entry["folds"]]
    ):
        console.print(
            f"{AT_BOUND} T is at the end of what was looked at: a better one may lie beyond",
            style="yellow",
            soft_wrap=True,
        )
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
    grid.add_column("model", overflow="fold")
    grid.add_column("fitted T", justify="right", no_wrap=True)
    grid.add_column("folds", justify="right")
    for name in ("ensemble", "NLL at 1", "NLL at T"):
        grid.add_column(name, justify="right", no_wrap=True)
    for one in ended.judged:
        entry, ensemble = one.entry, one.entry["ensemble"]
        grid.add_row(
            one.subject.label,
            _fit(entry, 3),
            " ".join(_fit(fold, 2) for fold in entry["folds"]),
            _fit(ensemble, 3) if ensemble else "–",
            f"{entry['nll_before']:.4f}",
            f"{entry['nll']:.4f}",
        )
    printing.whole(console, grid)


def _fit(entry: Any, digits: int) -> str:
    """A fitted temperature; with a star where it is at its bound."""
    return f"{entry['temperature']:.{digits}f}{AT_BOUND if entry['at_bound'] else ''}"


def _table(console: Console, rows: list[Best]) -> None:
    """Blocks for each model and dataset, and region or score: so that they fit 80 columns."""
    for (model, of, dataset, what), several in itertools.groupby(rows, key=_place):
        block = list(several)
        ensemble = " (ensemble)" if of == "ensemble" else ""
        title = f"{model}{ensemble} · {dataset} · {what}"
        console.print(title, style="bold", markup=False, highlight=False, soft_wrap=True)
        printing.whole(console, _swept(block))
        if any(row.fitted_gain is not None and row.temperature is not None for row in block):
            printing.whole(console, _held_out(block))
            console.print(_used(block), style="dim", markup=False, highlight=False, soft_wrap=True)
        console.print()


def _swept(block: list[Best]) -> Table:
    """What the best T of the grid gains, on the images that it is chosen on."""
    from segsweep.calibrate.summary import better

    grid = Table(box=None, pad_edge=False, header_style="dim")
    for name in (" metric", "T = 1", "best T", "gain of the best T [95 %]"):
        grid.add_column(name, justify="left" if name == " metric" else "right", no_wrap=True)
    for row in block:
        best = "any"
        if row.temperature is not None:
            best = f"{row.temperature:.2f}{AT_BOUND if row.at_end else ''}"
        grid.add_row(
            f" {row.metric} {better(row.metric)}",
            _off(row.value_at_1, row.error_at_1),
            best,
            "–" if row.temperature is None else _gain(row.gain, row.gain_low, row.gain_high),
        )
    return grid


def _held_out(block: list[Best]) -> Table:
    """What fitted temperatures gain on images that they were not fitted on."""
    from segsweep.calibrate.summary import better

    crossed = any(row.fitted_used != row.own_used for row in block)
    alone = any(row.own_gain is not None for row in block)
    grid = Table(box=None, pad_edge=False, header_style="dim")
    grid.add_column(" metric", no_wrap=True)
    if crossed:
        grid.add_column("gain of the config's T", justify="right", no_wrap=True)
    if alone:
        grid.add_column("gain of a model's own T", justify="right", no_wrap=True)
    for row in block:
        if row.temperature is None:
            continue
        gains = [_gain(row.fitted_gain, row.fitted_gain_low, row.fitted_gain_high)] * crossed
        gains += [_gain(row.own_gain, row.own_gain_low, row.own_gain_high)] * alone
        grid.add_row(f" {row.metric} {better(row.metric)}", *gains)
    return grid


def _used(block: list[Best]) -> str:
    """Which temperatures these gains were measured with."""
    row = next(one for one in block if one.fitted_gain is not None and one.temperature is not None)
    parts = []
    if row.fitted_used and row.fitted_used != row.own_used:
        star = AT_BOUND if row.at_bound else ""
        parts.append(f"config's T {_several(row.fitted_used)}{star}")
    if row.own_used:
        star = AT_BOUND if row.own_at_bound else ""
        parts.append(f"own T {_several(row.own_used)}{star}, fitted on one half of the images each")
    return f" held out: {'; '.join(parts)}"


def _several(values: Sequence[float]) -> str:
    if len(values) <= SHOWN:
        return ", ".join(f"{value:.2f}" for value in values)
    return f"{min(values):.2f} to {max(values):.2f}"


def _place(row: Best) -> tuple[str, str, str, str]:
    return row.model, row.of, row.dataset, row.what


def _off(value: float, error: float) -> str:
    """A number, and how far it can be off where that shows."""
    text = printing.number(value)
    return f"{text} ±{error:.1g}" if error >= SHOWS else text


def _gain(value: float | None, low: float | None, high: float | None) -> str:
    if value is None:
        return "–"
    text = printing.signed(value)
    if low is None or high is None:
        return text
    return f"{text} [{printing.number(low)}, {printing.number(high)}]"
