"""What people look at first: the best T of every metric, what it gains, and where metrics disagree.

The best T of all that were tried is chosen on the images that its gain is measured on; what stands
under ``fitted`` is of images that T was not fitted on.
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
        value_at_1: of the metric.
        value: at the best T.
        gain: the difference, positive where T helps, with its 95 % interval.
        fitted: the fitted T; ``fitted_gain`` and its interval, as above.
    """

    config_id: str
    model: str
    of: str
    dataset: str
    what: str
    metric: str
    temperature: float | None
    value_at_1: float
    value: float
    gain: float
    gain_low: float | None
    gain_high: float | None
    fitted: float | None
    fitted_gain: float | None
    fitted_gain_low: float | None
    fitted_gain_high: float | None

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
        fitted = next((row for row in rows if row["fitted"]), None)
        yield _best(judged, (of, dataset, region, metric), swept, chosen, fitted)


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
        yield _best(judged, key, swept, chosen, fitted)


def _best(
    judged: Judged,
    key: tuple[str, str, str, str],
    rows: Sequence[Row],
    chosen: Row,
    fitted: Row | None,
) -> Best:
    of, dataset, what, metric = key
    base = next(row for row in rows if row["temperature"] in (1.0, None))
    after: Row = fitted or {}
    return Best(
        config_id=judged.subject.config_id,
        model=judged.subject.label,
        of=of,
        dataset=dataset,
        what=what,
        metric=metric,
        temperature=chosen["temperature"],
        value_at_1=base["value"],
        value=chosen["value"],
        gain=chosen["gain"],
        gain_low=chosen.get("gain_low"),
        gain_high=chosen.get("gain_high"),
        fitted=after.get("temperature"),
        fitted_gain=after.get("gain"),
        fitted_gain_low=after.get("gain_low"),
        fitted_gain_high=after.get("gain_high"),
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
