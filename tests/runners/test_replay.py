"""Replay: the rules that a sweep would use, over curves whose truth is known."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from segsweep import rundir
from segsweep.cli import app
from segsweep.errors import DataError
from segsweep.launching import launch
from segsweep.runners.recorded import Curves, build, read_csv, read_run
from segsweep.runners.replay import Rule, replay, rules, true_scores
from tests.helpers import tiny, write_sweep

NEVER = Rule("none", {"type": "none"}, {"rule": "none"})
ASHA = Rule("asha", {"type": "asha", "grace_period": 1, "reduction_factor": 2}, {"rule": "none"})
PROMOTE = Rule("promote", {**ASHA.early_stopping, "type": "asha_promote"}, {"rule": "none"})
HALVING = Rule("halving", {**ASHA.early_stopping, "type": "halving"}, {"rule": "none"})
RACE = Rule("race", {"type": "none"}, {"rule": "predictive"})


def recorded(configs: int = 20, folds: int = 3, epochs: int = 8, crossing: bool = False) -> Curves:
    rng = np.random.default_rng(0)
    rows = []
    for cell in ("a", "b"):
        for number in range(configs):
            top = rng.uniform(0.5, 0.9)
            for fold in range(folds):
                for epoch in range(1, epochs + 1):
                    value = top * (1 - 0.5**epoch) + 0.01 * fold
                    if crossing and epoch <= 2:
                        value = 0.4 * (1 - top)  # the worst lead at first
                    rows.append((cell, f"{cell}{number}", fold, epoch, value))
    return build(rows, "made")


def test_the_exhaustive_rule_uses_everything_and_errs_never() -> None:
    score = replay(recorded(), NEVER, goal="maximize", orders=5)
    assert (score.share_of_epochs, score.regret, score.rank, score.rank_p90) == (1.0, 0.0, 1.0, 1.0)


@pytest.mark.parametrize("rule", [ASHA, PROMOTE, HALVING, RACE], ids=lambda rule: rule.name)
def test_a_rule_saves_epochs_on_curves_that_do_not_cross(rule: Rule) -> None:
    score = replay(recorded(), rule, goal="maximize", orders=10)
    assert score.share_of_epochs < 0.75
    assert score.regret == pytest.approx(0.0, abs=1e-9)


def test_promoting_pays_for_fewer_epochs_than_stopping_and_halving_for_the_fewest() -> None:
    curves = recorded(configs=40, folds=1, epochs=16)
    shares = [
        replay(curves, rule, goal="maximize", orders=10).share_of_epochs
        for rule in (ASHA, PROMOTE, HALVING)
    ]
    assert shares[0] > 1.2 * shares[1] > 1.1 * 1.2 * shares[2]
    # 40, 20, 10, 5 and 2 configs come to epochs 1, 2, 4, 8 and 16, or few more
    exact = (40 + 20 + 10 * 2 + 5 * 4 + 2 * 8) / (40 * 16)
    assert exact <= shares[2] < 1.05 * exact


def test_crossing_curves_cost_regret() -> None:
    score = replay(recorded(crossing=True), ASHA, goal="maximize", orders=10)
    assert score.regret > 0.01
    assert score.rank > 1


def test_where_lower_is_better() -> None:
    curves = recorded()
    mirrored = {
        cell: {c: {f: [-v for v in curve] for f, curve in by.items()} for c, by in configs.items()}
        for cell, configs in curves.items()
    }
    a = replay(curves, ASHA, goal="maximize", orders=5)
    b = replay(mirrored, ASHA, goal="minimize", orders=5)
    assert a.as_dict() == pytest.approx(b.as_dict())


def test_the_truth_is_the_mean_over_folds_of_the_best_epoch() -> None:
    curves: Curves = {"a": {"x": {0: [0.1, 0.5, 0.3], 1: [0.2, 0.1, 0.7]}}}
    assert true_scores(curves, "maximize") == {("a", "x"): pytest.approx(0.6)}


def test_names_of_configs_that_come_up_in_every_cell_are_kept_apart() -> None:
    alone = recorded(configs=6)
    shared = {
        cell: {name[1:]: by for name, by in configs.items()} for cell, configs in alone.items()
    }
    assert set(shared["a"]) == set(shared["b"])
    assert len(true_scores(shared, "maximize")) == 12
    for rule in (NEVER, ASHA):
        a, b = (replay(one, rule, goal="maximize", orders=4) for one in (alone, shared))
        assert a.as_dict() == b.as_dict()


def test_folds_may_have_any_numbers(tmp_path: Path) -> None:
    rows: list[tuple[object, ...]] = [("a", c, f, 1, 0.5 + f) for c in "xy" for f in (1, 2, 5)]
    curves = read_csv(write(tmp_path / "c.csv", rows))
    assert curves["a"]["x"] == {0: [1.5], 1: [2.5], 2: [5.5]}
    assert replay(curves, RACE, goal="maximize", orders=2).share_of_epochs == 1.0


def write(
    path: Path, rows: list[tuple[object, ...]], header: str = "cell,config,fold,epoch,metric"
) -> Path:
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([header.split(","), *rows])
    return path


def test_a_csv_file_is_read(tmp_path: Path) -> None:
    rows: list[tuple[object, ...]] = [("a", "x", f, e, 0.1 * e) for f in (0, 1) for e in (2, 1, 3)]
    assert read_csv(write(tmp_path / "c.csv", rows)) == {
        "a": {"x": {fold: pytest.approx([0.1, 0.2, 0.3]) for fold in (0, 1)}}
    }


@pytest.mark.parametrize(
    ("rows", "header", "words"),
    [
        ([("a", "x", 0, 1, "high")], "cell,config,fold,epoch,metric", "c.csv:2"),
        ([("a", "x", 0, 1)], "cell,config,fold,epoch", "no column metric"),
        ([], "cell,config,fold,epoch,metric", "no finished curve"),
        ([("a", "x", 0, 2, 0.5)], "cell,config,fold,epoch,metric", "epochs are not"),
        ([("a", "x", 0, 1, "nan")], "cell,config,fold,epoch,metric", "not a finite number"),
        ([("a", "x", 0, 1, 0.5)] * 2, "cell,config,fold,epoch,metric", "epoch 1 stands twice"),
        (
            [("a", "x", 0, 1, 0.5), ("a", "y", 1, 1, 0.5), ("a", "x", 1, 1, 0.5)],
            "cell,config,fold,epoch,metric",
            "y of a has no fold",
        ),
    ],
)
def test_a_csv_file_that_cannot_be_used_says_why(
    tmp_path: Path, rows: list[tuple[object, ...]], header: str, words: str
) -> None:
    with pytest.raises(DataError, match=words):
        read_csv(write(tmp_path / "c.csv", rows, header))


def test_the_command_replays_a_run_and_refuses_one_that_was_cut_short(tmp_path: Path) -> None:
    changes = {"configs_per_cell": 4, "factors__loss": ["bce"], "train__epochs": 4}
    path = write_sweep(tmp_path, tiny(**changes))
    launch(path, runner="inline")
    done = CliRunner().invoke(app, ["replay", str(path), "--orders", "3", "--json"])
    assert done.exit_code == 0, done.output
    found = {row["rule"]: row for row in json.loads(done.stdout)["rules"]}
    assert set(found) == {rule.name for rule in rules(4, 2)}
    assert found["none"]["share_of_epochs"] == 1.0
    assert found["none"]["regret"] == 0.0
    assert found["asha 1/2"]["share_of_epochs"] < 1.0
    shown = CliRunner().invoke(app, ["replay", str(path), "--orders", "2"])
    assert "asha 1/2 + race" in shown.output

    stopping = {"early_stopping": {"grace_period": 1, "reduction_factor": 2}}
    path = write_sweep(tmp_path, tiny(name="cut", **changes, **stopping))
    launch(path, runner="inline")
    refused = CliRunner().invoke(app, ["replay", str(path)])
    assert refused.exit_code == 2
    assert "cut short by a rule" in refused.output


def test_a_run_is_read_from_its_ledger_whatever_became_of_its_parquet_files(tmp_path: Path) -> None:
    path = write_sweep(tmp_path, tiny())
    folder = launch(path, runner="inline").run_directory
    before = read_run(rundir.load(folder))
    epochs = pq.read_table(folder / "results" / "epochs.parquet")
    pq.write_table(epochs.slice(0, 3), folder / "results" / "epochs.parquet")
    assert read_run(rundir.load(folder)) == before
    (folder / "results" / "trials.parquet").unlink()
    assert read_run(rundir.load(folder)) == before
    assert before[1] == []


def test_a_config_without_a_whole_curve_is_left_out_and_named(tmp_path: Path) -> None:
    path = write_sweep(tmp_path, tiny(configs_per_cell=3))
    run = rundir.load(launch(path, runner="inline").run_directory)
    first, second, *_ = dict.fromkeys(e["config_id"] for e in run.events if "config_id" in e)
    events = []
    for event in run.events:
        if event["event"] == "end" and event["trial_id"] == f"{first}-f1":
            event = {**event, "status": "diverged"}
        if event["event"] == "epoch" and event["trial_id"] == f"{second}-f1":
            event = {**event, "val_iou": None}
        events.append(event)
    curves, notes = read_run(replace(run, events=events))
    assert sum(len(configs) for configs in curves.values()) == 4
    assert "2 of 6 configs are left out" in notes[0]
    assert f"{first} of" in notes[0]
    assert "(diverged)" in notes[0]
    assert "val/iou is undefined on fold 1" in notes[0]
    bad = [{**e, "val_iou": None} if e["event"] == "epoch" else e for e in events]
    with pytest.raises(DataError, match="undefined on fold 0") as caught:
        read_run(replace(run, events=bad))
    assert "--retry failed" in caught.value.problems[0].hint


def test_a_run_that_the_race_has_cut_short_is_refused(tmp_path: Path) -> None:
    run = rundir.load(launch(write_sweep(tmp_path, tiny()), runner="inline").run_directory)
    first = next(e["config_id"] for e in run.events if e["event"] == "config")
    gone = [e for e in run.events if e.get("trial_id") != f"{first}-f1"]
    gone.append({"event": "race", "config_id": first, "looks": 1, "keep": False})
    with pytest.raises(DataError, match="1 configs were cut short by a rule"):
        read_run(replace(run, events=gone))
