"""Scores of how unknown a pixel is; the higher, the more anomalous. Where T acts, stands at each.

Per-pixel heads, with logits z of K classes and p = softmax(z / T):

- ``msp``: 1 - max_k p_k (Hendrycks & Gimpel 2017; with T: Liang et al. 2018).
- ``max_logit``: -max_k z_k (Hendrycks et al. 2022). T does not act.
- ``max_entropy``: -Σ_k p_k log p_k, nats, not divided by log K.
- ``energy``: -T log Σ_k exp(z_k / T) (Liu et al. 2020).

Mask models, with logits m_q(x) of each query's mask and c_q of its K classes and "no object". T
divides c_q, so that it acts inside the model, before queries are summed:
P_q = softmax(c_q / T) over K + 1, and S_k(x) = Σ_q P_qk σ(m_q(x)) over the K classes (Cheng et al.
2021). Masks have no temperature.

- ``rba``: -Σ_k tanh S_k (Nayal et al. 2023, arXiv 2211.14293).
- ``rba_course``: 1 - Σ_k S_k. So some public code of the mask-architecture anomaly course project
  (EoMT on road scenes) has it: nothing squashes S_k, so that a pixel which several masks of one
  class cover goes on getting less anomalous; other forks of it have ``rba`` itself.
- ``msp_sum``: 1 - max_k S_k (Rai et al. 2023, Mask2Anomaly, arXiv 2307.13316). S is no
  distribution: a pixel that no mask covers gets 1. The ranking of max-logit on S.
- ``msp_softmax``: 1 - max_k softmax(S / T)_k, S at T = 1: a softmax over sums, as code that takes S
  for logits has it (EoMT's per-pixel logits are S). Here alone T acts after the sum; a pixel
  that no mask covers gets 1 - 1/K.
- ``msp_query``: -Σ_q σ(m_q) max_k P_qk (Grcić et al. 2023, EAM, arXiv 2301.03407): every query is
  as sure as its best class, whichever that is.

This package's EoMT gives log S as per-pixel logits, so that ``msp`` of them at T is
1 - max_k S_k^(1/T) / Σ_j S_j^(1/T): a sixth one, where T acts after the sum too.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from segsweep.calibration.pixels import Floats, blocks, refuse
from segsweep.calibration.tails import Tails, log_one_more, share
from segsweep.registry import suggest

PIXEL_SCORES = ("msp", "max_logit", "max_entropy", "energy")
MASK_SCORES = ("rba", "rba_course", "msp_sum", "msp_softmax", "msp_query")
HEADS = ("pixel", "binary", "mask")


def check_names(names: Sequence[str], known: Sequence[str], what: str = "score") -> None:
    """Are these names known?

    Raises:
        CalibrationError: one is not.
    """
    for name in names:
        if name not in known:
            raise refuse(f"there is no {what} {name!r}", hint=suggest(name, known))


def check_temperatures(temperatures: Sequence[float], where: str = "") -> None:
    """Are these temperatures?

    Raises:
        CalibrationError: there is none, or one is not a positive number.
    """
    wrong = [one for one in temperatures if not 0 < one < np.inf]
    if wrong or not len(temperatures):
        raise refuse(f"{wrong or 'nothing'} is no temperature", where, "T > 0")


def pixel_scores(
    logits: Floats, temperature: float, names: Sequence[str] = PIXEL_SCORES
) -> dict[str, Floats]:
    """(N,) float32 by name, of logits (N, K), or (N,) or (N, 1) of a binary head.

    Raises:
        CalibrationError: an unknown name, no temperature, NaN or infinite logits.
    """
    check_names(names, PIXEL_SCORES)
    check_temperatures([temperature])
    found = {name: np.empty(len(logits), np.float32) for name in names}
    for block in blocks(logits, np.zeros(len(logits), np.uint8)):
        tails = Tails(block.logits)
        odds, entropy = tails.at(temperature, entropy="max_entropy" in names)
        for name, values in found.items():
            if name == "msp":
                values[block.index] = share(odds)
            elif name == "max_logit":
                values[block.index] = -tails.top
            elif name == "energy":
                values[block.index] = -(tails.top + np.float32(temperature) * log_one_more(odds))
            elif entropy is not None:
                values[block.index] = np.exp(entropy)
    return found


def mask_scores(
    masks: Floats, classes: Floats, temperature: float, names: Sequence[str] = MASK_SCORES
) -> dict[str, Floats]:
    """(H, W) float32 by name.

    Args:
        masks: (Q, H, W) logits that a pixel is in the query's mask, at the size of the labels.
        classes: (Q, K + 1) logits of the query's class, "no object" last.
        temperature: T.
        names: of MASK_SCORES.

    Raises:
        CalibrationError: an unknown name, no temperature, shapes that do not fit, NaN logits or
            infinite ones of classes; a mask's logit may be -inf: the pixel is not in it.
    """
    check_names(names, MASK_SCORES)
    check_temperatures([temperature])
    if masks.ndim != 3 or classes.ndim != 2 or len(masks) != len(classes) or classes.shape[1] < 3:
        raise refuse(
            f"masks of shape {masks.shape} and classes of {classes.shape} do not fit",
            hint="(Q, H, W) and (Q, K + 1), K ≥ 2, 'no object' last",
        )
    if np.isnan(masks).any() or not np.isfinite(classes).all():
        raise refuse("logits of masks or classes are NaN or infinite")
    covered = _sigmoid(masks.reshape(len(masks), -1))
    known = _known(classes, temperature)
    found: dict[str, Floats] = {}
    for name in names:
        if name == "msp_query":
            values = -(known.max(axis=1) @ covered)
        elif name == "msp_softmax":
            sums = _known(classes, 1.0).T @ covered
            values = share(Tails(sums).at(temperature, entropy=False)[0])
        else:
            sums = known.T @ covered
            values = {
                "rba": lambda s: -np.tanh(s).sum(axis=0),
                "rba_course": lambda s: 1 - s.sum(axis=0),
                "msp_sum": lambda s: 1 - s.max(axis=0),
            }[name](sums)
        found[name] = values.astype(np.float32).reshape(masks.shape[1:])
    return found


def ranking_depends_on_temperature(score: str, head: str, classes: int) -> bool:
    """Can another T rank pixels otherwise? If not, one T is enough.

    - ``max_logit`` has no T.
    - Of two classes, ``msp`` and ``max_entropy`` fall with |z₁ - z₀|, at every T; so does
      ``msp_softmax``, with |S₁ - S₀|.
    - ``energy`` of a binary head is -T log(1 + exp(z / T)), which falls with z at every T. Of two
      logits that are both free it is not monotone in one number, and T matters.

    Args:
        score: of PIXEL_SCORES, or of MASK_SCORES for ``mask``.
        head: ``pixel`` (K logits), ``binary`` (z for the logits 0, z) or ``mask``.
        classes: K, 2 for a binary head.

    Raises:
        CalibrationError: an unknown name.
    """
    check_names([head], HEADS, "kind of head")
    check_names([score], MASK_SCORES if head == "mask" else PIXEL_SCORES)
    if score in ("msp", "max_entropy", "msp_softmax"):
        return classes > 2
    if score == "energy":
        return head == "pixel"
    return score != "max_logit"


def _known(classes: Floats, temperature: float) -> Floats:
    """(Q, K): softmax(c / T) over K + 1, without "no object"."""
    scaled = classes.astype(np.float64) / temperature
    scaled -= scaled.max(axis=1, keepdims=True)
    p = np.exp(scaled)
    p /= p.sum(axis=1, keepdims=True)
    return p[:, :-1].astype(np.float32)


def _sigmoid(values: Floats) -> Floats:
    """σ, without overflow."""
    small = np.exp(-np.abs(values.astype(np.float32)))
    found: Floats = np.where(values >= 0, np.float32(1), small) / (1 + small)
    return found
