"""EoMT: a plain vision transformer that answers queries with masks and classes."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from segsweep.errors import Problem, WeightsError

if TYPE_CHECKING:
    from segsweep.models.eomt_core import Core

IGNORE = 255  # a label that is in no segment
_TINY = 1e-30  # a probability whose logarithm is still a number
Count = Annotated[int, Field(ge=1)]
Weight = Annotated[float, Field(ge=0)]


@dataclass(frozen=True)
class Queries:
    """What the queries say before anything is summed.

    Attributes:
        masks: (N, Q, h, w) logits that a pixel is in the query's mask, at 4/patch of the image.
        classes: (N, Q, K + 1) logits, the last for "no object".
    """

    masks: Tensor
    classes: Tensor


@dataclass(frozen=True)
class EoMTOutput:
    """What EoMT returns in training: the predictions that its loss is made of.

    Attributes:
        layers: of the last layer and of those before it whose masks steer attention.
        core: has the loss.
    """

    layers: list[Queries]
    core: Core

    def native_loss(self, target: Tensor) -> Tensor:
        """The sum over layers of the Hungarian loss of transformers, in float32.

        A segment is all pixels of a class in an image. Pixels without a label are in no segment,
        so a mask that covers them is held against it, as in the authors' training; an image
        without any label does not count.

        Args:
            target: (N, H, W) integer labels, 255 where there is none.
        """
        rows, masks, classes = segments(target)
        total = torch.zeros((), device=target.device)
        with torch.autocast(target.device.type, enabled=False):
            for layer in self.layers:
                if rows.numel() == 0:  # nothing is labelled: a zero that has a gradient
                    total = total + 0 * (layer.masks.float().sum() + layer.classes.float().sum())
                    continue
                parts = self.core.get_loss_dict(
                    masks_queries_logits=layer.masks[rows].float(),
                    class_queries_logits=layer.classes[rows].float(),
                    mask_labels=masks,
                    class_labels=classes,
                    auxiliary_predictions=None,
                )
                total = total + self.core.get_loss(parts)
        return total


class EoMT(nn.Module):
    """EoMT of Kerssies et al. 2025 (arXiv 2503.19108), as in Hugging Face transformers.

    A vision transformer whose last ``blocks`` layers also see the queries; a query's class comes
    from a linear layer, its mask from the product with the upscaled patch tokens. Loss:
    ``native``. (N, 3, H, W) → (N, C, H, W), any H and W: images are padded to whole patches, and
    positions, learnt on a square of ``image_size``, are interpolated (bicubic).

    A pixel's logit of class k is the logarithm of Σ_q softmax(class_q)_k · sigmoid(mask_q), masks
    being resized to the image first, as transformers' semantic post-processing does; a binary
    head has the difference of the two. 316 020 887 parameters with a ViT-L (hidden_size 1024,
    layers 24, heads 16, blocks 4, queries 100, image_size 512) and 150 classes; the paper gives
    316 million.

    Differs from the paper: no windows, whole images; masked attention stays on, it is not
    annealed; no layer-wise learning rates.

    Args:
        out_channels: C; 1 stands for two classes.
        hidden_size: of a token, a multiple of ``heads``.
        layers: of the transformer.
        heads: of attention.
        blocks: layers that see the queries, at most ``layers``.
        queries: at least as many as there are classes in an image.
        patch_size: side of a patch in pixels.
        image_size: side of the square that positions are learnt for, in pixels.
        points: at which masks are compared in the loss.
        class_weight: of the classes' cross-entropy.
        mask_weight: of the masks' cross-entropy.
        dice_weight: of the masks' Dice loss.
        no_object_weight: of "no object" within the classes' cross-entropy.
        pretrained: a name on the Hugging Face hub or a local folder of ``save_pretrained``, of
            the same sizes, to start from (the class layer starts anew), or ``none``.
    """

    native_loss: ClassVar[bool] = True

    def __init__(
        self,
        out_channels: int,
        *,
        hidden_size: Count = 192,
        layers: Count = 12,
        heads: Count = 3,
        blocks: Count = 3,
        queries: Count = 50,
        patch_size: Count = 16,
        image_size: Count = 224,
        points: Count = 12544,
        class_weight: Weight = 2.0,
        mask_weight: Weight = 5.0,
        dice_weight: Weight = 5.0,
        no_object_weight: Weight = 0.1,
        pretrained: str = "none",
    ) -> None:
        super().__init__()
        if blocks > layers:
            raise ValueError(f"blocks = {blocks} is more than layers = {layers}")
        if hidden_size % heads:
            raise ValueError(f"hidden_size = {hidden_size} is no multiple of heads = {heads}")
        if image_size % patch_size:
            raise ValueError(
                f"image_size = {image_size} is no multiple of patch_size = {patch_size}"
            )
        self.binary = out_channels == 1
        self.core: Any = _core(
            hidden_size=hidden_size,
            num_hidden_layers=layers,
            num_attention_heads=heads,
            num_blocks=blocks,
            num_queries=queries,
            patch_size=patch_size,
            image_size=image_size,
            train_num_points=points,
            class_weight=class_weight,
            mask_weight=mask_weight,
            dice_weight=dice_weight,
            no_object_weight=no_object_weight,
            num_labels=2 if self.binary else out_channels,
        )
        self.patch_size = patch_size

    def forward(self, x: Tensor) -> Tensor | EoMTOutput:
        """Logits (N, C, H, W) from images (N, 3, H, W); in training what the loss needs."""
        layers = self._layers(x)
        if self.training:
            return EoMTOutput(layers, self.core)
        return self.pixels(layers[-1], (x.shape[-2], x.shape[-1]))

    def raw(self, x: Tensor) -> Queries:
        """Mask and class logits of the last layer, for scores that need more than pixels.

        Masks are those of the image padded to whole patches, below and to the right.
        """
        return self._layers(x)[-1]

    def pixels(self, queries: Queries, size: tuple[int, int]) -> Tensor:
        """Per-pixel logits (N, C, H, W) of what ``raw`` returned for images of ``size``."""
        padded = [math.ceil(side / self.patch_size) * self.patch_size for side in size]
        with torch.autocast(queries.masks.device.type, enabled=False):
            masks = F.interpolate(
                queries.masks.float(), size=padded, mode="bilinear", align_corners=False
            )[..., : size[0], : size[1]]
            classes = queries.classes.float().softmax(dim=-1)[..., :-1]
            logits = torch.einsum("nqk,nqhw->nkhw", classes, masks.sigmoid()).clamp_min(_TINY).log()
        return logits[:, 1:] - logits[:, :1] if self.binary else logits

    def _layers(self, x: Tensor) -> list[Queries]:
        height, width = x.shape[-2:]
        x = F.pad(x, (0, -width % self.patch_size, 0, -height % self.patch_size))
        grid = (x.shape[-2] // self.patch_size, x.shape[-1] // self.patch_size)
        # the library has one grid, from its config, for positions and for masks
        self.core.grid_size = grid
        self.core.embeddings.grid = grid
        found: list[Queries] = []
        self.core.record = found
        try:
            self.core(pixel_values=x)
        finally:
            self.core.record = None
        return found


def segments(target: Tensor) -> tuple[Tensor, list[Tensor], list[Tensor]]:
    """Labels as the library wants them: for each image its classes and their masks.

    Args:
        target: (N, H, W) integer labels, 255 where there is none.

    Returns:
        Which images have any; of each its (S, H, W) float masks and (S,) classes.
    """
    rows, masks, classes = [], [], []
    for row, labels in enumerate(target):
        own = labels[labels != IGNORE].unique().long()
        if own.numel():
            rows.append(row)
            classes.append(own)
            masks.append((labels == own.view(-1, 1, 1)).float())
    return torch.tensor(rows, dtype=torch.long, device=target.device), masks, classes


def _core(**settings: Any) -> Core:
    """The library's model, made to take any image size and to keep each layer's predictions.

    Raises:
        WeightsError: transformers is not installed.
    """
    try:
        from transformers import EomtConfig
    except ImportError as error:
        hint = 'pip install "segsweep[eomt]"'
        raise WeightsError(Problem("eomt needs transformers", hint=hint)) from error
    from segsweep.models.eomt_core import Core

    return Core(EomtConfig(**settings))
