"""SegNet: an encoder-decoder whose decoder puts values back where max pooling took them from."""

from __future__ import annotations

from itertools import pairwise
from typing import Annotated

import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from segsweep.models.blocks import conv_block, initialise

_STAGES = ((2, 1), (2, 2), (3, 4), (3, 8), (3, 8))
"""VGG16's 13 convolutions: for each stage how many, and the channels as multiples of ``width``."""


class SegNet(nn.Module):
    """SegNet of Badrinarayanan et al. 2017 (arXiv 1511.00561).

    The encoder is VGG16's 13 convolutions with batch norm, each of its 5 stages followed by a 2×2
    max pooling that hands its indices to the mirrored decoder stage, which unpools by them; the
    decoder's last convolution (3×3) gives the logits. (N, 3, H, W) → (N, C, H, W), any H and W
    from 32 up, odd ones too. 29 435 649 parameters at ``width`` 64 with one output channel.

    Differs from the paper: no bias in front of batch norm, no ImageNet weights in the encoder,
    and no local contrast normalisation of the input.

    Args:
        out_channels: C.
        width: channels of the first stage; all others scale with it (64, 128, 256, 512, 512).
    """

    def __init__(self, out_channels: int, *, width: Annotated[int, Field(ge=1)] = 64) -> None:
        super().__init__()
        before = 3
        encoder, decoder = [], []
        for count, multiple in _STAGES:
            here = multiple * width
            channels = [before] + [here] * count
            encoder.append(nn.Sequential(*(conv_block(a, b) for a, b in pairwise(channels))))
            if len(encoder) == 1:  # the outermost decoder stage ends in the classifier below
                channels[0] = here
                channels.pop()
            down = channels[::-1]
            decoder.append(nn.Sequential(*(conv_block(a, b) for a, b in pairwise(down))))
            before = here
        self.encoder = nn.ModuleList(encoder)
        self.decoder = nn.ModuleList(decoder[::-1])
        self.classifier = nn.Conv2d(width, out_channels, 3, padding=1)
        initialise(self)

    def forward(self, x: Tensor) -> Tensor:
        """Logits (N, C, H, W) from images (N, 3, H, W)."""
        taken = []
        for stage in self.encoder:
            x = stage(x)
            size = x.shape[-2:]
            x, indices = F.max_pool2d(x, 2, return_indices=True)
            taken.append((indices, size))
        for stage, (indices, size) in zip(self.decoder, reversed(taken), strict=True):
            x = stage(unpool(x, indices, size))
        logits: Tensor = self.classifier(x)
        return logits


def unpool(x: Tensor, indices: Tensor, size: tuple[int, ...]) -> Tensor:
    """Undo a max pooling: each value back to where it came from, zero elsewhere.

    A scatter, because ``max_unpool2d`` refuses to run on CUDA when deterministic algorithms are
    asked for; windows do not overlap, so no two values meet.

    Args:
        x: (N, C, h, w).
        indices: what ``max_pool2d`` returned, positions in the flattened (H, W).
        size: (H, W).

    Returns:
        (N, C, H, W).
    """
    height, width = size
    empty = x.new_zeros((x.shape[0], x.shape[1], height * width))
    full = empty.scatter(2, indices.flatten(2), x.flatten(2))
    return full.view(x.shape[0], x.shape[1], height, width)
