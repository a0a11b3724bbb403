"""Meaning: everything that cannot work is refused before anything is started, all at once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch

from segsweep import models
from segsweep.check import check
from segsweep.errors import Problem, UserError
from tests.data.builders import make_folder, make_ph2
from tests.helpers import tiny, write_sweep


def refused(folder: Path, data: dict[str, Any]) -> list[Problem]:
    path = write_sweep(folder, data)
    with pytest.raises(UserError) as caught:
        check(path)
    assert caught.value.exit_code == 2
    return list(caught.value.problems)


def searched(path: str, **parameter: Any) -> dict[str, Any]:
    return {"parameters": {path: parameter}}


@pytest.mark.parametrize(
    ("changes", "key", "what", "hint"),
    [
        ({"factors__model": ["segnett"]}, "factors.model[0]", "segnett", "'segnet'"),
        ({"factors__model": ["unet/resnet43"]}, "factors.model[0]", "resnet43", "resnet34"),
        ({"factors__loss": ["bce+dise"]}, "factors.loss[0].dise", "dise", "'dice'"),
        (
            {"factors__model": [{"name": "segnet", "widht": 2}]},
            "factors.model[0].widht",
            "widht",
            "'width'",
        ),
        ({"factors__model": ["segnet", "segnet"]}, "factors.model[1]", "stands twice", ""),
        ({"factors__trian": [1]}, "factors.trian[0]", "unknown factor", ""),
        ({"factors__dataset.name": ["ph2"]}, "factors.dataset.name[0]", "whole sweep", ""),
        ({"factors": {"loss": ["bce"]}}, "factors", "model is missing", ""),
        ({"dataset__name": "syntetic"}, "dataset.name", "syntetic", "'synthetic_lesions'"),
        ({"dataset__imgaes": 3}, "dataset.imgaes", "imgaes", "'images'"),
        ({"folds__stratify_by": "diagnosys"}, "folds.stratify_by", "diagnosys", "diagnosis"),
        ({"folds__k": 30}, "folds.k", "30 folds and a holdout of 12 images", "folds.k: 11 or less"),
        ({"train__optimizer": "adamm"}, "train.optimizer", "adamm", "'adam'"),
        ({"train__schedule": "cosin"}, "train.schedule", "cosin", "'cosine'"),
        ({"train__augment": "medum"}, "train.augment", "medum", "'medium'"),
        ({"metric": {"name": "val/ioo"}}, "metric.name", "val/ioo", "'val/iou'"),
        ({"metric": {"name": "val/miou"}}, "metric.name", "2 classes", "val/iou"),
        (searched("train.lrr", min=0.1, max=0.2), "parameters.train.lrr", "no cell", "'train.lr'"),
        (searched("loss.focal.gamma", value=1.0), "parameters.loss.focal.gamma", "no cell", ""),
        (searched("train.lr", min=-1.0, max=2.0), "parameters.train.lr", "greater than 0", ""),
        (searched("train.optimizer", values=["adamm"]), "parameters.train.optimizer", "adamm", ""),
        (searched("model.width", values=[2, "x"]), "parameters.model.width", "width", ""),
        (searched("dataset.holdout", value=0.1), "parameters.dataset.holdout", "whole sweep", ""),
        ({"exclude": [{"model": "segnet"}]}, "exclude[0].model", "no level", "unet_vanilla"),
        (
            {"exclude": [{"model": {"name": "unet_vanilla", "width": 64}}]},
            "exclude[0].model",
            "no level",
            "unet_vanilla",
        ),
        ({"factors__loss": ["bce+dice", "dice+bce"]}, "factors.loss[1]", "stands twice", ""),
        ({"factors__train": [{"epochs": 3}]}, "factors.train[0]", "is a section", ""),
        ({"factors__seed": ["a"]}, "factors.seed[0]", "whole number", ""),
        ({"factors__train.precision": ["auto"]}, "factors.train.precision[0]", "compared", "fp32"),
        (
            searched("model.encoder_weights", values=["none"])
            | {"factors": {"model": ["unet/resnet18"], "loss": ["bce"]}},
            "parameters.model.encoder_weights",
            "cannot be searched",
            "levels",
        ),
        ({"exclude": [{"modle": "segnet"}]}, "exclude[0].modle", "no factor", "'model'"),
        ({"exclude": [{"loss": ["bce", "dice"]}]}, "exclude", "leaves no cell", ""),
    ],
)
def test_a_mistake_of_meaning(
    tmp_path: Path, changes: dict[str, Any], key: str, what: str, hint: str
) -> None:
    data = tiny()
    for dotted, value in changes.items():
        section, *rest = dotted.split("__")
        if rest:
            data[section][rest[0]] = value
        else:
            data[section] = value
    problems = refused(tmp_path, data)
    found = [problem for problem in problems if problem.key == key]
    assert found, problems
    assert what in found[0].what
    assert hint in found[0].hint
    assert "sweep.yaml:" in found[0].where


LOSS = {"metric": {"name": "val/loss", "goal": "minimize"}}


@pytest.mark.parametrize(
    ("losses", "changes", "told"),
    [
        (["bce", "dice"], {}, "bce, dice"),
        (["bce", {"bce": 2.0}], {}, "bce"),
        (["focal"], searched("loss.focal.gamma", min=1.0, max=2.0), "loss.focal.gamma"),
        (["focal"], {"factors__train.batch_size": [2, 4]}, ""),
        (["focal"], searched("train.lr", min=0.1, max=0.2), ""),
    ],
)
def test_losses_on_different_scales_rank_nothing(
    tmp_path: Path, losses: list[Any], changes: dict[str, Any], told: str
) -> None:
    data = tiny(factors__loss=losses, **(LOSS | changes))
    if not told:
        assert check(write_sweep(tmp_path, data)).spec.metric.name == "val/loss"
        return
    found = [p for p in refused(tmp_path, data) if p.key == "metric.name"]
    assert told in found[0].what
    assert "different scales" in found[0].hint
    assert "val/iou" in found[0].hint


@pytest.mark.parametrize(
    ("model", "size", "words"),
    [
        ({"name": "unetplusplus/mit_b0", "encoder_weights": "none"}, [64, 64], "mit_b0"),
        ({"name": "fpn/resnet18", "encoder_weights": "none"}, [50, 64], "32"),
        ({"name": "segnet", "width": 2}, [16, 16], "segnet"),
    ],
)
def test_a_pair_or_size_that_cannot_work(
    tmp_path: Path, model: dict[str, Any], size: list[int], words: str
) -> None:
    problems = refused(tmp_path, tiny(factors__model=[model], dataset__image_size=size))
    assert any(words in str(problem) for problem in problems)


def test_a_class_that_a_fold_does_not_have_ranks_nothing(tmp_path: Path) -> None:
    classes = {"skin": 0, "mole": 1, "rare": 2}
    root = make_folder(tmp_path / "data", 12, classes)
    masks = sorted((root / "masks").iterdir())
    for path in masks[1:]:
        pixels = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
        assert pixels is not None
        cv2.imwrite(str(path), np.where(pixels == 2, 1, pixels))
    dataset = {
        "name": "folder", "root": str(root), "classes": classes, "image_size": [32, 32],
        "holdout": 0,
    }  # fmt: skip
    data = tiny(dataset=dataset, factors__loss=["dice"], metric={"name": "val/iou_rare"})
    found = [p for p in refused(tmp_path, data) if p.key == "metric.name"]
    assert "cannot be scored on fold" in found[0].what
    assert "'rare'" in found[0].what
    assert found[0].hint == "use another metric; too few images have 'rare' for 2 folds"
    data["metric"] = {"name": "val/iou_mole"}
    assert check(write_sweep(tmp_path, data)).spec.metric.name == "val/iou_mole"


def test_mistakes_of_shape_and_meaning_are_told_together(tmp_path: Path) -> None:
    data = tiny(factors__model=["segnett"], train__epochs="many", dataset__name="ph3")
    keys = {problem.key for problem in refused(tmp_path, data)}
    assert {"factors.model[0]", "train.epochs", "dataset.name"} <= keys


@pytest.mark.parametrize(
    ("changes", "key"),
    [
        ({"factors__loss": ["bce", "focall"], **searched("loss.focal.gamma", min=1.0, max=2.0)},
         "factors.loss[1].focall"),
        ({"factors__model": ["unet_vanila"], "exclude": [{"model": "unet_vanilla"}]},
         "factors.model[0]"),
    ],
)  # fmt: skip
def test_what_names_a_refused_level_is_no_mistake_of_its_own(
    tmp_path: Path, changes: dict[str, Any], key: str
) -> None:
    assert [problem.key for problem in refused(tmp_path, tiny(**changes))] == [key]


def test_broken_data_is_named_before_attributes_that_it_lacks(tmp_path: Path) -> None:
    root = make_folder(tmp_path / "data", 8)
    table = root / "metadata.csv"
    table.write_text("\n".join(table.read_text().splitlines()[:-1]) + "\nnone.png,p,x,train\n")
    next((root / "masks").iterdir()).unlink()
    dataset = {"name": "folder", "root": str(root), "image_size": [32, 32]}
    problems = refused(tmp_path, tiny(dataset=dataset, folds__stratify_by="diagnosis"))
    assert not [problem for problem in problems if problem.key.startswith("folds")]
    assert len(problems) >= 3


def test_a_root_beside_the_right_one_is_told_with_its_line(tmp_path: Path) -> None:
    make_folder(tmp_path / "defects", 4)
    dataset = {"name": "folder", "root": str(tmp_path / "defect"), "image_size": [32, 32]}
    (problem,) = refused(tmp_path, tiny(dataset=dataset))
    assert (problem.key, "sweep.yaml:" in problem.where) == ("dataset.root", True)
    assert "did you mean" in problem.hint
    assert "defects" in problem.hint


def test_a_key_is_named_once(tmp_path: Path) -> None:
    data = tiny(folds={"k": 9, "group_by": "patient"})
    (problem,) = refused(tmp_path, data)
    assert problem.key == "folds.k"


def test_a_missing_data_folder_says_where_it_looked(tmp_path: Path) -> None:
    dataset = {"name": "ph2", "root": str(tmp_path / "nowhere"), "image_size": [32, 32]}
    problems = refused(tmp_path, tiny(dataset=dataset))
    assert any(str(tmp_path / "nowhere") in str(problem) for problem in problems)


@pytest.mark.parametrize("root", ["x" * 300, "a\0b"])
def test_a_root_that_no_file_system_takes(tmp_path: Path, root: str) -> None:
    dataset = {"name": "folder", "root": root, "image_size": [32, 32]}
    problems = refused(tmp_path, tiny(dataset=dataset))
    assert any(problem.key.startswith("dataset") for problem in problems)


def test_as_many_images_are_held_out_as_the_split_takes(tmp_path: Path) -> None:
    data = tiny(dataset__images=6, dataset__holdout=0.2, folds={"k": 5})
    found = check(write_sweep(tmp_path, data))
    assert found.holdout is not None
    assert (len(found.data.image_ids), len(found.holdout.image_ids)) == (5, 1)


def test_all_bad_images_are_listed_and_nothing_is_left(tmp_path: Path) -> None:
    root = make_folder(tmp_path / "data", 8)
    images, masks = sorted((root / "images").iterdir()), sorted((root / "masks").iterdir())
    images[0].write_bytes(b"not an image")
    masks[1].unlink()
    images[2].write_bytes(b"")
    dataset = {"name": "folder", "root": str(root), "image_size": [32, 32], "holdout": 0}
    problems = refused(tmp_path, tiny(dataset=dataset))
    text = "\n".join(str(problem) for problem in problems)
    for bad in (images[0], images[1], images[2]):
        assert bad.stem in text
    assert not list((tmp_path / "runs").rglob("*.arrow"))


def test_a_grace_period_beyond_the_epochs_is_clipped_with_a_notice(tmp_path: Path) -> None:
    found = check(write_sweep(tmp_path, tiny(early_stopping={"grace_period": 9})))
    assert found.spec.early_stopping.grace_period == 2
    assert any("clipped" in notice for notice in found.notices)


def test_cells_are_the_factors_crossed_without_the_excluded(tmp_path: Path) -> None:
    data = tiny(
        factors={
            "model": [{"name": "unet_vanilla", "width": 2}, {"name": "segnet", "width": 2}],
            "loss": ["bce", {"bce": 1.0, "dice": 0.5}],
            "train.augment": ["none", "light"],
        },
        exclude=[{"model": "segnet", "loss": "bce"}],
        parameters={"loss.dice.smooth": {"min": 0.5, "max": 2.0}},
    )
    found = check(write_sweep(tmp_path, data))
    names = [cell.name for cell in found.cells]
    assert names == [
        f"{cell}/augment={augment}"
        for cell in (
            "unet_vanilla(width=2)/bce",
            "unet_vanilla(width=2)/bce+0.5dice",
            "segnet(width=2)/bce+0.5dice",
        )
        for augment in ("none", "light")
    ]
    by_name = {cell.name: cell for cell in found.cells}
    assert by_name["unet_vanilla(width=2)/bce/augment=none"].parameters == {}
    assert by_name["unet_vanilla(width=2)/bce/augment=none"].budget == 1  # nothing to search there
    assert by_name["segnet(width=2)/bce+0.5dice/augment=light"].budget == 2
    assert (
        by_name["segnet(width=2)/bce+0.5dice/augment=light"].config["train"]["augment"] == "light"
    )


def test_two_levels_of_one_model_are_told_apart(tmp_path: Path) -> None:
    models = [{"name": "segnet", "width": 2}, {"name": "segnet", "width": 3}]
    found = check(write_sweep(tmp_path, tiny(factors__model=models, factors__loss=["bce"])))
    assert [cell.name for cell in found.cells] == ["segnet(width=2)/bce", "segnet(width=3)/bce"]


def test_the_ph2_layout_is_checked_in_full(tmp_path: Path) -> None:
    root = make_ph2(tmp_path / "PH2Dataset", 9)
    dataset = {"name": "ph2", "root": str(root), "image_size": [32, 32], "holdout": 0.3}
    found = check(
        write_sweep(tmp_path, tiny(dataset=dataset, folds={"k": 2, "stratify_by": "diagnosis"}))
    )
    assert len(found.data.image_ids) + len(found.holdout.image_ids if found.holdout else ()) == 9
    assert not set(found.data.image_ids) & set(found.holdout.image_ids if found.holdout else ())


EOMT = {"name": "eomt", "hidden_size": 16, "layers": 2, "heads": 2, "blocks": 1, "queries": 4}
EOMT |= {"patch_size": 8, "image_size": 32, "points": 32}


class TestNative:
    def problems(self, tmp_path: Path, **changes: Any) -> list[str]:
        changes.setdefault("factors__model", [EOMT, {"name": "segnet", "width": 2}])
        with pytest.raises(UserError) as caught:
            check(write_sweep(tmp_path, tiny(**changes)))
        return [str(problem) for problem in caught.value.problems]

    def test_a_model_with_its_own_loss_is_crossed_with_that_alone(self, tmp_path: Path) -> None:
        found = self.problems(tmp_path, factors__loss=["bce", "dice", "native"])
        assert len(found) == 2
        assert "with its own loss, native, and not with bce, dice" in found[0]
        assert "has no loss of its own" in found[1]
        assert all("exclude it: add {model: " in text for text in found)

    def test_what_the_message_says_to_exclude_is_what_is_needed(self, tmp_path: Path) -> None:
        rules = [
            {"model": "eomt", "loss": ["bce", "dice"]},
            {"model": "segnet", "loss": ["native"]},
        ]
        changes = {
            "factors__model": [EOMT, {"name": "segnet", "width": 2}],
            "factors__loss": ["bce", "dice", "native"],
        }
        checked = check(write_sweep(tmp_path, tiny(**changes, exclude=rules)))
        assert [cell.levels["loss"] for cell in checked.cells] == ["native", "bce", "dice"]

    def test_native_stands_alone(self, tmp_path: Path) -> None:
        (found,) = self.problems(tmp_path, factors__model=[EOMT], factors__loss=["native+dice"])
        assert "native is all of a model's loss and stands alone" in found


def test_a_prefix_that_was_taken_off_is_told(tmp_path: Path) -> None:
    level: dict[str, Any] = {"name": "segnet", "width": 2}
    model = models.build(models.resolve(level), classes=2)
    state = {f"module.{name}": value for name, value in model.state_dict().items()}
    torch.save(state, tmp_path / "w.pth")
    level["weights"] = str(tmp_path / "w.pth")
    checked = check(write_sweep(tmp_path, tiny(factors__model=[level], factors__loss=["bce"])))
    (notice,) = [text for text in checked.notices if "w.pth" in text]
    assert "'module.' of DataParallel was taken off" in notice
