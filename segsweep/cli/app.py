"""What every command shares: arguments, JSON, and errors as messages and exit codes."""

from __future__ import annotations

import errno
import json
import math
from collections.abc import Callable, Sequence
from dataclasses import asdict
from functools import wraps
from pathlib import Path
from typing import Annotated, Any, ParamSpec, TypeVar

import typer
from rich.console import Console

from segsweep import __version__
from segsweep.cli import complete, show
from segsweep.errors import (
    EXIT_INTERRUPTED,
    EXIT_UNDECIDED,
    Problem,
    SegsweepError,
    UserError,
)

app = typer.Typer(
    help="Distributed, cross-validated hyperparameter sweeps for image segmentation.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    epilog="Exit codes: 0 all is decided; 1 an error inside segsweep; 2 refused, nothing was "
    "started; 3 something stayed undecided; 130 interrupted, launch again to go on.",
    context_settings={"help_option_names": ["-h", "--help"]},
)
P = ParamSpec("P")
R = TypeVar("R")

Sweep = Annotated[
    Path,
    typer.Argument(help="The sweep file.", show_default=False, autocompletion=complete.sweeps),
]
Run = Annotated[
    str,
    typer.Argument(
        help="A run directory, a sweep's name under runs/, or its sweep file.",
        show_default=False,
        autocompletion=complete.runs,
    ),
]
Runs = Annotated[
    list[str],
    typer.Argument(
        metavar="RUN…",
        help="Run directories, sweep names or files; several of the same data and folds.",
        show_default=False,
        autocompletion=complete.runs,
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
    """Errors on purpose become a message and their exit code; under ``--json``, JSON besides."""

    @wraps(command)
    def inner(*args: P.args, **kwargs: P.kwargs) -> R:
        as_json = bool(kwargs.get("as_json"))
        try:
            return command(*args, **kwargs)
        except UserError as error:
            show.problems(Console(stderr=True), error)
            _told(as_json, error.problems)
            raise typer.Exit(error.exit_code) from error
        except SegsweepError as error:
            _ended(as_json, f"error: {error}")
            raise typer.Exit(error.exit_code) from error
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise
            _ended(as_json, f"the disk is full: {error}; free some space and launch again to go on")
            raise typer.Exit(EXIT_UNDECIDED) from error
        except KeyboardInterrupt as error:
            _ended(as_json, "interrupted; the same command goes on", style="yellow")
            raise typer.Exit(EXIT_INTERRUPTED) from error

    return inner


def _ended(as_json: bool, text: str, style: str = "red") -> None:
    Console(stderr=True).print(text, style=style, markup=False, soft_wrap=True)
    _told(as_json, [Problem(text)])


def _told(as_json: bool, problems: Sequence[Problem]) -> None:
    if as_json:
        print_json({"problems": [asdict(problem) for problem in problems]})


def print_json(payload: Any) -> None:
    """On standard output; NaN and infinities as null, since JSON has neither."""
    typer.echo(json.dumps(_finite(payload), indent=2))


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: _finite(inner) for key, inner in value.items()}
    return [_finite(inner) for inner in value] if isinstance(value, list | tuple) else value


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
