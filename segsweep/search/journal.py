"""Optuna's journal: the studies of a sweep in a file, for people and ``optuna-dashboard``."""

from __future__ import annotations

import contextlib
import os
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any


def journal(path: Path | None) -> Any | None:
    """A fresh Optuna journal at ``path``; the old one, a projection of the ledger, is replaced."""
    if path is None:
        return None
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend

    for old in (path, path.with_name(path.name + ".lock")):
        if old.exists() or old.is_symlink():
            os.unlink(old)  # noqa: PTH108 - the lock is a dangling symbolic link
    with quiet():
        return JournalStorage(JournalFileBackend(str(path)))


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Without Optuna's word that a part of it is experimental."""
    from optuna.exceptions import ExperimentalWarning

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", category=ExperimentalWarning)
        yield
