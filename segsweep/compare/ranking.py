"""The ranking of cells by their best config: mean and spread over folds, holdout beside it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from statistics import fmean, stdev
from typing import Any

from rich.table import Table

from segsweep.identity import counted, short_cells, short_params
from segsweep.ledger import Event
from segsweep.spec import SweepSpec
from segsweep.state import ConfigState, SearchState


@dataclass(frozen=True)
class Ranked:
    """A cell and its best config.

    Attributes:
        cell: its name in every file; ``label`` is the same in short, for people.
        mean: of the metric at each fold's best epoch, over ``folds`` folds.
        std: sample standard deviation over those folds; None for one fold.
        folds: how many folds of the config are finished.
        final: all folds are finished, and the metric is defined on each.
        holdout: mean over the fold models of the same score on the holdout, and its spread; None
            unless every one of them has one.
        configs: how many of the cell were tried; ``stopped`` of them early.
        micro_batch: fewest images a pass of any of the cell's trials, where memory ran out with
            whole batches; ``reduced`` counts those trials.
    """

    cell: str
    label: str
    config_id: str
    params: Mapping[str, Any]
    mean: float
    std: float | None
    folds: int
    final: bool
    holdout: float | None
    holdout_std: float | None
    configs: int
    stopped: int
    micro_batch: int | None = None
    reduced: int = 0

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for ``--json``."""
        return asdict(self)


def rank(spec: SweepSpec, events: Iterable[Event]) -> list[Ranked]:
    """Cells from best to worst; those with all folds finished first."""
    return rank_state(spec, SearchState(spec.metric.name.replace("/", "_"), events))


def rank_state(spec: SweepSpec, state: SearchState) -> list[Ranked]:
    """As ``rank``, from a state."""
    score = spec.metric.name.replace("val/", "holdout_")
    holdout = {name: event.get(score) for name, event in state.holdout.items()}
    labels = short_cells({config.cell: config.levels for config in state.configs.values()})
    sign = 1 if spec.metric.goal == "maximize" else -1
    cells = dict.fromkeys(config.cell for config in state.configs.values())
    rows = [
        row
        for cell in cells
        if (row := _best_of(state, cell, labels[cell], spec, holdout)) is not None
    ]
    return sorted(rows, key=lambda row: (row.final, sign * row.mean), reverse=True)


def _best_of(
    state: SearchState,
    cell: str,
    label: str,
    spec: SweepSpec,
    holdout: Mapping[str, float | None],
) -> Ranked | None:
    slots, goal = spec.slots, spec.metric.goal
    sign = 1 if goal == "maximize" else -1
    configs = state.of_cell(cell)
    scored = [(config, values) for config in configs if (values := _values(config, spec))]
    if not scored:
        return None

    def order(item: tuple[ConfigState, list[float]]) -> tuple[bool, int, float]:
        return item[0].mean(slots, goal) is not None, len(item[1]), sign * fmean(item[1])

    final = [item for item in scored if item[0].mean(slots, goal) is not None]
    config, values = max(final or scored, key=order)
    held = [holdout.get(t.trial_id) for slot, t in config.trials.items() if slot in slots]
    known = [value for value in held if value is not None]
    known = known if len(known) == len(slots) else []
    passes = [t.micro_batch for c in configs for t in c.trials.values() if t.micro_batch]
    return Ranked(
        cell=cell,
        label=label,
        config_id=config.config_id,
        params=config.params,
        mean=fmean(values),
        std=stdev(values) if len(values) > 1 else None,
        folds=len(values),
        final=config.mean(slots, goal) is not None,
        holdout=fmean(known) if known else None,
        holdout_std=stdev(known) if len(known) > 1 else None,
        configs=len(configs),
        stopped=sum(config.status(slots) == "stopped" for config in configs),
        micro_batch=min(passes, default=None),
        reduced=len(passes),
    )


def _values(config: ConfigState, spec: SweepSpec) -> list[float]:
    """One value a fold: the mean over its replicates."""
    by_fold: dict[int, list[float]] = {}
    for (fold, replicate), value in config.scores(spec.metric.goal).items():
        if (fold, replicate) in spec.slots:
            by_fold.setdefault(fold, []).append(value)
    return [fmean(values) for values in by_fold.values()]


ABSENT = "the class does not occur in the truth"
NOWHERE = "the class occurs neither in truth nor in prediction"
OUTLINES = "the truth has no contour"
# why a score can be undefined on a whole fold; of all others, because nothing is labelled there
REASONS = {
    "iou": ABSENT,
    "dice": ABSENT,
    "f1": ABSENT,
    "iou_per_image": NOWHERE,
    "f1_per_image": NOWHERE,
    "precision": ABSENT,
    "recall": ABSENT,
    "ap": ABSENT,
    "auroc": "there are not pixels of both classes",
    "fpr95": "there are not pixels of both classes",
    "boundary_iou": OUTLINES,
    "boundary_iou_per_image": OUTLINES,
    "mboundary_iou": OUTLINES,
}
NO_USE = (
    "launching again changes nothing: another metric, fewer folds, or folds.stratify_by: classes"
)


def undefined(spec: SweepSpec, state: SearchState) -> str | None:
    """On which folds finished trials have no score, and why; None: on none."""
    folds = sorted({f for config in state.configs.values() for f in _undefined_on(config, spec)})
    if not folds:
        return None
    which = f"fold{'s' if len(folds) > 1 else ''} {', '.join(map(str, folds))}"
    name = spec.metric.name.removeprefix("val/")
    why = ABSENT if name.startswith("iou_") else "not one pixel is labelled"
    return f"{spec.metric.name} is undefined on {which} ({REASONS.get(name, why)})"


def unscored(spec: SweepSpec, state: SearchState) -> int:
    """How many configs can have no final score, for a fold on which the metric is undefined."""
    return sum(bool(_undefined_on(config, spec)) for config in state.configs.values())


def _undefined_on(config: ConfigState, spec: SweepSpec) -> set[int]:
    return {
        slot[0]
        for slot, trial in config.trials.items()
        if slot in spec.slots
        and trial.status == "finished"
        and trial.best(spec.metric.goal) is None
    }


def reduced(rows: Iterable[Ranked]) -> list[str]:
    """A line for each cell in which memory ran out: its numbers are not quite the batch size's."""
    return [
        f"{row.label}: {row.reduced} trials ran out of memory and went on with as few as "
        f"{row.micro_batch} images a pass, which changes batch normalisation and batch Dice"
        for row in rows
        if row.reduced
    ]


def races(events: Iterable[Event]) -> list[dict[str, Any]]:
    """Every look of the race: gap to the incumbent, its probability, noise, verdict."""
    hidden = ("event", "time")
    return [
        {key: value for key, value in event.items() if key not in hidden}
        for event in events
        if event["event"] == "race"
    ]


def race_summary(looks: list[dict[str, Any]]) -> str | None:
    """One line about what the race did and how noisy it found the sweep."""
    if not looks:
        return None
    dropped = {look["config_id"] for look in looks if not look["keep"]}
    text = f"race: {counted(len(looks), 'look')}, {counted(len(dropped), 'config')} dropped"
    known = [look for look in looks if look["sigma"] is not None]
    if known:
        last = known[-1]
        text += f"; the noise it last saw, of one cell, shrunk towards all, {last['sigma']:.4f}"
        text += f" ({last['dof']:.0f} degrees of freedom)"
    return text


def table(spec: SweepSpec, rows: list[Ranked], limit: int | None = None) -> Table:
    """The ranking as a rich table."""
    score = spec.metric.name.split("/")[-1]
    folds = spec.folds.count
    result = Table(box=None, pad_edge=False, header_style="bold")
    result.add_column("#", justify="right", style="dim")
    result.add_column("cell", no_wrap=True)
    result.add_column(f"{score} ± sd, {counted(folds, 'fold')}", justify="right", no_wrap=True)
    held_out = any(row.holdout is not None for row in rows)
    if held_out:
        result.add_column("holdout", justify="right", no_wrap=True)
    result.add_column("best config", min_width=12)
    result.add_column("tried", justify="right", no_wrap=True)
    for place, row in enumerate(rows[:limit], start=1):
        value = f"{row.mean:.4f}" + (f" ± {row.std:.4f}" if row.std is not None else "")
        if not row.final:
            value = f"{value} ({row.folds}/{counted(folds, 'fold')})"
        held = [f"{row.holdout:.4f}" if row.holdout is not None else "–"] if held_out else []
        tried = f"{row.configs}" + (f" (−{row.stopped})" if row.stopped else "")
        style = "bold green" if place == 1 and row.final else None if row.final else "dim"
        params = short_params(row.params) or "–"
        result.add_row(str(place), row.label, value, *held, params, tried, style=style)
    return result
