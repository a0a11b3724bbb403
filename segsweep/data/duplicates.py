"""One image under two ids: where both sides of a split have it, a score is not worth its name.

Images are compared by the pixels that were decoded, hashed when the cache was built; equal files
decode to equal pixels. Near-duplicates, such as the next frame of a film, are not found: name what
belongs together in an attribute and set ``folds.group_by``.
"""

from __future__ import annotations

from segsweep.data.arrow_file import ImageSet
from segsweep.data.folds import Folds
from segsweep.errors import Problem

MOST = 20
"""So many are named one by one."""


def duplicates(
    data: ImageSet, folds: Folds, holdout: ImageSet | None
) -> tuple[list[Problem], tuple[str, ...]]:
    """Images that occur more than once.

    Args:
        data: the images that trials see.
        folds: which fold each of them validates.
        holdout: the images that they do not see, if any.

    Returns:
        Those that lie in two folds, or in a fold and the holdout, as problems that name the ids;
        and a sentence about those that lie together, as a group does.
    """
    found: dict[str, dict[str, str]] = {}
    for image_id, pixels, fold in zip(
        data.image_ids, data.pixel_hashes, folds.assignment, strict=True
    ):
        found.setdefault(pixels, {})[image_id] = f"fold {fold}"
    if holdout is not None:
        for image_id, pixels in zip(holdout.image_ids, holdout.pixel_hashes, strict=True):
            found.setdefault(pixels, {})[image_id] = "holdout"
    several = [places for places in found.values() if len(places) > 1]
    apart = [_problem(places) for places in several if len(set(places.values())) > 1]
    together = [" = ".join(places) for places in several if len(set(places.values())) == 1]
    if len(apart) > MOST:
        more = Problem(f"and {len(apart) - MOST} more images that occur more than once")
        apart = [*apart[:MOST], more]
    if not together:
        return apart, ()
    shown = ", ".join(together[:MOST]) + (", …" if len(together) > MOST else "")
    return apart, (f"{len(together)} images occur more than once in one fold or holdout: {shown}",)


def _problem(places: dict[str, str]) -> Problem:
    where = " and ".join(f"{image_id!r} ({side})" for image_id, side in places.items())
    hint = "keep one of them, or give them one group and set folds.group_by, so that no score is "
    return Problem(f"{where} are the same image", hint=hint + "of an image that was trained on")
