"""Which config of a run is exported, and which of its fold models."""

from __future__ import annotations

from segsweep import rundir
from segsweep.compare import rank
from segsweep.compare.ranking import NO_USE, undefined
from segsweep.errors import Problem, RunError
from segsweep.ledger import Event
from segsweep.rundir import Run
from segsweep.state import ConfigState, SearchState, Slot


def choose(run: Run, config_id: str | None = None) -> ConfigState:
    """The champion of the best cell of a run that has ended, or the config that is asked for.

    Args:
        run: the run.
        config_id: its id or the beginning of it; then the run may still be going on.

    Raises:
        RunError: the run has not ended, no config has finished, or this one has not.
    """
    state = SearchState(run.metric, run.events)
    finished = [c for c in state.configs.values() if c.status(run.spec.slots) == "finished"]
    if config_id is not None:
        return _named(run, state, finished, config_id)
    _refuse_unfinished(run, finished)
    best = next(iter(rank(run.spec, run.events)), None)
    if best is None or not best.final:
        what = "no config has finished all its folds, so there is nothing to export"
        hint = "launch its sweep file with --retry failed to try again"
        if finished and (why := undefined(run.spec, state)):
            what = f"no config has a score of all its folds: {why}"
            hint = f"{NO_USE}; or export one with --config ID: {_listed(finished)}"
        raise RunError(Problem(what, str(run.path), hint=hint))
    return state.configs[best.config_id]


def _named(
    run: Run, state: SearchState, finished: list[ConfigState], config_id: str
) -> ConfigState:
    found = [c for name, c in state.configs.items() if config_id and name.startswith(config_id)]
    ready = _listed(finished)
    if len(found) != 1:
        what = f"{len(found)} configs begin with {config_id!r}" if found else "no such config"
        raise RunError(Problem(f"{what}: {config_id!r}", str(run.path), "--config", ready))
    config = found[0]
    status = config.status(run.spec.slots)
    if status != "finished":
        what = f"{config.config_id} is {status}: it has not finished all its folds"
        raise RunError(Problem(what, str(run.path), "--config", ready))
    return config


def _refuse_unfinished(run: Run, finished: list[ConfigState]) -> None:
    """A champion is one only after the sweep has ended."""
    holder = rundir.holder(run.path)
    if holder is not None and (holder.alive is False or holder.what != rundir.LAUNCH):
        holder = None  # it died, or runs no trial
    if holder is None and ended(run.events):
        return
    if holder is not None:
        who = f"pid {holder.pid} on {holder.host} since {holder.since}"
        what, todo = f"the sweep is still going on: {who}", "wait for its end"
    else:
        what = "the sweep was interrupted before its end, so its champion is not known yet"
        todo = "launch its sweep file again to go on with it"
    hint = f"{todo}, or export a finished config with --config ID: {_listed(finished)}"
    raise RunError(Problem(what, str(run.path), hint=hint))


def ended(events: list[Event]) -> bool:
    """Has the last launch come to its end?"""
    last = [event for event in events if event["event"] in ("launch", "close")]
    return bool(last) and last[-1]["event"] == "close" and last[-1]["status"] == "done"


def _listed(finished: list[ConfigState]) -> str:
    if not finished:
        return "none has finished yet"
    names = [f"{config.config_id} ({config.cell})" for config in finished[:8]]
    more = f" and {len(finished) - 8} more" if len(finished) > 8 else ""
    return f"finished: {', '.join(names)}{more}"


def best_slot(run: Run, config: ConfigState) -> Slot:
    """The fold whose model has the best score on its own validation images; the first of equals.

    Where the metric is undefined on all folds, the first.
    """
    scores = {
        slot: value
        for slot, value in config.scores(run.spec.metric.goal).items()
        if slot in run.spec.slots
    }
    sign = 1 if run.spec.metric.goal == "maximize" else -1
    return max(scores or run.spec.slots, key=lambda slot: sign * scores.get(slot, 0.0))
