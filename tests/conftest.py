"""What every test has: a clean environment, one torch thread, no network for W&B."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from segsweep.ledger import Ledger

torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name == "WANDB_SERVICE":  # W&B's own, where its process listens: not to be put back
            continue
        if name.startswith(("WANDB_", "RAY_ADDRESS")):
            monkeypatch.delenv(name)
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
