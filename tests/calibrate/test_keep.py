"""What ``launch`` keeps, what the plan says of it, pixels that are drawn, and mask models."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

from segsweep import checkpoint, rundir
from segsweep.calibrate import logits_file, redraw, sweep
from segsweep.calibrate.draw import confidence_histogram, drawn
from segsweep.calibrate.keep import wanted
from segsweep.calibrate.masks import inside, masks_of
from segsweep.calibrate.run import calibrate
from segsweep.calibrate.targets import own
from segsweep.check import check
from segsweep.data.arrow_file import ImageSet
from segsweep.errors import SpecError
from segsweep.launching import launch
from segsweep.metrics.boundary import near_contours
from segsweep.plan import logits_bytes, plan
from segsweep.state import SearchState
from tests.data.builders import make_folder
from tests.helpers import tiny, write_sweep
from tests.models.test_eomt import LEVEL

SHORT: dict[str, Any] = {"train__epochs": 1, "parameters": None, "configs_per_cell": None}
CLASSES = {"road": 0, "car": 1, "dog": 3}


@pytest.fixture(autouse=True)
def few_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sweep, "RESAMPLES", 20)
    monkeypatch.setattr(redraw, "DRAWS", 10)


def sizes(run: Path) -> int:
    return sum(path.stat().st_size for path in run.glob("trials/*/*/logits.safetensors"))


def test_the_plan_estimates_what_launch_then_keeps(tmp_path: Path) -> None:
    path = write_sweep(tmp_path, tiny(**SHORT, calibration={"pixels": 500}))
    estimate = plan(check(path)).logits_bytes
    done = launch(path, runner="inline")
    assert sizes(done.run_directory) == pytest.approx(estimate, rel=0.1)
    tensors, facts = checkpoint.load(next(done.run_directory.glob("trials/*/*/logits.safeten*")))
    assert facts["sampling"] == {"pixels": 500, "of": 1024, "seed": 0}
    images = len(facts["image_ids"])
    assert tensors["logits"].shape == (500 * images, 1)
    assert int(tensors["histogram"].sum()) == 1024 * images  # of all pixels, drawn or not
    calibrate(str(done.run_directory), runner="inline", overrides=["calibration.pixels=500"])
    rows = pq.read_table(done.run_directory / "results/calibration.parquet").to_pylist()
    own = [row for row in rows if row["of"] == "config" and row["region"] == "all"]
    (whole,) = [r["value"] for r in own if r["metric"] == "ece_all_pixels"][:1]
    (part,) = [
        r["value"] for r in own
        if (r["metric"], r["temperature"], r["fitted"], r["scaling"])
        == ("ece", 1.0, False, "temperature")
    ][:1]  # fmt: skip
    assert whole == pytest.approx(part, abs=0.05)


def test_the_cap_keeps_champions_first_and_none_keeps_none(tmp_path: Path) -> None:
    path = write_sweep(tmp_path, tiny(calibration={"keep": "none"}, train__epochs=1))
    done = launch(path, runner="inline")
    run = rundir.load(done.run_directory)
    state = SearchState(run.metric, run.events)
    assert sizes(run.path) == 0
    model = next(iter(state.configs.values())).config["model"]
    one = logits_bytes(run.spec, model, 2, 9)

    def kept(**options: Any) -> tuple[set[str], int]:
        section = run.spec.calibration.model_copy(update={"keep": "finished", **options})
        spec = run.spec.model_copy(update={"calibration": section})
        items, without = wanted(spec, state, run.path, 2, [5, 4])
        return {item[0] for item in items}, without

    champions = set(state.champions.values())
    assert kept() == (set(state.configs), 0)
    assert kept(keep="champions") == (champions, 0)
    assert kept(disk_gb=2.5 * one / 1e9) == (champions, 2)
    assert kept(disk_gb=0.0) == (set(), 4)
    assert kept(keep="none") == (set(), 0)


def test_models_share_the_pixels_that_are_drawn_and_images_do_not() -> None:
    sampling = {"pixels": 30, "of": 1000, "seed": 4}
    one = drawn("f", "a", sampling)
    assert len(set(one.tolist())) == 30
    assert sorted(one) == one.tolist()
    assert np.array_equal(one, drawn("f", "a", sampling))
    for other in (("f", "b", sampling), ("g", "a", sampling), ("f", "a", {**sampling, "seed": 5})):
        assert not np.array_equal(one, drawn(*other))
    assert drawn("f", "a", {"pixels": 7, "of": 7, "seed": 0}).tolist() == list(range(7))


def test_the_exact_histogram_by_hand() -> None:
    values = torch.tensor([[math.log(3), -math.log(3), 0.0, 50.0]])  # p of 1: 3/4, 1/4, 1/2, 1
    counts = confidence_histogram(values, np.asarray([1, 1, 255, 0], np.uint8))
    assert counts.sum() == 3
    assert counts[1, 1125] + counts[1, 1124] == 1  # right, 0.75
    assert counts[0, 1125] + counts[0, 1124] == 1  # wrong, 0.75 that it is 0
    assert counts[0, 1499] == 1


def test_pixels_near_contours_by_hand() -> None:
    target = torch.tensor([[[0, 0, 0, 1, 1, 255, 2]]])
    near = near_contours(target, width=1)[0, 0].tolist()
    assert near == [False, False, True, True, False, False, False]
    assert near_contours(target, width=2)[0, 0].tolist() == [0, 1, 1, 1, 1, 0, 1]


def test_what_is_left_out_is_the_anomaly_and_void_is_not() -> None:
    original = np.asarray([[[0, 1, 2, 255]]], np.uint8)
    masks = np.asarray([[[0, 1, 255, 255]]], np.uint8)
    data = ImageSet(
        np.zeros((1, 1, 4, 3), np.uint8), masks, ("a",), {}, ("x", "y"), "f", (), original,
        ("x", "y", "z"),
    )  # fmt: skip
    found = own("validation", data)
    assert found.anomaly.ravel().tolist() == [0, 0, 1, 255]
    assert found.left_out == ("z",)


def test_a_mask_model_has_temperatures_inside_and_scores_of_its_own(tmp_path: Path) -> None:
    root = make_folder(tmp_path / "data", 8, CLASSES | {"sky": 2})
    scores = ["msp", "rba", "rba_course", "msp_sum", "msp_softmax", "msp_query"]
    path = write_sweep(
        tmp_path,
        tiny(
            **SHORT,
            dataset={
                "name": "folder", "root": str(root), "classes": CLASSES | {"sky": 2},
                "image_size": [24, 40], "holdout": 0, "leave_out": ["car"],
            },
            factors={"model": [LEVEL], "loss": ["native"]},
            metric={"name": "val/miou", "goal": "maximize"},
            calibration={"temperatures": {"steps": 2}, "scores": scores},
        ),
    )  # fmt: skip
    estimate = plan(check(path)).logits_bytes
    done = launch(path, runner="inline")
    assert sizes(done.run_directory) == pytest.approx(estimate, rel=0.25)
    file = next(done.run_directory.glob("trials/*/fold0/logits.safetensors"))
    facts = checkpoint.load(file)[1]
    expected = {k: v for k, v in facts.items() if k not in ("key", "padded")}
    logits = logits_file.load(file, expected)
    np.testing.assert_allclose(inside(logits, 1.0), logits.values, atol=1e-4)
    assert np.abs(inside(logits, 2.0) - logits.values).max() > 1e-3
    assert masks_of(logits, 0).shape[1] == logits.offsets[1]

    calibrate(str(done.run_directory), runner="inline")
    rows = pq.read_table(done.run_directory / "results/calibration.parquet").to_pylist()
    own_rows = [row for row in rows if row["scaling"] == "inside"]
    assert {row["temperature"] for row in own_rows} >= {0.25, 1.0, 4.0}
    assert all(row["accuracy"] is not None and row["miou"] is not None for row in own_rows)
    found = pq.read_table(done.run_directory / "results/anomaly.parquet").to_pylist()
    assert {row["score"] for row in found} == set(scores)


def test_scores_and_datasets_of_a_sweep_file_are_checked(tmp_path: Path) -> None:
    section = {"scores": ["mps"], "datasets": {"odd": {"name": "smiyc", "root": "nowhere"}}}
    with pytest.raises(SpecError) as caught:
        check(write_sweep(tmp_path, tiny(calibration=section)))
    (score, dataset) = caught.value.problems
    assert score.key == "calibration.scores[0]"
    assert "did you mean 'msp'" in score.hint
    assert "nowhere" in f"{dataset}"
