"""Milliseconds an image are those of the model: timed in turn, shared, and told apart or not."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from torch import nn

from segsweep import closing, rundir
from segsweep.champions import architecture
from segsweep.compare import analyse
from segsweep.compare.candidates import Candidate, fastest
from segsweep.compare.terminal import answer
from segsweep.launching import launch
from segsweep.models import runtime
from segsweep.models.runtime import Runtime
from segsweep.results import Timed, timings
from tests.compare.runs import make_run
from tests.compare.simulated import Truth
from tests.helpers import events, tiny, write_sweep

Measure = Callable[..., Runtime]


def turn(least: float, **changes: Any) -> Runtime:
    facts = {"milliseconds": least, "most": 2 * least, "repeats": 10, "device": "cpu",
             "threads": 1, "precision": "fp32", "height": 8, "width": 8}  # fmt: skip
    return Runtime(least=least, **{**facts, **changes})


def test_models_are_timed_there_and_back_again() -> None:
    assert "".join(runtime.order("AB")) == "ABBAABBA"
    assert "".join(runtime.order("ABC", turns=3)) == "ABCCBAABC"


def test_the_least_of_all_turns_counts_and_how_far_they_are_apart() -> None:
    found = runtime.together([turn(2.0), turn(20.0), turn(2.5)])
    assert (found.milliseconds, found.spread) == (2.0, 18.0)
    assert (found.turns, found.repeats) == (3, 30)


class Machine:
    """Every parameter takes a microsecond; some turns fall into a busy moment."""

    def __init__(self, busy: Sequence[int] = ()) -> None:
        self.busy, self.sizes = busy, list[int]()

    def measure(self, model: nn.Module, *_: Any, **options: Any) -> Runtime:
        size = sum(p.numel() for p in model.parameters())
        self.sizes.append(size)
        least = size / 1000 * (10 if len(self.sizes) in self.busy else 1)
        return turn(least, precision=options["precision"])


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Machine:
    made = Machine()
    monkeypatch.setattr(runtime, "measure", made.measure)
    return made


def sweep(widths: Sequence[int], losses: Sequence[str] = ("bce", "dice")) -> dict[str, Any]:
    return tiny(
        factors={
            "model": [{"name": "unet_vanilla", "width": width} for width in widths],
            "loss": list(losses),
        },
        parameters=None,
        configs_per_cell=None,
        train__epochs=1,
        dataset__images=8,
        dataset__image_size=[16, 16],
        calibration={"keep": "none"},
    )


def run(folder: Path, data: Mapping[str, Any]) -> Path:
    return launch(write_sweep(folder, data), runner="inline").run_directory


def test_champions_of_one_architecture_share_a_timing(tmp_path: Path, machine: Machine) -> None:
    machine.busy = (1, 2)  # the first turn of each
    path = run(tmp_path, sweep([2, 4]))
    thin, wide = sorted(set(machine.sizes))
    assert machine.sizes == [thin, wide, wide, thin] * 2  # and not once a champion
    told = {event["config_id"]: event for event in events(path, "runtime")}
    by_cell = {event["cell"]: told[event["config_id"]] for event in events(path, "champion")}
    assert len(by_cell) == 4
    for width, size in ((2, thin), (4, wide)):
        bce, dice = (by_cell[f"unet_vanilla(width={width})/{loss}"] for loss in ("bce", "dice"))
        assert bce["runtime_ms"] == dice["runtime_ms"] == size / 1000
        assert bce["runtime_spread_ms"] == pytest.approx(9 * size / 1000)
        assert bce["architecture"] == dice["architecture"]
        assert (bce["runtime_turns"], bce["runtime_repeats"], bce["timing"]) == (4, 40, 1)
    assert len({event["architecture"] for event in told.values()}) == 2


def test_a_searched_width_makes_another_architecture() -> None:
    def config(**changes: Any) -> dict[str, Any]:
        model = {"name": "unet_vanilla", "width": 4, **changes.pop("model", {})}
        train = {"precision": "fp32", "lr": 0.1, **changes.pop("train", {})}
        return {"model": model, "train": train, "dataset": {"image_size": [8, 8]}, **changes}

    assert architecture(config()) == architecture(config(loss={"dice": {}}, train={"lr": 0.2}))
    assert architecture(config()) != architecture(config(model={"width": 8}))
    assert architecture(config()) != architecture(config(train={"precision": "bf16"}))
    weights = {"encoder_weights": "imagenet"}
    assert architecture(config(model=weights)) == architecture(
        config(model={"encoder_weights": "none"})
    )


def test_what_a_later_launch_adds_is_timed_with_all_the_others(
    tmp_path: Path, machine: Machine
) -> None:
    path = run(tmp_path, sweep([2, 4], ["bce"]))
    machine.sizes.clear()
    assert run(tmp_path, sweep([2, 4], ["bce"])) == path
    assert machine.sizes == []  # nothing lacks a timing
    run(tmp_path, sweep([4, 6], ["bce"]))
    assert len(set(machine.sizes)) == 2  # width 2 has left the sweep
    assert len(machine.sizes) == 2 * runtime.TURNS
    known = timings(rundir.load(path).events)
    assert sorted(one.timing or 0 for one in known.values()) == [1, 2, 2]


def test_a_model_that_cannot_be_timed_does_not_keep_others_from_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = closing.model_of

    def model_of(tensors: Any, facts: Any, classes: int, device: Any) -> nn.Module:
        if facts["config"]["model"]["width"] == 4:
            raise RuntimeError("out of luck")
        return real(tensors, facts, classes, device)

    monkeypatch.setattr(runtime, "measure", Machine().measure)
    monkeypatch.setattr(closing, "model_of", model_of)
    data = sweep([2, 4], ["bce"])
    data["dataset"]["holdout"] = 0.0
    outcome = launch(write_sweep(tmp_path, data), runner="inline")
    assert len(events(outcome.run_directory, "runtime")) == 1
    (note,) = [note for note in outcome.notes if "cannot be timed" in note]
    assert "RuntimeError: out of luck" in note


def candidate(name: str, ms: float, *, spread: float = 0.0, arch: str = "", timing: int | None = 1,
              run: int = 0) -> Candidate:  # fmt: skip
    timed = Timed(ms, spread, arch or name, timing)
    return Candidate(run, name, name, {}, {}, {}, {}, {}, 1, ms, timed)


def test_faster_is_what_differs_by_more_than_the_spread() -> None:
    slow = candidate("slow", 5.0, spread=0.5)
    quick = candidate("quick", 4.0, spread=0.3)
    assert fastest([slow, quick]) == ["quick"]
    assert fastest([slow, candidate("quick", 4.0, spread=1.0)]) == []
    assert fastest([candidate("slow", 5.0, spread=2.0), quick]) == []
    same = candidate("same", 4.0, spread=0.3, arch="quick")
    assert fastest([slow, same, quick]) == ["same", "quick"]
    assert fastest([quick, same]) == []  # one architecture: nothing is faster
    assert fastest([quick]) == []
    # of other moments, other machines, or of ledgers that say nothing about it
    assert fastest([slow, candidate("quick", 1.0, timing=2)]) == []
    assert fastest([slow, candidate("quick", 1.0, run=1)]) == []
    assert (
        fastest([candidate("slow", 5.0, timing=None), candidate("quick", 1.0, timing=None)]) == []
    )
    untimed = Candidate(0, "new", "new", {}, {}, {}, {}, {}, 1, None)
    assert fastest([slow, quick, untimed]) == []


def edited(path: Path, change: Callable[[dict[str, Any]], dict[str, Any]]) -> rundir.Run:
    ledger = path / "ledger/events.jsonl"
    lines = [json.loads(line) for line in ledger.read_text().splitlines()]
    lines = [change(line) if line["event"] == "runtime" else line for line in lines]
    ledger.write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    return rundir.load(path)


def test_compare_names_all_that_have_the_fastest_architecture(tmp_path: Path) -> None:
    place = make_run(tmp_path / "simulated", Truth(truths=(0.8, 0.8, 0.8, 0.8), folds=5)).path

    def shared(event: dict[str, Any]) -> dict[str, Any]:
        unet = event["config_id"] in ("c0", "c1")
        return {**event, "architecture": str(unet), "runtime_ms": 2.0 if unet else 3.0}

    found = analyse([edited(place, shared)])
    assert set(found.equally_fast) == {"c0", "c1"}
    assert found.fastest == found.equally_fast[0]
    assert "are the fastest (2.0 ms an image)" in answer(found)


def test_the_ledger_of_an_older_version_is_read_and_calls_nothing_faster(tmp_path: Path) -> None:
    place = make_run(tmp_path / "simulated", Truth(truths=(0.8, 0.8, 0.8, 0.8), folds=5)).path
    found = analyse(
        [edited(place, lambda e: {key: e[key] for key in
                                  ("event", "time", "config_id", "runtime_ms")})]
    )  # fmt: skip
    assert {row.runtime_ms for row in found.standings} == {10.0, 9.0, 8.0, 7.0}
    assert found.fastest is None
    assert "fastest" not in answer(found)
