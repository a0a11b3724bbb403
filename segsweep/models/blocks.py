"""The pieces that our own models share: convolution blocks, weight initialisation, cropping."""

from __future__ import annotations

from typing import Literal

from torch import Tensor, nn

Norm = Literal["none", "batch"]


def conv_block(
    in_channels: int, out_channels: int, *, stride: int = 1, norm: Norm = "batch"
) -> nn.Sequential:
    """A padded 3×3 convolution, batch norm if wanted, ReLU.

    The convolution has a bias only where no batch norm follows, which would take it away again.
    """
    conv = nn.Conv2d(in_channels, out_channels, 3, stride=stride, padding=1, bias=norm == "none")
    layers: list[nn.Module] = [conv]
    if norm == "batch":
        layers.append(nn.BatchNorm2d(out_channels))
    return nn.Sequential(*layers, nn.ReLU(inplace=True))


def double_conv(in_channels: int, out_channels: int, *, norm: Norm = "batch") -> nn.Sequential:
    """Two convolution blocks, (N, in, H, W) → (N, out, H, W)."""
    return nn.Sequential(
        conv_block(in_channels, out_channels, norm=norm),
        conv_block(out_channels, out_channels, norm=norm),
    )


def initialise(model: nn.Module) -> None:
    """Draw every weight from torch's generator: Kaiming normal (fan out, ReLU), biases zero."""
    for module in model.modules():
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        elif isinstance(module, nn.BatchNorm2d):
            nn.init.ones_(module.weight)
            nn.init.zeros_(module.bias)


def match(x: Tensor, like: Tensor) -> Tensor:
    """``x`` with the height and width of ``like``, at most a row and a column away.

    What is missing is zero, what is too much is cut off. No branch on the sizes, and always
    something to cut: else torch.export ties a model to the parity of the sizes it was shown.
    Zeros, because padding by replication has no deterministic backward kernel on CUDA.
    """
    x = nn.functional.pad(x, (0, 2, 0, 2))
    return x[..., : like.shape[-2], : like.shape[-1]]
