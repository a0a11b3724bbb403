"""The ranking against numbers worked out by hand."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from segsweep.compare import rank, table
from segsweep.compare.ranking import undefined, unscored
from segsweep.ledger import Event
from segsweep.state import SearchState
from tests.search.simulate import make_spec

FOLDS = {"good": [0.8, 0.9, 0.7], "poor": [0.5, 0.6, 0.4], "unfinished": [0.95]}


def history(goal: str = "maximize") -> list[Event]:
    events: list[Event] = []
    sign = 1 if goal == "maximize" else -1
    for name, values in FOLDS.items():
        config = {"train": {"epochs": 2}, "model": {"name": "m"}}
        events.append(
            {"event": "config", "config_id": name, "cell": f"{name}/bce", "number": 0,
             "params": {"train.lr": 0.1}, "draws": {}, "levels": {"loss": "bce"}, "config": config}
        )  # fmt: skip
        for fold, value in enumerate(values):
            trial = f"{name}-f{fold}"
            events.append(
                {"event": "start", "trial_id": trial, "config_id": name, "fold": fold,
                 "replicate": 0, "attempt": 1}
            )  # fmt: skip
            for epoch, part in ((1, value), (2, value - 0.3)):
                events.append(
                    {"event": "epoch", "trial_id": trial, "epoch": epoch, "val_iou": sign * part,
                     "val_loss": sign * part}
                )  # fmt: skip
            events.append({"event": "end", "trial_id": trial, "status": "finished"})
    events.append({"event": "holdout", "trial_id": "good-f0", "holdout_iou": 0.6})
    events.append({"event": "holdout", "trial_id": "good-f1", "holdout_iou": 0.8})
    events.append({"event": "holdout", "trial_id": "good-f2", "holdout_iou": 0.7})
    return events


def test_mean_spread_and_holdout_of_the_best_epochs() -> None:
    good, poor, unfinished = rank(make_spec(), history())
    assert (good.cell, good.final, good.folds) == ("good/bce", True, 3)
    assert (good.mean, good.std) == pytest.approx((0.8, 0.1))
    assert (good.holdout, good.holdout_std) == pytest.approx((0.7, 0.1))
    assert poor.mean == pytest.approx(0.5)
    # a higher mean over fewer folds does not pretend to lead
    assert (unfinished.final, unfinished.folds, unfinished.std) == (False, 1, None)
    assert unfinished.mean == pytest.approx(0.95)


def without_a_score(trial: str) -> list[Event]:
    return [
        {**e, "val_iou": None} if e["event"] == "epoch" and e["trial_id"] == trial else e
        for e in history()
    ]


def test_a_mean_over_the_folds_that_have_a_score_is_not_final() -> None:
    spec, events = make_spec(), without_a_score("good-f1")
    rows = {row.cell: row for row in rank(spec, events)}
    assert (rows["good/bce"].final, rows["good/bce"].folds) == (False, 2)
    assert rank(spec, events)[0].cell == "poor/bce"
    told = undefined(spec, SearchState("val_iou", events))
    assert told is not None
    assert told.startswith("val/iou is undefined on fold 1 (the class does not occur in the truth")
    assert undefined(spec, SearchState("val_iou", history())) is None
    assert unscored(spec, SearchState("val_iou", events)) == 1


@pytest.mark.parametrize(
    ("metric", "why"),
    [
        ("precision", "the class does not occur in the truth"),
        ("recall", "the class does not occur in the truth"),
        ("auroc", "there are not pixels of both classes"),
        ("iou_road", "the class does not occur in the truth"),
        ("miou", "not one pixel is labelled"),
    ],
)
def test_why_a_metric_is_undefined(metric: str, why: str) -> None:
    name = f"val_{metric}"
    events = [
        {**{k: v for k, v in e.items() if k != "val_iou"}, name: e["val_iou"]}
        if "val_iou" in e
        else e
        for e in without_a_score("good-f1")
    ]
    spec = make_spec(metric={"name": f"val/{metric}", "goal": "maximize"})
    assert f"({why})" in (undefined(spec, SearchState(name, events)) or "")


def test_a_holdout_mean_needs_every_model() -> None:
    events = [e for e in history() if e.get("holdout_iou") != 0.8]
    assert rank(make_spec(), events)[0].holdout is None
    events = [{**e, "holdout_iou": None} if e.get("holdout_iou") == 0.8 else e for e in history()]
    assert rank(make_spec(), events)[0].holdout is None


def test_one_fold_is_no_folds() -> None:
    console = Console(width=120, record=True, file=io.StringIO())
    spec = make_spec(folds={"k": 3, "run": 1})
    console.print(table(spec, rank(spec, history())))
    assert "1 fold " in console.export_text()


def test_where_lower_is_better() -> None:
    spec = make_spec(metric={"name": "val/loss", "goal": "minimize"})
    rows = rank(spec, history("minimize"))
    assert [row.cell for row in rows] == ["good/bce", "poor/bce", "unfinished/bce"]
    assert rows[0].mean == pytest.approx(-0.8)


def test_the_table_marks_what_is_not_final() -> None:
    console = Console(width=120, record=True, file=io.StringIO())
    console.print(table(make_spec(), rank(make_spec(), history())))
    text = console.export_text()
    assert "0.8000 ± 0.1000" in text
    assert "(1/3 folds)" in text


def test_a_ledger_with_a_missing_line_is_refused() -> None:
    from segsweep.errors import RunError

    for kind in ("config", "start"):
        events = history()
        events.remove(next(event for event in events if event["event"] == kind))
        with pytest.raises(RunError, match="not there"):
            rank(make_spec(), events)


def test_nothing_finished_gives_no_rows() -> None:
    assert rank(make_spec(), []) == []


@pytest.mark.parametrize("how", ["path", "name", "file"])
def test_a_run_is_found_in_three_ways(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    from segsweep import rundir
    from tests.helpers import tiny, write_sweep

    monkeypatch.chdir(tmp_path)
    data: dict[str, Any] = {**tiny(), "storage_path": "runs"}
    path = write_sweep(tmp_path, data)
    place = tmp_path / "runs" / "tiny"
    (place / "ledger").mkdir(parents=True)
    (place / "ledger" / "events.jsonl").write_text("")
    given = {"path": str(place), "name": "tiny", "file": str(path)}[how]
    assert rundir.find(given).resolve() == place
