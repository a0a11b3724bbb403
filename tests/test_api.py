"""The way in from Python."""

from __future__ import annotations

import re
from pathlib import Path

import pyarrow.parquet as pq
import pytest

import segsweep
from segsweep.errors import RunError, UserError
from tests.helpers import events, tiny

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
