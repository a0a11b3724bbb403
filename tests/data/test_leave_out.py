"""Classes that are left out: ignored everywhere, part of who a config is, and recoverable."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from segsweep import identity
from segsweep.check import Checked, check
from segsweep.data.cache import ImageSet
from segsweep.data.sources import IGNORE
from segsweep.errors import UserError
from segsweep.launching import launch
from tests.data.builders import make_camvid, make_folder
from tests.helpers import tiny, write_sweep


def _sweep(folder: Path, *leave_out: str, **changes: Any) -> Path:
    """A sweep over a CamVid of 12 frames."""
    if not (folder / "data").exists():
        make_camvid(folder / "data")
    dataset = {"name": "camvid", "root": str(folder / "data"), "image_size": [16, 24]}
    dataset |= {"holdout": "official", "leave_out": list(leave_out)}
    changes |= {"dataset": dataset, "metric": {"name": "val/miou"}, "factors__loss": ["dice"]}
    return write_sweep(folder, tiny(**changes))


def _id(checked: Checked) -> str:
    config = checked.cells[0].fill({"train.lr": 0.01})
    return identity.config_id(config, checked.prepared.fingerprint, checked.folds.hash)


def test_pixels_are_ignored_and_labels_close_up(tmp_path: Path) -> None:
    whole = check(_sweep(tmp_path))
    checked = check(_sweep(tmp_path, "bicyclist", "building"))
    for data, before in ((checked.data, whole.data), (checked.holdout, whole.holdout)):
        assert data is not None
        assert before is not None
        assert data.image_ids == before.image_ids
        np.testing.assert_array_equal(data.images, before.images)
        assert data.classes == tuple(
            c for c in before.classes if c not in ("bicyclist", "building")
        )
        for label, name in enumerate(before.classes):
            here = data.masks[before.masks == label]
            assert len(here)
            new = data.classes.index(name) if name in data.classes else IGNORE
            assert set(here) == {new}
        assert (data.masks[before.masks == IGNORE] == IGNORE).all()


def test_the_original_labels_are_kept_beside(tmp_path: Path) -> None:
    whole = check(_sweep(tmp_path))
    checked = check(_sweep(tmp_path, "road"))
    again = check(_sweep(tmp_path, "road"))  # from the cache
    assert again.prepared.decodes == 0
    pairs: list[tuple[ImageSet | None, ImageSet | None]] = [
        (checked.data, whole.data), (again.data, whole.data), (again.holdout, whole.holdout),
    ]  # fmt: skip
    for data, before in pairs:
        assert data is not None
        assert before is not None
        masks, classes = data.original()
        np.testing.assert_array_equal(masks, before.masks)
        assert classes == before.classes
        assert before.original()[0] is before.masks
        for_trials = data.for_trials()  # a trial sees nothing of it
        assert for_trials.original()[0] is data.masks
        assert "road" not in for_trials.original()[1]


def test_it_is_part_of_the_config_id_whatever_its_order(tmp_path: Path) -> None:
    ids = [
        _id(check(_sweep(tmp_path, *names)))
        for names in ((), ("car",), ("car", "road"), ("road", "car"))
    ]
    assert len(set(ids)) == 3
    assert ids[2] == ids[3]


def test_it_is_part_of_the_config_id_even_where_no_pixel_changes(tmp_path: Path) -> None:
    config = check(_sweep(tmp_path)).cells[0].config
    assert config["dataset"]["leave_out"] == []
    other = {**config, "dataset": {**config["dataset"], "leave_out": ["car"]}}
    assert identity.config_id(config, "f", "f") != identity.config_id(other, "f", "f")


@pytest.mark.parametrize(
    ("names", "key", "message"),
    [
        (["bicylist"], "dataset.leave_out[0]", "did you mean 'bicyclist'"),
        (["car", "pole", "car"], "dataset.leave_out[2]", "stands twice"),
        (["car", "void"], "dataset.leave_out[1]", "there is no class 'void'"),
    ],
)
def test_names_that_do_not_exist(names: list[str], key: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=message) as caught:
        check(_sweep(tmp_path, *names))
    (problem,) = caught.value.problems
    assert problem.key == key
    assert "sweep.yaml:" in problem.where


def test_two_classes_must_be_left(tmp_path: Path) -> None:
    root = make_folder(tmp_path / "data", 6)
    dataset = {
        "name": "folder",
        "root": str(root),
        "image_size": [16, 16],
        "leave_out": ["foreground"],
    }
    with pytest.raises(UserError, match="leaves 1 of 2 classes"):
        check(write_sweep(tmp_path, tiny(dataset=dataset)))


def test_metric_and_losses_are_judged_by_the_classes_left(tmp_path: Path) -> None:
    classes = {"road": 0, "car": 1, "sky": 2}
    root = make_folder(tmp_path / "data", 6, classes)
    dataset = {"name": "folder", "root": str(root), "image_size": [16, 16], "classes": classes}
    data = tiny(dataset=dataset | {"leave_out": ["car"]})
    assert check(write_sweep(tmp_path, data)).data.classes == ("road", "sky")
    with pytest.raises(UserError, match="does not exist for 3 classes"):
        check(write_sweep(tmp_path, tiny(dataset=dataset)))


def test_a_trial_neither_learns_nor_is_scored_on_it(tmp_path: Path) -> None:
    path = _sweep(tmp_path, "tree", configs_per_cell=1, train__epochs=1, train__augment="none")
    outcome = launch(path, runner="inline")
    assert outcome.exit_code == 0
    checked = check(path)
    assert checked.holdout is not None
    valid = {
        image_id: int((mask != IGNORE).sum())
        for data in (checked.data, checked.holdout)
        for image_id, mask in zip(data.image_ids, data.masks, strict=True)
    }
    assert max(valid.values()) < 16 * 24  # every image has void and trees
    rows = pq.read_table(outcome.run_directory / "results/images.parquet").to_pylist()
    assert {row["image_id"] for row in rows} == set(valid)
    for row in rows:
        assert row["valid"] == valid[row["image_id"]]
        assert row["class"] in checked.data.classes
    assert "tree" not in checked.data.classes
