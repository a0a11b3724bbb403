"""One config of a sweep as a sweep file of its own, which ``segsweep launch`` accepts."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from segsweep import models, rundir, yamlfile
from segsweep.check import Checked, check
from segsweep.errors import Problem, RunError, SpecError, UserError
from segsweep.identity import since
from segsweep.rundir import Run
from segsweep.spec import SweepSpec, to_plain
from segsweep.state import ConfigState

_SEARCH = ("factors", "parameters", "exclude", "configs_per_cell", "method", "sampler")


def text(run: Run, config: ConfigState) -> str:
    """The file: one model, one loss, every setting filled in, nothing searched or stopped.

    The config keeps its id, since all that can change a number is as it was. A root of the data
    that the sweep file gave by a variable, ``${SEGSWEEP_DATA}``, is given so again: what the
    variable holds is this machine's business, as are its GPUs and an absolute ``storage_path``.
    """
    data = _as_sweep(run.spec, config)
    if given := _root_as_given(run):
        data["dataset"] = {**data["dataset"], "root": given}
    data["resources"] = {**data["resources"], "gpu": _gpu_as_given(run)}
    if Path(run.spec.storage_path).is_absolute():
        del data["storage_path"]
    return f"# config {config.config_id} of the sweep {run.spec.name}, {config.cell}\n" + (
        yamlfile.dump(data)
    )


def _root_as_given(run: Run) -> str | None:
    """``dataset.root`` as the sweep file has it, where that still says what the run used."""
    path = run.path / rundir.SWEEP
    try:
        said, means = (yamlfile.read(path, interpolate=i).data for i in (False, True))
        given, root = said["dataset"]["root"], means["dataset"]["root"]
    except (SpecError, KeyError, TypeError):
        return None
    return str(given) if root == run.spec.dataset.root else None


def _gpu_as_given(run: Run) -> Any:
    """``resources.gpu`` as the sweep file has it: the ledger's is what one machine had."""
    try:
        gpu = yamlfile.read(run.path / rundir.SWEEP).data["resources"]["gpu"]
    except (SpecError, KeyError, TypeError):
        return "auto"
    return "auto" if gpu is None else gpu


def _as_sweep(spec: SweepSpec, config: ConfigState) -> dict[str, Any]:
    plain = {key: value for key, value in to_plain(spec).items() if key not in _SEARCH}
    own = config.config
    return {
        **plain,
        "name": f"{spec.name[:80]}-{config.config_id}",
        "description": f"Config {config.config_id} of {spec.name}: {config.cell}"[:1000],
        "seed": own["seed"],
        "factors": {"model": [dict(own["model"])], "loss": [dict(own["loss"])]},
        "train": dict(own["train"]),
        "early_stopping": {"type": "none"},
        "race": {"rule": "none"},
    }


def checked(path: Path, run: Run, config: ConfigState) -> Checked:
    """The file with the images of the run, found from whichever directory export is called in.

    Args:
        path: of the file.
        run: the run, beside which its decoded images are kept.
        config: the file's.

    Raises:
        UserError: the images are gone, or are not what the config was trained on.
    """
    try:
        found = check(path, list(_located(run, config)))
    except UserError as error:
        raise RunError([_placed(problem, path) for problem in error.problems]) from error
    split = run.split
    was = split.get("fingerprint"), split.get("folds_hash")
    if was != (found.prepared.fingerprint, found.folds.hash):
        what = "the images or folds are not those of the run any more"
        changed = since(run.identity)
        hint = f"segsweep reads some files otherwise by now: {changed}" if changed else ""
        raise RunError(Problem(what, str(run.path), hint=hint))
    return found


def _located(run: Run, config: ConfigState) -> Iterator[str]:
    """``--set`` for what the file names by paths that begin where the sweep was launched."""
    yield "resources.gpu=auto"  # whatever this machine has will do
    yield f"storage_path={json.dumps(str(run.path.resolve().parent))}"
    if run.spec.dataset.root is not None:
        yield f"dataset.root={json.dumps(run.located(run.spec.dataset.root))}"
    model = dict(config.config["model"])
    for option in models.FROM_DISK:  # a name of a hub is no path
        if (
            isinstance(model.get(option), str)
            and Path(found := run.located(model[option])).exists()
        ):
            model[option] = found
    yield f"factors.model={json.dumps([model])}"


def _placed(problem: Problem, path: Path) -> Problem:
    """A problem that names the run's settings, and not a file that is about to vanish."""
    where = problem.where.replace(str(path), "the run's settings")
    return replace(problem, where="the run's settings" if where == "--set" else where)
