"""What an earlier launch left: may this one go on with it, and is anything missing?"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from segsweep import checkpoint, identity, results, rundir, tracking
from segsweep import spec as spec_module
from segsweep.check import Checked
from segsweep.errors import Problem, RunError
from segsweep.ledger import LEDGER, Event, Ledger
from segsweep.opening import renamed_classes
from segsweep.rundir import Run
from segsweep.spec import SweepSpec
from segsweep.state import UNDECIDED, SearchState

# what old results hang on: a change of one of these makes a sweep another sweep
FIXED = (
    "dataset", "folds.k", "folds.stratify_by", "folds.group_by", "metric.name", "metric.goal",
    "seed", "train",
)  # fmt: skip
FIXED_SEARCH = ("method", "sampler", "parameters", "replicates")


def earlier(place: Path) -> Run | None:
    """What earlier launches left in the same directory."""
    if not (place / LEDGER).exists():
        return None
    run = rundir.load(place)
    begun = any(event["event"] == "config" for event in run.events)
    return run if begun else None


def filled(spec: SweepSpec, facts: Mapping[str, Any], before: Run | None) -> SweepSpec:
    """Every ``auto`` filled in: once, so that a later launch elsewhere changes no number."""
    train = spec.train
    if train.precision == "auto":
        precision = before.spec.train.precision if before else facts["precision"]
        train = train.model_copy(update={"precision": precision})
    resources = spec.resources.model_copy(update={"gpu": float(facts["gpu"])})
    wandb = spec.wandb.model_copy(update={"mode": spec.wandb_mode})
    return spec.model_copy(update={"train": train, "resources": resources, "wandb": wandb})


def refuse_other_sweep(before: Run, checked: Checked) -> None:
    """Results that would not compare are not mixed.

    Raises:
        RunError: each key that has changed since, and how.
    """
    place = before.path
    old, new = spec_module.to_plain(before.spec), spec_module.to_plain(checked.spec)
    if new["train"]["precision"] == "auto":
        new["train"]["precision"] = old["train"]["precision"]
    for key in _replaced(old) & _replaced(new):  # no trial reads what the file says
        old["train"].pop(key, None)
        new["train"].pop(key, None)
    old["dataset"].pop("root")
    new["dataset"].pop("root")
    hint = "give the sweep another name, or undo the change"
    problems = []
    for key in (*FIXED, *FIXED_SEARCH):
        was, now = _at(old, key), _at(new, key)
        if was != now:
            what = f"has changed since the run began ({_difference(was, now)})"
            problems.append(Problem(what, str(place), key, hint))
    if list(old["factors"]) != list(new["factors"]):
        change = _difference(", ".join(old["factors"]), ", ".join(new["factors"]))
        what = f"the factors themselves have changed since the run began ({change})"
        problems.append(Problem(what, str(place), "factors", hint))
    if not problems and (what := _of_earlier_segsweep(before)):
        hint = "finish it with that segsweep, or give the sweep another name"
        problems.append(Problem(what, str(place), "", hint))
    if before.split and not problems:
        problems += _other_data(before, checked)
    if problems:
        raise RunError(problems)


def _replaced(plain: Mapping[str, Any]) -> set[str]:
    """Keys of ``train`` that every trial has from a factor or a parameter."""
    paths = [*plain["factors"], *plain["parameters"]]
    return {path.removeprefix("train.") for path in paths if path.startswith("train.")}


def _of_earlier_segsweep(before: Run) -> str:
    """Why numbers of today would not go with those that are there; empty where they do."""
    was, version = before.identity, before.last_launch.get("version", "?")
    if was != identity.IDENTITY_VERSION:
        since = identity.since(was) or "it is newer than this one"
        return f"segsweep {version} began this run, and numbers mean something else since: {since}"
    split = before.split
    event = next((e for e in before.events if e["event"] == "config"), None)
    if event is None or not split:
        return ""
    now = identity.config_id(event["config"], split["fingerprint"], split["folds_hash"])
    if now == str(event["config_id"]):
        return ""
    return f"segsweep {version} began this run and gave its trials other names and seeds"


def _other_data(before: Run, checked: Checked) -> list[Problem]:
    """In what the images differ from those that the run began with; names of classes first."""
    split, place = before.split, str(before.path)
    hint = "give the sweep another name, or undo the change"
    classes = checked.data.classes
    if what := renamed_classes(split.get("classes", classes), classes):
        hint = "give the sweep another name, or finish it with the segsweep that began it"
        return [Problem(what, place, "dataset.classes", hint)]
    if split["fingerprint"] != checked.prepared.fingerprint:
        return [Problem("the images have changed since", place, "dataset", hint)]
    if split["folds_hash"] != checked.folds.hash:
        return [Problem("the folds have changed since", place, "folds", hint)]
    return []


def _at(plain: Mapping[str, Any], path: str) -> Any:
    node: Any = plain
    for part in path.split("."):
        node = node[part]
    return node


def _difference(was: Any, now: Any) -> str:
    if isinstance(was, dict) and isinstance(now, dict):
        keys = [key for key in {**was, **now} if was.get(key) != now.get(key)]
        return ", ".join(f"{key}: {was.get(key)} → {now.get(key)}" for key in keys)
    return f"{was} → {now}"


def complete(spec: SweepSpec, checked: Checked, events: list[Event]) -> bool:
    """Is everything that the sweep asks for there, so that no worker is needed?

    Args:
        spec: of the earlier launch, every ``auto`` filled in.
        checked: the sweep as it is asked for now.
        events: the ledger.
    """
    state = SearchState(spec.metric.name.replace("/", "_"), events)
    slots = checked.spec.slots
    if slots != spec.slots:
        return False
    for cell in checked.cells:
        configs = state.of_cell(cell.name)
        if len(configs) < cell.budget or cell.name not in state.champions:
            return False
        if any(config.status(slots) == "incomplete" for config in configs):
            return False
        champion = state.configs[state.champions[cell.name]]
        wanted = {t.trial_id for slot, t in champion.trials.items() if slot in slots}
        scored = wanted <= state.holdout.keys()
        if checked.holdout is not None and not scored:
            return False
    return True


def bring_up_to_date(run: Run) -> list[str]:
    """Results and trackers of a sweep that lacks nothing, where they are behind the ledger.

    Returns:
        What went wrong with trackers, a line each.
    """
    try:
        lock = rundir.Lock(run.path)
    except RunError:
        return []  # a launch is at its end there, and does it itself
    try:
        written = run.path / "results" / "trials.parquet"
        ledger = run.path / LEDGER
        if not written.exists() or written.stat().st_mtime < ledger.stat().st_mtime:
            results.write(run.path, run.events, run.metric, run.spec.metric.goal)
        return tracking.catch_up(run.spec, run.path, run.events)
    finally:
        lock.release()


def mended(place: Path, ledger: Ledger, stale: str | None) -> list[str]:
    """Clear away what a launch that was killed has left; what there was.

    Args:
        place: the run directory, locked.
        ledger: open; a line of it that was cut short is noted in it.
        stale: who held the lock and never gave it back.
    """
    notes = []
    if stale is not None:
        notes.append(f"an earlier launch ({stale}) ended without a word: going on after it")
    count = checkpoint.remove_leftovers(place)
    if count:
        notes.append(f"removed {count} temporary files of killed processes")
    if ledger.torn:
        what = f"the last line of {LEDGER} was cut short and is dropped ({ledger.torn} bytes)"
        ledger.append("damaged", what=what)
    return notes


def reopen_failed(ledger: Ledger, metric: str) -> None:
    """Trials that failed, and those that were stopped with them, are open again."""
    state = SearchState(metric, ledger.events)
    for config in state.configs.values():
        failed = [t for t in config.trials.values() if t.status in ("failed", "out_of_memory")]
        if failed:
            with_them = [t for t in config.trials.values() if t.stopped_by == "config"]
            for trial in failed + with_them:
                ledger.append("retry", trial_id=trial.trial_id)


def undecided(state: SearchState, checked: Checked) -> dict[str, str]:
    """Trials of this sweep without a verdict and why; stopped and diverged ones have theirs."""
    cells, slots = {cell.name for cell in checked.cells}, checked.spec.slots
    return {
        trial.trial_id: trial.error or trial.status
        for trial in state.trials.values()
        if trial.status in UNDECIDED
        and state.configs[trial.config_id].cell in cells
        and (trial.fold, trial.replicate) in slots
    }
