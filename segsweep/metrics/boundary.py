"""Boundary IoU: the IoU of what lies close to a contour, where small errors are large."""

from __future__ import annotations

import math

import torch
from torch import Tensor

SHARE = 0.02  # of the image's diagonal: the width of the band


def band_width(height: int, width: int) -> int:
    """Pixels between a contour and the inner end of its band, at least one."""
    return max(1, round(SHARE * math.hypot(height, width)))


def boundary_counts(
    prediction: Tensor, target: Tensor, classes: int, *, ignore: int = 255, width: int | None = None
) -> Tensor:
    """Pixels in both bands, in either, and in the truth's, by image and class.

    Boundary IoU of Cheng et al. 2021 (arXiv 2103.16562): the band of a mask is what a square of
    2 d + 1 pixels takes away from it, d being 2 % of the image's diagonal; the image's edge is a
    contour too. Pixels without a label are taken to belong to every mask while bands are made,
    so that no contour arises from them, and are in no band.

    Args:
        prediction: (N, H, W) classes.
        target: (N, H, W) classes, or ``ignore``.
        classes: how many there are.
        ignore: the label of pixels that do not count.
        width: d in pixels; left out, 2 % of the diagonal.

    Returns:
        (N, classes, 3) int64: intersection, union, truth. Summing them pools images.
    """
    reach = band_width(*target.shape[-2:]) if width is None else width
    unknown = target == ignore
    found = []
    for label in range(classes):
        truth = _band((target == label) | unknown, reach) & ~unknown
        guess = _band((prediction == label) | unknown, reach) & ~unknown
        parts = [truth & guess, truth | guess, truth]
        found.append(torch.stack([one.sum(dim=(1, 2)) for one in parts], dim=1))
    return torch.stack(found, dim=1)


def near_contours(target: Tensor, *, ignore: int = 255, width: int | None = None) -> Tensor:
    """Labelled pixels with a labelled pixel of another class within d rows and columns.

    Args:
        target: (N, H, W) classes, or ``ignore``; where something is not labelled, or the image
            ends, there is no contour.
        ignore: the label of pixels that do not count.
        width: d in pixels; left out, 2 % of the diagonal, as for Boundary IoU.

    Returns:
        (N, H, W) bool.
    """
    reach = band_width(*target.shape[-2:]) if width is None else width
    unknown = target == ignore
    labels = target.float()
    size = 2 * reach + 1
    pool = torch.nn.functional.max_pool2d
    high = pool(labels.masked_fill(unknown, -math.inf)[:, None], size, 1, reach)[:, 0]
    low = -pool((-labels).masked_fill(unknown, -math.inf)[:, None], size, 1, reach)[:, 0]
    differs: Tensor = high != low
    return differs & ~unknown


def _band(mask: Tensor, reach: int) -> Tensor:
    """What erosion takes away from (N, H, W) bool masks."""
    inner = _shrink(_shrink(mask, reach).transpose(1, 2), reach).transpose(1, 2)
    return mask & ~inner


def _shrink(mask: Tensor, reach: int) -> Tensor:
    """Is everything within ``reach`` along the last axis in the mask? Outside nothing is.

    Windows of doubling length, so that a wide band costs little more than a narrow one.
    """
    all_in = torch.nn.functional.pad(mask, (reach, reach))
    length, wanted = 1, 2 * reach + 1
    while 2 * length <= wanted:
        all_in = all_in[..., :-length] & all_in[..., length:]
        length *= 2
    rest = wanted - length
    return all_in[..., :-rest] & all_in[..., rest:] if rest else all_in
