"""What an evaluation counts, and that a sweep gets the scores that it names."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import torch
from torch import Tensor, nn

from segsweep import losses, rundir, spec
from segsweep.check import check
from segsweep.compare import warn
from segsweep.compare.analysis import analyse
from segsweep.data.loader import Batch
from segsweep.engine import evaluate
from segsweep.errors import UserError
from segsweep.launching import launch
from segsweep.metrics import PixelScores, Tally, extra_names, ranking, score_names, scores, tally
from segsweep.yamlfile import dump, parse
from tests.data.builders import make_folder
from tests.helpers import TINY, events, tiny, write_sweep


def batch(classes: int, seed: int, count: int = 3) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    channels = 1 if classes == 2 else classes
    logits = torch.randn(count, channels, 16, 20, generator=generator)
    target = torch.randint(classes, (count, 16, 20), generator=generator)
    target[:, 0] = 255
    return logits, target


def classify(logits: Tensor) -> Tensor:
    return (logits[:, 0] > 0).long() if logits.shape[1] == 1 else logits.argmax(1)


@pytest.mark.parametrize("classes", [2, 4])
def test_batches_add_up(classes: int) -> None:
    parts = [batch(classes, seed) for seed in range(3)]
    logits, target = (torch.cat(both) for both in zip(*parts, strict=True))
    whole, apart = (Tally(classes, extra_names(classes)) for _ in range(2))
    whole.update(logits, classify(logits), target)
    for some, labels in parts:
        apart.update(some, classify(some), labels)
    assert (whole.matrix() == apart.matrix()).all()
    assert whole.extras() == apart.extras()
    assert tuple(whole.extras()) == extra_names(classes)
    assert None not in whole.extras().values()


def test_nothing_is_computed_that_was_not_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("segsweep.metrics.tally.boundary_counts", None)
    monkeypatch.setattr(PixelScores, "update", None)
    logits, target = batch(2, 0)
    tally = Tally(2)
    tally.update(logits, classify(logits), target)
    assert tally.extras() == {}
    assert scores(tally.matrix())["iou"] is not None


@pytest.mark.parametrize("classes", [2, 4])
def test_the_goal_of_every_score_is_what_a_perfect_prediction_gets(classes: int) -> None:
    _, target = batch(classes, 1)
    right = torch.where(target == 255, 0, target)
    channels = right[:, None] - 0.5 if classes == 2 else torch.eye(classes)[right].movedim(-1, 1)
    found = []
    for logits in (channels, -channels):
        tally = Tally(classes, extra_names(classes))
        tally.update(logits, classify(logits), target)
        found.append(scores(tally.matrix(), [f"c{i}" for i in range(classes)]) | tally.extras())
    good, bad = found
    assert set(good) == {*score_names([f"c{i}" for i in range(classes)]), *extra_names(classes)}
    for name in good:
        best, worst = good[name], bad[name]
        assert best is not None
        assert worst is not None
        right_goal = "maximize" if best > worst else "minimize"
        for goal in ("maximize", "minimize"):
            metric = {"name": f"val/{name}", "goal": goal}
            text = dump({"name": "x", "factors": TINY["factors"], "metric": metric})
            keys = [problem.key for problem in spec.parse(parse(text, "f.yaml"))[1]]
            assert keys == ([] if goal == right_goal else ["metric.goal"]), name


class Fixed(nn.Module):
    def __init__(self, logits: Tensor) -> None:
        super().__init__()
        self.logits = logits

    def forward(self, x: Tensor) -> Tensor:
        return self.logits


def test_evaluate_gives_the_scores_of_its_logits() -> None:
    logits, target = batch(2, 5)
    images = torch.zeros(3, 3, 16, 20, dtype=torch.uint8)
    batches = [Batch(images, target.to(torch.uint8), torch.arange(3).numpy())]
    found = evaluate(
        Fixed(logits),
        batches,
        losses.build(losses.resolve("bce")),
        classes=2,
        device=torch.device("cpu"),
        extra=["auroc", "boundary_iou"],
    )
    counts = PixelScores()
    counts.update(logits[:, 0], target)
    assert found.extras["auroc"] == counts.ranking().auroc.value
    assert set(found.extras) == {"auroc", "boundary_iou"}


def test_a_champion_is_timed_once(tmp_path: Path) -> None:
    path = write_sweep(tmp_path, tiny(train__epochs=1, factors__loss=["bce"]))
    run = launch(path, runner="inline").run_directory
    found = events(run, "runtime")
    champions = {row["config_id"] for row in table(run, "trials.parquet") if row["champion"]}
    assert {event["config_id"] for event in found} == champions
    assert all(event["runtime_device"] and event["runtime_threads"] == 1 for event in found)
    launch(path, ["configs_per_cell=3"], runner="inline")
    again = [event["config_id"] for event in events(run, "runtime")]
    assert len(again) == len(set(again))


def table(run: Path, name: str) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = pq.read_table(run / "results" / name).to_pylist()
    return rows


def test_a_sweep_is_run_by_auroc_and_records_what_it_names(tmp_path: Path) -> None:
    sweep = tiny(
        factors__loss=["bce"],
        metric__name="val/auroc",
        metric__also=["val/boundary_iou", "val/fpr95"],
        configs_per_cell=1,
        parameters=None,
        train__epochs=1,
    )
    done = launch(write_sweep(tmp_path, sweep), runner="inline")
    assert done.exit_code == 0
    for row in table(done.run_directory, "trials.parquet"):
        assert row["metric"] == row["val_auroc"] is not None
        for name in ("val_boundary_iou", "holdout_auroc", "holdout_fpr95", "val_iou"):
            assert row[name] is not None
        assert row["runtime_ms"] > 0  # its config is the champion
        assert row["val_ap"] is None  # nobody asked for it
        assert row["val_miou"] is None


def test_more_classes_have_a_column_each(tmp_path: Path) -> None:
    values = {"background": 0, "road": 1, "traffic light": 2}
    make_folder(tmp_path / "data", 10, values)
    dataset: dict[str, Any] = {
        "name": "folder",
        "root": str(tmp_path / "data"),
        "image_size": [32, 32],
    }
    dataset |= {"classes": values}
    sweep = tiny(
        dataset=dataset,
        factors__loss=["cross_entropy"],
        metric__name="val/iou_traffic_light",
        metric__also=["val/mboundary_iou"],
        configs_per_cell=1,
        parameters=None,
        train__epochs=1,
    )
    done = launch(write_sweep(tmp_path, sweep), runner="inline")
    assert done.exit_code == 0
    for name in ("trials.parquet", "epochs.parquet"):
        for row in table(done.run_directory, name):
            own = [row[f"val_iou_{label}"] for label in ("background", "road", "traffic_light")]
            known = [value for value in own if value is not None]
            assert row["val_miou"] == pytest.approx(sum(known) / len(known))
            assert row["val_pixel_accuracy"] is not None
            assert row["val_mboundary_iou"] is not None


def test_scores_that_the_data_does_not_have_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError) as caught:
        check(write_sweep(tmp_path, tiny(metric__name="val/aurok", metric__also=["val/miou"])))
    first, second = map(str, caught.value.problems)
    assert "metric.name: 'val/aurok' does not exist for 2 classes" in first
    assert "did you mean 'val/auroc'" in first
    assert "metric.also[0]: 'val/miou' does not exist" in second


def test_how_far_a_binned_score_is_off_is_recorded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ranking, "CROWDED", 0)
    monkeypatch.setattr(PixelScores.__init__, "__kwdefaults__", {"exact": False, "kept": 100})
    monkeypatch.setattr(tally, "CLOSE", 1e-7)
    monkeypatch.setattr(warn, "TOLD_ERROR", 1e-7)
    data = tiny(metric={"name": "val/auroc"}, factors__loss=["bce"])
    outcome = launch(write_sweep(tmp_path, data), runner="inline")
    told = events(outcome.run_directory, "epoch")
    assert all(0 < event["score_errors"]["auroc"] < 0.1 for event in told)
    assert "score_errors" in events(outcome.run_directory, "holdout")[0]
    found = analyse([rundir.load(outcome.run_directory)])
    assert any("auroc of many pixels is counted in bins" in text for text in found.warnings)
