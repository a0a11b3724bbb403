"""Epochs, batch size and model options that are searched: each config's own value counts."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from typer.testing import CliRunner

from segsweep import rundir, status
from segsweep.check import check
from segsweep.cli import app
from segsweep.compare import analyse
from segsweep.display import Display
from segsweep.launching import launch
from segsweep.plan import plan, variants
from segsweep.report.facts import gather
from segsweep.report.spent import bill
from segsweep.search.ladder import Ladder
from segsweep.space import Cell, Parameter, spread
from segsweep.state import SearchState
from segsweep.workload import Workload
from tests.helpers import tiny, write_sweep
from tests.search.simulate import book, make_cell, make_search, make_spec, run

ONE_TO_FOUR = {"values": [1, 2, 3, 4]}


def searched(epochs: int, **changes: Any) -> dict[str, Any]:
    """Four configs of 1, 2, 3 and 4 epochs, on two folds, whatever the file's epochs are."""
    return tiny(
        factors__loss=["bce"],
        parameters={"train.epochs": ONE_TO_FOUR},
        method="grid",
        configs_per_cell=None,
        train__epochs=epochs,
        dataset__images=6,
        dataset__image_size=[16, 16],
        calibration={"keep": "none"},
        **changes,
    )


def shares(lines: str) -> list[int]:
    return [int(line[1:4]) for line in lines.splitlines() if line.startswith("[")]


@pytest.mark.parametrize("given", [1, 100])
def test_a_launch_ends_at_100_percent_whatever_the_file_says(tmp_path: Path, given: int) -> None:
    out = io.StringIO()
    path = write_sweep(tmp_path, searched(given))
    ended = launch(path, runner="inline", console=Console(file=out, width=200))
    told = shares(out.getvalue())
    assert told == sorted(told)
    # of 2 x (1 + 2 + 3 + 4) epochs, fold 0 of each first
    assert told[-1] == 100
    assert len(told) == 8
    assert told[0] <= 20
    assert status.read(ended.run_directory).share == 1.0
    again = rundir.load(ended.run_directory)
    assert bill(gather(again)).planned == 20
    assert bill(gather(again)).saved == 0
    assert analyse([again]).importances.epoch == 4
    # nothing hangs on the file's number: another one is no other sweep
    assert launch(write_sweep(tmp_path, searched(7)), runner="inline").started == 0


def test_levels_of_a_factor_count_as_they_are(tmp_path: Path) -> None:
    data = tiny(factors__loss=["bce"], parameters=None, configs_per_cell=1, dataset__images=6)
    data["factors"]["train.epochs"] = [1, 3]
    out = io.StringIO()
    ended = launch(
        write_sweep(tmp_path, data), runner="inline", console=Console(file=out, width=200)
    )
    assert shares(out.getvalue())[-1] == 100
    (event,) = [e for e in rundir.load(ended.run_directory).events if e["event"] == "launch"]
    assert event["epochs"] == {
        "unet_vanilla(width=2)/bce/epochs=1": 1.0,
        "unet_vanilla(width=2)/bce/epochs=3": 3.0,
    }


def test_half_way_through_a_search_status_and_picture_say_the_same(tmp_path: Path) -> None:
    spec = make_spec(early_stopping={"type": "none"}, train={"epochs": 1})
    cells = [make_cell("a/b", 4, epochs=ONE_TO_FOUR, lr={"value": 0.5})]
    search = make_search(tmp_path, spec, cells)
    display = Display(Console(width=120), spec, cells, [])
    book(search).listen(display.on_event)
    run(search, limit=9)
    state = SearchState("val_iou", book(search).events)
    launched = [{"event": "launch", "cells": {"a/b": 4}, "epochs": {"a/b": 2.5}}]
    work = Workload.of_run(spec, launched, state)
    for config in state.configs.values():
        work.take(config)
    assert work.done == display.work.done == 9
    assert work.total == display.work.total
    # three folds of each: of those drawn their own epochs, of those to come the mean of 2.5
    drawn = [int(c.config["train"]["epochs"]) for c in state.configs.values()]
    assert work.total == 3 * (sum(drawn) + 2.5 * (4 - len(drawn)))


def test_the_ledger_of_an_older_launch_is_read_by_what_its_configs_say(tmp_path: Path) -> None:
    spec = make_spec(early_stopping={"type": "none"}, train={"epochs": 1})
    search = make_search(tmp_path, spec, [make_cell("a/b", 4)])
    run(search, limit=5)
    state = SearchState("val_iou", book(search).events)
    work = Workload.of_run(spec, [{"event": "launch", "cells": {"a/b": 4}}], state)
    assert work.total == 4 * 3 * 9  # nine epochs stand in its configs, one in the file


def test_the_plan_goes_by_what_may_be_drawn(tmp_path: Path) -> None:
    path = write_sweep(tmp_path, searched(1))
    made = plan(check(path))
    assert (made.epochs, made.epochs_most) == (20, 32)
    assert made.cells[0].epochs == 2.5
    shown = CliRunner().invoke(app, ["plan", str(path)]).output
    assert "about 20 epochs (32 at most)" in shown


def test_disk_and_weights_of_a_searched_width(tmp_path: Path) -> None:
    def made(widths: list[int]) -> Any:
        data = searched(1)
        data["parameters"] = {"model.width": {"values": widths}}
        return plan(check(write_sweep(tmp_path, data))).cells[0]

    thin, wide, both = made([2]), made([8]), made([2, 8])
    assert thin.parameters == thin.parameters_least < wide.parameters
    assert (both.parameters_least, both.parameters) == (thin.parameters, wide.parameters)
    # two configs, one of each: as much as both sweeps of one config, and what may be stopped
    each = both.bytes / 10  # bytes of the mean model: 4 trials, and 2 x 3 of those stopped
    assert each == pytest.approx((thin.bytes + wide.bytes) / 4, rel=0.01)


def test_what_is_timed_of_a_search(tmp_path: Path) -> None:
    cell = make_cell("a/b", 8, batch_size={"values": [1, 2, 8, 16]}, lr={"min": 0.0, "max": 1.0})
    found = [(c["train"]["batch_size"], share) for c, share in variants(cell)]
    assert found == [(1, 0.25), (2, 0.25), (4, 0.5)]  # of larger batches four images are timed
    config = {**cell.config, "model": {"name": "a", "width": 1, "depth": 1}}
    ranges = {f"model.{key}": Parameter(min=1, max=100) for key in ("width", "depth")}
    many = variants(Cell("a/b", {}, config, ranges, 8), most=5)
    assert len(many) == 5
    assert sorted(c["model"]["width"] // 20 for c, _ in many) == [0, 1, 2, 3, 4]
    assert sum(share for _, share in many) == pytest.approx(1)


def test_the_grace_period_is_clipped_to_the_longest_trial_that_may_be(tmp_path: Path) -> None:
    rungs = {"type": "asha", "grace_period": 3}

    def checked(**changes: Any) -> Any:
        return check(write_sweep(tmp_path, searched(1) | {"early_stopping": rungs} | changes))

    found = checked()
    assert found.spec.early_stopping.grace_period == 3  # and not the file's one epoch
    assert any("trials of at most 3 epochs meet no rung" in note for note in found.notices)
    short = checked(parameters={"train.epochs": {"values": [1, 2]}})
    assert short.spec.early_stopping.grace_period == 2
    assert any("beyond the 2 epochs: clipped to 2" in note for note in short.notices)


def test_a_rung_has_places_for_the_configs_that_come_to_it(tmp_path: Path) -> None:
    """Twelve configs of 4 or 9 epochs: six of each are to be expected, not twelve."""
    spec = make_spec(early_stopping={"type": "halving", "reduction_factor": 3})
    cell = make_cell("a/b", 12, epochs={"values": [4, 9]}, lr={"min": 0.0, "max": 1.0})
    search = make_search(tmp_path, spec, [cell])
    ladder = Ladder(spec, [cell], search.state)
    assert ladder._budget(("a/b", 0, 9)) == 6
    run(search)
    own = [c for c in search.state.configs.values() if c.config["train"]["epochs"] == 9]
    assert ladder._budget(("a/b", 0, 9)) == len(own)
    first = [e for e in book(search).events if e["event"] == "rung" and e["epoch"] == 1]
    assert len(first) == 12


def test_cells_of_other_lengths_do_not_hold_up_a_rung_of_the_sweep(tmp_path: Path) -> None:
    spec = make_spec(early_stopping={"type": "halving", "compare_within": "sweep"})
    short, long = make_cell("a/b", 3), make_cell("c/b", 3)
    other = {**long.config, "train": {**long.config["train"], "epochs": 27}}
    long = Cell(long.name, long.levels, other, long.parameters, long.budget)
    search = make_search(tmp_path, spec, [short, long])
    ladder = search.ladder
    assert [cell.name for cell in ladder._cells(("", 0, 27))] == ["c/b"]
    assert ladder._budget(("", 0, 9)) == 3


@pytest.mark.parametrize(
    ("given", "values"),
    [
        ({"values": [1, 5]}, [1, 5]),
        ({"value": 3}, [3]),
        ({"min": 2, "max": 5}, [2, 3, 4, 5]),
        ({"min": 0.0, "max": 4.0}, [0.5, 1.5, 2.5, 3.5]),
        ({"distribution": "q_uniform", "min": 0, "max": 8, "q": 2}, [0, 4, 4, 8]),
        ({"min": 1, "max": 100}, [13, 38, 63, 88]),
    ],
)
def test_values_stand_for_a_range(given: dict[str, Any], values: list[Any]) -> None:
    assert spread(Parameter.model_validate(given), 4) == values


def test_a_logarithmic_range_is_spread_in_its_logarithm() -> None:
    given = {"distribution": "log_uniform_values", "min": 1.0, "max": 1e4}
    assert spread(Parameter.model_validate(given), 2) == pytest.approx([10, 1000])
    normal = Parameter.model_validate({"distribution": "normal", "mu": 5.0, "sigma": 1.0})
    assert sum(spread(normal, 9)) == pytest.approx(45)  # type: ignore[arg-type]


def test_plan_as_json_has_the_same(tmp_path: Path) -> None:
    path = write_sweep(tmp_path, searched(1))
    made = json.loads(CliRunner().invoke(app, ["plan", str(path), "--json"]).stdout)
    assert (made["epochs"], made["epochs_most"]) == (20, 32)
