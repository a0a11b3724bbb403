"""U²-Net: a U whose every stage is a U, with a side output at each decoder level."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Final

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from segsweep.models.blocks import initialise

Plan = tuple[tuple[int, int, int, int], ...]
"""For each stage its height (0: the dilated RSU-4F) and in, middle and out channels.

In units of a quarter of ``width``; -1 stands for the three colours.
"""

FULL: Final[tuple[Plan, Plan]] = (
    ((7, -1, 2, 4), (6, 4, 2, 8), (5, 8, 4, 16), (4, 16, 8, 32), (0, 32, 16, 32), (0, 32, 16, 32)),
    ((0, 64, 16, 32), (4, 64, 8, 16), (5, 32, 4, 8), (6, 16, 2, 4), (7, 8, 1, 4)),
)
SMALL: Final[tuple[Plan, Plan]] = (
    ((7, -1, 1, 4), (6, 4, 1, 4), (5, 4, 1, 4), (4, 4, 1, 4), (0, 4, 1, 4), (0, 4, 1, 4)),
    ((0, 8, 1, 4), (4, 8, 1, 4), (5, 8, 1, 4), (6, 8, 1, 4), (7, 8, 1, 4)),
)


class U2Net(nn.Module):
    """U²-Net of Qin et al. 2020 (Pattern Recognition 106, arXiv 2005.09007, table 1).

    Six encoder and five decoder stages of residual U-blocks; a 3×3 convolution after each of the
    five decoder stages and the last encoder stage gives a side output, all resized to the
    image, and a 1×1 convolution over the six gives the fused one. (N, 3, H, W) → (N, C, H, W),
    any H and W, odd ones too. In training ``forward`` returns the fused and the six side
    outputs, so that the loss is their sum, all with weight 1 (equation 1); in evaluation the
    fused one. 44 009 869 parameters at ``width`` 64 with one output channel.

    Differs from the paper: logits instead of probabilities come out, which any loss and a
    calibration need.

    Args:
        out_channels: C.
        width: channels of the first stage, a multiple of 4; all others scale with it.
    """

    plan: Sequence[Plan] = FULL

    def __init__(
        self, out_channels: int, *, width: Annotated[int, Field(ge=4, multiple_of=4)] = 64
    ) -> None:
        super().__init__()
        encoder, decoder = self.plan
        unit = width // 4
        self.encoder = nn.ModuleList(_block(stage, unit) for stage in encoder)
        self.decoder = nn.ModuleList(_block(stage, unit) for stage in decoder)
        sides = [encoder[-1], *decoder]
        self.sides = nn.ModuleList(
            nn.Conv2d(stage[-1] * unit, out_channels, 3, padding=1) for stage in sides
        )
        self.fuse = nn.Conv2d(len(sides) * out_channels, out_channels, 1)
        initialise(self)

    def forward(self, x: Tensor) -> Tensor | tuple[Tensor, ...]:
        """Logits from images (N, 3, H, W).

        Returns:
            (N, C, H, W) in evaluation; in training seven of them, the fused ones first, then
            the side outputs from the highest resolution to the lowest.
        """
        image, skips = x, []
        for stage in self.encoder[:-1]:
            x = stage(x)
            skips.append(x)
            x = halve(x)
        levels = [self.encoder[-1](x)]
        for stage in self.decoder:
            skip = skips.pop()
            levels.append(stage(torch.cat([resize(levels[-1], skip), skip], dim=1)))
        pairs = zip(reversed(self.sides), reversed(levels), strict=True)
        sides = [resize(side(level), image) for side, level in pairs]
        fused: Tensor = self.fuse(torch.cat(sides, dim=1))
        return (fused, *sides) if self.training else fused


class U2NetSmall(U2Net):
    """U²-Net† of the same paper: 16 channels inside and 64 between all stages.

    As ``U2Net`` in all else. 1 131 181 parameters at ``width`` 64 with one output channel.

    Args:
        out_channels: C.
        width: channels of every stage, a multiple of 4; a quarter inside the blocks.
    """

    plan = SMALL


class ResidualU(nn.Module):
    """RSU-L: a U of L levels on top of a convolution, and their sum; figure 2 (e) of the paper.

    (N, a, H, W) → (N, b, H, W).

    Args:
        height: L, from 4.
        channels: in, middle, out.
        dilated: RSU-4F: dilations 1, 2, 4, 8 in place of pooling and resizing.
    """

    def __init__(
        self, height: int, channels: tuple[int, int, int], *, dilated: bool = False
    ) -> None:
        super().__init__()
        before, middle, after = channels
        self.dilated = dilated
        rates = [2**level if dilated else 1 for level in range(height - 1)]
        self.entry = _conv(before, after)
        self.down = nn.ModuleList(
            _conv(middle if level else after, middle, rate) for level, rate in enumerate(rates)
        )
        self.bottom = _conv(middle, middle, 2 * rates[-1] if dilated else 2)
        self.up = nn.ModuleList(
            _conv(2 * middle, middle if level else after, rate)
            for level, rate in reversed(list(enumerate(rates)))
        )

    def forward(self, x: Tensor) -> Tensor:
        """See the class."""
        entry = x = self.entry(x)
        skips = []
        for level, conv in enumerate(self.down):
            if level and not self.dilated:
                x = halve(x)
            x = conv(x)
            skips.append(x)
        x = self.bottom(x)
        for conv in self.up:
            skip = skips.pop()
            x = conv(torch.cat([x if self.dilated else resize(x, skip), skip], dim=1))
        total: Tensor = entry + x
        return total


def halve(x: Tensor) -> Tensor:
    """2×2 max pooling; odd sizes round up."""
    return F.max_pool2d(x, 2, ceil_mode=True)


def resize(x: Tensor, like: Tensor) -> Tensor:
    """``x`` at the height and width of ``like``, bilinear."""
    return F.interpolate(x, size=like.shape[-2:], mode="bilinear", align_corners=False)


def _block(stage: tuple[int, int, int, int], unit: int) -> ResidualU:
    height, *rest = stage
    before, middle, after = (3 if units < 0 else units * unit for units in rest)
    return ResidualU(height or 4, (before, middle, after), dilated=height == 0)


def _conv(before: int, after: int, dilation: int = 1) -> nn.Sequential:
    """A 3×3 convolution with bias, as the authors have it, batch norm, ReLU."""
    return nn.Sequential(
        nn.Conv2d(before, after, 3, padding=dilation, dilation=dilation),
        nn.BatchNorm2d(after),
        nn.ReLU(inplace=True),
    )
