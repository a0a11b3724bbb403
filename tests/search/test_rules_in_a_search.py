"""What every rule must keep to inside a search, with one worker and with several."""

from __future__ import annotations

import random
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from segsweep.search import Job, Search
from segsweep.search.rungs import RULES
from tests.search.simulate import (
    SLOTS,
    book,
    bowl,
    make_cell,
    make_search,
    make_spec,
    report,
    run,
)

PARKING = [name for name, rule in RULES.items() if rule.parks]


def spec_of(rule: str, within: str = "cell", **changes: Any) -> Any:
    stopping = {
        "type": rule,
        "grace_period": 1,
        "reduction_factor": 2,
        "compare_within": within,
    }
    return make_spec(early_stopping=stopping, **changes)


def at_once(search: Search, workers: int, seed: int) -> int:
    """Run with several workers, whose epochs end in random order; the most that were live."""
    rng = random.Random(seed)  # noqa: S311 - an order of arrival
    at: dict[str, int] = {}
    jobs: dict[str, Any] = {}
    most = 0
    while True:
        while len(search.live) < workers and (job := search.next()) is not None:
            jobs[job.trial_id], at[job.trial_id] = job, 0
        most = max(most, len(search.live))
        if not search.live:
            search.conclude()
            return most
        name = rng.choice(sorted(search.live))
        job, known = jobs[name], search.state.trials[name].values
        at[name] = epoch = max(at[name] + 1, max(known, default=0))  # from its checkpoint
        value = bowl(job.config, job.fold, epoch)
        goes_on = search.on_epoch(name, report(epoch, value))
        if goes_on and epoch == job.config["train"]["epochs"]:
            search.on_end(name, "finished")


@pytest.mark.parametrize("within", ["cell", "sweep"])
@pytest.mark.parametrize("workers", [1, 3, 8])
@pytest.mark.parametrize("rule", list(RULES))
def test_every_cell_ends_with_a_champion_and_nothing_is_left_open(
    tmp_path: Path, rule: str, workers: int, within: str
) -> None:
    cells = [make_cell("a/b", 9), make_cell("c/b", 1), make_cell("d/b", 3)]
    search = make_search(tmp_path, spec_of(rule, within), cells)
    assert at_once(search, workers, seed=1) <= workers
    for cell in cells:
        assert len(search.state.of_cell(cell.name)) == cell.budget
        champion = search.state.configs[search.state.champions[cell.name]]
        assert champion.status(SLOTS) == "finished"
    trials = search.state.trials.values()
    assert {t.status for t in trials} <= {"finished", "stopped"}
    assert not any(t.parked for t in trials)
    ends = Counter(e["trial_id"] for e in book(search).events if e["event"] == "end")
    revived = {name for name in ends if search.state.configs[name[:12]].revived}
    assert all(count == 1 or (name in revived and count == 2) for name, count in ends.items())
    for trial in trials:  # no epoch is run twice or left out
        assert sorted(trial.values) == list(range(1, len(trial.values) + 1))


@pytest.mark.parametrize("limit", [3, 11, 25, 40])
@pytest.mark.parametrize("rule", [name for name in RULES if name != "none"])
def test_after_a_crash_every_rule_decides_as_without_one(
    tmp_path: Path, rule: str, limit: int
) -> None:
    places = [tmp_path / "whole", tmp_path / "parts"]
    for place in places:
        place.mkdir()
    spec, cells = spec_of(rule), [make_cell("a/b", 7), make_cell("c/b", 4)]
    whole = make_search(places[0], spec, cells)
    run(whole)
    first = make_search(places[1], spec, cells)
    run(first, limit=limit)
    book(first).close()
    second = make_search(places[1], spec, cells)
    run(second)

    def facts(search: Search) -> Any:
        ends = {n: (t.status, t.stopped_by, t.rungs) for n, t in search.state.trials.items()}
        return ends, search.state.champions, list(search.state.configs)

    assert facts(second) == facts(whole)


@pytest.mark.parametrize("rule", PARKING)
def test_a_trial_waits_at_its_rung_and_goes_on_from_there(tmp_path: Path, rule: str) -> None:
    search = make_search(tmp_path, spec_of(rule), [make_cell("a/b", 8)])
    run(search)
    events = book(search).events
    parked = [e["trial_id"] for e in events if e["event"] == "rung" and e["parked"]]
    promoted = [e["trial_id"] for e in events if e["event"] == "promote"]
    assert promoted
    assert set(promoted) < set(parked)
    starts = Counter(e["trial_id"] for e in events if e["event"] == "start")
    again = Counter(promoted)
    again.update(name for name in set(parked) if search.state.configs[name[:12]].revived)
    assert all(starts[name] == 1 + again[name] for name in parked)
    left = [search.state.trials[name] for name in set(parked) - set(promoted)]
    assert all((t.status, t.stopped_by) == ("stopped", "rung") for t in left)


@pytest.mark.parametrize("rule", PARKING)
def test_proposals_profit_from_trials_that_wait(tmp_path: Path, rule: str) -> None:
    spec = spec_of(rule, folds={"k": 2, "run": 1}, method="bayes")
    search = make_search(tmp_path, spec, [make_cell("a/b", 24)])
    run(search)
    rates = [float(c.params["train.lr"]) for c in search.state.of_cell("a/b")]
    away = [abs(rate - 0.7) for rate in rates]
    assert sum(away[10:]) / 14 < 0.6 * sum(away[:10]) / 10  # ten were drawn at random


def test_trials_of_several_cells_are_promoted_at_the_same_time(tmp_path: Path) -> None:
    search = make_search(tmp_path, spec_of("halving"), [make_cell("a/b", 8), make_cell("c/b", 8)])
    assert at_once(search, 16, seed=0) == 16
    at_first = [e for e in book(search).events if e.get("epoch") == 1 and e.get("keep")]
    assert len(at_first) == 8  # half of each cell


def test_the_race_looks_at_the_folds_that_are_asked_for(tmp_path: Path) -> None:
    """A later launch may run fewer folds than an earlier one has finished."""
    changes: dict[str, Any] = {"early_stopping": {"type": "none"}, "race": {"rule": "predictive"}}

    def search(budget: int, count: int) -> Search:
        spec = make_spec(folds={"k": 10, "run": count}, **changes)
        return make_search(tmp_path, spec, [make_cell(budget=budget)])

    def finish(own: Search, job: Job) -> None:
        for epoch in range(1, 10):
            own.on_epoch(job.trial_id, report(epoch, bowl(job.config, job.fold, epoch)))
        own.on_end(job.trial_id, "finished")

    run(search(1, 10))
    wide = search(2, 10)
    first = wide.next()
    assert first is not None
    finish(wide, first)
    for job in [wide.next() for _ in range(9)]:
        assert job is not None
        if job.fold >= 3:  # folds 1 and 2 are cut off
            finish(wide, job)
    narrow = search(2, 3)
    before = len(book(narrow).events)
    run(narrow)  # two of its three folds are finished, and seven others
    news = book(narrow).events[before:]
    assert all(event["looks"] <= 3 for event in news if event["event"] == "race")
    assert narrow.state.configs[first.config_id].status(narrow.slots) == "finished"
