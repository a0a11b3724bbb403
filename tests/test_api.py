"""The way in from Python."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from rich.console import Console

import segsweep
from segsweep.errors import RunError, SpecError, UnknownName, UserError
from segsweep.runners.start import start
from tests.doubles.wandb_server import WandbServer
from tests.helpers import events, tiny, write_sweep

README = (Path(__file__).parent.parent / "README.md").read_text(encoding="utf-8")


def test_the_readmes_example_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("pandas")
    section = README.split("## From Python")[1]
    (block,) = re.findall(r"```python\n(.*?)```", section.split("\n## ")[0], flags=re.DOTALL)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("WANDB_MODE", "disabled")
    names: dict[str, object] = {}
    exec(compile(block, "README", "exec"), names)  # noqa: S102 - our own README
    run = names["run"]
    assert isinstance(run, segsweep.LoadedRun)
    assert run.trials.num_rows == 8
    assert set(run.champions) == {"unet_vanilla(width=4)/bce", "unet_vanilla(width=4)/dice"}


def test_a_run_is_loaded_as_its_files_say_and_damaged_ones_are_made_again(tmp_path: Path) -> None:
    data = {**tiny(configs_per_cell=1), "storage_path": str(tmp_path)}
    run = segsweep.launch(data, runner="inline", progress=False)
    assert run.undecided == {}
    assert run.path == tmp_path / "tiny"
    for name in ("trials", "epochs", "images", "confusion"):
        table = getattr(run, name)
        assert table.num_rows > 0
        assert table == pq.read_table(run.path / "results" / f"{name}.parquet")
    (run.path / "results/epochs.parquet").write_bytes(b"PAR1 no more")
    again = segsweep.load("tiny", tmp_path)
    assert again.epochs == run.epochs
    assert segsweep.load(run.path).epochs.num_rows == len(events(run.path, "epoch"))


def test_launching_again_goes_on_and_mistakes_are_listed(tmp_path: Path) -> None:
    data = {**tiny(configs_per_cell=1), "storage_path": str(tmp_path)}
    run = segsweep.launch(data, ["factors.loss=[bce]"], runner="inline", progress=False)
    before = run.trials.num_rows
    more = segsweep.launch(data, runner="inline", progress=False)
    assert more.trials.num_rows == 2 * before
    with pytest.raises(UserError, match="segnett"):
        segsweep.launch(data, ["factors.model=[segnett]"], runner="inline", progress=False)
    with pytest.raises(RunError, match="no run"):
        segsweep.load("another", tmp_path)


def test_an_attribute_that_is_not_there_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="lunch"):
        _ = segsweep.lunch


def test_mistakes_of_a_dictionary_are_told_of_the_dictionary(tmp_path: Path) -> None:
    data = tiny(train__epohcs=3, factors__model=["segnett"], storage_path=str(tmp_path))
    with pytest.raises(SpecError) as caught:
        segsweep.launch(data, runner="inline", progress=False)
    problems = caught.value.problems
    assert {problem.where for problem in problems} == {"the dictionary"}
    assert {problem.key for problem in problems} == {"train.epohcs", "factors.model[0]"}
    with pytest.raises(SpecError, match="--set"):
        segsweep.launch(tiny(), ["train.epochs=0"], runner="inline", progress=False)
    path = write_sweep(tmp_path, data)
    with pytest.raises(SpecError, match=r"sweep\.yaml:\d+: train\.epohcs"):
        segsweep.launch(path, runner="inline", progress=False)


def test_paths_and_numbers_of_numpy_may_stand_in_a_dictionary(tmp_path: Path) -> None:
    data = tiny(
        storage_path=tmp_path,
        configs_per_cell=np.int64(1),
        seed=np.uint8(3),
        dataset__holdout=np.float64(0.25),
        dataset__image_size=np.array([32, 32]),
        parameters={"train.lr": {"values": tuple(np.array([0.001, 0.25], np.float32))}},
    )
    run = segsweep.launch(data, runner="inline", progress=False)
    assert run.path == tmp_path / "tiny"
    assert (run.spec.seed, run.spec.dataset.holdout) == (3, 0.25)


def test_what_no_sweep_file_can_hold_is_refused_by_its_key() -> None:
    data = tiny(seed=object(), factors__loss=["bce", {1, 2}])
    with pytest.raises(SpecError) as caught:
        segsweep.launch(data, runner="inline", progress=False)
    found = {problem.key: problem.what for problem in caught.value.problems}
    assert found == {
        "seed": "no value of a sweep: object",
        "factors.loss[1]": "no value of a sweep: set",
    }


def test_a_runner_that_is_not_there_is_refused(tmp_path: Path) -> None:
    data = {**tiny(), "storage_path": str(tmp_path / "runs")}
    with pytest.raises(UnknownName, match=r"unknown runner 'inlin'\n.*did you mean 'inline'"):
        segsweep.launch(data, runner="inlin", progress=False)  # type: ignore[arg-type]
    assert not list(tmp_path.iterdir())
    with pytest.raises(UnknownName, match="unknown runner"):
        start("rya", None, Console(quiet=True))


def test_a_launch_online_after_one_offline_in_the_same_process_is_sent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """W&B stays in the mode that a process began it in."""
    import wandb

    with WandbServer() as server:
        for name, value in server.environment.items():
            monkeypatch.setenv(name, value)
        wandb.teardown()
        try:
            for mode in ("offline", "online"):
                changes: dict[str, Any] = {"factors__loss": ["bce"], "train__epochs": 1}
                data = tiny(configs_per_cell=1, wandb={"mode": mode}, **changes)
                data |= {"name": mode, "storage_path": str(tmp_path)}
                run = segsweep.launch(data, runner="inline", progress=False)
                assert run.notes == ()
            assert len(server.runs) == 2 + 1
        finally:
            wandb.teardown()
