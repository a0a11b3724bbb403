"""What every loss shares: the ignored pixels, the binary head, the arithmetic's type.

Ignored pixels have their logits replaced by zero before anything is computed, so that whatever
stands there, infinities included, reaches neither the value nor the gradient. Nothing here waits
for the GPU, and nothing uses an operation that has no deterministic CUDA kernel (which is why
class probabilities are gathered rather than passed to ``nll_loss``).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from segsweep.errors import Problem, UserError

IGNORE = 255
"""The label of a pixel that counts nowhere."""


class Pixels(NamedTuple):
    """A batch, ready for arithmetic.

    Attributes:
        logits: (N, C, H, W), float32 (float64 stays), zero at ignored pixels.
        labels: (N, H, W) int64, zero at ignored pixels.
        valid: (N, H, W), 1 where the pixel counts and 0 where it is ignored, type of ``logits``.
    """

    logits: Tensor
    labels: Tensor
    valid: Tensor


class SegmentationLoss(nn.Module, ABC):
    """A scalar from logits and labels. A subclass writes ``score``."""

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """The loss of a batch.

        Args:
            logits: (N, C, H, W) of any floating type; C = 1 is a binary head, two classes
                with the logits (0, z).
            target: (N, H, W) integer labels, ``IGNORE`` where a pixel does not count.

        Returns:
            A scalar, at least float32. Zero, with a zero gradient, where all is ignored.
        """
        ignored = target == IGNORE
        logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
        return self.score(
            Pixels(
                logits.masked_fill(ignored.unsqueeze(1), 0.0),
                target.long().masked_fill(ignored, 0),
                (~ignored).to(logits.dtype),
            )
        )

    @abstractmethod
    def score(self, pixels: Pixels) -> Tensor:
        """The loss of a prepared batch, a scalar."""


def log_probability(pixels: Pixels) -> Tensor:
    """Logarithm of the probability of every class, (N, K, H, W), K = 2 for a binary head."""
    logits = pixels.logits
    if logits.shape[1] == 1:
        return torch.cat([F.logsigmoid(-logits), F.logsigmoid(logits)], dim=1)
    return F.log_softmax(logits, dim=1)


def of_label(values: Tensor, labels: Tensor) -> Tensor:
    """Of ``values`` (N, K, H, W), the one that belongs to each pixel's label, (N, H, W)."""
    return values.gather(1, labels.unsqueeze(1)).squeeze(1)


def one_hot(pixels: Pixels) -> Tensor:
    """(N, C, H, W) of 0 and 1, all zero at ignored pixels; a binary head has its foreground."""
    channels = pixels.logits.shape[1]
    first = 1 if channels == 1 else 0
    classes = torch.arange(first, first + channels, device=pixels.labels.device)
    truth = pixels.labels.unsqueeze(1) == classes.view(1, -1, 1, 1)
    return truth * pixels.valid.unsqueeze(1)


def pixel_mean(loss: Tensor, valid: Tensor) -> Tensor:
    """The mean of ``loss`` (N, H, W) over the pixels that count."""
    return (loss * valid).sum() / valid.sum().clamp_min(1.0)


def weighted_mean(loss: Tensor, weights: Tensor) -> Tensor:
    """Σ ``loss`` / Σ ``weights``; 0 where nothing has a weight. Any shape, the loss is weighted."""
    total = weights.sum()
    return loss.sum() / torch.where(total > 0, total, torch.ones_like(total))


def two_classes_only(channels: int, what: str) -> None:
    """Refuse more than two classes; ``fit_problems`` says so before a trial starts."""
    if channels > 2:
        raise UserError(Problem(f"{what} is for two classes, not for {channels}"))
