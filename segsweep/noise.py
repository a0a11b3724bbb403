"""The noise of scores: one estimate a cell, for the race and for ``compare``.

**Model.** A score is config + fold + noise, and a cell's noise has a variance of its own. Config
effects are taken out by centring each config, so that a system is as small as the folds are few
(Frisch and Waugh 1933). The race compares configs of one cell: each cell has fold effects of its
own (``residual``). ``compare`` sets cells against each other: they share fold effects, so that what
one cell alone finds hard in a fold is noise (``across``).

**Shrinkage.** A cell has few degrees of freedom. Its variance is shrunk towards the common one, as
Smyth (2004, limma's "moderated" variance) does it for genes: s̃² = (d₀s₀² + ds²) / (d₀ + d), with
d₀ + d degrees of freedom and never more than all cells have together. d₀ comes from how far
the cells' variances scatter beyond what their degrees of freedom explain. A few cells cannot show
that all are alike, so that one standard error is added to that scatter: d₀ is large only where
many cells say so.

**Shared luck.** The k training sets of a cross-validation overlap, so that a config's folds share
some luck. That luck looks like a better config, and no residual shows it. ``overlap`` is Nadeau and
Bengio's (2003) allowance for it: the variance of a mean over k folds is σ²(1/k + test/train).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
STEPS = 2  # of weighting in ``across``; with few scores, more would fit the noise
LEAST_DOF = 3.5  # of a cell's own, below which the common noise is nearer: two configs on 3 folds
NOTHING = 1e-12  # share of a sum of squares that is rounding
FLOOR = 1e-4  # of the common variance: below, a cell's logarithm says more than its scores
GRID = np.linspace(-8.0, 8.0, 257)  # where the maximum of standard normals is integrated over


@dataclass(frozen=True)
class Noise:
    """Standard deviation of one trial's score, and the degrees of freedom behind it."""

    sigma: float
    dof: float


@dataclass(frozen=True)
class Sums:
    """What the fit needs to know of a config, or, added up, of a cell.

    Attributes:
        design: (k, k), ZᵀZ of the fold columns Z, centred by config.
        product: (k,), Zᵀy of the centred scores y.
        squares: yᵀy.
        count: scores less configs.
    """

    design: Array
    product: Array
    squares: float
    count: int


@dataclass(frozen=True)
class Estimate:
    """The noise of every cell.

    Attributes:
        own: one for each cell, in the order given; None for one that has no degree of freedom
            and no other cells to borrow from.
        common: of all cells together, as if they were alike.
    """

    own: Sequence[Noise | None]
    common: Noise


def sums(folds: Sequence[int], scores: Sequence[float], total: int) -> Sums:
    """Those of one config.

    Args:
        folds: of each score, from 0.
        scores: of the finished trials, in any order; a fold may occur several times (replicates).
        total: k, the folds there are.
    """
    columns = np.zeros((len(folds), total))
    columns[np.arange(len(folds)), list(folds)] = 1.0
    columns -= columns.mean(axis=0)
    own = np.asarray(scores, dtype=np.float64)
    own = own - own.mean()
    return Sums(columns.T @ columns, columns.T @ own, float(own @ own), len(own) - 1)


def added(parts: Sequence[Sums]) -> Sums:
    """Those of a cell, from those of its configs (at least one)."""
    return Sums(
        np.sum([part.design for part in parts], axis=0),
        np.sum([part.product for part in parts], axis=0),
        float(sum(part.squares for part in parts)),
        sum(part.count for part in parts),
    )


def residual(cell: Sums) -> tuple[float, int]:
    """Sum of squares and degrees of freedom of what config + fold leave of one cell."""
    values, vectors = np.linalg.eigh(cell.design)
    some = values > 1e-10 * max(1.0, values[-1])
    dof = cell.count - int(some.sum())
    if dof <= 0:
        return 0.0, 0
    fitted = np.square(vectors[:, some].T @ cell.product) / values[some]
    return float(_rounded(cell.squares - fitted.sum(), cell.squares)), dof


def across(cells: Sequence[Sums]) -> Estimate | None:
    """The noise of each cell, of cells that share the fold effects.

    In these, each cell weighs by its own precision. A cell's variance is its residual sum of
    squares over its share of the degrees of freedom: a step towards restricted maximum likelihood
    (Patterson and Thompson 1971; Harville 1977). A cell with too few has the common variance.

    Returns:
        None where no config shares two folds with another.
    """
    design = np.stack([cell.design for cell in cells])
    product = np.stack([cell.product for cell in cells])
    whole = np.array([cell.squares for cell in cells])
    count = np.array([cell.count for cell in cells], dtype=np.float64)
    weights, found = np.ones(len(cells)), None
    for _ in range(STEPS if len(cells) > 1 else 1):
        inverse = np.linalg.pinv(np.tensordot(weights, design, 1), rcond=1e-10, hermitian=True)
        folds = inverse @ (weights @ product)
        squares = _rounded(whole - 2 * product @ folds + (design @ folds) @ folds, whole)
        dof = count - weights * np.einsum("ij,cji->c", inverse, design)
        found = moderated(squares, np.where(dof > 1e-6, dof, 0.0))
        if found is None or found.common.sigma == 0:
            break
        known = np.array([n.sigma if n else found.common.sigma for n in found.own])
        weights = 1 / np.maximum(np.square(known / found.common.sigma), FLOOR)
    if found is None:
        return None
    knows = (dof >= LEAST_DOF).tolist()
    own = [one if enough else found.common for one, enough in zip(found.own, knows, strict=True)]
    return Estimate(own, found.common)


def moderated(squares: Array, dof: Array) -> Estimate | None:
    """Variances of cells, shrunk towards the common one.

    Args:
        squares: (C,) sums of squares.
        dof: (C,) their degrees of freedom; a cell may have none.

    Returns:
        None where no cell has any.
    """
    total = float(dof.sum())
    if total <= 0:
        return None
    common = Noise(float(np.sqrt(squares.sum() / total)), total)
    if common.sigma == 0:
        return Estimate([Noise(0.0, total)] * len(dof), common)
    some = dof > 0
    variance, weight = _prior(squares[some] / dof[some], dof[some], common.sigma**2)
    own: list[Noise | None] = []
    for own_squares, own_dof in zip(squares, dof, strict=True):
        both = weight + own_dof
        if both <= 0:
            own.append(None)
            continue
        sigma = np.sqrt((weight * variance + own_squares) / both)
        own.append(Noise(float(sigma), float(min(both, total))))
    return Estimate(own, common)


def _rounded(squares: Any, whole: Any) -> Any:
    """Nothing where all that is left of a sum of squares is rounding."""
    return np.where(squares > NOTHING * whole, squares, 0.0)


def _prior(variances: Array, dof: Array, common: float) -> tuple[float, float]:
    """s₀² and d₀ (Smyth 2004, section 6.2), from cells that weigh by their degrees of freedom.

    Returns:
        The common variance and 0, which leaves each cell to itself, where there is only one.
    """
    from scipy import special  # a second to load, which commands are not to wait for

    cells = len(dof)
    if cells < 2:
        return common, 0.0
    half = dof / 2
    logs = np.log(np.maximum(variances, FLOOR * common)) - special.digamma(half) + np.log(half)
    weight = dof / dof.sum()
    expected = float(weight @ special.zeta(2, half))  # the trigamma function
    fourth = float(weight @ (6 * special.zeta(4, half)))  # its second derivative
    centre = float(weight @ logs)
    left = 1 - float(weight @ weight)
    scatter = float(weight @ np.square(logs - centre)) / left
    effective = 1 / (1 - left)  # cells that weigh alike count in full
    error = np.sqrt(2 * expected**2 / max(effective - 1, 1e-9) + fourth / effective)
    prior = 2 * _inverse_trigamma(max(0.0, scatter - expected) + error)
    return float(np.exp(centre + special.digamma(prior / 2) - np.log(prior / 2))), prior


def _inverse_trigamma(value: float) -> float:
    """Where ψ′ is ``value``, by Newton on 1/ψ′, which is nearly straight (Smyth 2004, appendix)."""
    from scipy import special

    if value > 1e7:
        return float(1 / np.sqrt(value))
    x = 0.5 + 1 / value
    for _ in range(50):
        first = float(special.zeta(2, x))
        step = first * (1 - first / value) / (-2 * float(special.zeta(3, x)))
        x += step
        if abs(step) < 1e-10 * x:
            break
    return float(x)


def overlap(folds: int) -> float:
    """Nadeau and Bengio's test/train of k-fold cross-validation, 1/(k − 1).

    It is the share of one score's variance that the mean over the folds keeps however many there
    are: a luck of 1/√(k − 1) of the noise between folds that all folds of a config share.
    """
    return 1 / (folds - 1) if folds > 1 else 1.0


@cache
def luck_shares(tried: int) -> Array:
    """On ``GRID``: the share of the maximum of so many standard normals that falls to each point.

    The trapezoidal rule, which is exact to rounding for what is smooth and ends in zeros.
    """
    from scipy import special

    normal = np.exp(-np.square(GRID) / 2) / np.sqrt(2 * np.pi)
    density: Array = tried * normal * special.ndtr(GRID) ** (tried - 1) * (GRID[1] - GRID[0])
    return density


def luck(tried: int) -> float:
    """The expected maximum of so many standard normals: what picking the best of them gives."""
    return float(GRID @ luck_shares(tried)) if tried > 1 else 0.0
