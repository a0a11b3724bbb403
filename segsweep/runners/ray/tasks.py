"""A task on a worker that goes on to others: what it leaves of the GPU, and when it must not."""

from __future__ import annotations

import os
import sys
from typing import Any

import torch

from segsweep.errors import first_line, process_is_broken
from segsweep.runners import Task

BROKEN = 70  # exit status of a worker that can compute nothing more


def run_task(function: Task, gpu: float, shared: Any, item: Any) -> Any:
    """``function(shared, item)``, with its GPU memory given back.

    A process whose CUDA context is broken ends: Ray tries the item again in a fresh one, where it
    would have failed with every item after it in this one.
    """
    try:
        return function(shared, item)
    except RuntimeError as error:
        if process_is_broken(error):
            sys.stderr.write(f"segsweep: this worker ends: {first_line(error)}\n")
            sys.stderr.flush()
            os._exit(BROKEN)
        raise
    finally:
        if gpu:
            torch.cuda.empty_cache()  # who shares the GPU may need it before the next item
