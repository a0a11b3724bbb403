"""segsweep from Python: ``segsweep.launch(spec)``, and ``segsweep.load(run)`` with its tables."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from segsweep import plain, rundir, yamlfile
from segsweep.compare import tables
from segsweep.compare.tables import Tables
from segsweep.errors import Problem, UserError
from segsweep.ledger import Event
from segsweep.rundir import Run
from segsweep.spec import SweepSpec

if TYPE_CHECKING:
    import pyarrow as pa

DICTIONARY = "the dictionary"


@dataclass(frozen=True)
class LoadedRun:
    """A run directory, read as it stands.

    Tables are pyarrow's: ``.to_pandas()`` makes data frames of them. A running sweep can be
    loaded too; load it again to see more of it.

    Attributes:
        path: the run directory.
        spec: the settings of its last launch.
        events: its whole ledger.
        undecided: trials without a verdict and why; only where ``launch`` has just returned.
        notes: damage that was made good, and what went wrong beside the trials, such as W&B; as
            ``undecided``.
    """

    path: Path
    spec: SweepSpec
    events: list[Event]
    undecided: Mapping[str, str]
    notes: Sequence[str] = ()

    @property
    def trials(self) -> pa.Table:
        """One row a trial."""
        return self._tables.trials

    @property
    def epochs(self) -> pa.Table:
        """Learning curves: one row an epoch."""
        return self._tables.epochs

    @property
    def images(self) -> pa.Table:
        """One row an image and class: ``tp fp fn valid`` pixels."""
        return self._tables.images

    @property
    def confusion(self) -> pa.Table:
        """Pixels by true and predicted class."""
        return self._tables.confusion

    @property
    def champions(self) -> dict[str, dict[str, Any]]:
        """By cell, the trial config of its champion."""
        chosen = {e["cell"]: e["config_id"] for e in self.events if e["event"] == "champion"}
        configs = {e["config_id"]: e["config"] for e in self.events if e["event"] == "config"}
        return {cell: configs[config_id] for cell, config_id in chosen.items()}

    @cached_property
    def _tables(self) -> Tables:
        return tables.load(Run(self.path, self.spec, self.events))


@contextlib.contextmanager
def _file(sweep: Mapping[str, Any] | SweepSpec | str | Path) -> Iterator[Path]:
    """A sweep as a file, which is gone afterwards where it was none."""
    if isinstance(sweep, (str, Path)):
        yield Path(sweep)
        return
    if isinstance(sweep, SweepSpec):
        sweep = sweep.model_dump(mode="json", exclude_unset=True)
    with tempfile.TemporaryDirectory(prefix="segsweep-") as folder:
        path = Path(folder) / "sweep.yaml"
        path.write_text(yamlfile.dump(plain.mapping(sweep, DICTIONARY)), encoding="utf-8")
        try:
            yield path
        except UserError as error:
            problems = [_placed(problem, path) for problem in error.problems]
            raise type(error)(problems) from error


def _placed(problem: Problem, path: Path) -> Problem:
    """A problem that names the dictionary, and not a file that its user has never seen."""
    place = problem.where.removeprefix(str(path))
    ours = place != problem.where and (not place or place.startswith(":"))
    return replace(problem, where=DICTIONARY) if ours else problem


def load(run: str | Path, storage_path: str | Path = "runs") -> LoadedRun:
    """Read a run.

    Args:
        run: a run directory, a sweep's name under ``storage_path``, or its sweep file.
        storage_path: where names are looked up.

    Raises:
        RunError: there is no such run, or it is damaged.
    """
    found = rundir.load(rundir.find(str(run), str(storage_path)))
    return LoadedRun(found.path, found.spec, found.events, {})


def launch(
    sweep: Mapping[str, Any] | SweepSpec | str | Path,
    overrides: Sequence[str] = (),
    *,
    runner: Literal["ray", "inline"] = "ray",
    address: str | None = None,
    retry_failed: bool = False,
    progress: bool = True,
) -> LoadedRun:
    """Run what a sweep asks for and is not there yet; launching again goes on.

    Args:
        sweep: a sweep file's path, its content as a dictionary (paths and NumPy's numbers and
            arrays may stand in it), or a ``SweepSpec``.
        overrides: ``dotted.key=value`` strings.
        runner: ``ray``, or ``inline`` for this process.
        address: of a running Ray cluster.
        retry_failed: hand failed trials out again.
        progress: show it on the terminal.

    Raises:
        UserError: refused, nothing was started; every mistake is listed.
        KeyboardInterrupt: stopped by Ctrl-C, and saved: launch again to go on.
    """
    from rich.console import Console

    from segsweep.errors import EXIT_INTERRUPTED
    from segsweep.launching import launch as run_sweep
    from segsweep.runners.start import named

    named(runner)  # before anything is decoded
    with _file(sweep) as path:
        outcome = run_sweep(
            path,
            overrides,
            runner=runner,
            address=address,
            retry_failed=retry_failed,
            console=Console() if progress else None,
        )
    if outcome.exit_code == EXIT_INTERRUPTED:
        raise KeyboardInterrupt
    found = rundir.load(outcome.run_directory)
    notes = (*outcome.notes, *outcome.warnings)
    return LoadedRun(found.path, found.spec, found.events, outcome.undecided, notes)
