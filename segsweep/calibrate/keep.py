"""Which validation logits ``launch`` keeps: of champions first, then of the best, up to a cap."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from segsweep.calibrate import compute
from segsweep.calibrate.compute import Item, Shared
from segsweep.calibrate.logits_file import VALIDATION
from segsweep.calibrate.targets import own
from segsweep.check import Checked
from segsweep.interrupt import Interrupt
from segsweep.next_command import called, command
from segsweep.plan import logits_bytes
from segsweep.progress import BEST
from segsweep.runners import Runner
from segsweep.spec import SweepSpec
from segsweep.state import ConfigState, SearchState
from segsweep.trial import directory


def finished(spec: SweepSpec, state: SearchState) -> list[ConfigState]:
    """Configs that have finished all folds: champions first, then from best to worst."""
    champions = set(state.champions.values())
    sign = 1 if spec.metric.goal == "maximize" else -1
    scored = [
        (config.config_id in champions, sign * mean, config)
        for config in state.configs.values()
        if (mean := config.mean(spec.slots, spec.metric.goal)) is not None
    ]
    return [config for _, _, config in sorted(scored, key=lambda one: one[:2], reverse=True)]


def wanted(
    spec: SweepSpec, state: SearchState, place: Path, classes: int, images: Sequence[int]
) -> tuple[list[Item], int]:
    """The trials whose logits are kept, and how many configs find no room.

    Args:
        spec: says what is kept and how much room there is.
        state: of the search.
        place: the run directory.
        classes: of the data set.
        images: of each fold's validation.
    """
    if spec.calibration.keep == "none":
        return [], 0
    left, items, without = 1e9 * spec.calibration.disk_gb, [], 0
    champions = set(state.champions.values())
    for config in finished(spec, state):
        if spec.calibration.keep == "champions" and config.config_id not in champions:
            continue
        count = sum(images[fold] for fold, _ in spec.slots)
        size = logits_bytes(spec, config.config["model"], classes, count)
        if size > left:
            without += 1
            continue
        left -= size
        items += [
            (config.config_id, *slot, VALIDATION)
            for slot in spec.slots
            if (directory(place, config.config_id, *slot) / BEST).exists()
        ]
    return items, without


def keep(
    checked: Checked,
    state: SearchState,
    place: Path,
    runner: Runner,
    gpu: float,
    interrupt: Interrupt,
) -> list[str]:
    """Keep the out-of-fold logits of finished configs; what could not be kept, a line each."""
    spec, folds = checked.spec, checked.folds
    counts = [len(folds.validation_indices(fold)) for fold in range(folds.k)]
    items, without = wanted(spec, state, place, len(checked.data.classes), counts)
    shared = Shared(
        targets={VALIDATION: own(VALIDATION, checked.data)},
        assignment=folds.assignment,
        run_directory=str(place),
        pixels=spec.calibration.pixels,
        seed=spec.seed,
        cpus=spec.resources.cpu,
        gpu=gpu,
    )
    notes, failed = [], []
    for found in runner.map(compute.ensure, shared, items, spec) if items else ():
        if "error" in found:
            failed.append(found["error"])
        interrupt.check()
    if failed:
        notes.append(f"validation logits of {len(failed)} trials are not kept: {failed[0]}")
    if without:
        how = f"`{command('calibrate', called(place))}` computes them"
        notes.append(
            f"validation logits of {without} configs are not kept: calibration.disk_gb "
            f"{spec.calibration.disk_gb:g} is used up; {how}"
        )
    return notes
