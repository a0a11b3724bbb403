"""A W&B workspace and report of one sweep, built with wandb-workspaces.

Every key that a panel shows is one that the tracker writes: trial runs carry ``config.trial`` (the
whole config, nested, so that a dotted path is a path and no name with dots), ``config.cell``,
``config.sweep_name`` and ``best/<metric>`` in their summary; calibration runs are read for theirs.
"""

from __future__ import annotations

import json
import warnings
from dataclasses import dataclass, field
from typing import Any

from segsweep.errors import Problem, RunError
from segsweep.next_command import called, command
from segsweep.rundir import Run
from segsweep.tracking import wandb_records
from segsweep.tracking.names import curves
from segsweep.tracking.wandb_rows import BEST, EXAMPLES, Known
from segsweep.tracking.wandb_runs import WandbRuns

FILE = "dashboard.json"  # in the run directory
CALIBRATION = "calibration"  # job type of the runs that a calibration writes
TEMPERATURE, RELIABILITY = "temperature", "reliability"  # a curve's axis, and a table's key
LOSSES = ("train/loss", "val/loss")


@dataclass
class Keys:
    """What the runs of a sweep have that can be shown.

    Attributes:
        factors: those beside model and loss, as paths in a trial's config.
        parameters: path of a parameter → whether it is searched on a logarithm.
        history: keys of a trial's rows.
        curves: keys of a calibration's rows, over ``temperature``.
        diagrams: a calibration has the table ``reliability``.
        overlays: trials have example predictions.
        damaged: W&B's files that cannot be read.
    """

    factors: list[str] = field(default_factory=list)
    parameters: dict[str, bool] = field(default_factory=dict)
    history: list[str] = field(default_factory=list)
    curves: list[str] = field(default_factory=list)
    diagrams: bool = False
    overlays: bool = False
    damaged: list[str] = field(default_factory=list)


def keys_of(run: Run) -> Keys:
    """What the runs of a sweep have, from the ledger, and from W&B's files for the rest.

    Raises:
        RunError: no trial has trained yet, or W&B was told of none.
    """
    known = Known(run.spec, run.path)
    for event in run.events:
        known.note(event)
    files = WandbRuns(run.spec, run.path, online=False)
    if not known.epochs or not files.folders:
        hint = (
            "launch with wandb.mode: offline or online; a sweep that is finished is sent "
            f"from its ledger by `{command('sync', called(run.path), '--anyway')}`"
        )
        raise RunError(Problem("W&B has no trial of it to show", str(run.path), hint=hint))
    found = Keys(factors=[name for name in run.spec.factors if name not in ("model", "loss")])
    searched = {path for config in known.configs.values() for path in config["params"]}
    for path, parameter in run.spec.parameters.items():
        if path in searched:
            found.parameters[path] = "log" in parameter.kind
    rows = (curves(event) for events in known.epochs.values() for event in events)
    found.history = list(dict.fromkeys(key for row in rows for key in row))
    trials = {files.id_of(name) for name in known.trials}
    for run_id in files.folders:
        if run_id in trials and found.overlays:
            continue
        recorded = wandb_records.read(files.records(run_id))
        found.damaged += [str(record) for record in recorded.damaged]
        last = {key for row in recorded.rows.values() for key in row}
        found.overlays |= EXAMPLES in last
        if recorded.settings.get("job_type") == CALIBRATION:
            numbers = (r for r in recorded.rows.values() if TEMPERATURE in r)
            own = [key for row in numbers for key in row if not key.startswith("_")]
            found.curves = list(dict.fromkeys([*found.curves, *own]))
            found.diagrams |= RELIABILITY in last
    found.curves = [key for key in found.curves if key != TEMPERATURE]
    return found


@dataclass
class Dashboard:
    """The workspace and the report, as wandb-workspaces' objects.

    Attributes:
        panels: titles by section.
        notes: what is not shown, and how to get it.
    """

    workspace: Any
    report: Any
    panels: dict[str, list[str]]
    notes: list[str]

    def specification(self) -> dict[str, Any]:
        """Both as W&B's JSON."""
        made = {"workspace": self.workspace, "report": self.report}
        return {
            name: json.loads(one._to_model().spec.model_dump_json(by_alias=True, exclude_none=True))
            for name, one in made.items()
        }


def build(run: Run, keys: Keys, entity: str = "") -> Dashboard:
    """The dashboard of a sweep; without an entity nothing is asked of a server.

    Raises:
        RunError: wandb-workspaces is not installed.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # of pydantic 1, in its classes
            import wandb_workspaces.reports.v2 as wr
            import wandb_workspaces.workspaces as ws
    except ImportError as error:
        hint = 'pip install "segsweep[dashboard]"'
        raise RunError(Problem("wandb-workspaces is not installed", hint=hint)) from error
    spec = run.spec
    sections = _sections(spec.metric.name, keys)
    mine = f'Config("sweep_name") = "{spec.name}"'
    workspace = ws.Workspace(
        entity=entity,
        project=spec.project,
        name=spec.name,
        sections=[ws.Section(name=n, panels=p, is_open=True) for n, p, _ in sections],
        runset_settings=ws.RunsetSettings(filters=mine),
    )
    trials = [f"fold{fold}" for fold in range(spec.folds.k)]
    blocks: list[Any] = [wr.P(spec.description)] if spec.description else []
    for name, panels, of_trials in sections:
        jobs = trials if of_trials else [CALIBRATION]
        only = f'{mine} and Metric("JobType") in {json.dumps(jobs)}'
        runs = wr.Runset(project=spec.project, entity=entity, name=spec.name, filters=only)
        blocks += [wr.H2(name), wr.PanelGrid(runsets=[runs], panels=panels)]
    title = f"{spec.name}: {spec.metric.name}"[:128]
    report = wr.Report(
        project=spec.project,
        entity=entity,
        title=title,
        description=spec.description,
        blocks=blocks,
    )
    notes = [f"{file} is damaged: what it holds is not shown" for file in keys.damaged]
    if not keys.curves:
        notes.append("no calibration curves: W&B was told of no calibration of this run")
    if not keys.overlays:
        notes.append("no overlays: no trial has ended with examples yet")
    shown = {n: [getattr(p, "title", "reliability diagram") for p in ps] for n, ps, _ in sections}
    return Dashboard(workspace, report, shown, notes)


def _sections(metric: str, keys: Keys) -> list[tuple[str, list[Any], bool]]:
    """Name, panels, and whether they are of trials (or of calibrations)."""
    import wandb_workspaces.reports.v2 as wr

    best = wr.SummaryMetric(f"{BEST}{metric}")
    made = [
        ("Parameters", [_parallel(best, keys)], True),
        ("Model × loss", [_bars(best, metric, by) for by in ("cell", "config_id")], True),
        ("Learning curves", [_curves(names) for names in _drawn(metric, keys)], True),
    ]
    if keys.overlays:
        shown = wr.MediaBrowser(title="truth and prediction", media_keys=[EXAMPLES], num_columns=4)
        made.append(("Overlays of the best epoch", [shown], True))
    if keys.curves:
        made.append(("Calibration", _calibration(keys), False))
    return made


def _parallel(best: Any, keys: Keys) -> Any:
    import wandb_workspaces.reports.v2 as wr

    def column(key: str, name: str, log: bool = False) -> Any:
        return wr.ParallelCoordinatesPlotColumn(
            metric=wr.Config(key), display_name=name, log=log or None
        )

    return wr.ParallelCoordinatesPlot(
        title="every trial",
        columns=[
            *(column(name, name) for name in ("model", "loss")),
            *(column(f"trial.{name}", name) for name in keys.factors),
            *(column(f"trial.{path}", path, log) for path, log in keys.parameters.items()),
            wr.ParallelCoordinatesPlotColumn(metric=best),
        ],
    )


def _bars(best: Any, metric: str, by: str) -> Any:
    import wandb_workspaces.reports.v2 as wr

    over = "folds" if by == "config_id" else "all its trials, those that were stopped too"
    return wr.BarPlot(
        title=f"{metric} by {by.removesuffix('_id')}: mean and standard deviation over {over}",
        metrics=[best],
        groupby=wr.Config(by),
        groupby_aggfunc="mean",
        groupby_rangefunc="stddev",
        max_bars_to_show=50,
        layout=wr.Layout(x=0 if by == "cell" else 12, w=12, h=10),
    )


def _drawn(metric: str, keys: Keys) -> list[list[str]]:
    """What is drawn over epochs: the compared metric, the losses, every other score."""
    scores = [key for key in keys.history if key.startswith("val/") and key not in LOSSES]
    first = [[metric], [key for key in LOSSES if key in keys.history]]
    return [names for names in [*first, *([key] for key in scores if key != metric)] if names]


def _curves(names: list[str]) -> Any:
    import wandb_workspaces.reports.v2 as wr

    return wr.LinePlot(
        title=" and ".join(names),
        x="Step",
        y=names,
        title_x="epoch",
        groupby=wr.Config("cell"),
        groupby_aggfunc="mean",
        groupby_rangefunc="stddev",
    )


def _calibration(keys: Keys) -> list[Any]:
    import wandb_workspaces.reports.v2 as wr

    panels: list[Any] = [
        wr.LinePlot(title=key, x=TEMPERATURE, y=[key], title_x="temperature", log_x=True)
        for key in keys.curves
    ]
    if keys.diagrams:
        panels.append(
            wr.CustomChart(
                query={"summaryTable": {"tableKey": RELIABILITY}},
                chart_name="wandb/line/v0",
                chart_fields={"x": "confidence", "y": "accuracy", "stroke": "scaling"},
                chart_strings={"title": "reliability diagram"},
            )
        )
    return panels
