"""Every command of ``segsweep``."""

from __future__ import annotations

import errno
import json
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Annotated, Literal, ParamSpec, TypeVar

import typer
from rich.console import Console

from segsweep import __version__
from segsweep.cli import show
from segsweep.errors import (
    EXIT_INTERRUPTED,
    EXIT_REFUSED,
    EXIT_UNDECIDED,
    SegsweepError,
    UserError,
)

app = typer.Typer(
    help="Distributed, cross-validated hyperparameter sweeps for image segmentation.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
P = ParamSpec("P")
R = TypeVar("R")

Sweep = Annotated[Path, typer.Argument(help="The sweep file.", show_default=False)]
Run = Annotated[
    str,
    typer.Argument(
        help="A run directory, a sweep's name under runs/, or its sweep file.", show_default=False
    ),
]
Runs = Annotated[
    list[str],
    typer.Argument(
        metavar="RUN…",
        help="Run directories, sweep names or files; several of the same data and folds.",
        show_default=False,
    ),
]
Set = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Override a key, e.g. train.epochs=5."),
]
Json = Annotated[bool, typer.Option("--json", help="Machine-readable output.")]

Datasets = Annotated[
    list[str] | None,
    typer.Option(
        "--dataset",
        metavar="name=smiyc,root=DIR,…",
        help="Score on this, too: a dataset's name, root and options; image_size=192x256, "
        "anomaly=CLASS+CLASS, called=NAME for results.",
    ),
]


def guarded(command: Callable[P, R]) -> Callable[P, R]:
    """Errors on purpose become a message and their exit code."""

    @wraps(command)
    def inner(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return command(*args, **kwargs)
        except UserError as error:
            show.problems(Console(stderr=True), error)
            raise typer.Exit(error.exit_code) from error
        except SegsweepError as error:
            Console(stderr=True).print(f"error: {error}", style="red", markup=False)
            raise typer.Exit(error.exit_code) from error
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise
            text = f"the disk is full: {error}; free some space and launch again to go on"
            Console(stderr=True).print(text, style="red", markup=False)
            raise typer.Exit(EXIT_UNDECIDED) from error
        except KeyboardInterrupt as error:
            raise typer.Exit(EXIT_INTERRUPTED) from error

    return inner


def _print_version(value: bool) -> None:
    if value:
        typer.echo(f"segsweep {__version__}")
        raise typer.Exit


@app.callback()
def main(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Show it.")
    ] = False,
) -> None:
    """Distributed, cross-validated hyperparameter sweeps for image segmentation."""


@app.command()
@guarded
def validate(sweep: Sweep, overrides: Set = None) -> None:
    """Check a sweep file and its data; start nothing."""
    from segsweep.check import check

    console = Console()
    with console.status("checking the sweep file and decoding images"):
        checked = check(sweep, overrides or [])
    show.checked(console, checked)


@app.command()
@guarded
def schema() -> None:
    """Print a JSON Schema of sweep files, for editors."""
    from segsweep.schema import json_schema

    typer.echo(json.dumps(json_schema(), indent=2))


@app.command()
@guarded
def plan(sweep: Sweep, overrides: Set = None, as_json: Json = False) -> None:
    """Show what a sweep would run and cost, from one timed step a cell."""
    _plan(sweep, overrides or [], as_json)


def _plan(sweep: Path, overrides: list[str], as_json: bool) -> None:
    from segsweep.check import check
    from segsweep.plan import plan as make_plan

    console = Console(stderr=as_json)
    with console.status("checking the sweep file and decoding images") as status:
        checked = check(sweep, overrides)
        made = make_plan(checked, lambda cell: status.update(f"timing one step of {cell}"))
    if as_json:
        typer.echo(json.dumps(made.as_dict(), indent=2))
    else:
        show.plan(console, made)


@app.command()
@guarded
def launch(
    sweep: Sweep,
    overrides: Set = None,
    address: Annotated[
        str | None, typer.Option(help="Of a running Ray cluster; without it, one starts here.")
    ] = None,
    runner: Annotated[
        Literal["ray", "inline"], typer.Option(help="inline: in this process, one at a time.")
    ] = "ray",
    retry: Annotated[
        Literal["failed"] | None, typer.Option(help="Run trials that failed once more.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="The same as plan.")] = False,
) -> None:
    """Run a sweep, or go on with one: only what is missing is started."""
    if dry_run:
        _plan(sweep, overrides or [], False)
        return
    from segsweep.launching import launch as run

    console = Console()
    outcome = run(
        sweep,
        overrides or [],
        runner=runner,
        address=address,
        retry_failed=retry == "failed",
        console=console,
    )
    show.outcome(console, outcome, str(sweep))
    raise typer.Exit(outcome.exit_code)


@app.command()
@guarded
def replay(
    run: Annotated[
        str,
        typer.Argument(
            help="A run without early stopping, or a CSV file with the columns "
            "cell, config, fold, epoch, metric.",
            show_default=False,
        ),
    ],
    orders: Annotated[int, typer.Option(min=1, help="Random orders of arrival.")] = 50,
    minimize: Annotated[bool, typer.Option(help="In a CSV file, lower is better.")] = False,
    as_json: Json = False,
) -> None:
    """Show what each early-stopping rule would have saved on recorded curves, and cost."""
    from segsweep import rundir
    from segsweep.runners import replay as module

    goal = "minimize" if minimize else "maximize"
    if run.endswith(".csv"):
        curves = module.read_csv(Path(run))
    else:
        found = rundir.load(rundir.find(run))
        goal = found.spec.metric.goal
        curves = module.read_run(found.path, found.metric, found.spec.folds.count)
    console = Console(stderr=as_json)
    rows = []
    with console.status("replaying") as status:
        for rule in module.rules(module.longest(curves), module.folds_of(curves)):
            status.update(f"replaying {rule.name}")
            rows.append(module.replay(curves, rule, goal=goal, orders=orders))
    if as_json:
        typer.echo(json.dumps({"rules": [row.as_dict() for row in rows]}, indent=2))
    else:
        show.replay(console, rows, orders)


@app.command()
@guarded
def compare(
    runs: Runs,
    as_json: Json = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="One row a cell, in full.")] = False,
    markdown: Annotated[bool, typer.Option("--markdown", help="A table for a README.")] = False,
    latex: Annotated[bool, typer.Option("--latex", help="A table for a paper (booktabs).")] = False,
) -> None:
    """Which cell is best, which are tied with it, and what can be claimed."""
    from segsweep import compare as module
    from segsweep import rundir

    wanted = {"json": as_json, "csv": as_csv, "markdown": markdown, "latex": latex}
    chosen = [name for name, is_wanted in wanted.items() if is_wanted]
    if len(chosen) > 1:
        both = " and ".join(f"--{name}" for name in chosen)
        raise UserError(f"{both} cannot be had at once: choose one")
    found = [rundir.load(rundir.find(run)) for run in runs]
    made = module.analyse(found)
    looks = [look for run in found for look in module.races(run.events)]
    if as_json:
        names = {"name": made.runs[0], "races": looks}
        typer.echo(json.dumps({**names, **made.as_dict()}, indent=2))
    elif chosen:
        typer.echo(module.FORMATS[chosen[0]](made), nl=False)
    else:
        show.comparison(Console(), made, module.race_summary(looks))


@app.command()
@guarded
def doctor(
    sweep: Annotated[
        Path | None, typer.Argument(help="Look at what this sweep file needs, too.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Say what this machine lacks, and how to get it."""
    from segsweep import doctor as module

    found = module.examine(sweep)
    if as_json:
        typer.echo(json.dumps([finding.as_dict() for finding in found], indent=2))
    else:
        show.doctor(Console(), found)
    if any(finding.state == "missing" for finding in found):
        raise typer.Exit(EXIT_REFUSED)


@app.command()
@guarded
def report(
    run: Run,
    out: Annotated[
        Path | None, typer.Option(help="The file; report.html in the run directory without it.")
    ] = None,
    show_it: Annotated[bool, typer.Option("--open", help="Open it in a browser.")] = False,
) -> None:
    """Write one HTML file about a run, finished or not, that opens offline."""
    from segsweep import report as module
    from segsweep import rundir

    console = Console()
    found = rundir.load(rundir.find(run))
    with console.status("reading the run"):
        path, facts = module.write(found, out)
    show.report(console, path, facts)
    if show_it:
        typer.launch(path.resolve().as_uri())


@app.command()
@guarded
def export(
    run: Run,
    out: Annotated[Path, typer.Option(help="The folder to be made.", show_default=False)],
    config: Annotated[
        str | None,
        typer.Option(help="A finished config's id, or its beginning; else the champion's."),
    ] = None,
    ensemble: Annotated[
        bool, typer.Option("--ensemble", help="All fold models of the config as one.")
    ] = False,
    retrain: Annotated[
        Literal["all"] | None,
        typer.Option(help="Fit the config once more, on all images that are not held out."),
    ] = None,
    opset: Annotated[int | None, typer.Option(help="Of ONNX; else the exporter's own.")] = None,
    onnx: Annotated[bool, typer.Option("--onnx/--no-onnx", help="Write model.onnx.")] = True,
) -> None:
    """Export the champion as a folder that can be shipped: weights, ONNX graph, model card."""
    from segsweep import rundir
    from segsweep.export.exporting import export as run_export

    console = Console()
    found = run_export(
        rundir.find(run),
        out,
        config_id=config,
        ensemble=ensemble,
        retrain_all=retrain == "all",
        opset=opset,
        onnx=onnx,
        console=console,
    )
    show.exported(console, found)


@app.command()
@guarded
def calibrate(
    run: Run,
    every: Annotated[
        bool, typer.Option("--all", help="Every config that finished, not champions alone.")
    ] = False,
    datasets: Datasets = None,
    overrides: Set = None,
    address: Annotated[
        str | None, typer.Option(help="Of a running Ray cluster; without it, one starts here.")
    ] = None,
    runner: Annotated[
        Literal["ray", "inline"], typer.Option(help="Where missing logits are computed.")
    ] = "ray",
    as_json: Json = False,
) -> None:
    """Sweep temperatures and anomaly scores over a finished run's models; trains nothing."""
    from segsweep.calibrate.options import parse_datasets
    from segsweep.calibrate.run import calibrate as sweep
    from segsweep.cli import show_calibration

    console = Console(stderr=as_json)
    outcome = sweep(
        run,
        every=every,
        datasets=parse_datasets(datasets or []),
        overrides=overrides or [],
        runner=runner,
        address=address,
        console=console,
    )
    show_calibration.outcome(console, outcome, as_json)


@app.command()
@guarded
def status(
    run: Run,
    watch: Annotated[bool, typer.Option("--watch", help="Until the launch ends.")] = False,
    as_json: Json = False,
) -> None:
    """What a sweep is doing: what runs, how far it is, who leads so far, what has failed."""
    from segsweep import rundir
    from segsweep.status import read, watching

    path = rundir.find(run)
    if watch and as_json:
        raise UserError("--watch and --json cannot be had at once: choose one")
    if as_json:
        typer.echo(json.dumps(read(path).as_dict(), indent=2))
    elif watch:
        watching(Console(), path)
    else:
        show.status(Console(), read(path))


@app.command()
@guarded
def predict(
    folder: Annotated[Path, typer.Argument(help="An export folder.", show_default=False)],
    images: Annotated[
        Path, typer.Argument(help="A folder of images, or one image.", show_default=False)
    ],
    out: Annotated[Path, typer.Option(help="Where the results go.", show_default=False)],
    runtime: Annotated[
        Literal["onnx", "torch"] | None, typer.Option(help="Else onnx where it can be had.")
    ] = None,
    tile: Annotated[
        bool, typer.Option("--tile", help="Cut images into overlapping tiles; do not resize them.")
    ] = False,
    masks: Annotated[
        Literal["palette", "ids"], typer.Option(help="Class numbers with colours, or grey.")
    ] = "palette",
    probabilities: Annotated[
        Literal["npz", "png", "none"], typer.Option(help="png: 8 bits, for two classes.")
    ] = "npz",
    overlays: Annotated[bool, typer.Option(help="Write images under their masks.")] = True,
    size: Annotated[
        Literal["original", "trained"], typer.Option(help="Of the results.")
    ] = "original",
) -> None:
    """Predict masks, calibrated probabilities and overlays with an exported model."""
    from segsweep.export.predicting import Options
    from segsweep.export.predicting import predict as run_predict

    console = Console()
    options = Options(tile, masks, probabilities, overlays, size)
    with show.bar(console, "images") as told:
        done = run_predict(folder, images, out, options, runtime=runtime, told=told)
    show.predicted(console, done, out)
    raise typer.Exit(EXIT_UNDECIDED if done.failed else 0)


@app.command()
@guarded
def evaluate(
    model: Annotated[str, typer.Option(help="A model's name, or 'erfnet,width=16'.")],
    weights: Annotated[Path, typer.Option(help="A file of all its weights.")],
    datasets: Datasets = None,
    out: Annotated[Path, typer.Option(help="Where logits and results go.")] = Path("evaluated"),
    overrides: Set = None,
    as_json: Json = False,
) -> None:
    """Calibrate and judge a model that was trained elsewhere, from a file of weights.

    T is fitted on the first dataset: it has the model's classes in its order, and an image_size.
    """
    from segsweep.calibrate.evaluate import evaluate as sweep
    from segsweep.calibrate.options import parse_datasets, parse_model
    from segsweep.cli import show_calibration

    console = Console(stderr=as_json)
    outcome = sweep(
        parse_model(model),
        weights,
        parse_datasets(datasets or [], at_least=1),
        out,
        overrides=overrides or [],
        console=console,
    )
    show_calibration.outcome(console, outcome, as_json)
