"""Which trials run, which stop, who wins: against the rules, on simulated curves."""

from __future__ import annotations

import json
import pickle
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import optuna
import pytest

from segsweep.search import Search
from segsweep.search.sampler import CellSampler
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

WHOLE: dict[str, Any] = {"min": 0.0, "max": 1.0}


def test_every_cell_gets_the_same_budget_round_robin(tmp_path: Path) -> None:
    spec = make_spec(early_stopping={"type": "none"})
    search = make_search(tmp_path, spec, [make_cell("a/b", 4), make_cell("c/b", 4)])
    jobs = run(search)
    assert len(jobs) == 2 * 4 * 3
    order = [e["cell"] for e in search.ledger.events if e["event"] == "config"]
    assert order == ["a/b", "c/b"] * 4


def test_a_config_runs_fold_0_first_then_the_others(tmp_path: Path) -> None:
    search = make_search(tmp_path, make_spec(early_stopping={"type": "none"}), [make_cell()])
    folds: dict[str, list[int]] = {}
    for job in run(search):
        folds.setdefault(job.config_id, []).append(job.fold)
    assert all(order == [0, 1, 2] for order in folds.values())


def test_folds_of_a_survivor_run_side_by_side(tmp_path: Path) -> None:
    search = make_search(tmp_path, make_spec(early_stopping={"type": "none"}), [make_cell()])
    first = search.next()
    assert first is not None
    for epoch in range(1, 10):
        search.on_epoch(first.trial_id, report(epoch, 0.5))
    search.on_end(first.trial_id, "finished")
    second, third = search.next(), search.next()
    assert second is not None
    assert third is not None
    assert [(j.config_id, j.fold) for j in (second, third)] == [
        (first.config_id, 1),
        (first.config_id, 2),
    ]


def test_rungs_act_on_fold_0_only_and_not_before_enough_peers(tmp_path: Path) -> None:
    search = make_search(tmp_path, make_spec(), [make_cell(budget=12)])
    run(search)
    rungs = [event for event in search.ledger.events if event["event"] == "rung"]
    assert rungs
    assert all(event["trial_id"].endswith("-f0") for event in rungs)
    assert all(event["keep"] for event in rungs if event["peers"] < 3)
    assert any(not event["keep"] for event in rungs)


def test_a_stopped_config_has_no_further_fold(tmp_path: Path) -> None:
    search = make_search(tmp_path, make_spec(), [make_cell(budget=12)])
    run(search)
    stopped = [c for c in search.state.configs.values() if c.status(SLOTS) == "stopped"]
    assert stopped
    assert all(list(config.trials) == [(0, 0)] for config in stopped)
    assert all(config.trials[0, 0].stopped_by == "rung" for config in stopped)


def test_the_champion_is_the_best_config_of_all_folds(tmp_path: Path) -> None:
    search = make_search(tmp_path, make_spec(early_stopping={"type": "none"}), [make_cell()])
    run(search)
    champion = search.state.configs[search.state.champions["a/b"]]
    best = min(search.state.configs.values(), key=lambda c: abs(c.params["train.lr"] - 0.7))
    assert champion is best


def test_compared_within_the_sweep_a_weak_cell_still_ends_with_a_champion(tmp_path: Path) -> None:
    def unequal(config: Mapping[str, Any], fold: int, epoch: int) -> float:
        return bowl(config, fold, epoch) - (0.5 if config["model"]["name"] == "weak" else 0)

    stopping = {"grace_period": 1, "reduction_factor": 2, "compare_within": "sweep"}
    cells = [make_cell("a/b", 6), make_cell("c/b", 6), make_cell("weak/b", 6)]
    search = make_search(tmp_path, make_spec(early_stopping=stopping), cells)
    run(search, unequal)
    weak = search.state.of_cell("weak/b")
    assert [config.revived for config in weak].count(True) == 1
    champion = search.state.configs[search.state.champions["weak/b"]]
    assert champion.revived
    assert champion.status(SLOTS) == "finished"
    rivals = [config.trials[0, 0].values[1] for config in weak]
    assert champion.trials[0, 0].values[1] == max(v for v in rivals if v is not None)


def test_revive_when_every_full_config_failed(tmp_path: Path) -> None:
    calls: list[float] = []

    def curve(config: Mapping[str, Any], fold: int, epoch: int) -> float | str:
        rate = float(config["train"]["lr"])
        if rate not in calls:
            calls.append(rate)
        place = calls.index(rate)
        if place < 2 and fold == 1:
            return "failed"
        return 0.9 - 0.1 * place  # later configs are worse: rungs stop them

    spec = make_spec(early_stopping={"grace_period": 1, "reduction_factor": 2})
    search = make_search(tmp_path, spec, [make_cell(budget=4)])
    run(search, curve)
    revived = [event for event in search.ledger.events if event["event"] == "revive"]
    assert len(revived) == 1
    champion = search.state.champions["a/b"]
    assert champion == revived[0]["config_id"]
    assert search.state.configs[champion].status(SLOTS) == "finished"


@pytest.mark.parametrize("status", ["diverged", "failed", "out_of_memory"])
def test_a_trial_that_ends_badly_ends_its_config_and_never_wins(
    tmp_path: Path, status: str
) -> None:
    def curve(config: Mapping[str, Any], fold: int, epoch: int) -> float | str:
        good = config["train"]["lr"] > 0.5
        return status if good and fold == 1 and epoch == 2 else bowl(config, fold, epoch)

    search = make_search(tmp_path, make_spec(early_stopping={"type": "none"}), [make_cell()])
    run(search, curve)
    champion = search.state.configs[search.state.champions["a/b"]]
    assert champion.params["train.lr"] <= 0.5
    bad = [c for c in search.state.configs.values() if c.params["train.lr"] > 0.5]
    assert bad
    assert all(config.status(SLOTS) == status for config in bad)
    assert all((2, 0) not in config.trials for config in bad)


@pytest.mark.parametrize("method", ["bayes", "random"])
def test_a_budget_as_large_as_the_space_draws_all_of_it(tmp_path: Path, method: str) -> None:
    numbers = {"distribution": "int_uniform", "min": 1, "max": 20}
    cell = make_cell(budget=60, lr=numbers, wd={"values": [1, 2, 3]})
    search = make_search(
        tmp_path, make_spec(early_stopping={"type": "asha"}, method=method), [cell]
    )
    run(search)
    drawn = {tuple(c.params.values()) for c in search.state.configs.values()}
    assert len(drawn) == 60


def test_no_config_is_drawn_twice_and_a_small_space_ends_early(tmp_path: Path) -> None:
    cell = make_cell(budget=6, lr={"values": [1, 2, 3]}, wd={"values": [1, 2]})
    search = make_search(tmp_path, make_spec(early_stopping={"type": "none"}), [cell])
    run(search)
    drawn = [tuple(c.params.values()) for c in search.state.configs.values()]
    assert len(drawn) == len(set(drawn))
    assert len(drawn) == 6  # TPE likes to repeat itself


def test_a_grid_is_every_combination(tmp_path: Path) -> None:
    cell = make_cell(budget=6, lr={"values": [1, 2, 3]}, wd={"values": [4, 5]})
    search = make_search(
        tmp_path, make_spec(method="grid", early_stopping={"type": "none"}), [cell]
    )
    run(search)
    assert {tuple(c.params.values()) for c in search.state.configs.values()} == {
        (a, b) for a in (1, 2, 3) for b in (4, 5)
    }


@pytest.mark.parametrize("sampler", ["tpe", "gp", "cmaes", "random"])
def test_samplers_by_name_draw_differently_and_reproducibly(tmp_path: Path, sampler: str) -> None:
    draws: dict[str, list[float]] = {}
    for place in (sampler, "again", "tpe"):
        (tmp_path / place).mkdir(exist_ok=True)
        name = "tpe" if place == "tpe" else sampler
        spec = make_spec(sampler=name, early_stopping={"type": "none"})
        search = make_search(tmp_path / place, spec, [make_cell(budget=10)])
        run(search)
        draws[place] = [c.params["train.lr"] for c in search.state.configs.values()]
    assert draws[sampler] == draws["again"]
    assert (draws[sampler] == draws["tpe"]) == (sampler == "tpe")
    if sampler in ("gp", "tpe"):  # after the random ones, they come nearer to the optimum at 0.7
        assert min(abs(x - 0.7) for x in draws[sampler][5:]) < 0.1


@pytest.mark.parametrize("sampler", ["tpe", "gp", "cmaes"])
def test_a_sampler_goes_on_after_a_crash_as_if_there_were_none(
    tmp_path: Path, sampler: str
) -> None:
    found = []
    budget, limit_at = (24, 360) if sampler == "cmaes" else (14, 60)  # CMA-ES has learnt by then
    for limit in (None, limit_at):
        place = tmp_path / str(limit)
        place.mkdir()
        spec = make_spec(sampler=sampler, early_stopping={"type": "none"}, folds={"k": 2})
        cell = make_cell(budget=budget, lr=WHOLE, momentum=WHOLE)
        search = make_search(place, spec, [cell])
        run(search, limit=limit)
        if limit is not None:
            book(search).close()
            search = make_search(place, spec, [cell])
            run(search)
        found.append([config.draws for config in search.state.configs.values()])
    assert found[0] == found[1]
    assert len(found[0]) == budget


class Harmful:
    """Leaves a file behind where it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


def test_no_pickle_is_in_the_ledger_nor_taken_from_it(tmp_path: Path) -> None:
    """Earlier versions kept CMA-ES' distribution there, as a pickle that Optuna loads."""
    spec = make_spec(sampler="cmaes", early_stopping={"type": "none"}, folds={"k": 2})
    cell = make_cell(budget=24, lr=WHOLE, momentum=WHOLE)
    search = make_search(tmp_path, spec, [cell])
    run(search, limit=18 * 20)
    book(search).close()
    ledger = tmp_path / "events.jsonl"
    lines = [json.loads(line) for line in ledger.read_text().splitlines()]
    assert "cma" not in ledger.read_text()
    trap = pickle.dumps(Harmful(tmp_path / "harm")).hex()
    for event in lines:
        if event["event"] == "config":
            event["memory"] = {"cma:optimizer:0": trap, "cma:generation": 1}
            event["draws"]["train.lr"] += 1e-6 * (event["number"] > 15)  # as of another Optuna
    ledger.write_text("".join(f"{json.dumps(event)}\n" for event in lines))
    search = make_search(tmp_path, spec, [cell])
    run(search)
    assert len(search.state.configs) == 24
    assert not (tmp_path / "harm").exists()


@pytest.mark.parametrize("seed", range(3))
def test_a_seed_near_the_largest_does_not_overflow(seed: int) -> None:
    sampler = CellSampler(make_cell(budget=40), "bayes", seed, "maximize")
    sampler.seed = 2**32 - 2
    sampler.observe([], [(0, 0)], "maximize")
    assert sampler.draw(12)


@pytest.mark.parametrize("rule", ["asha", "asha_promote", "halving", "hyperband", "median"])
def test_a_cell_whose_metric_is_undefined_at_first_has_a_champion(
    tmp_path: Path, rule: str
) -> None:
    """Such as precision, while nothing is predicted yet."""

    def late(config: Mapping[str, Any], fold: int, epoch: int) -> Any:
        return None if epoch == 1 else bowl(config, fold, epoch)

    search = make_search(tmp_path, make_spec(early_stopping={"type": rule}), [make_cell()])
    run(search, late)
    assert list(search.state.champions) == ["a/b"]


@pytest.mark.parametrize("method", ["bayes", "random"])
def test_the_same_seed_draws_the_same_configs(tmp_path: Path, method: str) -> None:
    found = []
    for place, seed in (("a", 0), ("b", 0), ("c", 1)):
        (tmp_path / place).mkdir()
        search = make_search(tmp_path / place, make_spec(method=method, seed=seed), [make_cell()])
        run(search)
        found.append(list(search.state.configs))
    assert found[0] == found[1]
    assert found[0] != found[2]


@pytest.mark.parametrize("method", ["bayes", "random"])
@pytest.mark.parametrize("limit", [1, 5, 9, 14, 40, 77])
def test_after_a_crash_every_decision_is_as_without_one(
    tmp_path: Path, method: str, limit: int
) -> None:
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    whole.mkdir()
    parts.mkdir()
    spec = make_spec(method=method)
    reference = make_search(whole, spec, [make_cell("a/b", 6), make_cell("c/b", 6)])
    run(reference)
    first = make_search(parts, spec, [make_cell("a/b", 6), make_cell("c/b", 6)])
    run(first, limit=limit)
    book(first).close()
    second = make_search(parts, spec, [make_cell("a/b", 6), make_cell("c/b", 6)], journal=True)
    run(second)
    assert list(second.state.configs) == list(reference.state.configs)
    assert second.state.champions == reference.state.champions
    ends = {name: (t.status, t.stopped_by) for name, t in reference.state.trials.items()}
    assert {n: (t.status, t.stopped_by) for n, t in second.state.trials.items()} == ends
    finished = Counter(e["trial_id"] for e in second.ledger.events if e["event"] == "end")
    assert set(finished.values()) == {1}


def test_optuna_is_told_the_truth(tmp_path: Path) -> None:
    def curve(config: Mapping[str, Any], fold: int, epoch: int) -> float | str:
        if config["train"]["lr"] < 0.1:
            return "failed"
        return "diverged" if config["train"]["lr"] > 0.9 else bowl(config, fold, epoch)

    spec = make_spec(method="random")
    search = make_search(tmp_path, spec, [make_cell(budget=40)], journal=True)
    run(search, curve)
    sampler = search.samplers["a/b"]
    assert isinstance(sampler, CellSampler)
    told = sampler.study.get_trials()
    states = optuna.trial.TrialState
    assert len(told) == 40
    seen = set()
    for config in search.state.configs.values():
        trial = told[sampler.numbers[config.config_id]]
        status = config.status(SLOTS)
        seen.add(status)
        assert trial.params["train.lr"] == config.params["train.lr"]
        if status == "finished":
            assert trial.state == states.COMPLETE
            assert trial.value == pytest.approx(config.mean(SLOTS, "maximize"))
        elif status == "stopped":
            assert trial.state == states.PRUNED
            assert trial.intermediate_values == config.trials[0, 0].values
        elif status == "diverged":
            assert trial.state == states.PRUNED
            assert trial.constraints == {"diverged": 1.0}  # infeasible
            assert trial.intermediate_values == {}
        else:
            assert trial.state == states.FAIL
    assert seen == {"finished", "stopped", "diverged", "failed"}


def beside(tmp_path: Path, status: str) -> Search:
    """Fold 2 of a config ends with ``status`` while fold 1 still runs; then the driver dies."""
    search = make_search(
        tmp_path, make_spec(early_stopping={"type": "none"}), [make_cell(budget=1)]
    )
    first = search.next()
    assert first is not None
    search.on_epoch(first.trial_id, report(1, 0.5))
    search.on_end(first.trial_id, "finished")
    second, third = search.next(), search.next()
    assert second is not None
    assert third is not None
    search.on_end(third.trial_id, status, "made to")  # type: ignore[arg-type]
    book(search).close()
    return make_search(tmp_path, search.spec, list(search.cells))


def test_a_trial_left_open_by_a_decided_config_is_closed(tmp_path: Path) -> None:
    search = beside(tmp_path, "diverged")
    assert run(search) == []
    (config,) = search.state.configs.values()
    assert config.trials[1, 0].status == "stopped"
    assert config.trials[1, 0].stopped_by == "config"
    assert config.status(SLOTS) == "diverged"  # what ended it, not what it took along


def test_a_failed_config_is_not_told_as_stopped_nor_revived(tmp_path: Path) -> None:
    search = beside(tmp_path, "failed")
    run(search)
    (config,) = search.state.configs.values()
    assert config.status(SLOTS) == "failed"
    assert not config.revived
    sampler = search.samplers["a/b"]
    assert isinstance(sampler, CellSampler)
    assert sampler.study.get_trials()[0].state == optuna.trial.TrialState.FAIL


def test_a_lost_worker_is_tried_again_a_limited_number_of_times(tmp_path: Path) -> None:
    search = make_search(tmp_path, make_spec(max_failures=2), [make_cell(budget=1)])
    attempts = []
    while (job := search.next()) is not None:
        attempts.append(job.attempt)
        search.on_lost(job.trial_id, "killed")
    assert attempts == [1, 2, 3]
    (trial,) = search.state.trials.values()
    assert (trial.status, trial.error) == ("failed", "killed")


def test_the_first_word_about_an_end_stands(tmp_path: Path) -> None:
    search = make_search(tmp_path, make_spec(), [make_cell(budget=1)])
    job = search.next()
    assert job is not None
    search.on_end(job.trial_id, "diverged")
    search.on_end(job.trial_id, "finished")
    search.on_lost(job.trial_id, "killed")
    assert not search.on_epoch(job.trial_id, report(1, 0.5))
    assert [e["event"] for e in search.ledger.events].count("end") == 1
    assert search.state.trials[job.trial_id].status == "diverged"
