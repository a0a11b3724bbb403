"""What one pass over a split counts: always the pixels by class, and what else is asked for."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from segsweep.metrics.boundary import boundary_counts
from segsweep.metrics.counts import confusion
from segsweep.metrics.ranking import CLOSE, PixelScores
from segsweep.metrics.scores import BOUNDARY, RANKING, boundary_scores


class Tally:
    """Counts of a split, batch by batch. Exact: int64 counts an image, on the logits' device.

    Args:
        classes: of the data set.
        extra: names of scores to compute beyond those of the confusion matrix; each costs time.

    Attributes:
        errors: how far at most a score of ``extras`` is from the exact one, where that is more
            than ``ranking.CLOSE``.
    """

    def __init__(self, classes: int, extra: Sequence[str] = ()) -> None:
        self.classes = classes
        self.extra = tuple(extra)
        self.errors: dict[str, float] = {}
        self._matrices: list[torch.Tensor] = []
        self._bands: list[torch.Tensor] = []
        self._scores = PixelScores() if set(extra) & set(RANKING) else None

    def update(self, logits: torch.Tensor, prediction: torch.Tensor, target: torch.Tensor) -> None:
        """Count a batch.

        Args:
            logits: (N, C, H, W), one channel for two classes.
            prediction: (N, H, W) classes.
            target: (N, H, W) classes, 255 where a pixel does not count.
        """
        self._matrices.append(confusion(prediction, target, self.classes))
        if set(self.extra) & set(BOUNDARY):
            self._bands.append(boundary_counts(prediction, target, self.classes))
        if self._scores is not None:
            margin = logits[:, 0] if logits.shape[1] == 1 else logits[:, 1] - logits[:, 0]
            self._scores.update(margin, target)

    def matrix(self) -> NDArray[np.int64]:
        """(N, K, K) confusion matrices in the order of the images, rows are the truth."""
        found: NDArray[np.int64] = torch.cat(self._matrices).cpu().numpy()
        return found

    def extras(self) -> dict[str, float | None]:
        """What was asked for beyond the matrix, by name.

        Raises:
            ValueError: a logit was NaN.
        """
        found: dict[str, float | None] = {}
        if self._scores is not None:
            ranking = self._scores.ranking()
            found |= {name: getattr(ranking, name).value for name in RANKING}
            self.errors = {
                name: float(error)
                for name in RANKING
                if name in self.extra and (error := getattr(ranking, name).error) > CLOSE
            }
        if self._bands:
            found |= boundary_scores(torch.cat(self._bands).cpu().numpy())
        return {name: found[name] for name in self.extra}
