"""A U-Net without pooling: convolutions with stride 2 down, transposed convolutions up."""

from __future__ import annotations

from itertools import pairwise
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor, nn

from segsweep.models.blocks import conv_block, double_conv, initialise, match


class UNetStrided(nn.Module):
    """The U-Net of Ronneberger et al. 2015 (arXiv 1505.04597) with learnt down-sampling.

    Max pooling is replaced by a 3×3 convolution with stride 2 that keeps the number of channels,
    as Springenberg et al. 2015 (arXiv 1412.6806) do; up-sampling is a 2×2 transposed convolution
    with stride 2, here followed by batch norm and ReLU like every other convolution.
    (N, 3, H, W) → (N, C, H, W), any H and W, odd ones too: a level has half the size of the one
    above, rounded up. 34 173 953 parameters at ``width`` 64 with one output channel.

    Differs from the U-Net paper besides: padded convolutions, batch norm, no dropout.

    Args:
        out_channels: C.
        width: channels of the first level; the others have 2, 4, 8 and 16 times as many.
    """

    def __init__(self, out_channels: int, *, width: Annotated[int, Field(ge=1)] = 64) -> None:
        super().__init__()
        levels = [width * 2**level for level in range(5)]
        self.encoder = nn.ModuleList(double_conv(a, b) for a, b in pairwise([3, *levels]))
        self.downs = nn.ModuleList(conv_block(here, here, stride=2) for here in levels[:-1])
        upwards = list(pairwise(reversed(levels)))
        self.ups = nn.ModuleList(
            nn.Sequential(
                nn.ConvTranspose2d(below, here, 2, stride=2, bias=False),
                nn.BatchNorm2d(here),
                nn.ReLU(inplace=True),
            )
            for below, here in upwards
        )
        self.decoder = nn.ModuleList(double_conv(2 * here, here) for _, here in upwards)
        self.classifier = nn.Conv2d(width, out_channels, 1)
        initialise(self)

    def forward(self, x: Tensor) -> Tensor:
        """Logits (N, C, H, W) from images (N, 3, H, W)."""
        x = self.encoder[0](x)
        skips: list[Tensor] = []
        for down, stage in zip(self.downs, self.encoder[1:], strict=True):
            skips.append(x)
            x = stage(down(x))
        for up, stage in zip(self.ups, self.decoder, strict=True):
            skip = skips.pop()
            x = stage(torch.cat([skip, match(up(x), skip)], dim=1))
        logits: Tensor = self.classifier(x)
        return logits
