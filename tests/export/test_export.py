"""``export``: what lies in the folder, and that there is none where something is wrong."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from segsweep import checkpoint, identity
from segsweep.check import check
from segsweep.errors import RunError
from segsweep.export import folder, members, scoring
from segsweep.export.choosing import choose
from segsweep.export.exporting import export
from segsweep.export.intervals import intervals
from segsweep.export.retraining import epochs_of
from segsweep.launching import launch
from segsweep.metrics import scores
from segsweep.progress import BEST
from segsweep.rundir import Lock
from tests.export.conftest import Launched
from tests.helpers import tiny, write_sweep


def content(out: Path, name: str) -> Any:
    return json.loads((out / name).read_text())


def test_the_folder_holds_what_is_promised(exported: Path, launched: Launched) -> None:
    assert {path.name for path in exported.iterdir()} == {
        *folder.NEEDED, folder.GRAPH, folder.MANIFEST,
    }  # fmt: skip
    manifest = folder.verified(exported)
    config = launched.champion
    assert manifest["source"]["config_id"] == config.config_id
    assert manifest["onnx"]["difference"] <= 1e-4 * max(1, manifest["onnx"]["largest"])
    assert {"torch", "onnx", "segsweep"} <= set(manifest["versions"])
    classes = content(exported, folder.CLASSES)["classes"]
    assert [one["name"] for one in classes] == ["background", "lesion"]
    assert content(exported, folder.PREPROCESSING)["resize"]["height"] == 32
    card = (exported / folder.CARD).read_text()
    assert config.config_id in card
    assert "(fitted on the holdout)" in card
    assert f"{manifest['parameters']:,} parameters" in card
    assert "trained in fp32; computed in fp32, 0 of " in card
    assert manifest["masks"]["differing"] == 0
    (timed,) = [e for e in launched.run.events if e["event"] == "runtime"][-1:]
    if timed["config_id"] == config.config_id:
        assert manifest["runtime"]["ms"] == timed["runtime_ms"]


def test_weights_are_those_of_the_best_fold(exported: Path, launched: Launched) -> None:
    tensors, _ = checkpoint.load(launched.trial / BEST)
    expected = checkpoint.unprefixed("model", tensors)
    found = members.load(exported / folder.WEIGHTS).state_dict()
    assert found.keys() == expected.keys()
    for name, value in found.items():
        assert torch.equal(value, expected[name])


def test_its_sweep_file_is_this_config(
    exported: Path, launched: Launched, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # it names no absolute place for runs
    checked = check(exported / folder.CONFIG)
    (cell,) = checked.cells
    found = identity.config_id(cell.config, checked.prepared.fingerprint, checked.folds.hash)
    assert found == launched.champion.config_id
    assert cell.budget == 1


def test_metrics_are_of_the_pooled_pixels(exported: Path, launched: Launched) -> None:
    metrics = content(exported, folder.METRICS)
    run, config = launched.run, launched.champion
    parts = [scoring.evidence(run, config, slot, "evidence.safetensors") for slot in config.trials]
    matrices = [part.matrix for part in parts if part is not None]
    pooled = scores(np.concatenate(matrices), ("background", "lesion"))
    found = metrics["out_of_fold"]["scores"]["iou"]
    assert found["value"] == pytest.approx(pooled["iou"])
    assert found["low"] <= found["value"] <= found["high"]
    assert metrics["out_of_fold"]["images"] == 9
    assert metrics["holdout"]["images"] == 3
    few = metrics["holdout"]["scores"]["iou"]
    assert (few["low"], few["high"]) == (None, None)
    assert few["no_interval"].endswith("and an interval needs 4")
    assert metrics["holdout"]["remarks"]


def test_intervals_are_wider_for_fewer_images_and_none_for_one() -> None:
    rng = np.random.default_rng(0)
    matrix = rng.integers(1, 50, size=(200, 2, 2)).astype(np.int64)

    def width(count: int) -> float:
        found = intervals(matrix[:count], ("a", "b"), resamples=200)["iou"]
        low, high = found["low"], found["high"]
        assert isinstance(low, float)
        assert isinstance(high, float)
        return high - low

    assert width(200) < width(10)
    assert intervals(matrix[:4], ("a", "b"))["iou"]["low"] is not None
    few = intervals(matrix[:3], ("a", "b"))["iou"]
    assert few["low"] is None
    assert few["no_interval"] == "it rests on 3 images, and an interval needs 4"


def test_images_of_a_patient_are_drawn_together() -> None:
    """Ten copies of an image under one patient say no more than the one."""
    rng = np.random.default_rng(0)
    matrix = rng.integers(1, 50, size=(12, 2, 2)).astype(np.int64)
    copies, patients = np.repeat(matrix, 10, axis=0), [str(i // 10) for i in range(120)]
    once = intervals(matrix, ("a", "b"))["iou"]
    assert intervals(copies, ("a", "b"), patients)["iou"] == pytest.approx(once)
    assert intervals(copies, ("a", "b"), ["one"] * 120)["iou"]["low"] is None


def test_the_card_says_that_groups_were_drawn(tmp_path: Path) -> None:
    data = tiny(folds__group_by="patient", configs_per_cell=1, factors__loss=["bce"])
    path = launch(write_sweep(tmp_path, data), runner="inline").run_directory
    export(path, tmp_path / "out", onnx=False)
    metrics = content(tmp_path / "out", folder.METRICS)
    assert 1 < metrics["out_of_fold"]["groups"] < metrics["out_of_fold"]["images"]
    assert "images that share `patient` are drawn" in (tmp_path / "out" / folder.CARD).read_text()


@pytest.mark.parametrize("name", [*folder.NEEDED, folder.GRAPH, folder.MANIFEST])
def test_one_changed_byte_is_found(exported: Path, tmp_path: Path, name: str) -> None:
    shutil.copytree(exported, tmp_path / "copy")
    path = tmp_path / "copy" / name
    raw = bytearray(path.read_bytes())
    place = raw.index(b"sha256") + 12 if name == folder.MANIFEST else len(raw) // 2
    raw[place] ^= 1
    path.write_bytes(bytes(raw))
    with pytest.raises(RunError, match=name):
        folder.verified(tmp_path / "copy")


def test_missing_files_are_all_named(exported: Path, tmp_path: Path) -> None:
    shutil.copytree(exported, tmp_path / "copy")
    for name in (folder.CLASSES, folder.GRAPH):
        (tmp_path / "copy" / name).unlink()
    with pytest.raises(RunError) as caught:
        folder.verified(tmp_path / "copy")
    assert len(caught.value.problems) == 2
    with pytest.raises(RunError, match="is no export folder"):
        folder.verified(tmp_path)


def test_nothing_is_written_over_or_left_behind(own: Launched, tmp_path: Path) -> None:
    taken = tmp_path / "taken"
    taken.mkdir()
    (taken / "mine").write_text("kept")
    with pytest.raises(RunError, match="is there already"):
        export(own.path, taken, onnx=False)
    assert (taken / "mine").read_text() == "kept"
    path = own.trial / BEST
    raw = bytearray(path.read_bytes())
    raw[-5] ^= 1
    path.write_bytes(bytes(raw))
    with pytest.raises(RunError, match=r"best\.safetensors: cannot be used") as caught:
        export(own.path, tmp_path / "out", onnx=False)
    assert "--config ID" in str(caught.value)
    assert {path.name for path in tmp_path.iterdir()} == {"own", "taken"}


def test_an_opset_that_cannot_be_leaves_nothing(launched: Launched, tmp_path: Path) -> None:
    with pytest.raises(RunError, match="no opset 999"):
        export(launched.path, tmp_path / "out", opset=999)
    assert not list(tmp_path.iterdir())


def test_a_run_still_going_is_refused_but_for_a_finished_config(
    own: Launched, tmp_path: Path
) -> None:
    config = own.champion.config_id
    lock = Lock(own.path)
    try:
        with pytest.raises(RunError, match="is still going on: pid") as caught:
            export(own.path, tmp_path / "out", onnx=False)
        assert "--config ID: finished: " in str(caught.value)
        assert config in str(caught.value)
        export(own.path, tmp_path / "one", config_id=config[:8], onnx=False)
    finally:
        lock.release()
    assert folder.verified(tmp_path / "one")["source"]["config_id"] == config


def test_an_interrupted_run_is_refused_with_what_to_do(own: Launched, tmp_path: Path) -> None:
    ledger = own.path / "ledger/events.jsonl"
    lines = ledger.read_text().splitlines(keepends=True)
    ledger.write_text("".join(line for line in lines if '"close"' not in line))
    with pytest.raises(RunError, match=r"was interrupted.*\n.*launch its sweep file again"):
        export(own.path, tmp_path / "out", onnx=False)


def test_configs_that_cannot_be_exported(launched: Launched) -> None:
    run = launched.run
    with pytest.raises(RunError, match="no such config") as caught:
        choose(run, "zzz")
    assert launched.champion.config_id in str(caught.value)
    half = [e for e in run.events if not (e["event"] == "end" and e["trial_id"].endswith("-f1"))]
    unfinished = type(run)(run.path, run.spec, half)
    with pytest.raises(RunError, match="has not finished all its folds"):
        choose(unfinished, launched.champion.config_id)
    with pytest.raises(RunError, match="no config has finished all its folds"):
        choose(unfinished)


def test_an_ensemble_has_all_folds_and_a_temperature_of_its_own(
    launched: Launched, tmp_path: Path
) -> None:
    found = export(launched.path, tmp_path / "out", ensemble=True)
    assert found.temperature.fitted
    assert found.temperature.source.startswith("fitted on the holdout")
    manifest = folder.verified(tmp_path / "out")
    assert manifest["source"]["folds"] == [0, 1]
    model = members.load(tmp_path / "out" / folder.WEIGHTS)
    assert isinstance(model, members.Ensemble)
    metrics = content(tmp_path / "out", folder.METRICS)
    assert metrics["holdout"]["images"] == 3
    with pytest.raises(RunError, match="does not go with --retrain"):
        export(launched.path, tmp_path / "no", ensemble=True, retrain_all=True)


def test_retraining_uses_every_image_that_is_not_held_out(own: Launched, tmp_path: Path) -> None:
    export(own.path, tmp_path / "out", retrain_all=True, onnx=False)
    source = folder.verified(tmp_path / "out")["source"]
    config = own.champion
    assert source["images"] == 9
    assert source["epochs"] == epochs_of(own.run, config)
    _, facts = checkpoint.load(own.path / "retrained" / config.config_id / BEST)
    assert facts["report"]["epoch"] == source["epochs"]
    assert facts["report"]["images"] == 9  # seen in an epoch
    assert not any(name.startswith("val_") for name in facts["report"])
    first = members.load(tmp_path / "out" / folder.WEIGHTS).state_dict()
    export(own.path, tmp_path / "again", retrain_all=True, onnx=False)  # from its checkpoint
    again = members.load(tmp_path / "again" / folder.WEIGHTS).state_dict()
    assert all(torch.equal(first[name], again[name]) for name in first)


def test_parents_that_were_made_vanish_with_it(own: Launched, tmp_path: Path) -> None:
    (own.trial / BEST).write_bytes(b"damaged")
    (tmp_path / "mine").mkdir()
    for out in ("np/x/y/z", "mine/x/z"):
        with pytest.raises(RunError, match="cannot be used"):
            export(own.path, tmp_path / out, onnx=False)
    (tmp_path / "file").write_text("kept")
    with pytest.raises(RunError, match="cannot be written"):
        export(own.path, tmp_path / "file/x", onnx=False)
    assert {path.name for path in tmp_path.iterdir()} == {"own", "mine", "file"}
    assert not list((tmp_path / "mine").iterdir())


@pytest.mark.parametrize("schedule", ["cosine", "plateau"])
def test_the_card_says_how_a_retrained_model_has_its_learning_rate(
    tmp_path: Path, schedule: str
) -> None:
    data = tiny(configs_per_cell=1, factors__loss=["bce"], train__schedule=schedule)
    path = launch(write_sweep(tmp_path, data), runner="inline").run_directory
    export(path, tmp_path / "out", onnx=False, retrain_all=True)
    card = (tmp_path / "out" / folder.CARD).read_text()
    assert ("with the learning rates that the folds had" in card) == (schedule == "cosine")
    assert ("cut where the training loss stood still" in card) == (schedule == "plateau")


def test_draws_in_parts_are_the_same_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    matrix = np.random.default_rng(0).integers(1, 50, size=(20, 2, 2)).astype(np.int64)
    whole = intervals(matrix, ("a", "b"), resamples=90)
    monkeypatch.setattr("segsweep.bootstrap.HELD", 7 * 20)
    for name, one in intervals(matrix, ("a", "b"), resamples=90).items():
        assert one["low"] == pytest.approx(whole[name]["low"], rel=1e-12)
        assert one["high"] == pytest.approx(whole[name]["high"], rel=1e-12)


def test_a_calibration_at_work_does_not_keep_a_champion_from_being_exported(
    own: Launched, tmp_path: Path
) -> None:
    lock = Lock(own.path, "calibrate")
    try:
        export(own.path, tmp_path / "out", onnx=False)
    finally:
        lock.release()
