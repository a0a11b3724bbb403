"""``loss: native``: the loss that a model brings along."""

from __future__ import annotations

from typing import Final, Protocol, runtime_checkable

from torch import Tensor

from segsweep.losses.pixel import CrossEntropyLoss

NATIVE: Final = "native"


@runtime_checkable
class NativeOutput(Protocol):
    """What a model with a loss of its own returns in training."""

    def native_loss(self, target: Tensor) -> Tensor:
        """The model's loss, a scalar.

        Args:
            target: (N, H, W) integer labels, 255 where a pixel is not labelled.
        """


class NativeLoss(CrossEntropyLoss):
    """The loss of the model itself; for EoMT, Hungarian matching of masks and classes.

    A model in training returns what computes it. In evaluation every model returns logits, and
    there this is their cross-entropy over pixels: ``val/loss`` then does not depend on how a
    model gets to its pixels, and is that of ``cross_entropy``.
    """

    def __init__(self) -> None:
        super().__init__()

    def forward(self, logits: Tensor | NativeOutput, target: Tensor) -> Tensor:
        """The loss of a batch, a scalar.

        Args:
            logits: a training model's output, or (N, C, H, W) logits.
            target: (N, H, W) integer labels, 255 where a pixel does not count.
        """
        if isinstance(logits, NativeOutput):
            return logits.native_loss(target)
        return super().forward(logits, target)
