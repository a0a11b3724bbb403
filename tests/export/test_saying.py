"""What an export says of itself: precision, undefined scores, intervals, the graph's own facts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from segsweep.errors import RunError
from segsweep.export import describing, folder, intervals, scoring
from segsweep.export.choosing import best_slot, choose
from segsweep.export.exporting import export
from segsweep.export.graph import Graph
from segsweep.launching import launch
from segsweep.metrics import scores
from segsweep.state import TrialState
from tests.export.conftest import Launched
from tests.helpers import tiny, write_sweep


def test_masks_of_a_trial_in_half_precision_are_compared(tmp_path: Path) -> None:
    data = tiny(configs_per_cell=1, factors__loss=["bce"], train__precision="bf16")
    path = launch(write_sweep(tmp_path, data), runner="inline").run_directory
    real = scoring.examples

    def touched(place: Path) -> Any:
        images, masks = real(place) or pytest.fail("no examples")
        flipped = masks.copy()
        flipped[0, :2, :3] ^= 1  # whatever rounding did, six pixels more or fewer differ
        return images, flipped

    def masks(out: str) -> dict[str, Any]:
        export(path, tmp_path / out, onnx=False)
        found: dict[str, Any] = folder.verified(tmp_path / out)["masks"]
        return found

    honest = masks("out")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(scoring, "examples", touched)
        other = masks("other")
    assert other["differing"] > 0
    assert abs(other["differing"] - honest["differing"]) <= 6
    assert other["share"] == other["differing"] / other["pixels"]
    assert folder.verified(tmp_path / "out")["precision"] == "bf16"
    card = (tmp_path / "other" / folder.CARD).read_text()
    assert f"trained in bf16; computed in fp32, {other['differing']} of {other['pixels']}" in card


@pytest.mark.parametrize("folds", [{0}, {0, 1}])
@pytest.mark.parametrize("ensemble", [False, True])
def test_a_metric_that_is_undefined_is_said(
    launched: Launched, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, folds: set[int],
    ensemble: bool,
) -> None:  # fmt: skip
    config, real = launched.champion, TrialState.best

    def some(self: TrialState, goal: str) -> float | None:
        return None if int(self.trial_id.rpartition("-f")[2]) in folds else real(self, goal)

    monkeypatch.setattr(TrialState, "best", some)
    which = "fold 0" if folds == {0} else "folds 0, 1"
    with pytest.raises(RunError, match=f"val/iou is undefined on {which}") as caught:
        choose(launched.run)
    assert "--retry" not in str(caught.value)
    assert "launching again changes nothing" in str(caught.value)
    assert best_slot(launched.run, config) == ((1, 0) if folds == {0} else (0, 0))
    export(
        launched.path, tmp_path / "out", config_id=config.config_id, onnx=False, ensemble=ensemble
    )
    metrics = json.loads((tmp_path / "out" / folder.METRICS).read_text())
    assert (metrics["mean"], metrics["std"]) == (None, None)
    assert [one["value"] is None for one in metrics["folds"]] == [f in folds for f in (0, 1)]
    card = (tmp_path / "out" / folder.CARD).read_text()
    assert f"val/iou is undefined on {which} (" in card
    assert "no mean over the folds (fold 0: –" in card


def by_hand(
    matrix: NDArray[np.int64], names: tuple[str, ...], groups: list[str]
) -> dict[str, list[float]]:
    """The bootstrap as it is told: draw groups, take their images, score them."""
    own = [np.flatnonzero(np.asarray(groups) == name) for name in dict.fromkeys(groups)]
    rng, found = np.random.default_rng(0), []
    for _ in range(50):
        chosen = rng.integers(len(own), size=len(own))
        found.append(scores(matrix[np.concatenate([own[i] for i in chosen])], names))
    drawn = {name: [one[name] for one in found] for name in found[0]}
    return {name: [v for v in values if v is not None] for name, values in drawn.items()}


@pytest.mark.parametrize("names", [("a", "b"), ("a", "b", "c")])
def test_intervals_are_those_of_draws_one_by_one(names: tuple[str, ...]) -> None:
    rng = np.random.default_rng(1)
    matrix = rng.integers(0, 50, size=(12, len(names), len(names))).astype(np.int64)
    matrix[3:6, :, 1] = matrix[3:6, 1] = 0  # a class that images lack
    groups = [f"p{(7 * i) % 5}" for i in range(12)]
    found = intervals.intervals(matrix, names, groups, resamples=50)
    for name, drawn in by_hand(matrix, names, groups).items():
        low, high = np.percentile(drawn, [2.5, 97.5])
        assert found[name]["low"] == pytest.approx(low, rel=1e-12)
        assert found[name]["high"] == pytest.approx(high, rel=1e-12)


def test_the_graph_says_what_it_needs(exported: Path) -> None:
    import onnx

    props = onnx.load(exported / folder.GRAPH).metadata_props
    found = {prop.key: json.loads(prop.value) for prop in props if prop.key in WANTED}
    facts = json.loads((exported / folder.PREPROCESSING).read_text())
    fitted = json.loads((exported / folder.CALIBRATION).read_text())["value"]
    assert found == {
        "classes": ["background", "lesion"], "temperature": fitted, "size": [32, 32],
        "mean": facts["mean"], "std": facts["std"],
    }  # fmt: skip


WANTED = ("classes", "temperature", "size", "mean", "std")


def test_one_size_has_a_reason_in_plain_words() -> None:
    written = Graph(20, False, 0, "Gather node 'node_select_8'", 0.0, 1.0, ())
    assert "grids" in describing.plainly(written, "pspnet/resnet18").why_one_size
    assert describing.plainly(written, "fpn/resnet18") == written
