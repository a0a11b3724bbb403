"""Names and colours of the classes of an export."""

from __future__ import annotations

import colorsys

from segsweep.data import sources
from segsweep.errors import SegsweepError
from segsweep.rundir import Run

# Okabe and Ito, "Color Universal Design" (2008), without black: told apart with any colour vision
_DISTINCT = (
    (230, 159, 0), (86, 180, 233), (0, 158, 115), (240, 228, 66), (0, 114, 178), (213, 94, 0),
    (204, 121, 167),
)  # fmt: skip
Colour = tuple[int, int, int]


def palette(run: Run, classes: tuple[str, ...]) -> list[Colour]:
    """A colour for each class: the dataset's own where it has any, else distinct ones.

    The first class is black where colours are ours: it is the background in every binary set.
    """
    own = _own(run)
    if all(name in own for name in classes):
        return [own[name] for name in classes]
    return [(0, 0, 0), *(_made(place) for place in range(len(classes) - 1))]


def _own(run: Run) -> dict[str, Colour]:
    """The colours of the dataset's authors by class; none where the data is not there any more."""
    dataset = run.spec.dataset
    try:
        options = sources.resolve(dataset.name, dataset.options)
        source = sources.build(dataset.name, root=None, options=options)
    except (SegsweepError, OSError, ValueError, TypeError):
        return {}
    return dict(zip(source.classes, source.palette or (), strict=False))


def _made(place: int) -> Colour:
    """The colour of a class without one: distinct first, then around the circle of hues."""
    if place < len(_DISTINCT):
        return _DISTINCT[place]
    hue = place * 0.618033988749895 % 1  # the golden ratio: no two near each other
    red, green, blue = colorsys.hsv_to_rgb(hue, 0.65, 0.95)
    return round(255 * red), round(255 * green), round(255 * blue)
