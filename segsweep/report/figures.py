"""Figures as plain Plotly data and layout.

A colour that begins with ``--`` is a variable of the style sheet: the page fills it in, so that
one figure serves light and dark. Names are escaped, since Plotly reads tags in its texts.
"""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from typing import Any

from segsweep.compare import Ranked
from segsweep.compare.comparison import Effects
from segsweep.report.facts import Facts

Figure = dict[str, Any]
HEAT = [[0, "--heat-0"], [0.25, "--heat-1"], [0.5, "--heat-2"], [0.75, "--heat-3"], [1, "--heat-4"]]
ROW = 30  # pixels a row of a figure with one line a cell


def plain(text: object) -> str:
    """A text that Plotly shows as it stands."""
    return html.escape(str(text), quote=False)


def ranking(facts: Facts, intervals: Mapping[str, tuple[float, float]]) -> Figure:
    """Each cell's best config: every fold, mean with its interval, and the holdout.

    Args:
        facts: the run.
        intervals: by config, of its mean; without one, the standard deviation over folds is drawn.
    """
    rows = list(reversed(facts.ranking))
    names = [plain(row.label) for row in rows]
    low, high = [], []
    for row in rows:
        own = intervals.get(row.config_id)
        spread = row.std or 0.0
        low.append(row.mean - own[0] if own else spread)
        high.append(own[1] - row.mean if own else spread)
    data: list[Figure] = [
        _folds(facts, rows),
        {
            "type": "scatter", "mode": "markers", "name": "mean", "y": names,
            "x": [row.mean for row in rows],
            "error_x": {"type": "data", "symmetric": False, "array": high, "arrayminus": low,
                        "color": "--accent", "thickness": 2, "width": 5},
            "marker": {"size": 10,
                       "color": ["--accent" if row.final else "--paper" for row in rows],
                       "line": {"width": 2, "color": "--accent"}},
            "hovertemplate": "%{y}<br>mean %{x:.4f}<extra></extra>",
        },
    ]  # fmt: skip
    held = [row for row in rows if row.holdout is not None]
    if held:
        data.append(
            {
                "type": "scatter", "mode": "markers", "name": "holdout",
                "x": [row.holdout for row in held], "y": [plain(row.label) for row in held],
                "marker": {"size": 9, "symbol": "diamond", "color": "--second"},
                "hovertemplate": "%{y}<br>holdout %{x:.4f}<extra></extra>",
            }
        )  # fmt: skip
    layout = {
        "height": 110 + ROW * len(rows),
        "xaxis": {"title": {"text": plain(facts.score)}},
        "yaxis": {"type": "category", "categoryorder": "array", "categoryarray": names},
        "legend": LEGEND,
    }
    return {"data": data, "layout": layout}


def _folds(facts: Facts, rows: Sequence[Ranked]) -> Figure:
    """A point for each finished trial of some configs."""
    points = [
        (trial["metric"], plain(row.label), f"fold {trial['fold']}")
        for row in rows
        for trial in facts.trials_of(row.config_id)
        if trial["status"] == "finished" and trial["metric"] is not None
    ]
    return {
        "type": "scatter", "mode": "markers", "name": "a fold", "x": [p[0] for p in points],
        "y": [p[1] for p in points], "text": [p[2] for p in points],
        "marker": {"size": 7, "color": "--faint", "opacity": 0.9},
        "hovertemplate": "%{y}<br>%{text}: %{x:.4f}<extra></extra>",
    }  # fmt: skip


LEGEND = {"orientation": "h", "x": 0, "y": 1, "xanchor": "left", "yanchor": "bottom"}


def pareto(points: Sequence[tuple[str, float, float]], maximize: bool) -> list[str]:
    """Names of the points (name, cost, score) that none is both cheaper and better than."""
    sign = 1 if maximize else -1
    front: list[str] = []
    best = float("-inf")
    for name, _, score in sorted(points, key=lambda p: (p[1], -sign * p[2])):
        if sign * score > best:
            best = sign * score
            front.append(name)
    return front


def runtime(facts: Facts) -> Figure | None:
    """Score against milliseconds an image, with the Pareto front; None where nothing was timed."""
    timed = {r["config_id"]: r["runtime_ms"] for r in facts.trials if r["runtime_ms"] is not None}
    sizes = {r["config_id"]: r["parameters"] for r in facts.trials if r["parameters"]}
    rows = [row for row in facts.ranking if row.config_id in timed]
    if not rows:
        return None
    points = [(row.config_id, timed[row.config_id], row.mean) for row in rows]
    front = pareto(points, facts.maximize)
    places = {row.config_id: place for place, row in enumerate(facts.ranking, start=1)}
    line = sorted((p for p in points if p[0] in front), key=lambda p: p[1])
    texts = {
        row.config_id: f"{plain(row.label)}<br>{sizes.get(row.config_id, 0):,} parameters"
        for row in rows
    }
    first = [p for p in points if p[0] in front]
    rest = [p for p in points if p[0] not in front]
    data: list[Figure] = [
        {
            "type": "scatter", "mode": "lines", "name": "Pareto front", "hoverinfo": "skip",
            "x": [p[1] for p in line], "y": [p[2] for p in line],
            "line": {"shape": "hv", "width": 1.5, "dash": "dot", "color": "--second"},
        },
        *_points("behind it", rest, "--muted", places, texts),
        *_points("on the front", first, "--second", places, texts),
    ]  # fmt: skip
    layout = {
        "height": 400,
        "xaxis": {"title": {"text": "milliseconds an image"}, "rangemode": "tozero"},
        "yaxis": {"title": {"text": plain(facts.score)}},
        "legend": LEGEND,
    }
    return {"data": data, "layout": layout}


def _points(
    name: str,
    points: Sequence[tuple[str, float, float]],
    colour: str,
    places: Mapping[str, int],
    texts: Mapping[str, str],
) -> list[Figure]:
    """Points with their places in the ranking written into them."""
    if not points:
        return []
    return [
        {
            "type": "scatter", "mode": "markers+text", "name": name,
            "x": [p[1] for p in points], "y": [p[2] for p in points],
            "text": [str(places[p[0]]) for p in points], "textposition": "middle center",
            "textfont": {"color": "--paper", "size": 11},
            "customdata": [texts[p[0]] for p in points], "cliponaxis": False,
            "marker": {"size": 19, "color": colour, "line": {"width": 1, "color": "--paper"}},
            "hovertemplate": "%{customdata}<br>%{y:.4f} at %{x:.2f} ms<extra></extra>",
        }
    ]  # fmt: skip


def heat(
    rows: Sequence[str],
    columns: Sequence[str],
    values: Sequence[Sequence[float | None]],
    *,
    digits: int = 3,
    hover: str = "%{y} · %{x}<br>%{z:.4f}<extra></extra>",
    bounds: tuple[float, float] | None = None,
    flip: bool = False,
) -> Figure:
    """A table of numbers in colour; rows from the top, numbers written in where they fit."""
    wide = len(columns) > 12
    text = [["" if value is None else f"{value:.{digits}f}" for value in line] for line in values]
    trace: Figure = {
        "type": "heatmap", "x": [plain(c) for c in columns], "y": [plain(r) for r in rows],
        "z": [list(line) for line in values], "colorscale": HEAT, "reversescale": flip,
        "showscale": wide, "xgap": 2, "ygap": 2, "hoverongaps": False, "hovertemplate": hover,
    }  # fmt: skip
    if bounds is not None:
        trace |= {"zmin": bounds[0], "zmax": bounds[1]}
    if wide:
        trace["colorbar"] = {"thickness": 10, "outlinewidth": 0, "len": 0.5}
    else:
        trace |= {"text": text, "texttemplate": "%{text}"}
    layout = {
        "height": 70 + max(ROW, 24 if wide else 38) * len(rows),
        "margin": {"l": 8, "r": 16, "t": 8, "b": 40},
        "xaxis": {"type": "category", "side": "bottom", "showgrid": False},
        "yaxis": {"type": "category", "autorange": "reversed", "showgrid": False},
    }
    figure: Figure = {"data": [trace], "layout": layout}
    if len(columns) > 5:  # numbers stay legible: a narrow screen scrolls
        figure["width"] = 150 + (22 if wide else 44) * len(columns)
    return figure


def factors(facts: Facts) -> Figure | None:
    """Model against everything else that was crossed: the mean of each cell's best config."""
    means = {row.cell: row.mean for row in facts.ranking}
    levels = {config.cell: config.levels for config in facts.state.configs.values()}
    if len(levels) < 2:
        return None
    first = "model" if all("model" in own for own in levels.values()) else None
    if first is None:
        return None
    short = _short_levels(levels, first)
    table: dict[tuple[str, str], float] = {
        short[cell]: mean for cell, mean in means.items() if cell in short
    }
    rows = list(dict.fromkeys(row for row, _ in short.values()))
    columns = list(dict.fromkeys(column for _, column in short.values()))
    values = [[table.get((row, column)) for column in columns] for row in rows]
    if all(value is None for line in values for value in line):
        return None
    return heat(rows, columns, values, flip=not facts.maximize)


def _short_levels(
    levels: Mapping[str, Mapping[str, str]], first: str
) -> dict[str, tuple[str, str]]:
    """Of each cell its row and column; options are written only where names alone are not clear."""
    place = list(next(iter(levels.values()))).index(first)
    found: dict[str, tuple[str, str]] = {}
    for cell, own in levels.items():
        parts = [own[key] for key in own]
        rest = [part for i, part in enumerate(parts) if i != place]
        found[cell] = (parts[place], " / ".join(rest) or "all")
    rows = {row for row, _ in found.values()}
    bare = {row.partition("(")[0] for row in rows}
    if len(bare) == len(rows):
        found = {cell: (row.partition("(")[0], rest) for cell, (row, rest) in found.items()}
    return found


def effects(found: Effects, score: str) -> Figure:
    """How much better or worse each level of a factor is than the factor's mean."""
    rows = list(reversed(found.rows))
    names = [plain(f"{row.factor}: {row.level}") for row in rows]
    low = [row.effect - row.interval[0] if row.interval else 0.0 for row in rows]
    high = [row.interval[1] - row.effect if row.interval else 0.0 for row in rows]
    trace = {
        "type": "scatter", "mode": "markers", "x": [row.effect for row in rows], "y": names,
        "marker": {"size": 9, "color": "--accent"},
        "error_x": {"type": "data", "symmetric": False, "array": high, "arrayminus": low,
                    "color": "--accent", "thickness": 2, "width": 5},
        "hovertemplate": "%{y}<br>%{x:+.4f}<extra></extra>",
    }  # fmt: skip
    layout = {
        "height": 62 + ROW * len(rows),
        "margin": {"l": 8, "r": 16, "t": 8, "b": 44},
        "xaxis": {"title": {"text": f"better by, in {plain(score)}"}, "zeroline": True},
        "yaxis": {"type": "category", "categoryorder": "array", "categoryarray": names},
    }
    return {"data": [trace], "layout": layout}
