"""One small finished run, and what was exported from it: made once, copied where it is changed."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

import pytest

from segsweep import rundir
from segsweep.export.choosing import best_slot, choose
from segsweep.export.exporting import export
from segsweep.launching import launch
from segsweep.rundir import Run
from segsweep.state import ConfigState
from segsweep.trial import directory
from tests.helpers import tiny, write_sweep


@dataclass(frozen=True)
class Launched:
    path: Path

    @property
    def run(self) -> Run:
        return rundir.load(self.path)

    @property
    def champion(self) -> ConfigState:
        return choose(self.run)

    @property
    def trial(self) -> Path:
        """Of the fold whose model is exported."""
        config = self.champion
        return directory(self.path, config.config_id, *best_slot(self.run, config))


@pytest.fixture(scope="session")
def launched(tmp_path_factory: pytest.TempPathFactory) -> Launched:
    folder = tmp_path_factory.mktemp("export")
    data = tiny(train__epochs=6)  # enough to see two classes
    outcome = launch(write_sweep(folder, data), runner="inline")
    return Launched(outcome.run_directory)


@pytest.fixture
def own(launched: Launched, tmp_path: Path) -> Launched:
    """A copy of the run that a test may change."""
    shutil.copytree(launched.path, tmp_path / "own")
    return Launched(tmp_path / "own")


@pytest.fixture(scope="session")
def exported(launched: Launched, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The champion's best fold model, with its graph."""
    out = tmp_path_factory.mktemp("shipped") / "fold"
    export(launched.path, out)
    return out
