"""transformers' EoMT with two habits more: any grid of patches, and every layer's predictions.

Apart from ``eomt.py`` because its classes can be defined only where transformers is installed.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import EomtConfig, EomtForUniversalSegmentation
from transformers.models.eomt.modeling_eomt import EomtEmbeddings

from segsweep.models.eomt import Queries


class Embeddings(EomtEmbeddings):  # type: ignore[misc]
    """Patches of any grid: positions are interpolated from the square they are learnt for."""

    grid: tuple[int, int]

    def forward(self, pixel_values: Tensor) -> Tensor:
        """(N, 3, H, W), H and W whole patches → (N, 1 + registers + patches, hidden)."""
        patches = self.patch_embeddings(pixel_values)
        count = patches.shape[0]
        learnt = self.position_embeddings.weight
        side = round(learnt.shape[0] ** 0.5)
        if self.grid != (side, side):
            square = learnt.T.view(1, -1, side, side)
            moved = F.interpolate(
                square.float(), size=self.grid, mode="bicubic", align_corners=False
            )
            learnt = moved.flatten(2)[0].T.to(learnt.dtype)
        start = [self.cls_token.expand(count, -1, -1), self.register_tokens.expand(count, -1, -1)]
        tokens: Tensor = self.dropout(torch.cat([*start, patches + learnt], dim=1))
        return tokens


class Core(EomtForUniversalSegmentation):  # type: ignore[misc]
    """The library's model; ``record``, where it is a list, gets each layer's predictions."""

    embeddings: Embeddings

    def __init__(self, config: EomtConfig) -> None:
        super().__init__(config)
        self.record: list[Queries] | None = None
        # the same weights, another way to add positions
        embeddings = Embeddings(config)
        embeddings.load_state_dict(self.embeddings.state_dict())
        self.embeddings = embeddings

    def predict(self, logits: Tensor) -> tuple[Tensor, Tensor]:
        """Masks and classes of one layer, remembered."""
        masks, classes = super().predict(logits)
        if self.record is not None:
            self.record.append(Queries(masks, classes))
        return masks, classes
