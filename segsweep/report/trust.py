"""Probabilities: reliability diagrams, curves over temperature, and anomaly scores.

Drawn where ``segsweep calibrate`` has left ``results/calibration.parquet``,
``results/anomaly.parquet`` and ``calibration.json``; a run without them has no such part.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from segsweep.report.facts import Facts, Row
from segsweep.report.figures import LEGEND, Figure, plain

AT_BOUND = "*"  # beside a temperature
LISTED = 6  # temperatures that stand one by one
# how a T was fitted that is reported on other images; None: by a version that did not say
WAYS = {None: "of the other folds", "others": "of the other folds", "halves": "its own"}
LINES = 8  # cells in one figure, the best first
TICKS = [0.125, 0.25, 0.5, 1, 2, 4, 8, 16]  # of temperature
DIAGRAMS = 4  # reliability diagrams, of the best cells
METRICS = {"nll": "negative log-likelihood", "ece": "expected calibration error (ECE)"}
WORTH = {"auprc": "average precision", "auroc": "AUROC", "fpr95_first": "FPR at 95 % TPR"}


@dataclass(frozen=True)
class Part:
    """One part of the section: a title, what it says, a table and figures with their labels."""

    title: str
    lead: str
    figures: Sequence[tuple[str, str, Figure]]
    head: Sequence[str] = ()
    rows: Sequence[Sequence[str]] = ()


def parts(facts: Facts) -> list[Part]:
    """Whatever there is."""
    folder = facts.run.path / "results"
    calibration = _read(folder / "calibration.parquet", "validation")
    anomaly = _read(folder / "anomaly.parquet")
    diagrams = _reliability(facts, _models(facts.run.path / "calibration.json"))
    found = [diagrams, _temperatures(facts, calibration), *_anomalies(facts, anomaly)]
    return [part for part in found if part is not None]


def _read(path: Path, dataset: str | None = None) -> list[Row]:
    """Rows of configs over all their folds; none where there is no such file or no whole one."""
    try:
        table = pq.read_table(path)
        wanted = pc.equal(table["of"], "config")
        if dataset is not None:
            wanted = pc.and_(wanted, pc.equal(table["dataset"], dataset))
        rows: list[Row] = table.filter(wanted).to_pylist()
    except (OSError, pa.ArrowException, KeyError):
        return []
    return rows


def _models(path: Path) -> list[Row]:
    """The configs of ``calibration.json``; none where there is no such file or no whole one."""
    try:
        found: list[Row] = json.loads(path.read_text(encoding="utf-8"))["models"]
    except (OSError, ValueError, KeyError, TypeError):
        return []
    return found


def _reliability(facts: Facts, models: Sequence[Row]) -> Part | None:
    """How often a pixel is right, against how sure the model was; before and after."""
    own = {entry["config_id"]: entry for entry in models if entry.get("diagrams")}
    named = _named(facts, list(own.values()))
    drawn = [
        (f"reliability-{i}", f"Reliability of {label}", _diagram(own[config_id]["diagrams"], label))
        for i, (config_id, label) in enumerate(list(named.items())[:DIAGRAMS])
    ]
    if not drawn:
        return None
    lead = (
        "Of the validation pixels that a model was so sure of, the share that it has right. On the "
        "dotted line it is as right as it says; below it, it says too much."
    )
    return Part("Reliability", lead, drawn)


def _diagram(diagrams: Sequence[Row], label: str) -> Figure:
    data: list[Figure] = [
        {
            "type": "scatter", "mode": "lines", "x": [0, 1], "y": [0, 1], "showlegend": False,
            "hoverinfo": "skip", "line": {"color": "--faint", "dash": "dot", "width": 1.5},
        }
    ]  # fmt: skip
    for i, diagram in enumerate(diagrams):
        bins = [
            (confidence, accuracy, pixels)
            for confidence, accuracy, pixels in zip(
                diagram["confidence"], diagram["accuracy"], diagram["pixels"], strict=True
            )
            if pixels
        ]
        total = sum(pixels for *_, pixels in bins) or 1
        scaling = str(diagram["scaling"]).replace("_", " ")
        data.append(
            {
                "type": "scatter", "mode": "lines+markers",
                "name": "as trained" if scaling == "none" else plain(scaling),
                "x": [b[0] for b in bins], "y": [b[1] for b in bins],
                "customdata": [b[2] / total for b in bins],
                "line": {"color": f"--c{i % LINES}", "width": 2},
                "marker": {"size": 6, "color": f"--c{i % LINES}"},
                "hovertemplate": "sure to %{x:.1%}: right in %{y:.1%}<br>%{customdata:.1%} of all",
            }
        )  # fmt: skip
    layout = {
        "height": 400, "legend": LEGEND, "title": {"text": plain(label), "font": {"size": 13}},
        "margin": {"l": 8, "r": 16, "t": 76, "b": 44},
        "xaxis": {"title": {"text": "confidence"}, "tickformat": ".0%"},
        "yaxis": {"title": {"text": "accuracy"}, "tickformat": ".0%"},
    }  # fmt: skip
    return {"data": data, "layout": layout}


def _temperatures(facts: Facts, rows: Sequence[Row]) -> Part | None:
    whole = [row for row in rows if row["region"] == "all" and row["scaling"] == "temperature"]
    if not whole:
        return None
    named = _named(facts, whole)
    drawn = [
        (f"temperature-{metric}", f"{title} against temperature",
         _curves(named, [row for row in whole if row["metric"] == metric], title))
        for metric, title in METRICS.items()
    ]  # fmt: skip
    table = []
    for config_id, label in named.items():
        own = [row for row in whole if row["config_id"] == config_id and row["fitted"]]
        table += _held_out(label, own)
    lead = (
        "Logits are divided by T; the point on each line is the T of all validation images. The "
        "table shows images that T was not fitted on, and the T's that were used for them: those "
        "of the other folds, and of each fold model its own, as it is exported, fitted on one half "
        "of its images and measured on the other. Lower is better."
    )
    if any(star for *_, star in table):
        lead += f" {AT_BOUND} No minimum was found: T is at its bound."
    lead += "".join(f" {line}" for line in _at_ends(named, whole))
    head = ["cell", "T", "T used", "NLL at T = 1", "held out", "ECE at T = 1", "held out"]
    return Part("Temperature", lead, drawn, head, [cells for *cells, _ in table])


def _held_out(label: str, fitted: Sequence[Row]) -> list[list[str]]:
    """A row of cells for each way that T was fitted; the last is AT_BOUND where it is at one."""
    table = []
    for fit, words in WAYS.items():
        own = {row["metric"]: row for row in fitted if row.get("fit") == fit}
        if not all(metric in own for metric in METRICS):
            continue
        star = AT_BOUND if own["nll"].get("at_bound") else ""
        used = own["nll"].get("used")
        cells = [label, words, f"{_several(used)}{star}" if used else f"not recorded{star}"]
        for metric in METRICS:
            value, gain = own[metric]["value"], own[metric]["gain"]
            cells += [f"{value + gain:.4f}", f"{value:.4f}"]
        table.append([*cells, star])
    return table


def _several(values: Sequence[float]) -> str:
    if len(values) <= LISTED:
        return ", ".join(f"{value:.3f}" for value in values)
    return f"{min(values):.3f} to {max(values):.3f}"


def _at_ends(named: dict[str, str], rows: Sequence[Row]) -> Iterator[str]:
    """A sentence for each curve that is lowest at the end of the grid."""
    for metric in METRICS:
        ends = {
            named[row["config_id"]]: row["temperature"]
            for row in rows
            if row["metric"] == metric and not row["fitted"] and row.get("at_bound")
            if row["config_id"] in named
        }
        for label, temperature in ends.items():
            what = f"The {metric.upper()} of {label}"
            yield f"{what} is lowest at the grid's end, T = {temperature:.3g}."


def _named(facts: Facts, rows: Sequence[Row]) -> dict[str, str]:
    """The configs of some rows by their cells' labels, the best cells first."""
    there = {row["config_id"] for row in rows}
    ranked = {row.config_id: row.label for row in facts.ranking if row.config_id in there}
    return dict(list(ranked.items())[:LINES])


def _curves(named: dict[str, str], rows: Sequence[Row], title: str) -> Figure:
    data: list[Figure] = []
    for i, (config_id, label) in enumerate(named.items()):
        own = [row for row in rows if row["config_id"] == config_id]
        grid = sorted((r["temperature"], r["value"]) for r in own if not r["fitted"])
        fitted = [r["temperature"] for r in own if r["fitted"] and r["temperature"] is not None]
        data.append(_line(label, f"--c{i}", grid))
        if fitted and grid:
            steps, values = zip(*grid, strict=True)
            height = float(np.interp(math.log(fitted[0]), np.log(steps), values))
            data.append(
                {
                    "type": "scatter", "mode": "markers", "showlegend": False,
                    "x": [fitted[0]], "y": [height],
                    "marker": {"size": 9, "color": f"--c{i}"},
                    "hovertemplate": f"{plain(label)}<br>T = %{{x:.3f}}<extra></extra>",
                }
            )  # fmt: skip
    return {"data": data, "layout": _layout(title)}


def _line(label: str, colour: str, points: Sequence[tuple[float, float]]) -> Figure:
    return {
        "type": "scatter", "mode": "lines", "name": plain(label),
        "x": [t for t, _ in points], "y": [float(f"{v:.6g}") for _, v in points],
        "line": {"color": colour, "width": 2},
        "hovertemplate": "T = %{x:.3g}: %{y:.4f}",
    }  # fmt: skip


def _layout(title: str) -> Figure:
    return {
        "height": 380,
        "xaxis": {"type": "log", "title": {"text": "temperature"}, "tickvals": TICKS},
        "yaxis": {"title": {"text": title}},
        "legend": LEGEND,
    }


def _anomalies(facts: Facts, rows: Sequence[Row]) -> list[Part]:
    """For the best config that was swept: each score's worth over temperature, on each dataset."""
    named = _named(facts, rows)
    if not named:
        return []
    config_id, label = next(iter(named.items()))
    own = [row for row in rows if row["config_id"] == config_id]
    found = []
    for dataset in dict.fromkeys(row["dataset"] for row in own):
        here = [row for row in own if row["dataset"] == dataset]
        figures = []
        for metric, title in WORTH.items():
            figure = _worth([row for row in here if row["metric"] == metric], title)
            if figure is not None:
                figures.append((f"anomaly-{dataset}-{metric}", f"{title} on {dataset}", figure))
        lead = f"What {label} makes of what it was not trained on, by score and temperature."
        found.append(Part(f"Anomalies on {dataset}", lead, figures))
    return found


def _worth(rows: Sequence[Row], title: str) -> Figure | None:
    """A line a score; flat and dashed for those whose ranking no temperature changes."""
    span = [row["temperature"] for row in rows if row["temperature"] is not None]
    data: list[Figure] = []
    for i, score in enumerate(dict.fromkeys(row["score"] for row in rows)):
        own = [row for row in rows if row["score"] == score and row["value"] is not None]
        swept = [r for r in own if r["temperature"] is not None and not r.get("fitted")]
        curve = sorted((r["temperature"], r["value"]) for r in swept)
        if curve:
            data.append(_line(score, f"--c{i % LINES}", curve))
        elif own:
            ends = [(t, own[0]["value"]) for t in ((min(span), max(span)) if span else (0.5, 2.0))]
            line = _line(score, f"--c{i % LINES}", ends)
            line["line"]["dash"] = "dash"
            data.append(line)
    return {"data": data, "layout": _layout(title)} if data else None
