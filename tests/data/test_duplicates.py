"""One image under two ids is refused where it would be trained on and scored."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from segsweep.check import Checked, check
from segsweep.errors import UserError
from tests.data.builders import make_folder, picture, save
from tests.helpers import tiny, write_sweep


def _check(folder: Path, **changes: Any) -> Checked:
    data = tiny(dataset={"name": "folder", "root": str(folder / "data"), "image_size": [16, 16]})
    data["dataset"]["holdout"] = changes.pop("holdout", 0)
    data["folds"] = {"k": 2, **changes}
    return check(write_sweep(folder, data))


def _copy(folder: Path, one: str, other: str) -> None:
    shutil.copy(folder / f"data/images/{one}.png", folder / f"data/images/{other}.png")


def _recode(folder: Path, one: str, other: str) -> None:
    """The same pixels in another file format."""
    target = folder / f"data/images/{other}.png"
    target.unlink()
    Image.open(folder / f"data/images/{one}.png").save(target.with_suffix(".bmp"))


@pytest.mark.parametrize("copy", [_copy, _recode])
def test_a_duplicate_across_folds_is_refused_and_named(copy: Any, tmp_path: Path) -> None:
    make_folder(tmp_path / "data", 8)
    (tmp_path / "data/metadata.csv").unlink()
    before = _check(tmp_path)
    folds = dict(zip(before.data.image_ids, before.folds.assignment, strict=True))
    other = next(name for name, fold in folds.items() if fold != folds["a00"])
    copy(tmp_path, "a00", other)
    for _ in range(2):  # decoded, and then from the cache
        with pytest.raises(UserError) as caught:
            _check(tmp_path)
        (problem,) = caught.value.problems
        assert f"'a00' (fold {folds['a00']}) and {other!r} (fold {folds[other]})" in problem.what
        assert "sweep.yaml:" in problem.where
        assert "group_by" in problem.hint


def test_a_duplicate_of_the_holdout_is_refused(tmp_path: Path) -> None:
    make_folder(tmp_path / "data", 8)  # a00 and a04 are the official test images
    _copy(tmp_path, "a00", "a05")
    with pytest.raises(UserError, match=r"'a05' \(fold \d\) and 'a00' \(holdout\)"):
        _check(tmp_path, holdout="official")
    save(tmp_path / "data/images/a05.png", picture(99))
    _copy(tmp_path, "a00", "a04")  # both held out: told, not refused
    assert any("a00 = a04" in notice for notice in _check(tmp_path, holdout="official").notices)


@pytest.mark.parametrize("holdout", [0, 0.25])
def test_a_group_keeps_duplicates_together(holdout: float, tmp_path: Path) -> None:
    make_folder(tmp_path / "data", 8)
    _copy(tmp_path, "a02", "a03")  # of one patient
    checked = _check(tmp_path, holdout=holdout, group_by="patient")
    assert any("a02 = a03" in notice for notice in checked.notices)


def test_many_are_cut_short(tmp_path: Path) -> None:
    make_folder(tmp_path / "data", 50)
    (tmp_path / "data/metadata.csv").unlink()
    for index in range(25):
        _copy(tmp_path, f"a{index:02d}", f"a{index + 25:02d}")
    with pytest.raises(UserError) as caught:
        _check(tmp_path)
    assert 1 < len(caught.value.problems) <= 21
