"""Mask models: the kept pixels of an image under every query, and a temperature inside the model.

T may act in two places. *Outside*, on the per-pixel logits, it is the temperature of any other
head. *Inside*, it divides each query's class logits before their softmax, and the argmax of a pixel
may change; masks have no temperature. Anomaly scores say themselves where it acts
(``calibration.anomaly``).
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from segsweep.calibrate.logits_file import Logits, Queries

_TINY = 1e-30  # a probability whose logarithm is still a number


def masks_of(logits: Logits, image: int) -> NDArray[np.float32]:
    """(Q, P) mask logits of the kept pixels of an image, resized as the model itself does."""
    queries = _queries(logits)
    height, width = logits.facts["preprocessing"]["image_size"]
    whole = F.interpolate(
        torch.from_numpy(queries.masks[image])[None],
        size=queries.padded,
        mode="bilinear",
        align_corners=False,
    )[0, :, :height, :width]
    kept = logits.positions[logits.offsets[image] : logits.offsets[image + 1]]
    found: NDArray[np.float32] = whole.flatten(1)[:, torch.from_numpy(kept)].numpy()
    return found


def inside(logits: Logits, temperature: float) -> NDArray[np.float32]:
    """(P, C) per-pixel logits of all kept pixels with T inside the model.

    log Σ_q softmax(class_q / T)_k · sigmoid(mask_q); of two classes their difference, (P, 1).
    """
    queries = _queries(logits)
    found = []
    for image in range(len(logits.image_ids)):
        masks = torch.from_numpy(masks_of(logits, image))
        classes = torch.from_numpy(queries.classes[image]) / temperature
        shares = torch.einsum("qk,qp->pk", classes.softmax(dim=-1)[:, :-1], masks.sigmoid())
        values = shares.clamp_min(_TINY).log()
        found.append(values[:, 1:] - values[:, :1] if logits.values.shape[1] == 1 else values)
    whole: NDArray[np.float32] = torch.cat(found).numpy()
    return whole


def _queries(logits: Logits) -> Queries:
    if logits.queries is None:
        raise ValueError("these logits are of no mask model")
    return logits.queries
