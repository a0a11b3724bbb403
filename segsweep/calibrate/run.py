"""``calibrate RUN``: missing logits from checkpoints, both sweeps, results. Trains nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from rich.console import Console

from segsweep import rundir, tracking
from segsweep.calibrate import compute, files, logits_file
from segsweep.calibrate.compute import Item, Shared
from segsweep.calibrate.keep import finished
from segsweep.calibrate.logits_file import HOLDOUT, VALIDATION, Logits
from segsweep.calibrate.model import Judged, Subject, Trained, judge, notes_of
from segsweep.calibrate.options import overridden
from segsweep.calibrate.targets import Target, foreign, own, told
from segsweep.calibrate.temperatures import grid
from segsweep.compare.ranking import NO_USE, undefined
from segsweep.errors import Problem, RunError, WeightsError
from segsweep.identity import short_cells, short_params, since
from segsweep.next_command import goes_on
from segsweep.opening import CACHE, Opened, located, open_data, renamed_classes
from segsweep.rundir import Run
from segsweep.runners import Runner
from segsweep.runners.start import start
from segsweep.spec import SweepSpec
from segsweep.spec.shape import Scored
from segsweep.state import ConfigState, SearchState


@dataclass(frozen=True)
class Outcome:
    """What ``calibrate`` found.

    Attributes:
        judged: one a model.
        computed: files of logits that were computed; ``found`` those that were there.
        notes: what people should know.
        temperatures: of the grid.
        warnings: of trackers.
    """

    folder: Path
    judged: Sequence[Judged]
    computed: int
    found: int
    notes: Sequence[str]
    temperatures: Sequence[float]
    warnings: Sequence[str] = ()


def calibrate(
    run: str,
    *,
    every: bool = False,
    datasets: Mapping[str, Scored] | None = None,
    overrides: Sequence[str] = (),
    runner: str | Runner = "ray",
    address: str | None = None,
    console: Console | None = None,
) -> Outcome:
    """Sweep temperatures and anomaly scores over a finished run's models.

    Args:
        run: a run directory, a sweep's name, or its sweep file.
        every: all configs that have finished all folds, not champions alone.
        datasets: to score on beside the sweep's own images and those of its file.
        overrides: ``calibration.key=value`` strings.
        runner: where missing logits are computed; it is started for them alone.
        address: of a running Ray cluster.
        console: where progress is shown; None shows nothing.

    Raises:
        UserError: refused; nothing of earlier results has changed.
    """
    console = console or Console(quiet=True)
    found = rundir.load(rundir.find(run))
    spec = overridden(located(found), overrides, datasets or {})
    state = SearchState(found.metric, found.events)
    configs = _chosen(found, spec, state, every)
    lock = rundir.Lock(found.path, "calibrate")
    try:
        with console.status("reading the images"):
            opened = open_data(found)
            _same_data(found, opened)
            shared = _shared(found, spec, opened)
        items = [
            (config.config_id, *slot, name)
            for config in configs
            for slot in spec.slots
            for name in shared.targets
        ]
        computed, shared = _compute(shared, items, configs, spec, runner, address, console)
        judged = _judged(found, spec, state, configs, shared, console)
        save(found.path, judged, opened.prepared.fingerprint)
        warnings = track(spec, found.path, judged)  # a launch would write to the same trackers
    finally:
        lock.release()
    others = {n: one for n, one in shared.targets.items() if n not in (VALIDATION, HOLDOUT)}
    notes = [*notes_of(judged), *told(others)]
    scale = grid(spec.calibration.temperatures)
    return Outcome(found.path, judged, computed, len(items) - computed, notes, scale, warnings)


def _shared(run: Run, spec: SweepSpec, opened: Opened) -> Shared:
    """What computing logits needs beside the checkpoints."""
    return Shared(
        targets=_targets(spec, opened, run.path.parent / CACHE),
        assignment=opened.folds.assignment,
        run_directory=str(run.path.resolve()),
        pixels=spec.calibration.pixels,
        seed=spec.seed,
        cpus=spec.resources.cpu,
        gpu=0.0,
    )


def _judged(
    run: Run,
    spec: SweepSpec,
    state: SearchState,
    configs: Sequence[ConfigState],
    shared: Shared,
    console: Console,
) -> list[Judged]:
    """Sweep every config over its logits, one after the other: they fill the memory."""
    scale, judged = grid(spec.calibration.temperatures), list[Judged]()
    subjects = _subjects(state, configs, run.split.get("groups") or {})
    with console.status("sweeping temperatures and scores") as status:
        for config, subject in zip(configs, subjects, strict=True):
            status.update(f"sweeping {subject.label}, {len(judged) + 1} of {len(configs)}")
            whole = _with_logits(subject, shared, config, spec)
            asked = list(spec.calibration.datasets)
            judged.append(judge(whole, scale, spec.calibration.scores, asked=asked, seed=spec.seed))
    return judged


def save(folder: Path, judged: Sequence[Judged], fingerprint: str) -> None:
    """Write both tables and the fitted temperatures."""
    files.write(
        folder,
        [row for one in judged for row in one.calibration],
        [row for one in judged for row in one.anomaly],
        files.fitted_file([one.entry for one in judged], fingerprint),
    )


def track(spec: SweepSpec, folder: Path, judged: Sequence[Judged]) -> list[str]:
    """Give each tracker a run a model; what went wrong, a line each."""
    models = [
        tracking.CalibratedModel(
            config_id=one.subject.config_id,
            name=one.subject.label,
            temperature=one.entry["temperature"],
            calibration=one.calibration,
            anomaly=one.anomaly,
            diagrams=one.diagrams,
        )
        for one in judged
    ]
    tracker = tracking.make(spec, folder)
    return [*tracker.calibrated(models), *tracker.close()]


def _chosen(run: Run, spec: SweepSpec, state: SearchState, every: bool) -> list[ConfigState]:
    """Champions, or all that have finished.

    Raises:
        RunError: there is none.
    """
    done = finished(spec, state)
    champions = set(state.champions.values())
    chosen = done if every else [config for config in done if config.config_id in champions]
    if not chosen:
        if told := undefined(spec, state):
            raise RunError(Problem(f"no config has a score on every fold: {told}", hint=NO_USE))
        what = "no config has finished all folds" if every or not done else "there is no champion"
        raise RunError(Problem(what, hint=goes_on(run)))
    return chosen


def _same_data(run: Run, opened: Opened) -> None:
    classes = opened.data.classes
    if what := renamed_classes(run.split.get("classes", classes), classes):
        hint = "calibrate it with the segsweep that trained it"
        raise RunError(Problem(what, str(run.path), "dataset.classes", hint))
    hint = "restore the images that the run was trained on"
    if changed := since(run.identity):
        hint += f"; or segsweep reads them otherwise than the one that trained it: {changed}"
    if run.split["fingerprint"] != opened.prepared.fingerprint:
        raise RunError(Problem("the images have changed since", str(run.path), "dataset", hint))
    if run.split["folds_hash"] != opened.folds.hash:
        raise RunError(Problem("the folds have changed since", str(run.path), "folds", hint))


def _targets(spec: SweepSpec, opened: Opened, cache_dir: Path) -> dict[str, Target]:
    found = {VALIDATION: own(VALIDATION, opened.data)}
    if opened.holdout is not None:
        found[HOLDOUT] = own(HOLDOUT, opened.holdout)
    for name, wanted in spec.calibration.datasets.items():
        found[name] = foreign(
            name,
            wanted,
            classes=opened.data.classes,
            image_size=spec.dataset.image_size,
            cache_dir=cache_dir,
            depth=opened.prepared.depth,
        )
    return found


def _compute(
    shared: Shared,
    items: Sequence[Item],
    configs: Sequence[ConfigState],
    spec: SweepSpec,
    runner: str | Runner,
    address: str | None,
    console: Console,
) -> tuple[int, Shared]:
    """Compute the logits that are missing; how many there were.

    Raises:
        RunError: of each that could not be computed, why.
    """
    trial = {config.config_id: config.config for config in configs}
    missing, problems = [], []
    for item in items:
        try:
            expected = compute.facts_of(shared, item, trial[item[0]])
        except WeightsError as error:
            what = f"there is no checkpoint: {error.problems[0].what}"
            problems.append(Problem(what, _name(item)))
            continue
        if logits_file.mismatch(compute.path_of(shared.run_directory, item), expected):
            missing.append(item)
    if problems:
        raise RunError(problems)
    if not missing:
        return 0, shared
    workers = start(runner, address, console)
    try:
        gpu = workers.facts(spec)["gpu"]
        shared = Shared(**{**vars(shared), "gpu": gpu})
        with console.status("computing logits") as status:
            results = workers.map(compute.ensure, shared, missing, spec)
            for done, (item, found) in enumerate(zip(missing, results, strict=True), 1):
                status.update(f"computing logits: {done} of {len(missing)}")
                if "error" in found:
                    problems.append(Problem(found["error"], _name(item)))
    finally:
        workers.close()
    if problems:
        raise RunError(problems)
    return len(missing), shared


def _name(item: Item) -> str:
    return f"{item[0]} fold {item[1]} on {item[3]}"


def _subjects(
    state: SearchState, configs: Sequence[ConfigState], groups: Mapping[str, str]
) -> list[Subject]:
    labels = short_cells({config.cell: config.levels for config in state.configs.values()})
    several = len({config.cell for config in configs}) < len(configs)
    return [
        Subject(
            config.config_id,
            config.cell,
            str(config.config["model"]["name"]),
            " ".join([labels[config.cell], *([short_params(config.params)] if several else [])]),
            (),
            groups=groups,
        )
        for config in configs
    ]


def _with_logits(subject: Subject, shared: Shared, config: ConfigState, spec: SweepSpec) -> Subject:
    """The same with all its logits, read and verified."""
    trained = []
    for fold, replicate in spec.slots:
        logits: dict[str, Logits] = {}
        checkpoint = ""
        for name in shared.targets:
            item = (config.config_id, fold, replicate, name)
            expected: dict[str, Any] = compute.facts_of(shared, item, config.config)
            path = compute.path_of(shared.run_directory, item)
            logits[name] = logits_file.load(path, expected)
            checkpoint = expected["checkpoint"]
        trained.append(Trained(fold, replicate, checkpoint, logits))
    return replace(subject, trained=trained)
