"""The race on simulated sweeps whose truth is known: rarely unjust, and worth its while."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats

from segsweep.noise import Noise, overlap
from segsweep.search.race import Race, probability
from segsweep.search.standings import Residuals
from tests.search.simulate import book, bowl, make_cell, make_search, make_spec, run

FOLDS, P = 5, 0.05


def scores(
    rng: np.random.Generator, folds: np.ndarray, mean: float, seed: float, images: int
) -> Any:
    """One config: true mean, fold difficulty, seed noise, and what so many images leave of it."""
    per_image = 0.05 * (seed > 0)  # another seed errs on other images
    sampling = per_image / np.sqrt(images / FOLDS)
    values = mean + folds + rng.normal(0, seed, FOLDS) + rng.normal(0, sampling, FOLDS)
    return {(fold, 0): float(value) for fold, value in enumerate(values)}


def race(
    rng: np.random.Generator, means: list[float], seed: float, images: int, rule: Any = "predictive"
) -> tuple[list[bool], int]:
    """Run configs of the given true means one after the other; who was dropped, trials run."""
    folds = rng.normal(0, 0.03, FOLDS)
    judge, left = Race(rule, P, FOLDS, shared=overlap(FOLDS)), Residuals(FOLDS)
    cell: dict[str, dict[tuple[int, int], float]] = {}
    dropped, trials = [], 0
    for number, mean in enumerate(means):
        whole = scores(rng, folds, mean, seed, images)
        name, out = str(number), False
        cell[name] = {}
        for slot, value in whole.items():
            cell[name][slot] = value
            trials += 1
            left.take("cell", name, [s[0] for s in cell[name]], list(cell[name].values()))
            finished = {k: v for k, v in cell.items() if len(v) == FOLDS and k != name}
            if not finished or len(cell[name]) == FOLDS:
                continue
            best = max(finished.values(), key=lambda v: float(np.mean(list(v.values()))))
            verdict = judge.judge(cell[name], best, number + 1, left.noise("cell"))
            if not verdict.keep:
                out = True
                break
        dropped.append(out)
    return dropped, trials


@pytest.mark.parametrize("images", [30, 260])
@pytest.mark.parametrize("seed", [0.0, 0.01, 0.03])
def test_a_config_as_good_as_the_incumbent_is_dropped_at_most_at_p(
    seed: float, images: int
) -> None:
    rng = np.random.default_rng(int(1000 * seed) + images)
    found = [race(rng, [0.8] * 8, seed, images)[0][1:] for _ in range(80)]
    drops, looked = int(np.sum(found)), int(np.size(found))
    # one-sided: fails where a rate of p is refuted at the 1 % level
    assert stats.binomtest(drops, looked, P, alternative="greater").pvalue > 0.01


def test_a_much_worse_config_is_dropped_soon() -> None:
    rng = np.random.default_rng(0)
    outcomes = [race(rng, [0.8, 0.79, 0.8, 0.6, 0.6, 0.6], 0.01, 260) for _ in range(20)]
    worse = [dropped[3:] for dropped, _ in outcomes]
    assert np.mean(worse) > 0.9
    assert np.mean([trials for _, trials in outcomes]) < 6 * FOLDS * 0.8


def test_without_any_noise_every_worse_config_is_dropped_at_once() -> None:
    rng = np.random.default_rng(0)
    dropped, trials = race(rng, [0.8, 0.79, 0.81, 0.5], 0.0, 30)
    assert dropped[2] is False
    assert dropped[3] is True
    assert trials < 4 * FOLDS


def test_the_probability_is_what_simulation_says() -> None:
    """Draw the null hypothesis itself and count."""
    rng = np.random.default_rng(1)
    tried, looks, gap, sigma = 6, 2, -0.02, 0.01
    noises = rng.normal(0, sigma, (100_000, tried, FOLDS))
    best = noises[np.arange(100_000), noises.mean(axis=2).argmax(axis=1)]
    config = rng.normal(0, sigma, (100_000, looks))
    gaps = config.mean(axis=1) - best[:, :looks].mean(axis=1)
    counted = float((gaps <= gap).mean())
    exact = probability(gap, looks, FOLDS, tried, Noise(sigma, 10_000))
    assert exact == pytest.approx(counted, abs=0.01)


def test_noise_is_the_residual_of_config_and_fold() -> None:
    rng = np.random.default_rng(2)
    folds = rng.normal(0, 0.2, FOLDS)
    cell = {str(i): scores(rng, folds, rng.normal(0.7, 0.1), 0.02, 10**9) for i in range(60)}
    left = Residuals(FOLDS)
    for name, own in cell.items():
        left.take("a", name, [s[0] for s in own], list(own.values()))
    estimate = left.noise("a")
    assert estimate is not None
    assert estimate.dof == 59 * 4
    assert estimate.sigma == pytest.approx(0.02, rel=0.15)
    left.take("b", "0", list(range(FOLDS)), list(cell["0"].values()))
    assert left.noise("b") is None  # one config says nothing of its cell, and others do not either
    assert left.noise("a") == estimate


def test_the_forgiving_rule_drops_below_the_incumbents_worst_fold() -> None:
    rule = Race("forgiving", P, FOLDS)
    incumbent = {(fold, 0): 0.8 - 0.01 * fold for fold in range(FOLDS)}
    assert rule.judge({(0, 0): 0.765}, incumbent, 9, None).keep
    assert not rule.judge({(0, 0): 0.755}, incumbent, 9, None).keep
    lower = Race("forgiving", P, FOLDS, maximize=False)
    assert not lower.judge({(0, 0): 0.9}, incumbent, 9, None).keep


def noisy(config: Mapping[str, Any], fold: int, epoch: int) -> float:
    rng = np.random.default_rng([fold, int(float(config["train"]["lr"]) * 1e9)])
    return bowl(config, fold, epoch) + float(rng.normal(0, 0.005))


@pytest.mark.parametrize("rule", ["predictive", "forgiving"])
def test_a_search_drops_configs_and_says_why(tmp_path: Path, rule: str) -> None:
    spec = make_spec(race={"rule": rule}, early_stopping={"type": "none"}, folds={"k": 5})
    search = make_search(tmp_path, spec, [make_cell(budget=12)])
    jobs = run(search, noisy)
    looks = [event for event in search.ledger.events if event["event"] == "race"]
    dropped = {event["config_id"] for event in looks if not event["keep"]}
    assert dropped
    assert len(jobs) < 12 * 5
    for event in looks:
        assert (event["probability"] is None) == (rule == "forgiving" or event["sigma"] is None)
    states = [search.state.configs[name].status(spec.slots) for name in dropped]
    assert set(states) == {"stopped"}
    assert search.state.champions["a/b"] not in dropped


@pytest.mark.parametrize("limit", [30, 70, 100, 120])
def test_after_a_crash_the_race_goes_as_without_one(tmp_path: Path, limit: int) -> None:
    spec = make_spec(race={"rule": "predictive"}, early_stopping={"type": "none"}, folds={"k": 4})
    found = []
    for place, stops in (("whole", None), ("parts", limit)):
        (tmp_path / place).mkdir()
        search = make_search(tmp_path / place, spec, [make_cell(budget=8)])
        run(search, noisy, limit=stops)
        if stops is not None:
            book(search).close()
            search = make_search(tmp_path / place, spec, [make_cell(budget=8)])
            run(search, noisy)
        races = [e for e in search.ledger.events if e["event"] == "race"]
        found.append([(e["config_id"], e["looks"], e["keep"], e["probability"]) for e in races])
    assert found[0] == found[1]


def test_replicates_repeat_each_fold_with_another_seed(tmp_path: Path) -> None:
    spec = make_spec(replicates=2, early_stopping={"type": "none"})
    search = make_search(tmp_path, spec, [make_cell(budget=2)])
    jobs = run(search, noisy)
    order = [(job.fold, job.replicate) for job in jobs if job.config_id == jobs[0].config_id]
    assert order == [(0, 0), (1, 0), (2, 0), (0, 1), (1, 1), (2, 1)]
    assert len({job.trial_id for job in jobs}) == 12
