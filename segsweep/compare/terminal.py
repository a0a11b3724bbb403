"""A comparison on a terminal: the answer first, then what it rests on."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table

from segsweep import printing
from segsweep.compare.comparison import Comparison
from segsweep.compare.formats import caption, ends, number, probability, spread
from segsweep.identity import counted, format_value, short_params

SHOWN = 8  # parameters by importance


def show(console: Console, found: Comparison) -> None:
    """Print all of it."""
    for note in found.notes:
        console.print(f"note: {note}", style="yellow", markup=False, soft_wrap=True)
    console.print(answer(found), style="bold", markup=False, highlight=False, soft_wrap=True)
    console.print()
    printing.whole(console, _ranking(found))
    text = caption(found).replace("bold:", "≈:")
    console.print(text, style="dim", markup=False, highlight=False, soft_wrap=True)
    for cell in found.unfinished:
        text = f"{cell} has no champion{'' if found.final else ' yet'}: "
        text += "none of its configs has a score on every fold"
        console.print(text, style="dim", markup=False, highlight=False, soft_wrap=True)
    console.print()
    printing.whole(console, _details(found))
    console.print()
    for claim in dict.fromkeys(test.claim for test in found.tests.values()):
        console.print(claim, markup=False, highlight=False, soft_wrap=True)
    console.print(found.limits, style="dim", markup=False, highlight=False, soft_wrap=True)
    console.print()
    _effects(console, found)
    _importance(console, found)
    for warning in found.warnings:
        console.print(f"note: {warning}", style="yellow", markup=False, soft_wrap=True)


def answer(found: Comparison) -> str:
    """The result in one or two sentences."""
    best = found.standings[0]
    so_far = "" if found.final else "So far, "
    text = f"{so_far}{best.label} leads with {spread(best.mean, best.std)}"
    if len(found.standings) == 1:
        return f"{text}; it is the only cell with a champion."
    others = len(found.tied) - 1
    if not others:
        return f"{text}, and no other cell is tied with it."
    text += f"; {others} of {len(found.standings) - 1} other cells cannot be told from it."
    fast = [found.standing(name) for name in found.equally_fast]
    small = found.standing(found.smallest) if found.smallest else None
    if fast:
        labels = " and ".join(row.label for row in fast)
        who = f"{labels} is the fastest" if len(fast) == 1 else f"{labels} are the fastest"
        text += f" Of these, {who} ({number(fast[0].runtime_ms, 1)} ms an image)"
        if small is not None and small.config_id in found.equally_fast:
            return f"{text} and the smallest ({small.parameters:,} parameters)."
        text += "."
    if small is not None:
        text += f" The smallest is {small.label} ({small.parameters:,} parameters)."
    return text


def _ranking(found: Comparison) -> Table:
    grid = Table(box=None, pad_edge=False, header_style="bold")
    grid.add_column("#", justify="right", style="dim")
    grid.add_column("", no_wrap=True)
    grid.add_column("cell", overflow="fold")
    name = found.metric.removeprefix("val/")
    for head in (f"{name} ± sd, {counted(found.folds, 'fold')}", "interval", "p (Holm)"):
        grid.add_column(head, justify="right", no_wrap=True)
    for place, row in enumerate(found.standings, start=1):
        p = found.against_best(row.config_id)
        grid.add_row(
            str(place),
            "≈" if row.tied else "",
            row.label,
            spread(row.mean, row.std),
            ends(row.interval),
            "–" if p is None else probability(p),
            style="bold green" if place == 1 else None,
        )
    return grid


def _details(found: Comparison) -> Table:
    """What each champion is, and how it does beyond the folds."""
    grid = Table(box=None, pad_edge=False, header_style="bold")
    grid.add_column("#", justify="right", style="dim")
    held = any(row.holdout is not None for row in found.standings)
    for head in (*(("holdout", "interval") if held else ()), "ms", "parameters"):
        grid.add_column(head, justify="right", no_wrap=True)
    grid.add_column("best config", min_width=12)
    grid.add_column("tried", justify="right", no_wrap=True)
    for place, row in enumerate(found.standings, start=1):
        beyond = [spread(row.holdout, row.holdout_std), ends(row.holdout_interval)]
        grid.add_row(
            str(place),
            *(beyond if held else []),
            number(row.runtime_ms, 1),
            f"{row.parameters:,}" if row.parameters else "–",
            short_params(row.params) or "–",
            str(row.configs),
        )
    return grid


def _effects(console: Console, found: Comparison) -> None:
    if found.effects.rows:
        grid = Table(box=None, pad_edge=False, header_style="bold")
        grid.add_column("factor", overflow="fold")
        grid.add_column("level", overflow="fold")
        for head in ("main effect", "interval", "p (Holm)", "cells"):
            grid.add_column(head, justify="right", no_wrap=True)
        before = None
        for row in found.effects.rows:
            first = row.factor != before
            p = found.effects.p.get(row.factor) if first else None
            interval = "–"
            if row.interval is not None:
                interval = f"{row.interval[0]:+.4f} to {row.interval[1]:+.4f}"
            grid.add_row(
                row.factor if first else "",
                row.level,
                f"{row.effect:+.4f}",
                interval,
                "" if p is None else probability(p),
                str(row.cells),
            )
            before = row.factor
        printing.whole(console, grid)
    console.print(found.effects.claim, markup=False, highlight=False, soft_wrap=True)
    console.print()


def _importance(console: Console, found: Comparison) -> None:
    own = found.importances
    if own.hidden is not None:
        text = f"importance of parameters: not shown, {own.hidden}"
        console.print(text, style="dim", markup=False, highlight=False, soft_wrap=True)
        return
    grid = Table(box=None, pad_edge=False, header_style="bold")
    grid.add_column(f"importance at epoch {own.epoch}", no_wrap=True)
    for head in ("share", "p (Holm)", "direction", "configs"):
        grid.add_column(head, justify="right", no_wrap=True)
    for row in own.rows[:SHOWN]:
        way = "–" if row.direction is None else f"{row.direction:+.2f}"
        share = format_value(round(100 * row.share, 1))
        grid.add_row(row.name, f"{share} %", probability(row.p), way, str(row.configs))
    printing.whole(console, grid)
    console.print()
