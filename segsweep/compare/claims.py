"""Which champions can be told apart? The null is not chance over images: it is another seed.

Two names of one config would differ, too: by the seeds of their trials. A gap counts where it is
larger than that, by Student's t on the noise of ``noise.py``, two-sided, with Holm's correction for
the number of pairs (Holm 1979), so that among all pairs of equally good cells even one false claim
is made with probability alpha at most. A champion is the luckiest of its cell: where the
leader's cell has tried more configs than the other's, the luck that this brings is taken off the
gap before it is tested (``noise.luck``).
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy import stats

from segsweep.compare.comparison import Noise, Pair, Tests, Where
from segsweep.compare.noise import luck
from segsweep.compare.resampling import ImageNoise
from segsweep.compare.scoring import Array

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
    noise: Noise | None,
    images: ImageNoise | None,
    *,
    goal: str,
    alpha: float,
) -> Tests:
    """Test every pair of champions.

    Args:
        where: on the folds, or on the holdout.
        entrants: the champions.
        scores: (C, k) of theirs, replicates averaged.
        noise: of one score.
        images: how far other images move the champions; on the holdout, None means no claim.
        goal: maximize or minimize.
        alpha: probability of even one false claim.
    """
    sign = 1 if goal == "maximize" else -1
    means = sign * scores.mean(axis=1)
    claimed = noise is not None and noise.dof >= LEAST_DOF
    claimed = claimed and (where == "folds" or images is not None)
    found: list[tuple[Pair, _Width | None, float]] = []
    for i, j in itertools.combinations(range(len(entrants)), 2):
        a, b = (i, j) if means[i] >= means[j] else (j, i)
        width = _width(where, a, b, scores.shape[1], noise, images) if noise else None
        known = width if claimed else None
        bonus = _bonus(entrants[a], entrants[b], noise, scores.shape[1])
        gap = float(means[a] - means[b])
        names = entrants[a].config_id, entrants[b].config_id
        found.append((_pair(names, gap, bonus, known, alpha), known, bonus))
    pairs = _corrected([pair for pair, *_ in found], alpha)
    needed = [_needed(width, more, len(found), alpha) for _, width, more in found if width]
    least = float(np.median(needed)) if needed else None
    claim = _claim(where, pairs, noise, needed, scores.shape, alpha, images is None)
    return Tests(where, alpha, noise, pairs, least, claim)


def _width(
    where: Where, a: int, b: int, folds: int, noise: Noise, images: ImageNoise | None
) -> _Width:
    """Of the gap between two means; residuals of folds hold what the two find differently hard."""
    seeds = 2 * noise.sigma**2 / folds
    if images is None or (where == "folds" and noise.source == "residuals"):
        return _Width(float(np.sqrt(seeds)), noise.dof)
    apart = float((images.means[:, a] - images.means[:, b]).var())
    if noise.source == "residuals":
        apart = max(0.0, apart - 2 * images.interaction() / folds)
    total = apart + seeds
    parts = apart**2 / images.dof + seeds**2 / noise.dof
    dof = total**2 / parts if parts > 0 else float(noise.dof)  # Welch-Satterthwaite
    return _Width(float(np.sqrt(total)), dof)


def _bonus(leader: Entrant, other: Entrant, noise: Noise | None, folds: int) -> float:
    if noise is None or leader.tried <= other.tried:
        return 0.0
    return (luck(leader.tried) - luck(other.tried)) * noise.sigma / float(np.sqrt(folds))


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
    values = [pair.p for pair in pairs if pair.p is not None]
    if not values:
        return list(pairs)
    corrected = iter(holm(values))
    return [
        replace(pair, p_holm=value, told_apart=value < alpha)
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
    noise: Noise | None,
    needed: Sequence[float],
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
    if noise.dof < LEAST_DOF or not needed:
        return (
            f"No difference can be claimed {place}: {cells} champions on {many} leave "
            f"{noise.dof} degree{'s' if noise.dof > 1 else ''} of freedom for the noise between "
            "seeds. Run more folds, or `replicates: 3`."
        )
    least = float(np.median(needed))
    apart = sum(pair.told_apart for pair in pairs)
    at = max(range(len(pairs)), key=lambda place: pairs[place].gap)
    largest = f"the largest gap is {pairs[at].gap:.4f}"
    if pairs[at].gap >= least:  # more than most pairs need
        largest += f", where {needed[at]:.4f} is needed"
    reach = (
        f"{many} and a noise of {noise.sigma:.4f} between seeds"
        f"{' and other images' if where == 'holdout' else ''} tell gaps of about {least:.4f} and "
        "more apart"
    )
    if not apart:
        return f"No difference can be claimed {place}: {reach}; {largest}."
    return (
        f"{apart} of {len(pairs)} pairs are told apart {place}, at {100 * alpha:g} % for all pairs "
        f"together (Holm): {reach}."
    )
