"""The U-Net as published: max pooling down, 2×2 up-convolutions up, skips by concatenation."""

from __future__ import annotations

from itertools import pairwise
from typing import Annotated

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from segsweep.models.blocks import Norm, double_conv, initialise, match


class UNetVanilla(nn.Module):
    """U-Net of Ronneberger et al. 2015 (arXiv 1505.04597).

    Five levels of two 3×3 convolutions with 1, 2, 4, 8 and 16 times ``width`` channels, 2×2 max
    pooling between them, and back up by 2×2 transposed convolutions with stride 2.
    (N, 3, H, W) → (N, C, H, W), any H and W from 16 up, odd ones too. 31 037 633 parameters at
    ``width`` 64 with one output channel, 31 031 745 with ``norm: none``.

    Differs from the paper: convolutions are padded, so that the logits have the image's size; no
    dropout; and by default batch norm, of which the paper has none (``norm: none`` is the paper).

    Args:
        out_channels: C.
        width: channels of the first level.
        norm: what stands between a convolution and its ReLU.
    """

    def __init__(
        self,
        out_channels: int,
        *,
        width: Annotated[int, Field(ge=1)] = 64,
        norm: Norm = "batch",
    ) -> None:
        super().__init__()
        levels = [width * 2**level for level in range(5)]
        self.encoder = nn.ModuleList(
            double_conv(before, here, norm=norm) for before, here in pairwise([3, *levels])
        )
        upwards = list(pairwise(reversed(levels)))
        self.ups = nn.ModuleList(
            nn.ConvTranspose2d(below, here, 2, stride=2) for below, here in upwards
        )
        self.decoder = nn.ModuleList(double_conv(2 * here, here, norm=norm) for _, here in upwards)
        self.classifier = nn.Conv2d(width, out_channels, 1)
        initialise(self)

    def forward(self, x: Tensor) -> Tensor:
        """Logits (N, C, H, W) from images (N, 3, H, W)."""
        skips: list[Tensor] = []
        for level, stage in enumerate(self.encoder):
            x = stage(F.max_pool2d(x, 2) if level else x)
            skips.append(x)
        skips.pop()
        for up, stage in zip(self.ups, self.decoder, strict=True):
            skip = skips.pop()
            x = stage(torch.cat([skip, match(up(x), skip)], dim=1))
        logits: Tensor = self.classifier(x)
        return logits
