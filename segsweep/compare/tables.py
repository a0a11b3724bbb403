"""The results of a run as tables: read from Parquet, rebuilt from the ledger where need be.

What is read is held against the ledger: ``trials.parquet`` must say what the ledger says, so that
no number comes from a file that a crash, an older version or a hand has left behind.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from segsweep import pixelcounts, results, rundir
from segsweep.errors import Problem, RunError
from segsweep.results import FILES, SCHEMA_VERSION
from segsweep.rundir import Run


@dataclass(frozen=True)
class Tables:
    """Results of a run.

    Attributes:
        trials: ``results.TRIALS``, one row a trial.
        epochs: ``results.EPOCHS``.
        images: ``results.IMAGES``; trials whose evidence is gone are missing.
        confusion: ``results.CONFUSION``, the same.
        notes: what was damaged, missing or old, and rebuilt.
    """

    trials: pa.Table
    epochs: pa.Table
    images: pa.Table
    confusion: pa.Table
    notes: tuple[str, ...] = ()


def load(run: Run) -> Tables:
    """The tables of a run, which are as new as its ledger.

    A Parquet file that is missing, damaged, of an older schema or older than the ledger is built
    again from the ledger and the evidence beside the checkpoints, and written where no launch
    holds the run; the others are left as they are.

    Raises:
        RunError: a file of a newer schema than this version knows.
    """
    folder, goal = run.path / "results", run.spec.metric.goal
    found: dict[str, pa.Table] = {}
    wrong: dict[str, str] = {}
    for name in FILES:
        read = _read(folder / f"{name}.parquet")
        if isinstance(read, str):
            wrong[name] = read
        else:
            found[name] = read
    fresh, _ = results.build(run.path, run.events, run.metric, goal, ("trials", "epochs"))
    for name in fresh.keys() & found.keys():
        if not found[name].equals(fresh[name]):
            wrong[name] = "does not say what the ledger says"
    if "trials" in wrong and _evidence_is_there(run, fresh["trials"]):
        wrong = dict.fromkeys(("images", "confusion"), "is older than the ledger") | wrong
    if not wrong:
        return Tables(**found)
    built, damaged = results.build(run.path, run.events, run.metric, goal, tuple(wrong))
    notes = [f"results/{name}.parquet {wrong[name]}: rebuilt from the ledger" for name in FILES
             if name in wrong]  # fmt: skip
    if wrong and not _kept(run, tuple(wrong)):
        notes = ["a launch is writing here: its results so far were read from the ledger"]
    return Tables(**{**found, **built}, notes=(*notes, *damaged))


def _kept(run: Run, names: tuple[str, ...]) -> bool:
    """Write what was rebuilt; False where a launch is at work, which writes its own at its end."""
    holder = rundir.holder(run.path)
    if holder is not None and holder.alive is not False:
        return False
    try:
        results.write(run.path, run.events, run.metric, run.spec.metric.goal, names)
    except OSError:  # a full disk, or a run that may only be read: the numbers are there anyway
        return True
    return True


def _read(path: Path) -> pa.Table | str:
    """A table, or what is wrong with it."""
    if not path.exists():
        return "is missing"
    try:
        table = pq.read_table(path)
    except (OSError, pa.ArrowException) as error:
        return f"is damaged ({str(error).splitlines()[0][:80]})"
    version = (table.schema.metadata or {}).get(b"segsweep_schema", b"0").decode()
    if not version.isdigit() or int(version) < int(SCHEMA_VERSION):
        return f"is of schema version {version}, this is {SCHEMA_VERSION}"
    if int(version) > int(SCHEMA_VERSION):
        what = f"is of schema version {version}, newer than {SCHEMA_VERSION} that is known here"
        raise RunError(Problem(what, str(path), hint="install the segsweep that wrote it"))
    return table


def _evidence_is_there(run: Run, trials: pa.Table) -> bool:
    """Of every finished trial: rebuilding loses nothing."""
    rows = trials.select(["config_id", "fold", "replicate", "status"]).to_pylist()
    return all(
        pixelcounts.path_of(run.path, row, "validation").exists()
        for row in rows
        if row["status"] == "finished"
    )
