"""Losses that are a mean over pixels: binary cross-entropy, cross-entropy, focal.

Ours rather than segmentation-models-pytorch's: its ``SoftBCEWithLogitsLoss`` divides by the
ignored pixels too, its ``FocalLoss`` scores several classes one against the rest and gives NaN
where a batch is ignored whole, and so does torch's ``cross_entropy``. The tests hold these
against both where they agree.
"""

from __future__ import annotations

from typing import Annotated

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from segsweep.losses.base import (
    Pixels,
    SegmentationLoss,
    log_probability,
    of_label,
    pixel_mean,
    two_classes_only,
    weighted_mean,
)
from segsweep.losses.weighting import ClassWeights, numbers


class BCELoss(SegmentationLoss):
    """Binary cross-entropy, the mean over all pixels that count. Two classes only.

    -(w y log p + (1 - y) log(1 - p)), p = sigmoid(z).

    Args:
        pos_weight: w, how much a foreground pixel weighs against one of background.
    """

    def __init__(self, *, pos_weight: Annotated[float, Field(gt=0)] = 1.0) -> None:
        super().__init__()
        self.pos_weight = pos_weight

    def score(self, pixels: Pixels) -> Tensor:
        """Mean over pixels."""
        logits = pixels.logits
        two_classes_only(logits.shape[1], "bce")
        margin = logits[:, 0] if logits.shape[1] == 1 else logits[:, 1] - logits[:, 0]
        foreground = pixels.labels.to(margin.dtype)
        loss = F.binary_cross_entropy_with_logits(
            margin, foreground, reduction="none", pos_weight=margin.new_tensor(self.pos_weight)
        )
        return pixel_mean(loss, pixels.valid)


class CrossEntropyLoss(SegmentationLoss):
    """Softmax cross-entropy, the mean over all pixels that count.

    With class weights w it is Σ_i w(y_i) l_i / Σ_i w(y_i) as in torch, smoothing included.

    Args:
        label_smoothing: ε, the share of the target spread evenly over all classes (Szegedy et al.
            2016, arXiv 1512.00567, section 7).
        class_weights: w of each class; see ``losses.weighting``.
    """

    def __init__(
        self,
        *,
        label_smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.0,
        class_weights: ClassWeights = None,
    ) -> None:
        super().__init__()
        self.label_smoothing = label_smoothing
        self.class_weights = numbers(class_weights)

    def score(self, pixels: Pixels) -> Tensor:
        """Mean over pixels, weighted where classes are."""
        log_p = log_probability(pixels)
        truth = (1 - self.label_smoothing) * of_label(log_p, pixels.labels)
        if self.class_weights is None:
            spread = self.label_smoothing * log_p.mean(dim=1)
            return pixel_mean(-truth - spread, pixels.valid)
        each = log_p.new_tensor(self.class_weights).view(1, -1, 1, 1)
        weights = weight_of(pixels, self.class_weights)
        spread = self.label_smoothing * (each * log_p).mean(dim=1) * pixels.valid
        return weighted_mean(-truth * weights - spread, weights)


def weight_of(pixels: Pixels, class_weights: tuple[float, ...]) -> Tensor:
    """The weight of each pixel's class, (N, H, W), 0 where it does not count."""
    return pixels.valid.new_tensor(class_weights)[pixels.labels] * pixels.valid


class FocalLoss(SegmentationLoss):
    """Focal loss, -α (1 - p)^γ log p of the true class, the mean over all pixels that count.

    Lin et al. 2017, arXiv 1708.02002, equations 4 and 5; over several classes p is the softmax.
    The paper divides by the number of objects, which segmentation does not have.

    Args:
        gamma: γ, how strongly easy pixels are played down; 0 is cross-entropy.
        alpha: weight of the foreground, 1 - α that of the background; two classes only. Left out,
            every pixel weighs 1.
        class_weights: α of each class, in place of ``alpha``; as in cross-entropy, the mean is
            Σ_i w(y_i) l_i / Σ_i w(y_i). See ``losses.weighting``.
    """

    def __init__(
        self,
        *,
        gamma: Annotated[float, Field(ge=0)] = 2.0,
        alpha: Annotated[float, Field(ge=0, le=1)] | None = None,
        class_weights: ClassWeights = None,
    ) -> None:
        super().__init__()
        self.gamma = gamma
        self.alpha = alpha
        self.class_weights = numbers(class_weights)

    def score(self, pixels: Pixels) -> Tensor:
        """Mean over pixels."""
        log_p = of_label(log_probability(pixels), pixels.labels)
        # 1 - p by expm1 keeps its digits where p is near 1; the clamp keeps the derivative of
        # the power finite there for gamma < 1
        loss = -(-torch.expm1(log_p)).clamp_min(1e-12).pow(self.gamma) * log_p
        if self.class_weights is not None:
            weights = weight_of(pixels, self.class_weights)
            return weighted_mean(loss * weights, weights)
        if self.alpha is not None:
            two_classes_only(pixels.logits.shape[1], "focal with alpha")
            foreground = pixels.labels == 1
            loss = loss * torch.where(foreground, self.alpha, 1.0 - self.alpha)
        return pixel_mean(loss, pixels.valid)
