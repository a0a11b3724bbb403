"""One page from all of it: text through Jinja with everything escaped, figures as JSON."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup
from plotly.offline import get_plotlyjs

from segsweep import __version__
from segsweep.display import duration
from segsweep.report import (
    answer,
    classes,
    curves,
    figures,
    pictures,
    searched,
    sections,
    spent,
    trust,
)
from segsweep.report.facts import Facts
from segsweep.report.figures import Figure

TEMPLATES = Path(__file__).parent / "templates"
MATRICES, FEW = 3, 8  # confusion matrices of so many cells; of one where classes are more than few


def render(facts: Facts) -> str:
    """The report as HTML that needs nothing else."""
    cost = spent.bill(facts)
    drawn: dict[str, Figure] = {}
    context = {
        **_opening(facts, cost),
        **_ranking(facts, drawn),
        **_search(facts, drawn),
        **_classes(facts, drawn),
        **_pictures(facts),
        **_ending(facts, cost),
        "trust": _trust(facts, drawn),
    }
    page = _environment().get_template("report.html")
    style, script = (
        (TEMPLATES / name).read_text(encoding="utf-8") for name in ("style.css", "report.js")
    )
    return page.render(
        **context,
        drawn=drawn,
        figures=Markup(_json(drawn)),  # noqa: S704 - no "<" is left in it
        style=Markup(style),  # noqa: S704 - a file of this package
        script=Markup(script),  # noqa: S704
        plotly=Markup(get_plotlyjs()),  # noqa: S704 - Plotly's own
    )


def _json(drawn: dict[str, Figure]) -> str:
    """JSON that may stand inside a script element."""
    text = json.dumps(drawn, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


@cache
def _environment() -> Environment:
    made = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    filters: dict[str, Callable[..., str]] = {
        "score": lambda value: "–" if value is None else f"{value:.4f}",
        "duration": duration,
        "count": lambda value: "–" if value is None else f"{value:,}",
    }
    made.filters.update(filters)
    return made


def _opening(facts: Facts, cost: spent.Spent) -> dict[str, Any]:
    first, second = answer.sentences(facts, cost)
    last = facts.run.events[-1].get("time")
    return {
        "name": facts.spec.name,
        "description": facts.spec.description,
        "standing": facts.standing,
        "badge": answer.BADGES[facts.standing],
        "as_of": time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(last)) if last else "",
        "first": first,
        "second": second,
        "tiles": sections.tiles(facts, cost),
        "notes": facts.notes,
        "warnings": facts.comparison.warnings if facts.comparison else [],
        "score": facts.score,
        "version": __version__,
    }


def _ranking(facts: Facts, drawn: dict[str, Figure]) -> dict[str, Any]:
    found = facts.comparison
    intervals = {
        row.config_id: (row.interval.low, row.interval.high)
        for row in (found.standings if found else [])
        if row.interval is not None
    }
    if facts.ranking:
        drawn["ranking"] = figures.ranking(facts, intervals)
    _add(drawn, "runtime", figures.runtime(facts))
    _add(drawn, "factors", figures.factors(facts))
    effects = found.effects if found else None
    if effects is not None and effects.rows:
        drawn["effects"] = figures.effects(effects, facts.score)
    return {
        "ranking": sections.ranking(facts),
        "intervals": bool(intervals),
        "fold_count": facts.spec.folds.count,
        "tests": list(found.tests.values()) if found else [],
        "limits": found.limits if found else "",
        "effects_claim": effects.claim if effects else "",
    }


def _search(facts: Facts, drawn: dict[str, Figure]) -> dict[str, Any]:
    small = curves.figures(facts)
    drawn.update({f"curve{i}": figure for i, (_, figure) in enumerate(small)})
    _add(drawn, "parallel", searched.coordinates(facts))
    importances = facts.comparison.importances if facts.comparison else None
    if importances is not None:
        _add(drawn, "importance", searched.importance(importances))
    started = {row["cell"] for row in facts.trials if facts.curves.get(row["trial_id"])}
    return {
        "curves": [(f"curve{i}", label) for i, (label, _) in enumerate(small)],
        "curves_left": len(started) - len(small),
        "importance_hidden": importances.hidden if importances else None,
    }


def _classes(facts: Facts, drawn: dict[str, Figure]) -> dict[str, Any]:
    split = classes.split_of(facts)
    names, found = classes.matrices(facts, split)
    _add(drawn, "classes", classes.per_class(facts, names, found))
    shown = [row for row in facts.ranking if row.config_id in found]
    shown = shown[: MATRICES if len(names) <= FEW else 1]
    for i, row in enumerate(shown):
        drawn[f"confusion{i}"] = classes.confusion(names, found[row.config_id])
    labels = [(f"confusion{i}", row.label) for i, row in enumerate(shown)]
    return {"split": split, "confusion": labels, "class_count": len(names)}


def _pictures(facts: Facts) -> dict[str, Any]:
    if not facts.ranking:
        return {"pictures": [], "kept": 0, "legend": [], "binary": True}
    names, found = pictures.examples(facts, facts.ranking[0].config_id)
    palette = pictures.colours(len(names), facts.run.split.get("palette"))
    legend = [
        ("#{:02x}{:02x}{:02x}".format(*colour), name)
        for colour, name in zip(palette, names, strict=True)
    ]
    binary = len(names) == 2
    return {
        "pictures": [pictures.picture(*item, palette) for item in pictures.chosen(found)],
        "kept": len(found),
        "legend": legend[1:] if binary else legend,
        "binary": binary,
    }


def _trust(facts: Facts, drawn: dict[str, Figure]) -> list[trust.Part]:
    found = trust.parts(facts)
    drawn.update({name: figure for part in found for name, _, figure in part.figures})
    return found


def _ending(facts: Facts, cost: spent.Spent) -> dict[str, Any]:
    return {
        "spent": cost,
        "rungs": spent.rungs(facts),
        "race": facts.spec.race.rule,
        "stopping": facts.spec.early_stopping.type,
        "failures": sections.failures(facts),
        "settings": sections.settings(facts),
        "repeat": sections.repeat(facts.run),
        "commands": [e["command"] for e in facts.of("launch") if e.get("command")],
        "resolved": sections.resolved(facts),
        "winner": sections.winner(facts),
    }


def _add(drawn: dict[str, Figure], name: str, figure: Figure | None) -> None:
    if figure is not None:
        drawn[name] = figure
