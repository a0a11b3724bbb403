"""What every test has: a clean environment, one torch thread, no network for W&B."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from xdist.scheduler import LoadScopeScheduling

from segsweep.ledger import CHECKED, Ledger

torch.set_num_threads(1)
# what starts launches as processes of their own, ends them, and waits for what they do
REAL = ("faults", "runners/test_ray.py", "test_cluster.py")


def real(nodeid: str) -> bool:
    """Is it a test of real processes?"""
    return nodeid.removeprefix("tests/").startswith(REAL)


class Scheduling(LoadScopeScheduling):
    """One process has the tests of real processes, which are slow, and the other the rest.

    Whoever is done helps, file by file, so that what a file prepares is prepared once.
    """

    def _split_scope(self, nodeid: str) -> str:
        return "real processes" if real(nodeid) else nodeid.partition("::")[0]


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Scheduling:
    """See ``Scheduling``. (Groups by marker, xdist's own way, do not work under pytest 9.2.)"""
    return Scheduling(config, log)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What takes longest begins first."""
    items.sort(key=lambda item: real(item.nodeid), reverse=True)


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name == "WANDB_SERVICE":  # W&B's own, where its process listens: not to be put back
            continue
        if name.startswith(("WANDB_", "RAY_ADDRESS")):
            monkeypatch.delenv(name)
    monkeypatch.setenv(CHECKED, "1")
    monkeypatch.setenv("COLUMNS", "200")  # tables are not to be folded


@pytest.fixture(autouse=True)
def _close_ledgers(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    opened: list[Ledger] = []
    begin = Ledger.__init__

    def remember(self: Ledger, path: Path) -> None:
        begin(self, path)
        opened.append(self)

    monkeypatch.setattr(Ledger, "__init__", remember)
    yield
    for ledger in opened:
        ledger.close()
