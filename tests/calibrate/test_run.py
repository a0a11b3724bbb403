"""``calibrate`` on tiny finished runs: logits once, both sweeps, results, and what is refused."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from safetensors.numpy import load_file
from sklearn.metrics import roc_auc_score
from typer.testing import CliRunner

from segsweep import checkpoint, rundir
from segsweep.calibrate import files, logits_file, redraw, sweep
from segsweep.calibrate.options import parse_datasets
from segsweep.calibrate.run import Outcome, calibrate
from segsweep.calibrate.summary import best, disagreements, unmoved
from segsweep.cli import app
from segsweep.errors import RunError, SpecError, UserError
from segsweep.launching import launch
from segsweep.models import weightfile
from segsweep.state import SearchState
from tests.data.builders import make_folder, make_smiyc, picture, save
from tests.helpers import tiny, write_sweep

CLASSES = {"road": 0, "car": 1, "sky": 2, "dog": 3}
GRID = "calibration.temperatures.steps=5"


def sweep_of(folder: Path, **changes: Any) -> Path:
    root = make_folder(folder / "data", 12, CLASSES)
    dataset = {
        "name": "folder", "root": str(root), "classes": CLASSES, "image_size": [24, 32],
        "holdout": 0.25, "leave_out": ["dog"],
    }  # fmt: skip
    return write_sweep(
        folder,
        tiny(
            dataset=dataset,
            factors__loss=["cross_entropy"],
            metric={"name": "val/miou", "goal": "maximize"},
            parameters={"train.lr": {"min": 0.01, "max": 0.02}},
            train__epochs=12,
            calibration={"temperatures": {"steps": 5}, "scores": ["msp", "max_logit"]},
            **changes,
        ),
    )


@pytest.fixture(scope="module", autouse=True)
def few_draws() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sweep, "RESAMPLES", 60)
        patch.setattr(redraw, "DRAWS", 40)
        yield


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run directory that is not to be changed."""
    folder = tmp_path_factory.mktemp("finished")
    done = launch(sweep_of(folder), runner="inline")
    assert done.exit_code == 0
    assert done.notes == []
    return done.run_directory


@pytest.fixture
def run(finished: Path, outcome: Outcome, tmp_path: Path) -> Path:
    """A calibrated copy, with its images where they were."""
    copy = tmp_path / "runs" / "tiny"
    shutil.copytree(finished, copy)
    return copy


@pytest.fixture(scope="module")
def outcome(finished: Path) -> Outcome:
    return calibrate(str(finished), runner="inline")


def champion(run: Path) -> str:
    found = rundir.load(run)
    (config_id,) = SearchState(found.metric, found.events).champions.values()
    return config_id


def rows(run: Path, name: str) -> list[dict[str, Any]]:
    table = pq.read_table(run / "results" / f"{name}.parquet")
    assert table.schema.metadata[b"segsweep_schema"] == files.SCHEMA_VERSION.encode()
    found: list[dict[str, Any]] = table.to_pylist()
    return found


def test_launch_keeps_the_validation_logits_of_what_has_finished(finished: Path) -> None:
    kept = sorted(finished.glob("trials/*/fold*/logits.safetensors"))
    assert len(kept) == 2 * 2  # configs × folds
    tensors, facts = checkpoint.load(kept[0])
    assert tensors["logits"].dtype == torch.float32
    assert tensors["logits"].shape == (len(tensors["labels"]), 3)
    assert facts["classes"] == ["road", "car", "sky"]
    assert facts["anomalies"] == ["dog"]


def test_calibrate_computes_the_holdout_alone_and_the_second_time_nothing(
    finished: Path, outcome: Outcome
) -> None:
    assert (outcome.computed, outcome.found) == (2, 2)
    before = {path: path.stat().st_mtime_ns for path in finished.glob("trials/*/*/*")}
    again = calibrate(str(finished), runner="inline")
    assert (again.computed, again.found) == (0, 4)
    assert before == {path: path.stat().st_mtime_ns for path in finished.glob("trials/*/*/*")}


def test_results_have_a_row_for_each_model_fold_dataset_scaling_temperature_and_metric(
    finished: Path, outcome: Outcome
) -> None:
    found = rows(finished, "calibration")
    keys = [
        (r["of"], r["fold"], r["dataset"], r["region"], r["scaling"], r["fitted"],
         r["fit"], r["temperature"], r["metric"])
        for r in found
    ]  # fmt: skip
    assert len(set(keys)) == len(keys)
    grid = {round(r["temperature"], 9) for r in found if not r["fitted"]}
    asked = {0.25, 0.5, 1.0, 2.0, 4.0}
    assert asked <= grid
    more = sorted(grid - asked)  # as far apart, where a metric is best at an end
    assert np.log2(more) == pytest.approx(np.round(np.log2(more)), abs=1e-6)
    assert bool(more) == any("the grid of T, which was widened" in one for one in outcome.notes)
    assert {r["metric"] for r in found} == {"nll", "brier", "ece", "ece_adaptive", "ece_classwise"}
    assert {r["scaling"] for r in found} == {"temperature", "vector", "class_temperatures"}
    assert {r["dataset"] for r in found} == {"validation", "holdout"}
    assert {(r["of"], r["fold"]) for r in found if r["dataset"] == "holdout"} == {
        ("fold", 0), ("fold", 1), ("ensemble", None),
    }  # fmt: skip
    for row in found:
        if row["dataset"] == "holdout":  # of 3 images
            assert row["low"] is row["high"] is row["gain_low"] is None
            assert row["no_interval"] == "it rests on 3 images, and an interval needs 4"
            continue
        assert row["low"] <= row["value"] <= row["high"]
        assert row["gain_low"] <= row["gain"] <= row["gain_high"]
        assert row["used"] is None or row["fitted"] or row["used"] == [row["temperature"]]
        if row["scaling"] == "temperature" and row["temperature"] == 1.0 and not row["fitted"]:
            assert row["gain"] == row["gain_low"] == row["gain_high"] == 0


def test_a_temperature_changes_no_accuracy_and_other_scalings_say_theirs(
    finished: Path, outcome: Outcome
) -> None:
    whole = [r for r in rows(finished, "calibration") if r["of"] == "config"]
    for region in ("all", "boundary"):
        own = [r for r in whole if r["region"] == region]
        plain = {r["accuracy"] for r in own if r["scaling"] == "temperature"}
        assert len(plain) == 1
        assert all(r["miou"] is not None for r in own if r["scaling"] == "vector")


def test_nll_at_one_is_torchs_and_the_fitted_temperature_is_from_other_folds(
    finished: Path, outcome: Outcome
) -> None:
    config_id = champion(finished)
    parts = [
        checkpoint.load(finished / "trials" / config_id / f"fold{fold}" / "logits.safetensors")[0]
        for fold in (0, 1)
    ]

    def nll(tensors: dict[str, torch.Tensor], temperature: float) -> float:
        labels = tensors["labels"].long()
        return float(
            torch.nn.functional.cross_entropy(
                tensors["logits"].double() / temperature, labels, ignore_index=255
            )
        )

    table = [r for r in rows(finished, "calibration") if r["region"] == "all"]
    own = [r for r in table if r["dataset"] == "validation" and r["metric"] == "nll"]
    for fold, tensors in enumerate(parts):
        at_one = next(r for r in own if r["fold"] == fold and r["temperature"] == 1.0)
        assert at_one["value"] == pytest.approx(nll(tensors, 1.0), rel=1e-5)
        fitted = next(r for r in own if r["fold"] == fold and r["fit"] == "others")
        assert fitted["used"] == [fitted["temperature"]]
        other = parts[1 - fold]
        values = np.geomspace(0.05, 20, 4001)
        wanted = values[np.argmin([nll(other, float(t)) for t in values[::40]]) * 40]
        assert fitted["temperature"] == pytest.approx(wanted, rel=0.1)
        assert fitted["value"] == pytest.approx(nll(tensors, fitted["temperature"]), rel=1e-4)


def test_the_left_out_class_is_the_anomaly_and_unmoved_scores_stand_once(
    finished: Path, outcome: Outcome
) -> None:
    found = rows(finished, "anomaly")
    logit = [r for r in found if r["score"] == "max_logit"]
    assert {r["temperature"] for r in logit} == {None}
    assert len({(r["of"], r["fold"], r["dataset"], r["metric"]) for r in logit}) == len(logit)
    assert len({r["temperature"] for r in found if r["score"] == "msp" and not r["fitted"]}) >= 5
    (line, _) = unmoved(outcome.judged[0])
    assert "max_logit" in line
    config_id = champion(finished)
    tensors, _ = checkpoint.load(finished / "trials" / config_id / "fold0" / "logits.safetensors")
    valid = tensors["anomaly"] != 255
    score = -tensors["logits"].max(dim=1).values[valid].numpy()
    wanted = roc_auc_score(tensors["anomaly"][valid].numpy(), score)
    row = next(
        r for r in logit
        if r["metric"] == "auroc" and r["fold"] == 0 and r["dataset"] == "validation"
    )  # fmt: skip
    assert row["value"] == pytest.approx(wanted, abs=max(1e-6, row["error"]))
    assert row["no_interval"] or row["low"] <= row["value"] <= row["high"]


def test_anomalies_of_a_fold_are_scored_at_the_temperature_of_the_other_folds(
    finished: Path, outcome: Outcome
) -> None:
    folds = {
        row["fold"]: row["temperature"]
        for row in rows(finished, "calibration")
        if row["of"] == "fold" and row["fit"] == "others" and row["dataset"] == "validation"
    }
    entry = outcome.judged[0].entry
    assert len({*folds.values(), entry["temperature"]}) == 3
    found = [r for r in rows(finished, "anomaly") if r["score"] == "msp" and r["fitted"]]
    own = [r for r in found if r["dataset"] == "validation" and r["metric"] == "auroc"]
    assert {r["fold"]: r["temperature"] for r in own} == {None: entry["temperature"], **folds}
    values = {}
    for fold, temperature in folds.items():
        path = finished / "trials" / champion(finished) / f"fold{fold}" / "logits.safetensors"
        tensors, _ = checkpoint.load(path)
        valid = tensors["anomaly"] != 255
        score = -(tensors["logits"][valid] / temperature).softmax(1).max(1).values
        values[fold] = roc_auc_score(tensors["anomaly"][valid].numpy(), score.numpy())
    values[None] = np.mean(list(values.values()))
    for row in own:
        assert row["value"] == pytest.approx(values[row["fold"]], abs=max(1e-5, row["error"]))
    held = [r for r in found if r["dataset"] == "holdout"]
    assert {r["temperature"] for r in held} == {entry["temperature"]}


def test_one_image_a_fold_and_one_held_out_have_no_intervals_and_everything_else(
    tmp_path: Path,
) -> None:
    data = tiny(
        dataset__images=5, dataset__holdout=0.2, folds__k=4, factors__loss=["bce"],
        configs_per_cell=1, train__batch_size=2, calibration={"temperatures": {"steps": 3}},
    )  # fmt: skip
    done = launch(write_sweep(tmp_path, data), runner="inline")
    calibrate(str(done.run_directory), runner="inline")
    found = rows(done.run_directory, "calibration")
    alone = [r for r in found if r["of"] == "fold"]
    assert {(r["fold"], r["dataset"]) for r in alone} == {
        (fold, name) for fold in range(4) for name in ("validation", "holdout")
    }
    assert all(r["images"] == 1 and r["value"] is not None for r in alone)
    assert {r[end] for r in alone for end in ("low", "high", "gain_low", "gain_high")} == {None}
    pooled = [r for r in found if r["of"] == "config"]
    assert all(r["low"] is not None and r["gain_low"] is not None for r in pooled)
    assert not any(r["grouped"] for r in found)


def test_where_folds_go_by_group_intervals_do_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And a relative root begins where the sweep was launched."""
    root = make_folder(tmp_path / "data", 15)
    names = sorted(path.name for path in (root / "images").iterdir())
    lines = ["image,patient", *(f"{name},p{i // 3}" for i, name in enumerate(names))]
    (root / "metadata.csv").write_text("\n".join(lines))
    dataset = {"name": "folder", "root": "data", "image_size": [24, 32], "holdout": 0.2}
    changes = {"factors__loss": ["bce"], "configs_per_cell": 1, "folds__k": 4}
    monkeypatch.chdir(tmp_path)
    data = tiny(dataset=dataset, folds__group_by="patient", **changes)
    done = launch(write_sweep(tmp_path, data), runner="inline")
    monkeypatch.chdir(tmp_path / "runs")
    done_notes = calibrate(str(done.run_directory), runner="inline", overrides=[GRID]).notes
    found = rows(done.run_directory, "calibration")
    assert all(r["grouped"] for r in found)
    one_patient = [r for r in found if r["of"] == "fold"]  # a fold, or the holdout, is one
    assert {r["images"] for r in one_patient} == {3}
    assert {r["low"] for r in one_patient} == {None}
    assert {r["no_interval"] for r in one_patient} == {
        "it rests on 1 group, and an interval needs 4"
    }
    assert all(r["low"] is not None for r in found if r["of"] == "config")
    assert any("rest on 4 groups, and are rough" in note for note in done_notes)


def test_the_fitted_temperatures_stand_in_a_file_with_their_checkpoints(
    finished: Path, outcome: Outcome
) -> None:
    found = json.loads((finished / files.FITTED).read_text())
    (entry,) = found["models"]
    assert entry["config_id"] == champion(finished)
    assert entry["nll"] <= entry["nll_before"]
    assert [fold["fold"] for fold in entry["folds"]] == [0, 1]
    assert entry["ensemble"]["fitted_on"] == "holdout"
    best_file = finished / "trials" / entry["config_id"] / "fold1" / "best.safetensors"
    assert entry["folds"][1]["checkpoint"] == weightfile.digest(best_file)


def test_the_summary_names_the_best_temperature_and_where_metrics_disagree(
    outcome: Outcome,
) -> None:
    found = best(outcome.judged[0])
    for row in found:
        assert row.gain >= 0
        asked = row.temperature is None or row.temperature in outcome.temperatures
        assert asked or not 0.25 <= (row.temperature or 0) <= 4
    temperatures = {r.temperature for r in found if r.what != "boundary" and r.temperature}
    lines = disagreements(found, outcome.temperatures)
    assert bool(lines) == (len(temperatures) > 1)


def test_an_overconfident_model_is_put_right_on_images_that_t_was_not_fitted_on(run: Path) -> None:
    """Logits so much too large: T is so many times what it was, and the NLL falls for certain."""
    entry = json.loads((run / files.FITTED).read_text())["models"][0]
    factor = 8 / entry["temperature"]
    for fold in (0, 1):
        path = run / "trials" / champion(run) / f"fold{fold}" / "best.safetensors"
        tensors, facts = checkpoint.load(path)
        last = [name for name in tensors if tensors[name].shape[:1] == (3,)]
        assert len(last) == 2  # weight and bias of the head
        checkpoint.save(
            path, {k: factor * t if k in last else t for k, t in tensors.items()}, facts
        )
    done = calibrate(str(run), runner="inline", overrides=[GRID])
    assert done.computed == 4  # no logits of the old weights were taken for theirs
    found = done.judged[0].entry
    assert found["temperature"] == pytest.approx(8, rel=1e-2)
    (row,) = [
        r for r in rows(run, "calibration")
        if r["fitted"] and r["of"] == "config" and r["scaling"] == "temperature"
        and r["region"] == "all" and r["metric"] == "nll" and r["fit"] == "others"
    ]  # fmt: skip
    assert row["gain_low"] > 0


def test_the_gain_of_the_temperature_that_is_shipped_is_of_images_it_was_not_fitted_on(
    finished: Path, outcome: Outcome
) -> None:
    """Half by half on a model's own validation images; and as it is on the holdout."""
    entry = outcome.judged[0].entry
    found = [r for r in rows(finished, "calibration") if r["metric"] == "nll"]
    found = [r for r in found if r["region"] == "all" and r["scaling"] == "temperature"]
    for fold in (0, 1):
        shipped = entry["folds"][fold]["temperature"]
        path = finished / "trials" / champion(finished) / f"fold{fold}"
        own = [r for r in found if r["fold"] == fold and r["fit"]]
        (half,) = (r for r in own if r["fit"] == "halves")
        assert half["temperature"] == pytest.approx(shipped, rel=1e-4)
        assert len(half["used"]) == 2
        assert min(half["used"]) <= shipped <= max(half["used"])
        (held,) = (r for r in own if r["fit"] == "given" and r["used"] == [shipped])
        tensors = load_file(path / "logits.holdout.safetensors")
        logits, labels = (torch.from_numpy(tensors[name]) for name in ("logits", "labels"))

        def nll(t: float, z: torch.Tensor = logits, y: torch.Tensor = labels) -> float:
            return float(
                torch.nn.functional.cross_entropy(z.double() / t, y.long(), ignore_index=255)
            )

        assert held["value"] == pytest.approx(nll(shipped), rel=1e-5)
        assert held["gain"] == pytest.approx(nll(1.0) - nll(shipped), abs=1e-5)
    (whole,) = (r for r in found if r["of"] == "config" and r["fit"] == "halves")
    assert len(whole["used"]) == 4
    said = next(r for r in best(outcome.judged[0]) if r.metric == "nll" and r.of == "config")
    assert said.own_gain == whole["gain"]
    assert said.own_used == whole["used"]
    assert said.fitted_used != said.own_used


def test_all_takes_every_config_that_has_finished(run: Path) -> None:
    done = calibrate(str(run), every=True, runner="inline", overrides=[GRID])
    assert len(done.judged) == 2
    assert {r["config_id"] for r in rows(run, "calibration")} == {
        one.subject.config_id for one in done.judged
    }


def test_a_dataset_of_anomalies_is_scored_by_every_fold_model(run: Path, tmp_path: Path) -> None:
    root = make_smiyc(tmp_path / "smiyc")
    datasets = parse_datasets([f"name=smiyc,root={root},called=odd"])
    calibrate(str(run), datasets=datasets, runner="inline", overrides=[GRID])
    found = [r for r in rows(run, "anomaly") if r["dataset"] == "odd"]
    assert {(r["of"], r["fold"]) for r in found} == {("fold", 0), ("fold", 1), ("config", None)}
    assert not [r for r in rows(run, "calibration") if r["dataset"] == "odd"]
    plain = [r for r in found if r["score"] == "max_logit"]
    mean = {r["metric"]: r["value"] for r in plain if r["of"] == "config"}
    for metric, value in mean.items():
        each = [r["value"] for r in plain if r["of"] == "fold" and r["metric"] == metric]
        assert value == pytest.approx(np.mean(each))


def test_a_datasets_root_begins_where_the_launch_did(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_smiyc(tmp_path / "began" / "smiyc")
    (tmp_path / "elsewhere").mkdir()
    ledger = run / "ledger/events.jsonl"
    lines = [json.loads(line) for line in ledger.read_text().splitlines()]
    for event in lines:
        if event["event"] == "launch":
            event["cwd"] = str(tmp_path / "began")
            odd = {"name": "smiyc", "root": "smiyc"}
            event["spec"]["calibration"]["datasets"] = {"odd": odd}
    ledger.write_text("".join(f"{json.dumps(event)}\n" for event in lines))
    monkeypatch.chdir(tmp_path / "elsewhere")
    calibrate(str(run), runner="inline", overrides=[GRID])
    assert [r for r in rows(run, "anomaly") if r["dataset"] == "odd"]


def test_trackers_are_written_to_while_the_run_is_locked(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[rundir.Holder | None] = []

    def track(*_: Any) -> list[str]:
        seen.append(rundir.holder(run))
        return []

    monkeypatch.setattr("segsweep.calibrate.run.track", track)
    calibrate(str(run), runner="inline", overrides=[GRID])
    assert [one is not None and (one.alive, one.what) for one in seen] == [(True, "calibrate")]


def refused(run: Path, *overrides: str, **options: Any) -> str:
    """The reason; and nothing of earlier results may have changed."""
    tables = [run / "results" / f"{name}.parquet" for name in ("calibration", "anomaly")]
    kept = [*tables, run / files.FITTED]
    before = [path.read_bytes() for path in kept]
    options.setdefault("spoil", lambda: None)()
    options.pop("spoil")
    with pytest.raises(UserError) as caught:
        calibrate(str(run), runner="inline", overrides=[GRID, *overrides], **options)
    assert [path.read_bytes() for path in kept] == before
    assert not list(run.glob("results/.*"))
    return str(caught.value)


def test_classes_with_other_names_are_told_as_that(run: Path) -> None:
    def rename() -> None:
        ledger = run / "ledger/events.jsonl"
        ledger.write_text(ledger.read_text().replace('"classes":["road"', '"classes":["lane"'))

    assert "the class names differ: 'lane', now 'road'" in refused(run, spoil=rename)


def test_infinite_logits_are_refused(run: Path) -> None:
    best_file = run / "trials" / champion(run) / "fold0" / "best.safetensors"

    def spoil() -> None:
        tensors, facts = checkpoint.load(best_file)
        broken = {k: t * torch.inf if t.is_floating_point() else t for k, t in tensors.items()}
        checkpoint.save(best_file, broken, facts)

    text = refused(run, spoil=spoil)
    assert "logits are NaN or infinite" in text
    assert "fold 0" in text


def test_logits_of_another_fold_are_computed_anew_and_never_used(run: Path) -> None:
    place = run / "trials" / champion(run)
    own, other = place / "fold0/logits.safetensors", place / "fold1/logits.safetensors"
    kept = load_file(own)
    shutil.copy(other, own)
    done = calibrate(str(run), runner="inline")
    assert done.computed == 1
    again, wrong = load_file(own), load_file(other)
    assert set(again) == set(kept)
    for name, values in kept.items():  # to rounding: convolutions may be summed in another order
        np.testing.assert_allclose(again[name], values, rtol=1e-4, atol=1e-5)
    assert any(not np.array_equal(wrong[name], values) for name, values in kept.items())


@pytest.mark.parametrize(
    ("key", "value", "reason"),
    [
        ("checkpoint", "0" * 64, "another checkpoint"),
        ("fold", 1, "another fold"),
        ("config_id", "x", "another model"),
        ("data", "x", "other images or masks"),
        ("preprocessing", {}, "prepared in another way"),
        ("sampling", {}, "other pixels"),
        ("key", "x", "key does not fit"),
    ],
)
def test_a_header_that_says_otherwise_is_told(
    run: Path, key: str, value: object, reason: str
) -> None:
    path = run / "trials" / champion(run) / "fold0" / "logits.safetensors"
    tensors, facts = checkpoint.load(path)
    expected = {name: facts[name] for name in facts if name != "key"}
    assert logits_file.mismatch(path, expected) is None
    checkpoint.save(path, tensors, {**facts, key: value})
    assert reason in str(logits_file.mismatch(path, expected))
    with pytest.raises(RunError, match=reason):
        logits_file.load(path, expected)


def test_a_flipped_bit_is_found(run: Path) -> None:
    path = run / "trials" / champion(run) / "fold0" / "logits.safetensors"
    facts = checkpoint.load(path)[1]
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(RunError, match="checksum"):
        logits_file.load(path, {name: facts[name] for name in facts if name != "key"})


def test_a_dataset_with_too_few_anomalies_is_refused(run: Path, tmp_path: Path) -> None:
    root = tmp_path / "few"
    mask = np.zeros((24, 32), np.uint8)
    mask[:2, :2] = 1
    save(root / "images/validation0000.jpg", picture(0, (24, 32)))
    save(root / "labels_masks/validation0000_labels_semantic.png", mask)
    datasets = parse_datasets([f"name=smiyc,root={root}"])
    assert "anomalous" in refused(run, datasets=datasets)


def test_a_dataset_without_valid_pixels_is_refused(run: Path, tmp_path: Path) -> None:
    root = tmp_path / "void"
    save(root / "images/validation0000.jpg", picture(0, (24, 32)))
    void = np.full((24, 32), 255, np.uint8)
    save(root / "labels_masks/validation0000_labels_semantic.png", void)
    datasets = parse_datasets([f"name=smiyc,root={root}"])
    assert "not one pixel is labelled" in refused(run, datasets=datasets)


def test_keys_outside_the_section_and_bad_values_are_refused(run: Path) -> None:
    with pytest.raises(SpecError) as caught:
        calibrate(str(run), runner="inline", overrides=["train.lr=1", "calibration.pixels=1"])
    assert [problem.where for problem in caught.value.problems] == ["--set", "--set"]


def test_a_missing_checkpoint_is_named(run: Path) -> None:
    (run / "trials" / champion(run) / "fold1" / "best.safetensors").unlink()
    with pytest.raises(RunError, match="no checkpoint") as caught:
        calibrate(str(run), runner="inline")
    assert "fold 1" in str(caught.value)


def test_the_command_shows_a_table_and_says_the_same_as_json(run: Path) -> None:
    arguments = ["calibrate", str(run), "--runner", "inline", "--set", GRID]
    shown = CliRunner().invoke(app, arguments)
    assert shown.exit_code == 0, shown.output
    for text in ("fitted T", "best T", "ece_adaptive", "max_logit", "any", "reported once"):
        assert text in shown.output
    said = json.loads(CliRunner().invoke(app, [*arguments, "--json"]).stdout)
    assert said["models"] == json.loads((run / files.FITTED).read_text())["models"]
    for line in said["disagreements"]:
        assert line in shown.output
    refused = CliRunner().invoke(app, ["calibrate", str(run), "--set", "train.lr=1"])
    assert refused.exit_code == 2
