"""The answer in two sentences: which cell and settings, and whether the difference is real."""

from __future__ import annotations

from collections.abc import Sequence

from segsweep.compare import Ranked
from segsweep.compare.comparison import Comparison, Interval
from segsweep.compare.ranking import undefined
from segsweep.identity import counted, short_params
from segsweep.next_command import relaunch
from segsweep.report.facts import Facts
from segsweep.report.spent import Spent
from segsweep.state import UNDECIDED

BADGES = {
    "finished": "finished",
    "undecided": "finished, with trials undecided",
    "interrupted": "interrupted: not final",
    "running": "still running: not final",
    "killed": "unfinished: not final",
}
NAMED = 3  # tied cells named before the rest is counted


def sentences(facts: Facts, spent: Spent) -> tuple[str, str]:
    """What to use, and how sure that is.

    Args:
        facts: the run.
        spent: what it has cost, for how much is still to run.
    """
    if not facts.ranking:
        return _nothing(facts)
    best = facts.ranking[0]
    final = facts.standing == "finished"
    return (_first(facts, best, final), _second(facts, best, final, spent))


def _nothing(facts: Facts) -> tuple[str, str]:
    count = len(facts.trials)
    if not count:
        return "There is no answer yet.", "No trial has been started."
    ended = sum(row["status"] not in ("finished", "incomplete") for row in facts.trials)
    trials = f"{count} trial{'s have' if count > 1 else ' has'} been started"
    return (
        "There is no answer yet: no config has finished a fold.",
        f"{trials}, of which {ended} ended without finishing; the curves and causes are below.",
    )


def _first(facts: Facts, best: Ranked, final: bool) -> str:
    params = short_params(best.params)
    settings = f" with {params}" if params else ""
    start = "Use" if final else "So far the best is"
    folds = f"{best.folds} fold{'s' if best.folds > 1 else ''}"
    if not best.final:
        folds = f"{best.folds} of {facts.spec.folds.count} folds"
    text = f"{start} {best.label}{settings}: {facts.score} {best.mean:.3f} over {folds}"
    interval = interval_of(facts.comparison, best.config_id)
    if interval is not None:
        text += f" ({100 * interval.level:.0f} % interval {' to '.join(interval.text(3))})"
    elif best.std is not None:
        text += f" (± {best.std:.3f} between folds)"
    if best.holdout is not None:
        text += f", and {best.holdout:.3f} on the holdout, which no trial has seen"
    return f"{text}."


def _second(facts: Facts, best: Ranked, final: bool, spent: Spent) -> str:
    if not final and facts.standing == "undecided" and not spent.left:
        bad = sum(row["status"] in UNDECIDED for row in facts.trials)
        again = f"`{relaunch(facts.run, '--retry', 'failed')}`"
        what = f"{counted(bad, 'trial')} failed (below)"
        return f"This is not final: {what}; {again} runs {'it' if bad == 1 else 'them'} again."
    if not final:
        rest = f"{spent.left:,} of {spent.planned:,} epochs are still open"
        return f"This is not final: {rest}, so the order below may change."
    found = facts.comparison
    if len(facts.ranking) == 1:
        return "It is the only cell, so there is nothing to compare it with."
    if not best.final and (told := undefined(facts.spec, facts.state)):
        return f"How sure that is cannot be said: {told}."
    if found is None or best.config_id not in {row.config_id for row in found.standings}:
        return "How sure that is cannot be said: no config has finished all its folds."
    tests = found.tests.get("folds")
    if tests is None or tests.noise is None:
        return tests.claim if tests is not None else "No test between the cells was possible."
    if len(found.tied) > 1:
        return _tied(found, best)
    runner_up = facts.ranking[1]
    pairs = {(pair.better, pair.worse): pair for pair in tests.pairs}
    pair = pairs.get((best.config_id, runner_up.config_id))
    behind = f", {pair.gap:.3f} behind" if pair is not None else ""
    text = "It leads every other cell by more than another seed would explain"
    return f"{text}; {runner_up.label} comes next{behind}."


def _tied(found: Comparison, best: Ranked) -> str:
    others = [found.standing(name).label for name in found.tied if name != best.config_id]
    text = f"It cannot be told from {listed(others)}, which another seed could put first"
    if found.fastest is None:
        return f"{text}."
    fastest = found.standing(found.fastest)
    if len(found.equally_fast) > 1:
        who = f"{listed([found.standing(name).label for name in found.equally_fast])} are the"
    else:
        who = "it is also the" if fastest.config_id == best.config_id else f"{fastest.label} is the"
    return f"{text}; of all these {who} fastest, at {fastest.runtime_ms:.2g} ms an image."


def interval_of(found: Comparison | None, config_id: str) -> Interval | None:
    """The interval of a champion's mean, where the comparison has one."""
    if found is None:
        return None
    rows = [row for row in found.standings if row.config_id == config_id]
    return rows[0].interval if rows else None


def listed(names: Sequence[str], most: int = NAMED) -> str:
    """``a``, ``a and b``, ``a, b and 3 others``."""
    if len(names) > most:
        names = [*names[: most - 1], f"{len(names) - most + 1} others"]
    if len(names) < 2:
        return "".join(names)
    return f"{', '.join(names[:-1])} and {names[-1]}"
