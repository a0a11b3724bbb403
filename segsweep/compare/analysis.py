"""From runs to a comparison: the order in which the parts are put together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from segsweep import results
from segsweep.bootstrap import FEWEST, Groups
from segsweep.bootstrap import together as all_groups
from segsweep.compare import (
    candidates,
    claims,
    evidence,
    influence,
    intervals,
    noise,
    resampling,
    tables,
    together,
    warn,
)
from segsweep.compare.candidates import Candidate, Champion
from segsweep.compare.comparison import (
    Comparison,
    Importances,
    Interval,
    Standing,
    Tests,
    Where,
)
from segsweep.compare.effects import effects
from segsweep.compare.importance import Trial, importances
from segsweep.compare.noise import Noises
from segsweep.compare.ranking import NO_USE
from segsweep.compare.resampling import ImageNoise
from segsweep.compare.scoring import Array, Scorer, scorer
from segsweep.compare.warn import Drawn
from segsweep.errors import Problem, RunError
from segsweep.identity import since
from segsweep.next_command import called, command, goes_on
from segsweep.noise import overlap
from segsweep.rundir import Run
from segsweep.state import SearchState
from segsweep.workload import epochs_of

NO_COUNTS = "its images cannot be drawn: pixel counts do not hold this metric, or are not there"
OTHERWISE = "an earlier segsweep defined it otherwise, so that its pixel counts give another number"
ALPHA = 0.05
DRAWS = 20_000  # ends of intervals by so many are good to a hundredth of their width or so


@dataclass(frozen=True)
class _Read:
    """The runs, read.

    Attributes:
        everyone: configs of all runs; ``best`` the champions among them, best first.
        images: ``results.IMAGES`` of the champions.
        groups: image id → group.
        notes: what was mended.
    """

    runs: Sequence[Run]
    states: Sequence[SearchState]
    everyone: Sequence[Candidate]
    best: Sequence[Champion]
    images: pa.Table
    groups: Mapping[str, str]
    score: Scorer | None
    notes: Sequence[str]

    @property
    def goal(self) -> str:
        return self.runs[0].spec.metric.goal

    @property
    def folds(self) -> list[int]:
        return sorted({fold for fold, _ in self.runs[0].spec.slots})

    @property
    def replicates(self) -> int:
        return self.runs[0].spec.replicates

    @property
    def champions(self) -> list[Candidate]:
        return [champion.best for champion in self.best]

    @property
    def shared(self) -> float:
        """Allowance for the luck that the folds of a config share, see ``noise.overlap``."""
        return overlap(self.runs[0].spec.folds.k)

    def finished(self) -> list[Array]:
        """For each champion (n, k, R) scores of the configs of its cell that have finished."""
        slots = len(self.runs[0].spec.slots)
        found = []
        for one in self.champions:
            own = [
                c
                for c in self.everyone
                if (c.run, c.cell) == (one.run, one.cell) and len(c.scores) == slots
            ]
            scores = candidates.grid(own, self.folds, self.replicates)
            assert scores is not None  # noqa: S101 - they have finished every fold
            found.append(scores)
        return found


@dataclass(frozen=True)
class _Found:
    """What was found on the folds, or on the holdout.

    Attributes:
        images: None: nothing to resample.
        groups: that could be drawn from; None where images cannot be drawn at all.
        refused: why there are no intervals; None: there are.
    """

    scores: Array
    tests: Tests
    intervals: Sequence[Interval | None]
    images: ImageNoise | None
    groups: Groups | None
    refused: str | None

    @property
    def drawn(self) -> Drawn:
        """For warnings."""
        return Drawn(self.images is not None, self.groups, self.refused)


def analyse(
    runs: Sequence[Run],
    *,
    alpha: float = ALPHA,
    seed: int = 0,
    draws: int = DRAWS,
    loaded: Sequence[tables.Tables] | None = None,
) -> Comparison:
    """Compare the champions of one sweep, or of several on the same data and folds.

    Args:
        runs: as ``rundir.load`` returns them, finished or not.
        alpha: level of the tests; intervals are at 1 - alpha.
        seed: of the resampling: the same input gives the same numbers. Tests draw nothing, and
            intervals print the digits that another seed would give as well.
        draws: how many times images are drawn.
        loaded: the runs' tables; None reads them.

    Raises:
        RunError: no config has finished yet; or the runs are of different data, folds, metric or
            holdout, with each difference.
    """
    together.refuse_different(runs)
    read = _read(runs, [tables.load(run) for run in runs] if loaded is None else loaded)
    rng = np.random.default_rng(seed)
    folds = _on_folds(read, alpha, draws, rng)
    held = _on_holdout(read, alpha, draws, rng)
    tests: dict[Where, Tests] = {"folds": folds.tests}
    if held is not None:
        tests["holdout"] = held.tests
    apart = {pair.worse for pair in folds.tests.pairs
             if pair.told_apart and pair.better == read.best[0].best.config_id}  # fmt: skip
    rows = [_standing(read, i, folds, held, apart) for i in range(len(read.best))]
    tied = [row for row in rows if row.tied]
    fastest = candidates.fastest([c.best for c, r in zip(read.best, rows, strict=True) if r.tied])
    drawn: dict[Where, Drawn] = {"folds": folds.drawn}
    if held is not None:
        drawn["holdout"] = held.drawn
    spec = runs[0].spec
    return Comparison(
        runs=[run.spec.name for run in runs],
        metric=spec.metric.name,
        goal=spec.metric.goal,
        folds=len(read.folds),
        replicates=read.replicates,
        grouped=spec.folds.group_by if read.groups else None,
        standings=rows,
        unfinished=candidates.unfinished(together.names(runs), spec.slots, read.everyone),
        final=all(together.done(run) for run in runs),
        tests=tests,
        tied=[row.config_id for row in tied],
        fastest=fastest[0] if fastest else None,
        equally_fast=fastest,
        smallest=_smallest(tied),
        effects=effects(
            [r.levels for r in rows], [r.mean for r in rows], goal=read.goal, alpha=alpha
        ),
        importances=_importances(read),
        limits=claims.limits(read.shared),
        warnings=[
            *warn.missing(runs, read.states, read.best),
            *warn.warnings(runs, rows, tests, drawn, read.groups),
        ],
        notes=list(read.notes),
    )


def _read(runs: Sequence[Run], loaded: Sequence[tables.Tables]) -> _Read:
    states, everyone, images, notes = [], [], [], []
    for index, (run, found) in enumerate(zip(runs, loaded, strict=True)):
        states.append(SearchState(run.metric, run.events))
        everyone += candidates.candidates(index, run, states[-1], found)
        images.append(found.images)
        notes += [f"{run.spec.name}: {n}" if len(runs) > 1 else n for n in found.notes]
    spec = runs[0].spec
    names = together.names(runs)
    best = candidates.champions(names, spec.slots, everyone, spec.metric.goal)
    if not best:
        where = " and ".join(str(run.path) for run in runs)
        what = "no config has finished all of its folds yet"
        hint = f"`{command('status', called(runs[0].path))}` says how far it is; {goes_on(runs[0])}"
        if told := warn.undefined_in(runs, states):
            what, hint = f"no config has a score on every fold: {'; '.join(told)}", NO_USE
        raise RunError(Problem(what, where, "", hint))
    wanted = pa.array([name for c in best for name in c.best.trials.values()])
    kept = pa.concat_tables([t.filter(pc.is_in(t["trial_id"], wanted)) for t in images])
    own = dict.fromkeys(name for run in runs for name in results.class_scores(run.events))
    score = scorer(spec.metric.name.removeprefix("val/"), list(own))
    groups = runs[0].split.get("groups") or {}
    return _Read(runs, states, everyone, best, kept, groups, score, notes)


def _on_folds(read: _Read, alpha: float, draws: int, rng: np.random.Generator) -> _Found:
    scores = candidates.grid(read.champions, read.folds, read.replicates)
    assert scores is not None  # noqa: S101 - champions have finished every fold
    known = noise.estimate(scores, read.finished())
    parts = [_part(read, scores[:, at], [fold]) for at, fold in enumerate(read.folds)]
    whole = [part for part in parts if part is not None]
    images = exact = behind = None
    if read.score is not None and len(whole) == len(parts):
        images = resampling.over_folds(whole, read.replicates, read.score, draws, rng)
        exact = influence.over_folds(whole, read.replicates, read.score)
        behind = all_groups([part.behind(read.score) for part in whole])
    return _found("folds", read, scores.mean(axis=2), known, images, exact, behind, alpha)


def _on_holdout(read: _Read, alpha: float, draws: int, rng: np.random.Generator) -> _Found | None:
    """None where there is no holdout, or a champion was not scored on it (yet)."""
    scores = candidates.grid(read.champions, read.folds, read.replicates, holdout=True)
    if scores is None:
        return None
    known = noise.estimate_alone(scores)
    part = _part(read, scores, read.folds, split="holdout")
    images = exact = behind = None
    if part is not None and read.score is not None:
        count = len(read.folds)
        images = resampling.over_holdout(part, count, read.replicates, read.score, draws, rng)
        exact = influence.over_holdout(part, count, read.replicates, read.score)
        behind = part.behind(read.score)
    return _found("holdout", read, scores.mean(axis=2), known, images, exact, behind, alpha)


def _part(
    read: _Read, scores: Array, folds: Sequence[int], split: str = "validation"
) -> resampling.Part | None:
    """Images under all champions' trials on some folds; ``scores``: theirs, in that order."""
    if read.score is None:
        return None
    slots = [(fold, r) for fold in folds for r in range(read.replicates)]
    names = [champion.trials[slot] for champion in read.champions for slot in slots]
    recorded = scores.ravel().tolist()
    return evidence.part(read.images, names, split, read.groups, read.score, recorded)


def _found(
    where: Where,
    read: _Read,
    scores: Array,
    known: Noises | None,
    images: ImageNoise | None,
    exact: ImageNoise | None,
    groups: Groups | None,
    alpha: float,
) -> _Found:
    """Intervals by drawn images, tests by influences: what is claimed hangs on no draw."""
    entrants = [claims.Entrant(c.best.config_id, c.tried) for c in read.best]
    refused = _refused(where, scores, known, images, groups)
    if refused == NO_COUNTS and since(min(run.identity for run in read.runs)):
        refused = OTHERWISE
    seen = None if where == "holdout" and refused else exact
    tests = claims.test(
        where, entrants, scores, known, seen, goal=read.goal, alpha=alpha,
        # replicates average seeds out, and not the training sets that they share
        shared=read.shared * read.replicates,
    )  # fmt: skip
    if refused is not None:
        return _Found(scores, tests, [None] * len(scores), images, groups, refused)
    of = intervals.of_folds if where == "folds" else intervals.of_holdout
    found = of(scores, known, images, alpha=alpha)
    ends = [intervals.clipped(one, read.runs[0].spec.metric.name) for one in found]
    return _Found(scores, tests, ends, images, groups, refused)


def _refused(
    where: Where,
    scores: Array,
    known: Noises | None,
    images: ImageNoise | None,
    groups: Groups | None,
) -> str | None:
    """Why a mean has no interval; None: it has one."""
    if images is not None and images.groups.refused:
        return images.groups.refused
    if groups is not None and groups.count < FEWEST:
        return groups.refused
    if where == "holdout" and images is None:
        return NO_COUNTS
    if known is None and scores.shape[1] < 2:
        return "there is one fold, and no replicates"
    if where == "holdout" and known is None:
        return "nothing says how far another seed moves a score"
    return None


def _standing(
    read: _Read, at: int, folds: _Found, held: _Found | None, apart: set[str]
) -> Standing:
    champion = read.best[at]
    best, scores = champion.best, folds.scores[at]
    beyond = _beyond(read, best) if held is None else held.scores[at].tolist()
    return Standing(
        run=read.runs[best.run].spec.name,
        cell=best.cell,
        label=champion.label,
        config_id=best.config_id,
        levels=best.levels,
        params=best.params,
        scores=dict(zip(read.folds, scores.tolist(), strict=True)),
        mean=float(scores.mean()),
        std=float(scores.std(ddof=1)) if len(scores) > 1 else None,
        interval=folds.intervals[at],
        holdout=float(np.mean(beyond)) if beyond else None,
        holdout_std=float(np.std(beyond, ddof=1)) if len(beyond) > 1 else None,
        holdout_interval=held.intervals[at] if held else None,
        configs=champion.tried,
        finished=champion.finished,
        parameters=best.parameters,
        runtime_ms=best.runtime_ms,
        tied=best.config_id not in apart,
        no_interval=folds.refused,
        no_holdout_interval=held.refused if held else None,
    )


def _beyond(read: _Read, best: Candidate) -> list[float]:
    """By fold, of a champion whose every fold model was scored on the holdout; else nothing."""
    scores = candidates.grid([best], read.folds, read.replicates, holdout=True)
    return [] if scores is None else scores[0].mean(axis=1).tolist()


def _smallest(tied: Sequence[Standing]) -> str | None:
    """Of those with the fewest parameters the best; None where all have as many."""
    known = [(row.parameters, at) for at, row in enumerate(tied) if row.parameters is not None]
    if len(known) > 1 and len({parameters for parameters, _ in known}) == 1:
        return None
    return tied[min(known)[1]].config_id if known else None


def _importances(read: _Read) -> Importances:
    """From the best score up to the first rung, of every config on its first fold.

    One with fewer epochs is taken at its end.
    """
    sign = 1 if read.goal == "maximize" else -1
    stopping = read.runs[0].spec.early_stopping
    every = [config for state in read.states for config in state.configs.values()]
    last = max(map(epochs_of, every), default=1)
    epoch = last if stopping.type == "none" else min(stopping.grace_period, last)
    trials = []
    for index, state in enumerate(read.states):
        for config in state.configs.values():
            first = config.trials.get((0, 0))
            values = first.values.items() if first else []
            seen = [sign * value for at, value in values if at <= epoch and value is not None]
            if seen:
                cell = f"{index} {config.cell}"
                trials.append(Trial(cell, config.levels, config.params, max(seen)))
    return importances(trials, epoch)
