"""Learning curves: a small figure a cell, what was stopped in grey, the champion on top."""

from __future__ import annotations

from collections.abc import Sequence

from segsweep.report.facts import Facts, Row
from segsweep.report.figures import Figure, plain
from segsweep.workload import epochs_of

POINTS = 48  # of a curve; longer ones are thinned out
CELLS = 24  # small figures at most; the best cells come first

Curve = Sequence[tuple[int, float | None]]
# of each kind of trial: its name in the legend, colour, width, opacity
KINDS = {
    "stopped": ("stopped early", "--muted", 1.1, 0.7),
    "broken": ("failed or diverged", "--bad", 1.2, 0.9),
    "open": ("not ended yet", "--second", 1.2, 0.9),
    "finished": ("finished", "--accent", 1.0, 0.45),
    "best": ("the cell's best config", "--accent", 2.4, 1.0),
}


def thin(curve: Curve, points: int = POINTS, *, maximize: bool = True) -> list[tuple[int, float]]:
    """At most about ``points`` points that keep the shape: of each stretch the extremes.

    The first, the last and the best epoch are always among them; undefined values are left out.
    """
    known = [(epoch, value) for epoch, value in curve if value is not None]
    if len(known) <= points:
        return known
    sign = 1 if maximize else -1
    best = max(range(len(known)), key=lambda i: sign * known[i][1])
    chosen = {0, len(known) - 1, best}
    stretches = max(1, (points - 3) // 2)
    for i in range(stretches):
        low, high = i * len(known) // stretches, (i + 1) * len(known) // stretches
        part = range(low, high)
        chosen.add(min(part, key=lambda j: known[j][1]))
        chosen.add(max(part, key=lambda j: known[j][1]))
    return [known[i] for i in sorted(chosen)]


def figures(facts: Facts) -> list[tuple[str, Figure]]:
    """A label and a figure for each cell, the best cells first; all on the same scale."""
    order = [row.cell for row in facts.ranking]
    order += [cell for cell in facts.labels if cell not in order]
    champions = {row.config_id for row in facts.ranking}
    by_cell: dict[str, list[Row]] = {}
    for row in facts.trials:
        if facts.curves.get(row["trial_id"]):
            by_cell.setdefault(row["cell"], []).append(row)
    shown = [cell for cell in order if cell in by_cell][:CELLS]
    bounds = _bounds(facts, [row for cell in shown for row in by_cell[cell]])
    epochs = max(map(epochs_of, facts.state.configs.values()), default=1)
    return [
        (facts.labels[cell], _figure(facts, by_cell[cell], champions, epochs, bounds))
        for cell in shown
    ]


def _bounds(facts: Facts, rows: Sequence[Row]) -> tuple[float, float] | None:
    """The scale that all figures share; a few wild first epochs do not set it."""
    values = sorted(
        value for row in rows for _, value in facts.curves[row["trial_id"]] if value is not None
    )
    if not values:
        return None
    cut = len(values) // 50
    low, high = values[0], values[-1]
    if facts.maximize:
        low = values[cut]
    else:
        high = values[-1 - cut]
    edge = 0.05 * (high - low) or 0.05
    return low - edge, high + edge


def _figure(
    facts: Facts,
    rows: Sequence[Row],
    champions: set[str],
    epochs: int,
    bounds: tuple[float, float] | None,
) -> Figure:
    groups: dict[str, list[Row]] = {}
    for row in rows:
        groups.setdefault(_kind(row, champions), []).append(row)
    data = []
    for kind, (name, colour, width, opacity) in KINDS.items():
        if kind not in groups:
            continue
        x, y, text, ends = _joined(facts, groups[kind])
        single = len(x) == sum(1 for value in x if value is None) * 2  # one epoch each: no line
        data.append(
            {
                "type": "scatter", "mode": "markers" if single else "lines", "name": name,
                "x": x, "y": y, "text": text, "connectgaps": False, "opacity": opacity,
                "line": {"color": colour, "width": width}, "marker": {"color": colour, "size": 5},
                "hovertemplate": "%{text}<br>epoch %{x}: %{y:.4f}<extra></extra>",
            }
        )  # fmt: skip
        if kind in ("stopped", "broken"):
            data.append(
                {
                    "type": "scatter", "mode": "markers", "showlegend": False,
                    "x": [x[i] for i in ends], "y": [y[i] for i in ends], "hoverinfo": "skip",
                    "marker": {"symbol": "x-thin", "size": 6,
                               "line": {"color": colour, "width": 1.3}},
                }
            )  # fmt: skip
    layout: Figure = {
        "height": 220, "showlegend": False,
        "margin": {"l": 44, "r": 8, "t": 8, "b": 32},
        "xaxis": {"range": [1 - 0.02 * epochs, epochs * 1.02], "nticks": 5},
        "yaxis": {"nticks": 5},
    }  # fmt: skip
    if bounds is not None:
        layout["yaxis"]["range"] = list(bounds)
    return {"data": data, "layout": layout}


def _kind(row: Row, champions: set[str]) -> str:
    if row["status"] == "stopped":
        return "stopped"
    if row["status"] in ("failed", "diverged", "out_of_memory"):
        return "broken"
    if row["status"] == "incomplete":
        return "open"
    return "best" if row["config_id"] in champions else "finished"


def _joined(
    facts: Facts, rows: Sequence[Row]
) -> tuple[list[int | None], list[float | None], list[str], list[int]]:
    """Many curves as one line with gaps, and where each of them ends."""
    x: list[int | None] = []
    y: list[float | None] = []
    text: list[str] = []
    ends: list[int] = []
    for row in rows:
        points = thin(facts.curves[row["trial_id"]], maximize=facts.maximize)
        if not points:
            continue
        name = plain(facts.name_of(row).removeprefix(facts.labels[row["cell"]]).strip())
        x += [epoch for epoch, _ in points] + [None]
        y += [float(f"{value:.5g}") for _, value in points] + [None]
        text += [name] * len(points) + [""]
        ends.append(len(x) - 2)
    return x, y, text, ends
