"""``class_weights``: how much each class counts, as a user writes it and as losses take it.

A user writes a list in the order of the classes, names with numbers (the others weigh 1), or
``balanced``. Losses take the list alone; ``resolved`` makes it, once a trial knows its classes
and the pixels that it trains on.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Final, TypeAlias

import numpy as np
from numpy.typing import NDArray
from pydantic import PlainValidator

from segsweep.errors import Problem, UserError
from segsweep.registry import suggest

KEY: Final = "class_weights"
BALANCED: Final = "balanced"
FOREGROUND_ALONE: Final = ("dice", "jaccard", "tversky")  # what these score of two classes
_SHAPES = "write balanced, a number for each class in their order, or names with numbers"


def _number(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError(f"not a number: {value!r}; {_SHAPES}")  # noqa: TRY004 - pydantic's kind
    if not (math.isfinite(value) and value >= 0):
        raise ValueError(f"a weight is a number from 0 up, not {value}")
    return float(value)


def _valid(value: object) -> object:
    """A well-formed value, its numbers as floats."""
    if value is None or value == BALANCED:
        return value
    if isinstance(value, Mapping) and value:
        return {str(name): _number(weight) for name, weight in value.items()}
    if isinstance(value, list | tuple) and value:
        weights = [_number(weight) for weight in value]
        if not any(weights):
            raise ValueError("every class has the weight 0: nothing would be learnt")
        return weights
    raise ValueError(_SHAPES)


ClassWeights: TypeAlias = Annotated[
    list[float] | dict[str, float] | str | None, PlainValidator(_valid)
]


def numbers(weights: ClassWeights) -> tuple[float, ...] | None:
    """The weights as a loss takes them.

    Raises:
        UserError: names, or ``balanced``, which only ``resolved`` can turn into numbers.
    """
    if weights is None:
        return None
    if not isinstance(weights, list):
        raise UserError(Problem(f"{KEY} = {weights!r} must be resolved first", key=KEY))
    return tuple(weights)


def problems(name: str, settings: Mapping[str, Any], classes: Sequence[str]) -> list[Problem]:
    """Why the weights of the loss ``name`` do not fit data with these classes."""
    weights = settings.get(KEY)
    if weights is None:
        return []
    key = f"{name}.{KEY}"
    if name in FOREGROUND_ALONE and len(classes) == 2:
        what = f"{name} scores the foreground alone where there are two classes"
        return [Problem(what, key=key, hint="weigh bce (pos_weight) or cross_entropy instead")]
    if isinstance(weights, Mapping):
        found = [
            Problem(f"there is no class {one!r}", key=key, hint=suggest(one, classes))
            for one in weights
            if one not in classes
        ]
        if not found and not any(_listed(weights, classes)):
            found.append(Problem("every class has the weight 0: nothing is learnt", key=key))
        return found
    if isinstance(weights, list) and len(weights) != len(classes):
        what = f"{len(weights)} weights for {len(classes)} classes"
        return [Problem(what, key=key, hint=f"their order: {', '.join(classes)}")]
    return []


def wants_pixels(config: Mapping[str, Mapping[str, Any]]) -> bool:
    """Is any term of a loss ``balanced``, so that pixels must be counted?"""
    return any(settings.get(KEY) == BALANCED for settings in config.values())


def resolved(
    config: Mapping[str, Mapping[str, Any]],
    classes: Sequence[str],
    pixels: NDArray[np.int64] | None = None,
) -> dict[str, dict[str, Any]]:
    """A loss whose class weights are lists of numbers.

    Args:
        config: what ``losses.resolve`` returned, and ``problems`` found nothing wrong with.
        classes: their names in order.
        pixels: (C,) how many of each class are trained on, for ``balanced``.
    """
    found: dict[str, dict[str, Any]] = {}
    for name, settings in config.items():
        weights = settings.get(KEY)
        if isinstance(weights, Mapping):
            weights = _listed(weights, classes)
        elif weights == BALANCED:
            if pixels is None:
                raise UserError(Problem(f"{KEY}: {BALANCED} needs pixels to count", key=KEY))
            weights = balanced(pixels)
        found[name] = {**settings, **({KEY: weights} if KEY in settings else {})}
    return found


def _listed(weights: Mapping[str, float], classes: Sequence[str]) -> list[float]:
    return [float(weights.get(name, 1.0)) for name in classes]


def balanced(pixels: NDArray[np.int64]) -> list[float]:
    """w_c = N / (K n_c): every class has the same share of the whole weight.

    As scikit-learn's ``compute_class_weight("balanced")``, N being all n_c together and K the
    number of classes that occur. One that does not occur weighs as the rarest that does: it
    teaches nothing, but counts where it is validated.

    Args:
        pixels: (C,) n_c.
    """
    occurs = pixels > 0
    if not occurs.any():
        return [1.0] * len(pixels)
    least = pixels[occurs].min()
    each = pixels.sum() / (occurs.sum() * np.where(occurs, pixels, least))
    return [float(f"{weight:.9g}") for weight in each]


def count_pixels(
    masks: NDArray[np.uint8], rows: Sequence[int] | NDArray[np.int64], classes: int
) -> NDArray[np.int64]:
    """How many pixels of each class some masks have, before augmentation.

    Args:
        masks: (N, H, W) labels, 255 where there is none.
        rows: which of them.
        classes: C.

    Returns:
        (C,).
    """
    total = np.zeros(256, np.int64)
    for row in rows:
        total += np.bincount(masks[row].ravel(), minlength=256)
    return total[:classes]
