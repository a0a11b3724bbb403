"""The search: parallel coordinates of all configs by Optuna, and what mattered."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

from segsweep.compare.comparison import Importances
from segsweep.identity import short_names
from segsweep.report.facts import Facts
from segsweep.report.figures import ROW, Figure, plain

STEPS = 5  # colours of lines, ``--line-0`` the worst


def coordinates(facts: Facts) -> Figure | None:
    """A line a config over factors and parameters; None where there is nothing to see.

    The value of a config is its best epoch on fold 0, where all of them began.
    """
    values = {
        row["config_id"]: row["metric"]
        for row in facts.trials
        if (row["fold"], row["replicate"]) == facts.spec.slots[0] and row["metric"] is not None
    }
    configs = [config for config in facts.state.configs.values() if config.config_id in values]
    rows = [({**config.levels, **config.params}, values[config.config_id]) for config in configs]
    names = dict.fromkeys(name for row, _ in rows for name in row)
    varied = [
        name for name in names if len({repr(row[name]) for row, _ in rows if name in row}) > 1
    ]
    if len(rows) < 2 or not varied:
        return None
    return _dressed(_drawn(rows, varied, facts), facts.maximize)


def _drawn(rows: Sequence[tuple[Mapping[str, Any], float]], names: list[str], facts: Facts) -> Any:
    """``optuna.visualization.plot_parallel_coordinate`` over configs."""
    import optuna
    from optuna.trial import create_trial

    short = dict(zip(names, short_names(names), strict=True))
    ranges = {name: _distribution([row[name] for row, _ in rows if name in row]) for name in names}
    verbosity = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        study = optuna.create_study(direction="maximize" if facts.maximize else "minimize")
        for row, value in rows:
            own = [name for name in names if name in row]
            study.add_trial(
                create_trial(
                    params={short[name]: _coded(row[name], ranges[name]) for name in own},
                    distributions={short[name]: ranges[name] for name in own},
                    value=value,
                )
            )
        return optuna.visualization.plot_parallel_coordinate(study, target_name=facts.score)
    finally:
        optuna.logging.set_verbosity(verbosity)


def _dressed(drawn: Any, maximize: bool) -> Figure:
    """Optuna's figure in the page's colours, the best lines on top, its texts escaped."""
    found = json.loads(drawn.to_json())
    lines = [trace for trace in found["data"] if trace["mode"] == "lines"]
    for trace in lines:
        share = trace["y"][0] if maximize else 1 - trace["y"][0]
        step = min(STEPS - 1, int(share * STEPS))
        trace["line"] = {"color": f"--line-{step}", "width": 1.2 + 0.3 * step}
        trace["opacity"] = 0.9
        trace["customdata"] = [[plain(text) for text in pair] for pair in trace["customdata"]]
    lines.sort(key=lambda trace: trace["y"][0], reverse=not maximize)
    own = found["layout"]
    dimensions = [plain(text) for text in own["xaxis"]["ticktext"]]
    for shape in own["shapes"]:
        shape["line"]["color"] = "--line"
    notes = [
        {**note, "text": plain(note["text"]), "font": {"size": 11, "color": "--ink"},
         "bgcolor": "--veil"}
        for note in own["annotations"]
    ]  # fmt: skip
    layout = {
        "height": 400,
        "margin": {"l": 110, "r": 40, "t": 36, "b": 20},
        "xaxis": {**own["xaxis"], "ticktext": dimensions, "side": "top", "fixedrange": True},
        "yaxis": own["yaxis"],
        "shapes": own["shapes"],
        "annotations": notes,
    }
    return {"data": lines, "layout": layout, "width": 130 * (len(dimensions) + 1)}


def _distribution(values: Sequence[Any]) -> Any:
    """What the values of one parameter are drawn from, as far as a figure cares."""
    from optuna.distributions import CategoricalDistribution, FloatDistribution

    if any(isinstance(value, (str, bool)) or value is None for value in values):
        return CategoricalDistribution(list(dict.fromkeys(_text(value) for value in values)))
    low, high = float(min(values)), float(max(values))
    return FloatDistribution(low, high, log=low > 0 and math.log10(high / low) > 0.5)


def _coded(value: Any, distribution: Any) -> Any:
    return _text(value) if hasattr(distribution, "choices") else float(value)


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def importance(found: Importances) -> Figure | None:
    """Bars: how much of the first-rung scores each parameter explains."""
    rows = list(reversed(found.rows))
    if not rows:
        return None
    colours = ["--accent" if row.p < 0.05 else "--faint" for row in rows]
    return {
        "data": [
            {
                "type": "bar", "orientation": "h", "x": [max(0.0, row.share) for row in rows],
                "y": [plain(row.name) for row in rows], "marker": {"color": colours},
                "text": [f"p = {row.p:.2g}" for row in rows], "textposition": "auto",
                "hovertemplate": "%{y}: %{x:.1%} of the variance of ranks<extra></extra>",
            }
        ],
        "layout": {
            "height": 62 + ROW * len(rows), "bargap": 0.35,
            "margin": {"l": 8, "r": 16, "t": 8, "b": 44},
            "xaxis": {"title": {"text": "share of the variance of ranks explained"},
                      "range": [0, 1], "tickformat": ".0%"},
            "yaxis": {"type": "category"},
        },
    }  # fmt: skip
