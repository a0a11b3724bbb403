"""The temperature that an exported model's logits are divided by, and where it comes from."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

from segsweep.calibration.temperature import Fit
from segsweep.errors import CalibrationError
from segsweep.export.folder import sha256
from segsweep.next_command import called, command
from segsweep.progress import BEST
from segsweep.rundir import Run
from segsweep.state import ConfigState, Slot
from segsweep.trial import directory

FITTED = "calibration.json"  # in the run directory, where `calibrate` has written one
Kind = Literal["fold", "ensemble", "retrained"]


@dataclass(frozen=True)
class Temperature:
    """Probabilities are softmax(logits / value); for one channel z, the sigmoid of z / value.

    Attributes:
        value: 1 where none was fitted.
        fitted: whether one was.
        source: where it comes from, or why there is none.
        at_bound: the fit found no minimum, and stopped at the end of what it looked at.
    """

    value: float
    fitted: bool
    source: str
    at_bound: bool = False

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for ``calibration.json``."""
        return asdict(self)


def of_run(run: Run, config: ConfigState, kind: Kind, slot: Slot | None = None) -> Temperature:
    """What the run's calibration has found for this config; T = 1 where it says nothing.

    Args:
        run: the run.
        config: of which a model is exported.
        kind: what the model is.
        slot: whose model it is, where it is a fold's: its own temperature was fitted on the
            validation images of its fold, which it was not trained on.
    """
    path = run.path / FITTED
    todo = f"`{command('calibrate', called(run.path))}` fits one"
    if not path.exists():
        return none(f"not calibrated: the run has no {FITTED}; {todo}")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        own = [one for one in content["models"] if one["config_id"] == config.config_id]
        if not own:
            return none(f"not calibrated: {FITTED} of the run leaves this config out; {todo}")
        if stale := _stale(run, config, content, own[0]):
            return none(f"not calibrated: {FITTED} of the run is of {stale}; {todo} again")
        alone = None if slot is None else _alone(own[0], slot)
        fit = alone or (own[0]["ensemble"] if kind == "ensemble" else own[0])
        value, at_bound = (None, False) if fit is None else _read(fit)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        what = f"{type(error).__name__}: {error}"
        return none(f"not calibrated: {FITTED} of the run cannot be used: {what}")
    if value is None:
        return none(f"not calibrated: {FITTED} of the run has no temperature of the ensemble")
    words = {
        "fold": "fitted on the validation images of its own fold, which it was not trained on"
        if alone
        else "fitted on the out-of-fold logits of all folds of this config",
        "ensemble": "fitted on the mean of the fold models' probabilities",
        "retrained": "that of the fold models of this config, fitted out of fold: no validation "
        "image is left for the retrained model itself",
    }
    return Temperature(value, True, f"{FITTED} of the run: {words[kind]}", at_bound)


def of_holdout(fit: Fit | CalibrationError) -> Temperature:
    """What was fitted on the held-out images, or why nothing could be."""
    if isinstance(fit, CalibrationError):
        return none(f"not calibrated: {fit.problems[0].what} (on the holdout)")
    return Temperature(fit.temperature, True, "fitted on the holdout", fit.at_bound)


def none(source: str) -> Temperature:
    """No temperature: probabilities are as the model gives them."""
    return Temperature(1.0, False, source)


def bound(value: float) -> str:
    """What to know about a temperature at the end of what was looked at."""
    return (
        f"T = {value:.4g} is at the end of what was looked at, where no minimum was found: "
        "the probabilities say little"
    )


def _alone(own: Mapping[str, Any], slot: Slot) -> Mapping[str, Any] | None:
    """The entry of one fold model, where the fit has found a minimum: all folds' may have one."""
    for fold in own.get("folds", ()):
        same = (fold["fold"] or 0, fold["replicate"] or 0) == slot
        if same and fold.get("temperature") is not None and not fold.get("at_bound", False):
            found: Mapping[str, Any] = fold
            return found
    return None


def _read(fit: Mapping[str, Any]) -> tuple[float, bool]:
    """The temperature of an entry of the run's calibration, and whether it is at its bound."""
    value = float(fit["temperature"])
    if not 0 < value < float("inf"):
        raise ValueError(f"{value} is no temperature")
    return value, bool(fit.get("at_bound", False))


def _stale(
    run: Run, config: ConfigState, content: Mapping[str, Any], own: Mapping[str, Any]
) -> str:
    """What the file is of, where it is not of these images and checkpoints."""
    if content.get("data") not in (None, run.split.get("fingerprint")):
        return "other images"
    for fold in own.get("folds", ()):
        slot = (fold["fold"] or 0, fold["replicate"] or 0)
        path = directory(run.path, config.config_id, *slot) / BEST
        if "checkpoint" in fold and (not path.exists() or sha256(path) != fold["checkpoint"]):
            return "other checkpoints"
    return ""
