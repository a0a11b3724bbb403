"""What a reader must know before quoting a number."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from segsweep.bootstrap import Groups
from segsweep.compare.candidates import Champion
from segsweep.compare.comparison import Standing, Tests, Where
from segsweep.compare.ranking import rank, reduced, undefined
from segsweep.compare.together import done
from segsweep.identity import since
from segsweep.rundir import Run
from segsweep.state import SearchState

TOLD_ERROR = 5e-4  # of a binned score; tables show four digits
PLACES: dict[Where, str] = {"folds": "On the folds", "holdout": "On the holdout"}


@dataclass(frozen=True)
class Drawn:
    """What other images were drawn from, in one place.

    Attributes:
        resampled: images could be drawn.
        groups: what the metric rests on; None where it is not known.
        refused: why there are no intervals; None: there are.
    """

    resampled: bool
    groups: Groups | None
    refused: str | None


def warnings(
    runs: Sequence[Run],
    rows: Sequence[Standing],
    tests: Mapping[Where, Tests],
    drawn: Mapping[Where, Drawn],
    groups: Mapping[str, str],
) -> list[str]:
    """One sentence or two each, the gravest first.

    Args:
        runs: what is compared.
        rows: champions from best to worst.
        tests: on the folds, and on the holdout where there is one.
        drawn: what other images were drawn from, by place.
        groups: image id → group.
    """
    found = []
    if not all(done(run) for run in runs):
        found.append("The sweep is not finished: champions and ranks may change.")
    found += _older(runs)
    found += _binned(runs)
    found += _selected(rows)
    found += _disagreement(rows, tests)
    found += _folds(rows, drawn["folds"])
    found += _few(drawn)
    tried = {row.configs for row in rows}
    if len(tried) > 1:
        found.append(
            f"Cells have tried from {min(tried)} to {max(tried)} configs: the best of more is "
            "luckier. Tests on the folds allow for it, ranks and intervals do not."
        )
    found += _grouping(runs, groups)
    for run in runs:
        found += reduced(rank(run.spec, run.events))
    return found


def _older(runs: Sequence[Run]) -> list[str]:
    """Recorded scores stay what they were, whatever a score of that name means today."""
    changes = since(min(run.identity for run in runs))
    if not changes:
        return []
    what = "An earlier segsweep recorded these scores and defined them otherwise"
    return [f"{what}. Since: {changes}."]


def _binned(runs: Sequence[Run]) -> list[str]:
    """The compared score comes from bins where there are many pixels, and may be a little off."""
    name = runs[0].spec.metric.name.removeprefix("val/")
    most = max(
        (event.get("score_errors", {}).get(name, 0.0) for run in runs for event in run.events),
        default=0.0,
    )
    if most < TOLD_ERROR:
        return []
    return [f"{name} of many pixels is counted in bins, and is off by at most {most:.2g}."]


def undefined_in(runs: Sequence[Run], states: Sequence[SearchState]) -> list[str]:
    """Folds of any run on which finished trials have no score."""
    found = (undefined(run.spec, state) for run, state in zip(runs, states, strict=True))
    return list(dict.fromkeys(text for text in found if text is not None))


def missing(
    runs: Sequence[Run], states: Sequence[SearchState], best: Sequence[Champion]
) -> list[str]:
    """Scores that are not there, so that means which would need them are not shown."""
    slots = len(runs[0].spec.slots)
    return [
        *(
            f"{text}: a config has no final score without it."
            for text in undefined_in(runs, states)
        ),
        *(
            f"{one.label} has a holdout score of {len(one.best.holdout)} of its {slots} models "
            "alone, and none is shown: the others were not scored there, or it is undefined."
            for one in best
            if 0 < len(one.best.holdout) < slots
        ),
    ]


def _selected(rows: Sequence[Standing]) -> list[str]:
    """The winner was chosen by the scores that it is ranked by."""
    best = rows[0]
    candidates = sum(row.configs for row in rows)
    why = f"chosen as the best of {candidates} configs" if candidates > 1 else "scored"
    text = (
        f"{best.label} was {why} on the validation images of its folds, which also chose its "
        f"epochs: its {best.mean:.4f} is likely to flatter."
    )
    if best.holdout is None:
        return [f"{text} No holdout score stands beside it."]
    spread = f" ± {best.holdout_std:.4f}" if best.holdout_std is not None else ""
    return [f"{text} On the holdout, which chose nothing, it has {best.holdout:.4f}{spread}."]


def _disagreement(rows: Sequence[Standing], tests: Mapping[Where, Tests]) -> list[str]:
    held = tests.get("holdout")
    if held is None:
        return []
    labels = {row.config_id: row.label for row in rows}
    better = [
        labels[pair.better]
        for pair in held.pairs
        if pair.told_apart and pair.worse == rows[0].config_id
    ]
    if not better:
        return []
    return [
        f"On the holdout, {' and '.join(better)} did better than {rows[0].label}, beyond noise."
    ]


def _folds(rows: Sequence[Standing], drawn: Drawn) -> list[str]:
    found = []
    if len(rows[0].scores) == 1:
        found.append(
            "There is one fold: its score depends on which images it validates on. There is no "
            "standard deviation, and without replicates no interval."
        )
    elif not drawn.resampled and drawn.refused is None:
        found.append(
            "Images could not be resampled (a metric that pixel counts do not hold, a fold with a "
            "single image or group, or evidence that is gone): intervals go by the folds alone."
        )
    return found


def _grouping(runs: Sequence[Run], groups: Mapping[str, str]) -> list[str]:
    by = runs[0].spec.folds.group_by
    if by is None:
        return []
    if not groups:
        return [
            f"The ledger does not say which images share a {by} (it was written before it did): "
            "images were resampled one by one, and intervals are too narrow."
        ]
    return []


def _few(drawn: Mapping[Where, Drawn]) -> list[str]:
    """Intervals that rest on few images or groups, or that there are none of."""
    found = []
    for where, own in drawn.items():
        if own.refused is not None and own.groups is not None:
            found.append(f"{PLACES[where]}, the score has no interval: {own.refused}.")
        elif own.groups is not None and own.groups.few and own.resampled:
            found.append(
                f"{PLACES[where]}, the score rests on {own.groups.said}: its intervals are rough."
            )
    return found
