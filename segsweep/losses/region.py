"""Losses that compare regions: Dice, Jaccard, Tversky. Sums run over the whole batch.

"Batch" Dice: true positives, false positives and false negatives are summed over all images of
the batch before the ratio is taken, so that an image without the class does not dominate, and the
value depends on the batch size. Over several classes the loss is the mean over those present in
the batch; a binary head is scored on its foreground alone, present or not.

Ours rather than segmentation-models-pytorch's, which averages over absent classes too, as if
they had been predicted perfectly, and drops a batch without foreground. The tests hold these
against it where all classes are present. A class's loss is written as errors over total, not as
1 - score, which would lose its digits near a perfect prediction.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field
from torch import Tensor

from segsweep.losses.base import Pixels, SegmentationLoss, one_hot, weighted_mean
from segsweep.losses.weighting import ClassWeights, numbers

_TINY = 1e-7


class TverskyLoss(SegmentationLoss):
    """1 - (TP + s) / (TP + α FP + β FN + s), batch-level.

    Salehi et al. 2017, arXiv 1706.05721, equation 3 (whose defaults these are: more weight on
    what is missed than on what is too much), with s added above and below.

    Args:
        alpha: weight of false positives.
        beta: weight of false negatives.
        smooth: s, in pixels. Keeps a gradient where the foreground is absent; with 0 a batch
            without foreground has the constant loss 1.
        class_weights: of each class in the mean over those present; see ``losses.weighting``.
            Not for two classes, of which the foreground alone is scored.
    """

    def __init__(
        self,
        *,
        alpha: Annotated[float, Field(ge=0)] = 0.3,
        beta: Annotated[float, Field(ge=0)] = 0.7,
        smooth: Annotated[float, Field(ge=0)] = 1.0,
        class_weights: ClassWeights = None,
    ) -> None:
        super().__init__()
        self.class_weights = numbers(class_weights)
        self.alpha = alpha
        self.beta = beta
        self.smooth = smooth

    def score(self, pixels: Pixels) -> Tensor:
        """Mean over the classes present; the foreground for a binary head."""
        logits = pixels.logits
        binary = logits.shape[1] == 1
        probability = logits.sigmoid() if binary else logits.softmax(dim=1)
        probability = probability * pixels.valid.unsqueeze(1)
        truth = one_hot(pixels)
        over = (0, 2, 3)
        hit = (probability * truth).sum(over)
        wrong = self.alpha * (probability * (1 - truth)).sum(over)
        wrong = wrong + self.beta * ((1 - probability) * truth).sum(over)
        loss = wrong / (hit + wrong + self.smooth).clamp_min(_TINY)
        if binary:
            return loss.sum()
        present = (truth.sum(over) > 0).to(loss.dtype)
        if self.class_weights is not None:
            present = present * loss.new_tensor(self.class_weights)
        return weighted_mean(loss * present, present)


class DiceLoss(TverskyLoss):
    """1 - (2 TP + 2s) / (2 TP + FP + FN + 2s), batch-level: Tversky with α = β = 1/2.

    Milletari et al. 2016, arXiv 1606.04797, section 3, without the squares.

    Args:
        smooth: s, in pixels. Keeps a gradient where the foreground is absent; with 0 a batch
            without foreground has the constant loss 1.
        class_weights: of each class in the mean over those present; see ``losses.weighting``.
            Not for two classes, of which the foreground alone is scored.
    """

    def __init__(
        self,
        *,
        smooth: Annotated[float, Field(ge=0)] = 1.0,
        class_weights: ClassWeights = None,
    ) -> None:
        super().__init__(alpha=0.5, beta=0.5, smooth=smooth, class_weights=class_weights)


class JaccardLoss(TverskyLoss):
    """1 - (TP + s) / (TP + FP + FN + s), soft IoU, batch-level: Tversky with α = β = 1.

    Rahman and Wang 2016, "Optimizing Intersection-Over-Union in Deep Neural Networks for Image
    Segmentation", equation 3.

    Args:
        smooth: s, in pixels. Keeps a gradient where the foreground is absent; with 0 a batch
            without foreground has the constant loss 1.
        class_weights: of each class in the mean over those present; see ``losses.weighting``.
            Not for two classes, of which the foreground alone is scored.
    """

    def __init__(
        self,
        *,
        smooth: Annotated[float, Field(ge=0)] = 1.0,
        class_weights: ClassWeights = None,
    ) -> None:
        super().__init__(alpha=1.0, beta=1.0, smooth=smooth, class_weights=class_weights)
