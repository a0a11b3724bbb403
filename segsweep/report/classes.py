"""Classes: IoU of each for every cell's best config, and what the winner takes for what."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from segsweep.report.facts import Facts
from segsweep.report.figures import Figure, heat

LISTED = 24  # cells at most
Matrix = NDArray[np.int64]


def split_of(facts: Facts) -> str:
    """Where classes are looked at: the holdout if the best config was scored there."""
    if facts.ranking and facts.ranking[0].holdout is not None:
        return "holdout"
    return "validation"


def matrices(facts: Facts, split: str) -> tuple[list[str], dict[str, Matrix]]:
    """Classes, and of each cell's best config the (K, K) pixels by true and predicted class.

    Summed over the models of all folds; configs without evidence are left out.
    """
    owners = {
        trial["trial_id"]: row.config_id
        for row in facts.ranking[:LISTED]
        for trial in facts.trials_of(row.config_id)
        if trial["status"] == "finished"
    }
    rows = [row for row in facts.confusion(owners) if row["split"] == split]
    classes = list(dict.fromkeys(row["truth"] for row in rows))
    place = {name: i for i, name in enumerate(classes)}
    found: dict[str, Matrix] = {}
    for row in rows:
        owner = owners[row["trial_id"]]
        matrix = found.setdefault(owner, np.zeros((len(classes),) * 2, dtype=np.int64))
        matrix[place[row["truth"]], place[row["predicted"]]] += row["pixels"]
    return classes, found


def iou(matrix: Matrix) -> list[float | None]:
    """Intersection over union of each class; None where it is not in the truth."""
    hits, occurs = np.diagonal(matrix), matrix.sum(axis=1)
    union = matrix.sum(axis=0) + occurs - hits
    return [float(h / u) if o else None for h, u, o in zip(hits, union, occurs, strict=True)]


def per_class(facts: Facts, classes: Sequence[str], found: dict[str, Matrix]) -> Figure | None:
    """Rows of cells, columns of classes."""
    rows = [row for row in facts.ranking if row.config_id in found]
    if not rows:
        return None
    values = [iou(found[row.config_id]) for row in rows]
    if len(classes) > len(rows) and len(classes) > 12:  # many classes read better downwards
        turned = [list(column) for column in zip(*values, strict=True)]
        return heat(list(classes), [row.label for row in rows], turned)
    return heat([row.label for row in rows], list(classes), values)


def confusion(classes: Sequence[str], matrix: Matrix) -> Figure:
    """Of the pixels of each true class, the share that is taken for each class."""
    totals = matrix.sum(axis=1, keepdims=True)
    shares = [
        [float(value / total) if total else None for value in line]
        for line, total in zip(matrix.tolist(), totals[:, 0].tolist(), strict=True)
    ]
    hover = "truth %{y}, predicted %{x}<br>%{z:.2%} of the true pixels<extra></extra>"
    figure = heat(classes, classes, shares, hover=hover, bounds=(0, 1))
    figure["layout"]["xaxis"]["title"] = {"text": "predicted"}
    figure["layout"]["yaxis"]["title"] = {"text": "truth"}
    figure["layout"]["height"] += 20
    return figure
