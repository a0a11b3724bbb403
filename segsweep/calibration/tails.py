"""What a softmax leaves to all classes but the highest, at any temperature, without underflow.

With m the highest logit, m₂ the second and β = 1/T, r = Σ_{k ≠ top} exp(β (z_k - m)) is
exp(β (m₂ - m)) · S with S = Σ_{k ≠ top} exp(β (z_k - m₂)) ≥ 1, so that log r is known however
certain a pixel is. All scores are monotone in few such numbers: 1 - max p = r / (1 + r), the energy
is -(m + T log(1 + r)), and the entropy is log(1 + r) + β r M / (1 + r), M being the mean of m - z_k
over the classes but the highest, weighted by exp(β z_k).
"""

from __future__ import annotations

import numpy as np

from segsweep.calibration.pixels import Floats, parts

_GONE = np.float32(-1e30)  # whose exponential is 0 at every temperature, and 0 times which is 0


class Tails:
    """Logits (K, n), class first, prepared for many temperatures; the array is written to.

    Attributes:
        top: (n,) m.
        gap: (n,) m - m₂ ≥ 0.
    """

    def __init__(self, logits: Floats) -> None:
        self.two = len(logits) == 2
        self.top: Floats = logits.max(axis=0)
        if self.two:
            self.gap: Floats = np.abs(logits[1] - logits[0])
            return
        first = logits.argmax(axis=0)
        np.put_along_axis(logits, first[None], _GONE, axis=0)
        second = logits.max(axis=0)
        self.gap = self.top - second
        logits -= second
        np.put_along_axis(logits, first[None], _GONE, axis=0)
        self._below = logits  # z_k - m₂

    def at(self, temperature: float, *, entropy: bool) -> tuple[Floats, Floats | None]:
        """Log r, and log of the entropy (nats) where it is asked for; (n,) each."""
        beta = np.float32(1 / temperature)
        odds = self.gap * -beta
        spread = self.gap
        if not self.two:
            total, moment = self._sums(beta, entropy)
            odds += np.log(total)
            if moment is not None:
                moment /= total
                spread = self.gap - moment
        if not entropy:
            return odds, None
        return odds, _log_entropy(odds, spread * beta)

    def _sums(self, beta: np.float32, entropy: bool) -> tuple[Floats, Floats | None]:
        """S, and Σ exp(β (z_k - m₂)) (z_k - m₂)."""
        pixels = len(self.top)
        total = np.empty(pixels, np.float32)
        moment = np.empty(pixels, np.float32) if entropy else None
        e: Floats | None = None
        for part in parts(pixels):
            below = self._below[:, part]
            if e is None or e.shape != below.shape:
                e = np.empty(below.shape, np.float32)
            np.multiply(below, beta, out=e)
            np.exp(e, out=e)
            np.add.reduce(e, axis=0, out=total[part])
            if moment is not None:
                np.multiply(e, below, out=e)
                np.add.reduce(e, axis=0, out=moment[part])
        return total, moment


def share(odds: Floats) -> Floats:
    """1 - max p of log r: r / (1 + r)."""
    r: Floats = np.exp(np.minimum(odds, 80))
    r /= 1 + r
    return r


def log_one_more(odds: Floats) -> Floats:
    """log(1 + r) of log r."""
    r: Floats = np.exp(np.minimum(odds, 80))
    r += 1
    np.log(r, out=r)
    return r


def _log_entropy(odds: Floats, spread: Floats) -> Floats:
    """Log of H = log(1 + r) + r · spread / (1 + r), as log r + log(H / r)."""
    r = np.exp(np.minimum(odds, 80))
    more = r + 1
    spread /= more
    # log(1 + r) / r, exactly also where 1 + r is rounded (Goldberg 1991, theorem 4)
    ratio: Floats = np.log(more)
    more -= 1
    np.divide(ratio, more, out=ratio, where=more != 0)
    ratio[more == 0] = 1
    ratio += spread
    np.log(ratio, out=ratio)
    ratio += odds
    return ratio
