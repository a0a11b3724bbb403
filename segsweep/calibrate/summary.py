"""What people look at first: the best T of every metric, what it gains, and where metrics disagree.

The best T of all that were tried is chosen on the images that its gain is measured on; what stands
under ``fitted`` and ``own`` is of images that T was not fitted on.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any

from segsweep.calibrate.anomaly import LOWER
from segsweep.calibrate.model import Judged
from segsweep.calibrate.sweep import TEMPERATURE

Row = dict[str, Any]


@dataclass(frozen=True)
class Best:
    """One metric of one model on one dataset.

    Attributes:
        model: for people.
        of: ``config`` (fold models together), ``ensemble`` or ``fold``.
        what: the region, ``all`` or ``boundary``, or the anomaly score.
        temperature: the best of the grid; None where no T changes anything.
        at_end: it is the end of the grid, however far that was widened.
        value_at_1: of the metric, ``error_at_1`` off at most for being counted in bins.
        value: at the best T, ``error`` off at most.
        gain: the difference, positive where T helps, with its 95 % interval.
        rests_on: how many images, or groups, the intervals are drawn from.
        no_interval: why there are none; None: there are.
        fitted: the T of all images together. ``fitted_gain`` and its interval are of the T's
            ``fitted_used``, each fitted on other images, of other folds where there are several.
        own_gain: of the T that a model is exported with, fitted on its own images: measured half
            by half, with the T's ``own_used``; None where a T is not fitted so.
        at_bound: one of the fits has no minimum; ``own_at_bound`` one of the own.
    """

    config_id: str
    model: str
    of: str
    dataset: str
    what: str
    metric: str
    temperature: float | None
    at_end: bool
    value_at_1: float
    error_at_1: float
    value: float
    error: float
    gain: float
    gain_low: float | None
    gain_high: float | None
    rests_on: int | None
    no_interval: str | None
    fitted: float | None
    fitted_used: Sequence[float] | None
    fitted_gain: float | None
    fitted_gain_low: float | None
    fitted_gain_high: float | None
    at_bound: bool
    own_used: Sequence[float] | None
    own_gain: float | None
    own_gain_low: float | None
    own_gain_high: float | None
    own_at_bound: bool

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for ``--json``."""
        return asdict(self)


def best(judged: Judged) -> list[Best]:
    """All metrics of a model: calibration first, then anomalies."""
    return [*_calibration(judged), *_anomaly(judged)]


def _calibration(judged: Judged) -> Iterator[Best]:
    tables: dict[tuple[str, str, str, str], list[Row]] = {}
    several = len(judged.subject.trained) > 1
    for row in judged.calibration:
        whole = row["of"] != "fold" or not several
        if whole and row["scaling"] == TEMPERATURE and row.get("gain") is not None:
            key = (row["of"], row["dataset"], row["region"], row["metric"])
            tables.setdefault(key, []).append(row)
    for (of, dataset, region, metric), rows in tables.items():
        swept = [row for row in rows if not row["fitted"]]
        chosen = min(swept, key=lambda row: (row["value"], row["temperature"] != 1.0))
        ways = {row["fit"]: row for row in rows if row["fitted"]}
        own = ways.get("halves")
        others = ways.get("others") or ways.get("given")
        yield _best(judged, (of, dataset, region, metric), swept, chosen, others, own)


def _anomaly(judged: Judged) -> Iterator[Best]:
    tables: dict[tuple[str, str, str, str], list[Row]] = {}
    for row in judged.anomaly:
        if row["of"] == "config":
            key = (row["of"], row["dataset"], row["score"], row["metric"])
            tables.setdefault(key, []).append(row)
    for key, rows in tables.items():
        chosen = next(row for row in rows if row["best"])
        fitted = next((row for row in rows if row["fitted"]), None)
        swept = [row for row in rows if not row["fitted"]]
        yield _best(judged, key, swept, chosen, fitted, None)


def _best(
    judged: Judged,
    key: tuple[str, str, str, str],
    rows: Sequence[Row],
    chosen: Row,
    fitted: Row | None,
    own: Row | None,
) -> Best:
    of, dataset, what, metric = key
    base = next(row for row in rows if row["temperature"] in (1.0, None))
    after, alone = fitted or own or Row(), own or Row()
    return Best(
        config_id=judged.subject.config_id,
        model=judged.subject.label,
        of=of,
        dataset=dataset,
        what=what,
        metric=metric,
        temperature=chosen["temperature"],
        at_end=bool(chosen.get("at_bound")),
        value_at_1=base["value"],
        error_at_1=base["error"],
        value=chosen["value"],
        error=chosen["error"],
        gain=chosen["gain"],
        gain_low=chosen.get("gain_low"),
        gain_high=chosen.get("gain_high"),
        rests_on=chosen.get("rests_on"),
        no_interval=chosen.get("no_interval"),
        fitted=after.get("temperature"),
        fitted_used=after.get("used"),
        fitted_gain=after.get("gain"),
        fitted_gain_low=after.get("gain_low"),
        fitted_gain_high=after.get("gain_high"),
        at_bound=bool(after.get("at_bound")),
        own_used=alone.get("used"),
        own_gain=alone.get("gain"),
        own_gain_low=alone.get("gain_low"),
        own_gain_high=alone.get("gain_high"),
        own_at_bound=bool(alone.get("at_bound")),
    )


def disagreements(rows: Sequence[Best], temperatures: Sequence[float]) -> list[str]:
    """A line for each model and dataset whose metrics are best at different T.

    Args:
        rows: of `best`.
        temperatures: the grid: a step of it is no disagreement.
    """
    step = max(math.log(b / a) for a, b in pairwise(temperatures))
    groups: dict[tuple[str, str, str], list[Best]] = {}
    for row in rows:
        if row.temperature is not None and row.what != "boundary":
            groups.setdefault((row.model, row.of, row.dataset), []).append(row)
    lines = []
    for (model, of, dataset), own in groups.items():
        logs = [math.log(row.temperature) for row in own if row.temperature]
        if max(logs) - min(logs) <= step * 1.001:
            continue
        said: dict[float, list[str]] = {}
        for row in sorted(own, key=lambda one: one.temperature or 0):
            name = row.metric if row.what == "all" else f"{row.what} {row.metric}"
            said.setdefault(row.temperature or 0, []).append(name)
        parts = "; ".join(f"T = {value:.3g}: {', '.join(names)}" for value, names in said.items())
        which = f"{model} ({of}) on {dataset}"
        lines.append(f"{which}: metrics disagree about the best T ({parts})")
    return lines


def unmoved(judged: Judged) -> list[str]:
    """A line for each dataset with scores whose ranking no temperature changes."""
    found: dict[str, dict[str, None]] = {}
    for row in judged.anomaly:
        if row["temperature"] is None:
            found.setdefault(row["dataset"], {})[row["score"]] = None
    return [
        f"{judged.subject.label} on {dataset}: no T changes the ranking of {', '.join(names)}: "
        "reported once"
        for dataset, names in found.items()
    ]


def better(metric: str) -> str:
    """An arrow to where a metric is better."""
    higher = metric in ("auprc", "auroc", "miou") and metric not in LOWER
    return "↑" if higher else "↓"
