"""The Lovász extension of the Jaccard loss.

Berman et al. 2018, arXiv 1705.08790: the hinge for a binary head (section 3.1), the softmax form
over several classes (section 3.2). Ours rather than segmentation-models-pytorch's: that waits for
the GPU once a class, returns a tensor that is no scalar where all is ignored, and takes the
extension's weights as differences of neighbouring float32 numbers, which for a million pixels
have two digits left; here they are written out.
"""

from __future__ import annotations

import torch
from torch import Tensor

from segsweep.losses.base import Pixels, SegmentationLoss, one_hot


class LovaszLoss(SegmentationLoss):
    """Lovász hinge (binary head) or Lovász-softmax (mean over the classes present), batch-level.

    The hinge wants a margin of 1 on each side, so its probabilities are not those of a
    likelihood. It has no options.
    """

    def score(self, pixels: Pixels) -> Tensor:
        """Mean over the classes present; the foreground for a binary head."""
        logits, truth = pixels.logits, one_hot(pixels)
        binary = logits.shape[1] == 1
        if binary:
            errors = (1.0 - logits * (2.0 * truth - 1.0)).relu()
        else:
            errors = (truth - logits.softmax(dim=1)).abs()
        # an ignored pixel gets the error 0 and so sorts behind all that counts
        errors = (errors * pixels.valid.unsqueeze(1)).transpose(0, 1).flatten(1)
        truth = truth.transpose(0, 1).flatten(1).bool()
        errors, order = errors.sort(dim=1, descending=True, stable=True)
        loss = (errors * _weights(truth.gather(1, order), errors.dtype)).sum(dim=1)
        if binary:
            return loss.sum()
        present = truth.any(dim=1).to(loss.dtype)
        return (loss * present).sum() / present.sum().clamp_min(1.0)


def _weights(truth: Tensor, dtype: torch.dtype) -> Tensor:
    """How much the Jaccard loss grows as each pixel, worst first, joins the wrong ones.

    With I and U the intersection and union after the pixel: 1 / U for one of the class, which
    shrinks I by one, and I / (U (U - 1)) for any other, which makes U grow by one.

    Args:
        truth: (K, P) bool, whether the pixel is of the class, by falling error.
        dtype: the result's type.

    Returns:
        (K, P).
    """
    positives = truth.sum(dim=1, keepdim=True)
    intersection = (positives - truth.cumsum(dim=1)).to(dtype)
    union = (positives + (~truth).cumsum(dim=1)).to(dtype)
    other = intersection / (union * (union - 1)).clamp_min(1.0)
    weights = torch.where(truth, 1.0 / union.clamp_min(1.0), other)
    # without any pixel of the class the first wrong one already costs all
    first = torch.zeros_like(weights)
    first[:, 0] = 1.0
    return torch.where(positives == 0, first, weights)
