"""The pixels of every image under every champion, as ``images.parquet`` keeps them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from segsweep.compare.resampling import Part
from segsweep.compare.scoring import Array, Scorer
from segsweep.compare.together import codes

COUNTS = ("tp", "fp", "fn", "valid")
CLOSE = 1e-6  # a score of the counts may differ from the recorded one by rounding alone


def part(
    images: pa.Table,
    trial_ids: Sequence[str],
    split: str,
    groups: Mapping[str, str],
    score: Scorer,
    recorded: Sequence[float],
) -> Part | None:
    """The images of one fold, or of the holdout.

    Args:
        images: ``results.IMAGES``.
        trial_ids: whose, in this order.
        split: ``validation`` or ``holdout``.
        groups: image id → group; images that are not in it are groups of their own.
        score: the metric, which ``recorded`` says of each trial.
        recorded: evidence that gives another score is of another epoch, and not used.

    Returns:
        None where a trial has no counts, or those of other images, or of another score.
    """
    wanted = pc.and_(
        pc.equal(images["split"], split), pc.is_in(images["trial_id"], pa.array(trial_ids))
    )
    own = images.filter(wanted)
    if own.num_rows == 0:
        return None
    image_ids = pc.unique(own["image_id"])
    classes = pc.unique(own["class"])
    shape = (len(trial_ids), len(image_ids), len(classes), len(COUNTS))
    counts: Array = np.full(shape, -1.0)
    place = (
        pc.index_in(own["trial_id"], pa.array(trial_ids)).to_numpy(),
        pc.index_in(own["image_id"], image_ids).to_numpy(),
        pc.index_in(own["class"], classes).to_numpy(),
    )
    counts[place] = np.stack([own[name].to_numpy() for name in COUNTS], axis=1)
    if (counts < 0).any():
        return None
    once = np.ones((1, shape[1]))
    again = np.array([score(one, once)[0] for one in counts])
    if not np.allclose(again, np.asarray(recorded), rtol=0, atol=CLOSE):
        return None
    return Part(counts, codes(image_ids.to_pylist(), groups))
