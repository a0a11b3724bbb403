"""ERFNet: residual blocks of one-dimensional convolutions, for real-time segmentation."""

from __future__ import annotations

from itertools import pairwise
from typing import Annotated

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from segsweep.models.blocks import initialise, match

_EPS = 1e-3  # of every batch norm


class ERFNet(nn.Module):
    """ERFNet of Romera et al. 2018 (IEEE T-ITS 19(1), table I), its encoder and decoder.

    Three down-samplers, to 1/2, 1/4 and 1/8; 5 non-bottleneck-1D blocks at 1/4 and 8 at 1/8, the
    latter with dilations 2, 4, 8, 16 twice; two transposed convolutions with 2 blocks each, and a
    third that gives the logits. (N, 3, H, W) → (N, C, H, W), any H and W from 8 up, odd ones too.
    2 059 808 parameters at ``width`` 16 with one output channel.

    Differs from the paper: no bias in front of batch norm (3 213 parameters), no head of the
    encoder's own, which only its pretraining reads (2 580 at 20 classes; 2.07 million with
    both); sizes that 8 does not divide are rounded up at each level and cut off again; no
    encoder trained on ImageNet.

    Args:
        out_channels: C.
        width: channels at 1/2; 4 and 8 times as many at 1/4 and 1/8.
        dropout: at 1/8; a tenth of it at 1/4, none in the decoder.
    """

    def __init__(
        self,
        out_channels: int,
        *,
        width: Annotated[int, Field(ge=4)] = 16,
        dropout: Annotated[float, Field(ge=0, lt=1)] = 0.3,
    ) -> None:
        super().__init__()
        quarter, eighth = 4 * width, 8 * width
        self.downs = nn.ModuleList(DownSampler(a, b) for a, b in pairwise((3, width, quarter)))
        self.downs.append(DownSampler(quarter, eighth))
        self.middle = nn.Sequential(
            *(NonBottleneck1D(quarter, dropout=dropout / 10) for _ in range(5))
        )
        self.deep = nn.Sequential(
            *(NonBottleneck1D(eighth, dropout=dropout, dilation=d) for d in (2, 4, 8, 16) * 2)
        )
        levels = list(pairwise((eighth, quarter, width)))
        self.ups = nn.ModuleList(UpSampler(a, b) for a, b in levels)
        self.after = nn.ModuleList(
            nn.Sequential(NonBottleneck1D(b), NonBottleneck1D(b)) for _, b in levels
        )
        self.classifier = nn.ConvTranspose2d(width, out_channels, 2, stride=2)
        initialise(self)

    def forward(self, x: Tensor) -> Tensor:
        """Logits (N, C, H, W) from images (N, 3, H, W)."""
        image, half = x, self.downs[0](x)
        quarter = self.middle(self.downs[1](half))
        x = self.deep(self.downs[2](quarter))
        for up, blocks, like in zip(self.ups, self.after, (quarter, half), strict=True):
            x = blocks(match(up(x), like))
        return match(self.classifier(x), image)


class DownSampler(nn.Module):
    """A 3×3 convolution with stride 2 beside a 2×2 max pooling, joined; batch norm, ReLU.

    (N, a, H, W) → (N, b, ⌈H/2⌉, ⌈W/2⌉); b - a channels come from the convolution.
    """

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(
            in_channels, out_channels - in_channels, 3, stride=2, padding=1, bias=False
        )
        self.norm = nn.BatchNorm2d(out_channels, eps=_EPS)

    def forward(self, x: Tensor) -> Tensor:
        """See the class."""
        conv = self.conv(x)
        # a row and a column of -inf more for the pooling, so that odd sizes round up
        low = torch.finfo(x.dtype).min
        pool = F.max_pool2d(F.pad(x, (0, 1, 0, 1), value=low), 2)
        return F.relu(self.norm(torch.cat([conv, match(pool, conv)], dim=1)))


class UpSampler(nn.Module):
    """A 3×3 transposed convolution with stride 2, batch norm, ReLU: (H, W) → (2H, 2W)."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.conv = nn.ConvTranspose2d(
            in_channels, out_channels, 3, stride=2, padding=1, output_padding=1, bias=False
        )
        self.norm = nn.BatchNorm2d(out_channels, eps=_EPS)

    def forward(self, x: Tensor) -> Tensor:
        """See the class."""
        return F.relu(self.norm(self.conv(x)))


class NonBottleneck1D(nn.Module):
    """3×1, 1×3, then both again dilated, added to what came in; figure 2 (c) of the paper.

    Args:
        channels: in and out.
        dropout: of whole channels, before the sum.
        dilation: of the second pair.
    """

    def __init__(self, channels: int, *, dropout: float = 0.0, dilation: int = 1) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, (3, 1), padding=(1, 0))
        self.conv2 = nn.Conv2d(channels, channels, (1, 3), padding=(0, 1), bias=False)
        self.norm1 = nn.BatchNorm2d(channels, eps=_EPS)
        d = dilation
        self.conv3 = nn.Conv2d(channels, channels, (3, 1), padding=(d, 0), dilation=(d, 1))
        self.conv4 = nn.Conv2d(
            channels, channels, (1, 3), padding=(0, d), dilation=(1, d), bias=False
        )
        self.norm2 = nn.BatchNorm2d(channels, eps=_EPS)
        self.dropout = nn.Dropout2d(dropout)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) → the same."""
        y = F.relu(self.conv1(x))
        y = F.relu(self.norm1(self.conv2(y)))
        y = F.relu(self.conv3(y))
        y = self.dropout(self.norm2(self.conv4(y)))
        return F.relu(x + y)
