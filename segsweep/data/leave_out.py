"""``dataset.leave_out``: classes that a model is not to know.

Their pixels become IGNORE, in training and validation alike, and their labels close up: a model has
no output for them. The cache keeps the masks with all classes beside (`ImageSet.original`), since
what was left out is the anomaly when out-of-distribution scores are judged.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from segsweep.data.decoding import Part
from segsweep.data.sources.base import IGNORE
from segsweep.errors import Problem
from segsweep.registry import suggest


def problems(classes: Sequence[str], leave_out: Sequence[str]) -> Iterator[tuple[str, Problem]]:
    """What is wrong with the names to leave out, each with the end of its key path."""
    for place, name in enumerate(leave_out):
        if name not in classes:
            yield f"[{place}]", Problem(f"there is no class {name!r}", hint=suggest(name, classes))
        elif name in leave_out[:place]:
            yield f"[{place}]", Problem(f"{name!r} stands twice", hint="keep one")
    if leave_out and len(kept(classes, leave_out)) < 2:
        what = f"leaves {len(kept(classes, leave_out))} of {len(classes)} classes"
        yield "", Problem(what, hint="there must be two at least to tell apart")


def kept(classes: Sequence[str], leave_out: Sequence[str]) -> tuple[str, ...]:
    """The classes that are left, in their order."""
    return tuple(name for name in classes if name not in leave_out)


def without(
    parts: Sequence[Part], classes: Sequence[str], leave_out: Sequence[str]
) -> tuple[list[Part], tuple[str, ...]]:
    """Images with masks (N, H, W) in which some classes are ignored, and the classes left."""
    left = kept(classes, leave_out)
    table = np.full(IGNORE + 1, IGNORE, np.uint8)
    for label, name in enumerate(classes):
        table[label] = left.index(name) if name in left else IGNORE
    return [(images, table[masks]) for images, masks in parts], left
