"""What masks do not allow: refused, or told with what would change it; what was read is shown."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from typer.testing import CliRunner

from segsweep.check import Checked, check
from segsweep.cli import app
from segsweep.data.content import label_counts
from segsweep.errors import Problem, UserError
from tests.data.builders import disc, make_folder, save
from tests.helpers import tiny, write_sweep

Mask = NDArray[np.uint8]
CLASSES = {"skin": 0, "mole": 1, "hair": 2, "nail": 3}


def sweep(
    folder: Path,
    draw: Callable[[int], Mask],
    *,
    images: int = 12,
    classes: dict[str, int] | None = None,
    patients: list[str] | None = None,
    **changes: Any,
) -> Path:
    """A sweep file over images whose masks are drawn."""
    root = make_folder(folder / "data", images)
    for index in range(images):
        save(root / "masks" / f"a{index:02d}.png", draw(index))
    if patients:
        rows = [f"a{index:02d}.png,{patient}" for index, patient in enumerate(patients)]
        (root / "metadata.csv").write_text("\n".join(["image,patient", *rows]) + "\n")
    dataset = {"name": "folder", "root": str(root), "image_size": [24, 32], "holdout": 0}
    if classes:
        dataset |= {"classes": classes, "ignore_index": 255}
        changes = {"metric": {"name": "val/miou"}, "factors__loss": ["dice"]} | changes
    data = tiny(dataset=dataset)
    for key, value in changes.items():
        section, _, name = key.partition("__")
        if name:
            data[section][name] = value
        else:
            data[section] = value
    return write_sweep(folder, data)


def refused(path: Path) -> list[Problem]:
    with pytest.raises(UserError) as caught:
        check(path)
    return list(caught.value.problems)


def told(checked: Checked, words: str) -> str:
    """The one notice with these words."""
    (notice,) = [notice for notice in checked.notices if words in notice]
    return notice


def hair(index: int, having: range | tuple[int, ...], label: int = 2) -> Mask:
    """A disc, and a corner of another class in some images."""
    mask = disc(index)
    if index in having:
        mask[:4, :4] = label
    return mask


@pytest.mark.parametrize(("value", "name"), [(1, "foreground"), (0, "background")])
def test_a_class_that_is_everywhere_or_nowhere_is_refused(
    tmp_path: Path, value: int, name: str
) -> None:
    classes = {"background": 0, "foreground": 1}
    (problem,) = refused(
        sweep(tmp_path, lambda _: np.full((24, 32), value, np.uint8), classes=classes,
              metric={"name": "val/iou"})
    )  # fmt: skip
    assert problem.what == (
        f"every labelled pixel of 12 masks is {name!r}: there is nothing to tell apart"
    )
    assert "sweep.yaml:" in problem.where


def test_masks_that_are_all_ignored_are_refused(tmp_path: Path) -> None:
    (problem,) = refused(
        sweep(tmp_path, lambda _: np.full((24, 32), 255, np.uint8), classes=CLASSES)
    )
    assert problem.what == "not one pixel of 12 masks is labelled"


def test_some_masks_that_are_all_ignored_are_named(tmp_path: Path) -> None:
    def draw(index: int) -> Mask:
        return np.full((24, 32), 255, np.uint8) if index in (3, 7) else hair(index, range(12))

    checked = check(sweep(tmp_path, draw, classes=CLASSES))
    assert told(checked, "ignored all over").endswith("2 masks are ignored all over, and teach "
                                                      "and score nothing: a03, a07")  # fmt: skip


def test_a_fold_and_a_holdout_without_labels_are_refused(tmp_path: Path) -> None:
    def draw(index: int) -> Mask:
        return disc(index) if index == 2 else np.full((24, 32), 255, np.uint8)

    found = refused(sweep(tmp_path, draw, classes={"skin": 0, "mole": 1}, dataset__holdout=0.25,
                          metric={"name": "val/pixel_accuracy"}))  # fmt: skip
    assert [problem.key for problem in found] == ["folds", "folds", "dataset.holdout"]
    assert "the validation images of fold" in found[0].what
    assert "the training images of fold" in found[1].what
    assert "the 3 masks of the holdout" in found[2].what


def test_a_class_of_many_that_is_nowhere_is_told(tmp_path: Path) -> None:
    checked = check(sweep(tmp_path, lambda n: hair(n, range(12)), classes=CLASSES))
    assert told(checked, "'nail'") == "no mask that trials see has 'nail': no model can learn it"
    assert not [notice for notice in checked.notices if "hair" in notice]


class TestRemedy:
    """Of 30 images two pairs of neighbours have hair, and folds and holdout were unlucky."""

    def unlucky(self, folder: Path, **changes: Any) -> tuple[Path, Checked]:
        for seed in range(50):
            place = folder / str(seed)
            place.mkdir()
            path = sweep(
                place, lambda n: hair(n, (4, 5, 16, 17)), images=30, classes=CLASSES, seed=seed,
                folds={"k": 3}, **changes,
            )  # fmt: skip
            checked = check(path)
            if checked.content.missing():
                return path, checked
        raise AssertionError

    def test_a_class_that_a_fold_lacks_is_told_with_a_remedy_that_works(
        self, tmp_path: Path
    ) -> None:
        path, checked = self.unlucky(tmp_path)
        ((name, folds),) = checked.content.missing().items()
        assert name == "hair"
        notice = told(checked, "'hair'")
        assert f"'hair' is missing in fold {folds[0]}" in notice or "alone" in notice
        assert "set folds.stratify_by: classes to spread 'hair'" in notice
        mended = check(path, ["folds.stratify_by=classes"])
        assert mended.content.missing() == {}
        assert not [notice for notice in mended.notices if "hair" in notice]

    def test_with_a_holdout_the_folds_come_first(self, tmp_path: Path) -> None:
        path, _ = self.unlucky(tmp_path, dataset__holdout=0.2)
        mended = check(path, ["folds.stratify_by=classes"])
        assert mended.content.missing() == {}
        assert mended.content.not_held_out() == []
        assert mended.holdout is not None
        assert len(mended.holdout.image_ids) == 6
        again = check(path, ["folds.stratify_by=classes"])
        assert (again.prepared.decodes, again.folds.hash) == (0, mended.folds.hash)

    def test_the_metric_of_a_class_that_a_fold_lacks_is_refused_with_it(
        self, tmp_path: Path
    ) -> None:
        path, _ = self.unlucky(tmp_path)
        with pytest.raises(UserError) as caught:
            check(path, ["metric.name=val/iou_hair"])
        (problem,) = caught.value.problems
        assert problem.key == "metric.name"
        assert "set folds.stratify_by: classes" in problem.hint
        check(path, ["metric.name=val/iou_hair", "folds.stratify_by=classes"])


def test_nothing_is_proposed_where_too_few_images_have_a_class(tmp_path: Path) -> None:
    path = sweep(tmp_path, lambda n: hair(n, (6,)), classes=CLASSES, dataset__holdout=0)
    for overrides in ([], ["folds.stratify_by=classes"]):
        notice = told(check(path, overrides), "'hair' is in fold")
        assert "alone, which trains without it" in notice
        assert notice.endswith("too few images have 'hair' for 2 folds")


def test_an_attribute_that_is_called_classes(tmp_path: Path) -> None:
    path = sweep(tmp_path, lambda n: hair(n, range(12)), classes=CLASSES)
    table = tmp_path / "data" / "metadata.csv"
    by_diagnosis = check(path, ["folds.stratify_by=diagnosis"])
    table.write_text(table.read_text().replace("diagnosis", "classes"))
    checked = check(path, ["folds.stratify_by=classes"])
    assert checked.folds.hash == by_diagnosis.folds.hash
    assert "rename the attribute" in told(checked, "folds.stratify_by: classes goes by")


class TestHoldoutAndFolds:
    PATIENTS = ["a"] * 9 + ["b"] * 2 + ["c"]

    def test_a_holdout_that_leaves_a_group_for_each_fold_is_found(self, tmp_path: Path) -> None:
        path = sweep(
            tmp_path, lambda n: disc(n) * 255, patients=self.PATIENTS, dataset__holdout=0.25,
            folds={"k": 2, "group_by": "patient"},
        )  # fmt: skip
        checked = check(path)
        assert checked.holdout is not None
        assert set(checked.holdout.attributes["patient"]) == {"b"}
        assert "2 of 12 images are held out, not 3" in told(checked, "held out")
        (problem,) = self.refused(path, ["folds.k=3"])
        assert problem.key == "dataset.holdout"
        for cure in ("folds.k=2", "dataset.holdout=0"):
            assert cure.replace("=", ": ") in problem.hint
            check(path, ["folds.k=3", cure])

    def test_images_without_groups(self, tmp_path: Path) -> None:
        path = sweep(tmp_path, lambda n: disc(n) * 255, dataset__holdout=0.25, folds={"k": 11})
        checked = check(path)
        assert len(checked.data.image_ids) == 11
        assert told(checked, "held out") == (
            "1 of 12 images are held out, not 3: each of 11 folds needs one"
        )
        (problem,) = self.refused(path, ["folds.k=12"])
        assert problem.hint == ("set folds.k: 11 or less, or dataset.holdout: 0; or add images")

    def refused(self, path: Path, overrides: list[str]) -> list[Problem]:
        with pytest.raises(UserError) as caught:
            check(path, overrides)
        return list(caught.value.problems)


def test_validate_shows_what_it_read(tmp_path: Path) -> None:
    def draw(index: int) -> Mask:
        mask = np.zeros((24, 32), np.uint8)
        mask[:6] = 1  # a quarter
        if index in (0, 1):
            mask[12:, :16] = 2  # a quarter in a sixth of the images
        mask[-2:, -12:] = 255
        return mask

    path = sweep(tmp_path, draw, classes=CLASSES)
    answer = json.loads(CliRunner().invoke(app, ["validate", str(path), "--json"]).stdout)
    search = answer["content"]["search"]
    ignored = 24 / (24 * 32)
    assert answer["content"]["holdout"] is None
    assert search["images"] == 12
    assert search["ignored"] == pytest.approx(ignored)
    assert {name: one["images"] for name, one in search["classes"].items()} == pytest.approx(
        {"skin": 1, "mole": 1, "hair": 1 / 6, "nail": 0}
    )
    assert search["classes"]["mole"]["pixels"] == pytest.approx(0.25 / (1 - ignored))
    assert search["classes"]["hair"]["pixels"] == pytest.approx(0.25 / 6 / (1 - ignored))
    assert sum(one["pixels"] for one in search["classes"].values()) == pytest.approx(1)
    shown = CliRunner().invoke(app, ["validate", str(path)]).output.replace("\n", " ")
    for words in ("25.8 %", "4.3 %", "16.7 %", "ignored, of all pixels", "nail"):
        assert words in shown


def test_labels_are_counted_mask_by_mask() -> None:
    masks = np.random.default_rng(0).choice([0, 1, 2, 255], (7, 9, 5)).astype(np.uint8)
    counts = label_counts(masks, 3)
    for row, mask in enumerate(masks):
        assert counts[row].tolist() == [int((mask == label).sum()) for label in (0, 1, 2, 255)]
