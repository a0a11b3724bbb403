"""What the ledger's events hold, as data: event → field → what it says."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from typing import Any, Final

LEDGER_VERSION: Final = 2
"""Of the ledger's format; a reader opens this one and every older one. Version 1 says none."""

_TRIAL: Final = {"trial_id": "the trial"}
_SCORES: Final = {"val_*": "loss and scores of the validation images; null where undefined"}

# a name that ends with ? may be missing, one that ends with * stands for any number of names
EVENTS: Final[Mapping[str, Mapping[str, str]]] = {
    "launch": {
        "ledger": "version of the ledger's format",
        "identity": "version of what config ids and scores mean",
        "version": "of segsweep",
        "pid": "process id",
        "host": "the driver's name",
        "cwd": "where relative paths of the spec begin",
        "command": "as it was called",
        "spec": "the sweep file, every default filled in",
        "device": "what trials run on",
        "cells": "cell → number of configs",
        "epochs": "cell → of a trial that is still to be proposed, on average",
        "versions": "of Python and the libraries that numbers hang on",
    },
    "split": {
        "fingerprint": "hash of the decoded data",
        "folds_hash": "hash of the assignment to folds",
        "classes": "names, in the order of the labels",
        "palette": "RGB by class, or null",
        "images": "how many there are",
        "decodes": "how many of them this launch decoded",
        "depth": "bits that images of 16 bits use, or null",
        "folds": "image id → fold",
        "holdout": "image ids",
        "groups": "image id → group, where the sweep has group_by",
    },
    "config": {
        "config_id": "the config",
        "cell": "its cell",
        "levels": "factor → level",
        "number": "in its cell, from 0",
        "params": "parameter → value",
        "draws": "what Optuna drew",
        "config": "the trial config in full",
    },
    "start": {
        **_TRIAL,
        "config_id": "its config",
        "fold": "from 0",
        "replicate": "from 0",
        "attempt": "from 1",
        "micro_batch": "images per pass; null: the whole batch",
    },
    "lost": {
        **_TRIAL,
        "error": "why the worker died; the trial is handed out again",
        "micro_batch?": "images per pass from now on, where memory ran out",
    },
    "damaged": {
        "what": "the damage",
        "trial_id?": "the trial whose checkpoint is damaged",
        "epoch?": "the epoch from which that trial goes on; 0: from the start",
    },
    "epoch": {
        **_TRIAL,
        "epoch": "from 1",
        "train_loss": "mean over training images",
        "val_*": _SCORES["val_*"],
        "score_errors?": "score → how far at most a binned score is from the exact one",
        "class_weights?": "of losses with class_weights: balanced",
        "lr": "learning rate of the epoch",
        "images": "trained on",
        "parameters": "of the model",
        "train_seconds": "of training",
        "seconds": "of training and validation",
        "best_epoch": "so far",
    },
    "rung": {
        **_TRIAL,
        "epoch": "of the rung",
        "value": "that was compared",
        "peers": "how many it was compared with",
        "threshold": "that it had to reach",
        "keep": "it goes on",
        "parked": "it waits for a promotion",
    },
    "promote": {
        **_TRIAL,
        "epoch": "of the rung",
        "peers": "how many it was compared with",
        "threshold": "that it reached",
        "keep": "it goes on",
    },
    "retry": {"trial_id": "the trial that had failed and is open again"},
    "race": {
        "config_id": "the config",
        "incumbent": "config id of its cell's leader",
        "looks": "after how many trials",
        "gap": "its mean minus the incumbent's",
        "probability": "of a gap as bad, were it as good",
        "sigma": "noise of one trial",
        "shared": "variance of the luck that a config's folds share, in those of one score",
        "dof": "degrees of freedom of sigma",
        "keep": "it gets its next folds",
    },
    "end": {
        **_TRIAL,
        "status": "finished, stopped, diverged, failed or out_of_memory",
        "stopped_by?": "rung, race or config",
        "error?": "of a trial that failed",
        "node?": "where it ran",
    },
    "revive": {"config_id": "the config", "cell": "its cell, which had no other left"},
    "champion": {"cell": "the cell", "config_id": "its champion"},
    "holdout": {**_TRIAL, "holdout_*": "loss and scores", "score_errors?": "as of an epoch"},
    "runtime": {
        "config_id": "the champion",
        "runtime_ms": "milliseconds per image, at the least",
        "runtime_spread_ms": "between turns",
        "runtime_*": "under what it was measured",
        "architecture": "configs that share it share the timing",
        "timing": "number; those of one were timed in turn",
    },
    "close": {
        "status": "how the launch ended: done or interrupted",
        "undecided": "trial → why it has no verdict",
    },
}


def mistakes(event: str, fields: Mapping[str, Any]) -> list[str]:
    """In what an event differs from its entry in ``EVENTS``."""
    if event not in EVENTS:
        return [f"no event {event!r}"]
    known = EVENTS[event]
    starts = tuple(name[:-1] for name in known if name.endswith("*"))
    names = {name.rstrip("?") for name in known}
    missing = [name for name in known if name[-1] not in "?*" and name not in fields]
    strange = [name for name in fields if name not in names and not name.startswith(starts or "\0")]
    return [f"{event} lacks {name}" for name in missing] + [
        f"{event} has no field {name}" for name in strange
    ]


def table() -> str:
    """``EVENTS`` for people."""
    lines = []
    for event, fields in EVENTS.items():
        words = "; ".join(f"{name}: {what}" for name, what in fields.items())
        lines += [event, textwrap.indent(textwrap.fill(words, 92), "    ")]
    return "\n".join(lines)


__doc__ = f"{__doc__}\n\n{table()}\n"
