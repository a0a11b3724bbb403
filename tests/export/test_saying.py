"""What an export says of itself: precision, undefined scores, intervals, the graph's own facts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from segsweep import bootstrap, rundir
from segsweep.compare import analyse
from segsweep.errors import RunError
from segsweep.export import describing, folder, intervals, members, scoring, sweepfile
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
    metrics = json.loads((tmp_path / "out" / folder.METRICS).read_text())
    assert metrics["out_of_fold"]["precision"] == "bf16"
    assert metrics["holdout"]["precision"] == "fp32"  # as the exported model computes
    card = (tmp_path / "other" / folder.CARD).read_text()
    assert "(9 images, computed in bf16)" in card
    assert "(3 images, computed in fp32)" in card
    assert "Scores that were computed in bf16 are those of the trials" in card
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
    counts = np.random.default_rng(0).multinomial(len(own), [1 / len(own)] * len(own), size=50)
    found = []
    for times in counts:
        chosen = np.concatenate([np.repeat(own[i], n) for i, n in enumerate(times)])
        found.append(scores(matrix[chosen], names))
    return {name: [v for one in found if (v := one[name]) is not None] for name in found[0]}


@pytest.mark.parametrize("names", [("a", "b"), ("a", "b", "c")])
def test_intervals_are_those_of_draws_one_by_one(names: tuple[str, ...]) -> None:
    rng = np.random.default_rng(1)
    matrix = rng.integers(1, 50, size=(12, len(names), len(names))).astype(np.int64)
    groups = [f"p{i % 6}" for i in range(12)]
    found = intervals.intervals(matrix, names, groups, resamples=50)
    for name, drawn in by_hand(matrix, names, groups).items():
        one, value = found[name], scores(matrix, names)[name]
        assert value is not None
        assert value == one["value"]
        shares = _shares(matrix, name, names)
        behind = bootstrap.groups(np.arange(12) % 6, shares)
        spread = bootstrap.Replicas(value, np.asarray(drawn)).spread(behind)
        ends = bootstrap.interval(value, spread, least=0, most=1)
        assert (one["low"], one["high"]) == pytest.approx(ends, rel=1e-9)


def _shares(
    matrix: NDArray[np.int64], name: str, names: tuple[str, ...]
) -> NDArray[np.float64] | None:
    """How much of a score rests on each image, of masks that have every class everywhere."""
    if name.endswith(("per_image", "present")):
        return None
    if name == "pixel_accuracy":
        return np.asarray(matrix.sum(axis=(1, 2)), np.float64)
    hit = np.diagonal(matrix, axis1=1, axis2=2)
    touched = matrix.sum(axis=1) + matrix.sum(axis=2) - hit
    if len(names) == 2 or name.startswith("iou_"):
        label = 1 if len(names) == 2 else names.index(name.removeprefix("iou_"))
        truth = matrix.sum(axis=2)[:, label]
        unlike = [(one.reshape(2, 6).sum(axis=0) / one.sum()) for one in (touched[:, label], truth)]
        least = max(range(2), key=lambda i: float(unlike[i] @ unlike[i]))
        return np.asarray((touched[:, label], truth)[least], np.float64)
    shares: NDArray[np.float64] = (touched / touched.sum(axis=0)).sum(axis=1)
    return shares


def test_the_holdout_of_a_trial_in_half_precision_is_scored_as_it_is_shipped(
    tmp_path: Path,
) -> None:
    """Other masks than the trial's: the scores are those of the exported model's masks."""
    data = tiny(configs_per_cell=1, factors__loss=["bce"], train__precision="bf16")
    launched = Launched(launch(write_sweep(tmp_path, data), runner="inline").run_directory)
    export(launched.path, tmp_path / "out", onnx=False)
    checked = sweepfile.checked(tmp_path / "out" / folder.CONFIG, launched.run, launched.champion)
    assert checked.holdout is not None
    model = members.load(tmp_path / "out" / folder.WEIGHTS)
    counted, _ = scoring.judge(model, checked.holdout, launched.champion.config)
    shipped = scores(counted.matrix, ("background", "lesion"))
    metrics = json.loads((tmp_path / "out" / folder.METRICS).read_text())
    for name, one in metrics["holdout"]["scores"].items():
        assert one["value"] == shipped[name]


def test_the_cards_spread_with_replicates_is_that_of_compare(tmp_path: Path) -> None:
    data = tiny(configs_per_cell=1, factors__loss=["bce"], replicates=2, train__epochs=3)
    run = launch(write_sweep(tmp_path, data), runner="inline").run_directory
    export(run, tmp_path / "out", onnx=False)
    metrics = json.loads((tmp_path / "out" / folder.METRICS).read_text())
    found = rundir.load(run)
    (row,) = analyse([found]).standings
    assert metrics["mean"] == pytest.approx(row.mean)
    assert metrics["std"] == pytest.approx(row.std)
    values = [one["value"] for one in metrics["folds"]]
    assert len(values) == 4
    assert metrics["std"] != pytest.approx(np.std(values, ddof=1))
    card = (tmp_path / "out" / folder.CARD).read_text()
    assert "over 2 folds, the mean of 2 replicates on each" in card
    assert "scores averaged over 2 replicates" in card
    each = []
    for replicate in (0, 1):
        parts = [
            scoring.evidence(found, choose(found), (fold, replicate), "evidence.safetensors")
            for fold in (0, 1)
        ]
        matrix = np.concatenate([part.matrix for part in parts if part is not None])
        each.append(scores(matrix, ("background", "lesion"))["iou"] or np.nan)
    assert metrics["out_of_fold"]["scores"]["iou"]["value"] == pytest.approx(np.mean(each))


def test_replicates_are_averaged_as_compare_averages_them() -> None:
    """Two replicates whose scores differ: their mean, over the same draws of images."""
    rng = np.random.default_rng(1)
    both = rng.integers(1, 50, size=(2, 9, 2, 2)).astype(np.int64)
    found = intervals.intervals(both, ("a", "b"))
    alone = [intervals.intervals(one, ("a", "b")) for one in both]
    for name, one in found.items():
        assert one["value"] == pytest.approx(np.mean([two[name]["value"] for two in alone]))
        assert one["low"] < one["value"] < one["high"]


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
