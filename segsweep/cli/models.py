"""The commands about trained models: their probabilities, shipping and using them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich.console import Console

from segsweep.cli import complete, show
from segsweep.cli.app import Datasets, Json, Run, Set, app, guarded, print_json
from segsweep.cli.following import following, go_on
from segsweep.errors import EXIT_INTERRUPTED, EXIT_UNDECIDED
from segsweep.next_command import command

if TYPE_CHECKING:
    from segsweep.export.predicting import Options

PANEL = "Models"


@app.command(rich_help_panel=PANEL)
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
    if as_json:
        print_json(show_calibration.as_dict(outcome))
    else:
        show_calibration.outcome(console, outcome)
        following(console, command("export", run, "--out", "DIR"))


@app.command(rich_help_panel=PANEL)
@guarded
def evaluate(
    model: Annotated[str, typer.Option(help="A model's name, or 'erfnet,width=16'.")],
    weights: Annotated[Path, typer.Option(help="A file of all its weights.")],
    datasets: Annotated[
        list[str],
        typer.Option(
            "--dataset",
            metavar="name=camvid,root=DIR,image_size=192x256,…",
            help="Judge it on this; T is fitted on the first. anomaly=CLASS+CLASS is the unknown, "
            "called=NAME names it in results.",
        ),
    ],
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
        parse_datasets(datasets, at_least=1),
        out,
        overrides=overrides or [],
        console=console,
    )
    if as_json:
        print_json(show_calibration.as_dict(outcome))
    else:
        show_calibration.outcome(console, outcome)


@app.command(rich_help_panel=PANEL)
@guarded
def export(
    run: Run,
    out: Annotated[Path, typer.Option(help="The folder to be made.", show_default=False)],
    config: Annotated[
        str | None,
        typer.Option(
            help="A finished config's id, or its beginning; else the champion's.",
            autocompletion=complete.configs,
        ),
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
    as_json: Json = False,
) -> None:
    """Export the champion as a folder that can be shipped: weights, ONNX graph, model card."""
    from segsweep import rundir
    from segsweep.export.exporting import export as run_export

    console = Console(stderr=as_json)
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
    if as_json:
        print_json(found.as_dict())
    else:
        show.exported(console, found)


@app.command(rich_help_panel=PANEL)
@guarded
def predict(
    folder: Annotated[Path, typer.Argument(help="An export folder.", show_default=False)],
    images: Annotated[
        Path, typer.Argument(help="A folder of images, or one image.", show_default=False)
    ],
    out: Annotated[Path, typer.Option(help="Where the results go, or go on.", show_default=False)],
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
    as_json: Json = False,
) -> None:
    """Predict masks, calibrated probabilities and overlays with an exported model."""
    from segsweep.export.predicting import Options
    from segsweep.export.predicting import predict as run_predict

    console = Console(stderr=as_json)
    options = Options(tile, masks, probabilities, overlays, size)
    with show.bar(console, "images") as told:
        done = run_predict(folder, images, out, options, runtime=runtime, told=told)
    if as_json:
        print_json(done.as_dict())
    else:
        show.predicted(console, done)
    if not done.complete:
        given = _given(options, runtime)
        go_on(console, command("predict", folder, images, "--out", out, *given))
        raise typer.Exit(EXIT_INTERRUPTED)
    raise typer.Exit(EXIT_UNDECIDED if done.failed else 0)


def _given(options: Options, runtime: str | None) -> Iterator[str]:
    """The options of ``predict`` that are not at their default, as they are written."""
    yield from ("--runtime", runtime) if runtime else ()
    yield from ("--tile",) if options.tile else ()
    yield from ("--masks", options.masks) if options.masks != "palette" else ()
    kind = options.probabilities
    yield from ("--probabilities", kind) if kind != "npz" else ()
    yield from () if options.overlays else ("--no-overlays",)
    yield from ("--size", options.size) if options.size != "original" else ()
