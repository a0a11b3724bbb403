"""Which champions can be told apart? The null is not chance over images: it is another seed.

Two names of one config would differ, too: by the seeds of their trials. A gap counts where it is
larger than that, by Student's t on the noise of both champions' cells (``noise.py``), two-sided,
with Holm's correction for the number of pairs (Holm 1979), so that among all pairs of equally good
cells even one false claim is made with probability alpha at most. Degrees of freedom are Welch and
Satterthwaite's. Luck that all folds of a config share, because their training sets overlap, is
allowed for by Nadeau and Bengio's factor (``segsweep.noise.overlap``). A champion is the luckiest
of its cell: where the leader's cell has tried more configs than the other's, or noisier ones, the
luck that this brings is taken off the gap before it is tested (``segsweep.noise.luck``).
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy import stats

from segsweep.compare.comparison import Pair, Tests, Where
from segsweep.compare.noise import Noises
from segsweep.compare.resampling import ImageNoise
from segsweep.compare.scoring import Array
from segsweep.noise import luck

LEAST_DOF = 3  # below, no gap that a sweep will see is large enough, and none is claimed


@dataclass(frozen=True)
class Entrant:
    """A champion in the tests: its config id, and how many configs it is the best of."""

    config_id: str
    tried: int


@dataclass(frozen=True)
class _Width:
    """Standard error of a gap, and its degrees of freedom."""

    error: float
    dof: float


def test(
    where: Where,
    entrants: Sequence[Entrant],
    scores: Array,
    noise: Noises | None,
    images: ImageNoise | None,
    *,
    goal: str,
    alpha: float,
    shared: float,
) -> Tests:
    """Test every pair of champions.

    Args:
        where: on the folds, or on the holdout.
        entrants: the champions.
        scores: (C, k) of theirs, replicates averaged.
        noise: of one score of each.
        images: how far other images move the champions; on the holdout, None means no claim.
        goal: maximize or minimize.
        alpha: probability of even one false claim.
        shared: the variance of the luck that all folds of a config share, in those of one score.
    """
    sign = 1 if goal == "maximize" else -1
    means = sign * scores.mean(axis=1)
    part = 1 / scores.shape[1] + shared  # of one score's variance, in the mean
    seen = where == "folds" or images is not None
    apart = _apart(where, noise, images, scores.shape[1]) if noise else None
    found: list[tuple[Pair, _Width | None, float]] = []
    for i, j in itertools.combinations(range(len(entrants)), 2):
        a, b = (i, j) if means[i] >= means[j] else (j, i)
        width = _width(a, b, part, noise, apart) if noise else None
        known = width if seen and width and width.dof >= LEAST_DOF else None
        bonus = _bonus(entrants, a, b, noise, part) if noise else 0.0
        gap = float(means[a] - means[b])
        names = entrants[a].config_id, entrants[b].config_id
        found.append((_pair(names, gap, bonus, known, alpha), known, bonus))
    pairs = _corrected([pair for pair, *_ in found], alpha)
    needed = [
        _needed(width, more, len(found), alpha) if width else np.inf for _, width, more in found
    ]
    some = [gap for gap in needed if np.isfinite(gap)]
    least = float(np.median(some)) if some else None
    claim = _claim(where, pairs, noise, needed, least, scores.shape, alpha, images is None)
    ids = [entrant.config_id for entrant in entrants]
    own = dict(zip(ids, noise.own, strict=True)) if noise else {}
    return Tests(where, alpha, noise.common if noise else None, own, shared, pairs, least, claim)


def _apart(
    where: Where, noise: Noises, images: ImageNoise | None, folds: int
) -> tuple[Array, float] | None:
    """How far other images move each two means apart, as (C, C) variances, and their dof.

    None where there are no images, or where the noise holds them: residuals of folds hold what two
    champions find differently hard.
    """
    if images is None or (where == "folds" and noise.common.source == "residuals"):
        return None
    common = np.atleast_2d(np.cov(images.means, rowvar=False, bias=True))
    found = np.diag(common)[:, None] + np.diag(common) - 2 * common
    if noise.common.source == "residuals":
        found = found - 2 * images.interaction() / folds
    return np.maximum(found, 0.0), float(images.dof)


def _width(a: int, b: int, part: float, noise: Noises, apart: tuple[Array, float] | None) -> _Width:
    """Of the gap between two means; ``part`` of one score's variance is in each."""
    error, dof = welch([(part * noise.variances[i], float(noise.dof[i])) for i in (a, b)])
    dof = min(dof, noise.common.dof)  # both were shrunk towards the same, and share fold effects
    if apart is not None:
        error, dof = welch([(error**2, dof), (float(apart[0][a, b]), apart[1])])
    return _Width(error, dof)


def welch(parts: Sequence[tuple[float, float]]) -> tuple[float, float]:
    """Standard error of a sum of independent parts, and its degrees of freedom.

    Welch (1947) and Satterthwaite (1946).

    Args:
        parts: the variance of each, and the degrees of freedom that it was estimated with.
    """
    total = sum(variance for variance, _ in parts)
    if total <= 0:
        return 0.0, sum(dof for _, dof in parts)
    spent = sum(variance**2 / dof for variance, dof in parts if variance > 0)
    return float(np.sqrt(total)), float(total**2 / spent)


def _bonus(entrants: Sequence[Entrant], a: int, b: int, noise: Noises, part: float) -> float:
    """How far the leader, the best of equal configs, is expected ahead of another such best."""
    lucky = [luck(entrants[i].tried) * float(np.sqrt(part * noise.variances[i])) for i in (a, b)]
    return max(0.0, lucky[0] - lucky[1])


def _pair(
    names: tuple[str, str], gap: float, bonus: float, width: _Width | None, alpha: float
) -> Pair:
    better, worse = names
    if width is None:
        return Pair(better, worse, gap, None, None, None, told_apart=False)
    half = float(stats.t.ppf(1 - alpha / 2, width.dof)) * width.error
    left = max(0.0, gap - bonus)
    if width.error > 0:
        p = float(2 * stats.t.sf(left / width.error, width.dof))
    else:
        p = 0.0 if left > 0 else 1.0
    return Pair(better, worse, gap, (gap - half, gap + half), p, None, told_apart=False)


def _corrected(pairs: Sequence[Pair], alpha: float) -> list[Pair]:
    """Pairs without a p count as well: which have one depends on the data."""
    corrected = holm([1.0 if pair.p is None else pair.p for pair in pairs]) if pairs else []
    return [
        pair if pair.p is None else replace(pair, p_holm=value, told_apart=value < alpha)
        for pair, value in zip(pairs, corrected, strict=True)
    ]


def holm(values: Sequence[float]) -> list[float]:
    """Probabilities corrected for their number (Holm 1979), as statsmodels has it.

    The smallest of m counts m times, the next m - 1 times, and none less than one before it;
    statsmodels' own collects garbage at each call, which takes 0.2 s.
    """
    order = np.argsort(values)
    times = np.arange(len(values), 0, -1)
    raised = np.minimum(1.0, np.maximum.accumulate(np.asarray(values)[order] * times))
    corrected = np.empty(len(values))
    corrected[order] = raised
    return [float(value) for value in corrected]


def _needed(width: _Width, bonus: float, pairs: int, alpha: float) -> float:
    """The gap of a pair that the strictest of the corrected tests would take for real.

    Args:
        width: of the gap.
        bonus: what the leader has from more tries, which the gap has to exceed.
        pairs: how many are tested together.
        alpha: of all of them.
    """
    return bonus + float(stats.t.ppf(1 - alpha / (2 * pairs), width.dof)) * width.error


def _claim(
    where: Where,
    pairs: Sequence[Pair],
    noise: Noises | None,
    needed: Sequence[float],
    least: float | None,
    shape: tuple[int, ...],
    alpha: float,
    blind: bool,
) -> str:
    """What can be said, in a sentence or two."""
    cells, folds = shape
    place = "on the holdout" if where == "holdout" else "on the folds"
    many = f"{folds} fold{'s' if folds > 1 else ''}"
    if cells < 2:
        return "There is one champion: nothing to tell it from."
    if noise is None:
        return (
            f"No difference can be claimed {place}: {many} without replicates cannot tell a "
            "better config from a luckier seed. Run more folds, or `replicates: 3`."
        )
    if where == "holdout" and blind:
        return (
            "No difference can be claimed on the holdout: this metric does not follow from "
            "pixel counts, or there are too few images, so that other images cannot be drawn."
        )
    if least is None:
        dof = f"{noise.common.dof:.3g}"
        return (
            f"No difference can be claimed {place}: {cells} champions on {many} leave "
            f"{dof} degree{'' if dof == '1' else 's'} of freedom for the noise between "
            "seeds. Run more folds, or `replicates: 3`."
        )
    apart = sum(pair.told_apart for pair in pairs)
    at = max(range(len(pairs)), key=lambda place: pairs[place].gap)
    largest = f"the largest gap is {pairs[at].gap:.4f}"
    if pairs[at].gap >= least:  # more than most pairs need
        largest += f", where {needed[at]:.4f} is needed"
    reach = (
        f"{many} and a noise of {_sizes(noise)} between seeds"
        f"{' and other images' if where == 'holdout' else ''} tell gaps of about {least:.4f} and "
        "more apart"
    )
    if not apart:
        return f"No difference can be claimed {place}: {reach}; {largest}."
    return (
        f"{apart} of {len(pairs)} pairs are told apart {place}, at {100 * alpha:g} % for all pairs "
        f"together (Holm): {reach}."
    )


def _sizes(noise: Noises) -> str:
    """One size, or from the quietest to the noisiest cell where they print differently."""
    low, high = (f"{end:.4f}" for end in np.sqrt([noise.variances.min(), noise.variances.max()]))
    return low if low == high else f"{low} to {high}"


def limits(shared: float) -> str:
    """Which source of variation the tests and the race allow for, and which they do not."""
    return (
        "Each cell has its own noise estimate, shrunk towards the common one. The folds of a "
        "config share some luck, because their training sets overlap; a cross-validation cannot "
        f"show how much. Tests and race allow for {np.sqrt(shared):.2f} of the noise between folds "
        "(Nadeau and Bengio 2003). More than that is not covered. Intervals of means hold for the "
        "training sets of this sweep."
    )
