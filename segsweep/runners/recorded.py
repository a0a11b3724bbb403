"""Recorded curves, for replay: from a run's ledger, or from a CSV file."""

from __future__ import annotations

import csv
import math
from collections.abc import Sequence
from pathlib import Path

from segsweep.errors import DataError, Problem
from segsweep.next_command import goes_on
from segsweep.rundir import Run
from segsweep.state import SearchState

Curves = dict[str, dict[str, dict[int, list[float]]]]  # cell → config → fold → value by epoch
COLUMNS = ("cell", "config", "fold", "epoch", "metric")
NAMED = 3  # configs that a note names before it counts the rest


def read_csv(path: Path) -> Curves:
    """Curves from a CSV file with the columns cell, config, fold, epoch, metric.

    Raises:
        DataError: every line that is not such a row, and every curve with a hole.
    """
    problems: list[Problem] = []
    rows: list[tuple[str, str, int, int, float]] = []
    try:
        with path.open(newline="", encoding="utf-8") as file:
            reader = csv.DictReader(file)
            missing = [name for name in COLUMNS if name not in (reader.fieldnames or [])]
            if missing:
                hint = f"a header with {', '.join(COLUMNS)} is expected"
                raise DataError(Problem(f"has no column {', '.join(missing)}", str(path), "", hint))
            for number, row in enumerate(reader, start=2):
                try:
                    place = int(row["fold"]), int(row["epoch"])
                    rows.append((row["cell"], row["config"], *place, _finite(row["metric"])))
                except (TypeError, ValueError) as error:
                    problems.append(Problem(str(error), f"{path}:{number}"))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(Problem(f"cannot be read: {error}", str(path))) from error
    if problems:
        raise DataError(problems)
    return build(rows, str(path))


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"metric {text!r} is not a finite number")
    return value


def read_run(run: Run) -> tuple[Curves, list[str]]:
    """Curves of a run, from its ledger, and which configs have none on every fold, and why.

    Raises:
        DataError: a rule has cut trials short, or no config has run in full.
    """
    state = SearchState(run.metric, run.events)
    slots = [slot for slot in run.spec.slots if slot[1] == 0]
    of = {config.config_id: config.status(slots) for config in state.configs.values()}
    if cut := [name for name, status in of.items() if status == "stopped"]:
        what = f"{len(cut)} configs were cut short by a rule, {cut[0]} among them"
        hint = "replay needs full curves: early_stopping: {type: none}, race: {rule: none}"
        raise DataError(Problem(what, str(run.path), hint=hint))
    rows, out = [], []
    for config in state.configs.values():
        why = of[config.config_id].replace("_", " ")
        curves = {slot: config.trials[slot].values for slot in slots if slot in config.trials}
        blank = [fold for (fold, _), own in curves.items() if None in own.values()]
        if why == "finished" and not blank:
            rows += [
                (config.cell, config.config_id, slot[0], epoch, value)
                for slot, own in curves.items()
                for epoch, value in own.items()
                if value is not None
            ]
        else:
            name = run.spec.metric.name
            why = f"{name} is undefined on fold {blank[0]}" if why == "finished" else why
            out.append(f"{config.config_id} of {config.cell} ({why})")
    notes = []
    if out:
        more = f" and {len(out) - NAMED} more" if len(out) > NAMED else ""
        notes.append(
            f"{len(out)} of {len(of)} configs are left out: {', '.join(out[:NAMED])}{more}"
        )
    if not rows:
        hint = f"{goes_on(run)}, with --retry failed where trials failed"
        what = "no config has a whole curve on every fold"
        raise DataError(Problem("; ".join([what, *notes]), str(run.path), hint=hint))
    return build(rows, str(run.path)), notes


def build(rows: Sequence[tuple[str, str, int, int, float]], where: str) -> Curves:
    """Curves from (cell, config, fold, epoch, value) rows; all configs must have all folds.

    Folds may have any numbers; in what is returned they are numbered from 0, in order.

    Raises:
        DataError: nothing there, an epoch twice, or curves that are not whole.
    """
    found: dict[str, dict[str, dict[int, dict[int, float]]]] = {}
    problems: list[Problem] = []
    for cell, config, fold, epoch, value in rows:
        curve = found.setdefault(cell, {}).setdefault(config, {}).setdefault(fold, {})
        if epoch in curve:
            what = f"{config} of {cell}, fold {fold}: epoch {epoch} stands twice"
            problems.append(Problem(what, where))
        curve[epoch] = value
    if not found:
        raise DataError(Problem("holds no finished curve", where))
    folds = {fold for configs in found.values() for c in configs.values() for fold in c}
    number = {fold: place for place, fold in enumerate(sorted(folds))}
    curves: Curves = {}
    for cell, configs in found.items():
        for config, by_fold in configs.items():
            if set(by_fold) != folds:
                absent = sorted(folds - set(by_fold))
                problems.append(Problem(f"{config} of {cell} has no fold {absent}", where))
            for fold, values in by_fold.items():
                if sorted(values) != list(range(1, len(values) + 1)):
                    what = f"{config} of {cell}, fold {fold}: epochs are not 1, 2, …"
                    problems.append(Problem(what, where))
                    continue
                whole = [values[epoch] for epoch in sorted(values)]
                curves.setdefault(cell, {}).setdefault(config, {})[number[fold]] = whole
    if problems:
        raise DataError(problems)
    return curves
