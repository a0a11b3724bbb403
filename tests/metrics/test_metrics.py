"""Counts and scores against scikit-learn and torchmetrics, and on hand-made cases."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import sklearn.metrics as sk
import torch
import torchmetrics.classification as tm

from segsweep import results
from segsweep.metrics import (
    class_names,
    confusion,
    extra_names,
    per_class,
    score_names,
    scores,
)
from segsweep.metrics.counts import IGNORE


def random_pair(classes: int, seed: int, images: int = 3) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    shape = (images, 9, 11)
    prediction = torch.randint(classes, shape, generator=generator)
    target = torch.randint(classes, shape, generator=generator)
    target[torch.rand(shape, generator=generator) < 0.2] = IGNORE
    return prediction, target


def score(prediction: torch.Tensor, target: torch.Tensor, classes: int) -> dict[str, float | None]:
    return scores(confusion(prediction, target, classes).numpy())


@pytest.mark.parametrize("classes", [2, 3, 7])
def test_confusion_is_scikit_learns(classes: int) -> None:
    prediction, target = random_pair(classes, classes)
    matrix = confusion(prediction, target, classes)
    assert matrix.dtype == torch.int64
    for image in range(len(target)):
        valid = target[image] != IGNORE
        expected = sk.confusion_matrix(
            target[image][valid], prediction[image][valid], labels=list(range(classes))
        )
        np.testing.assert_array_equal(matrix[image].numpy(), expected)


def test_binary_scores_are_scikit_learns() -> None:
    prediction, target = random_pair(2, 0)
    valid = target != IGNORE
    truth, guess = target[valid].numpy(), prediction[valid].numpy()
    expected: dict[str, Any] = {
        "iou": sk.jaccard_score(truth, guess),
        "dice": sk.f1_score(truth, guess),
        "precision": sk.precision_score(truth, guess),
        "recall": sk.recall_score(truth, guess),
        "pixel_accuracy": sk.accuracy_score(truth, guess),
        "f1": tm.BinaryF1Score(ignore_index=IGNORE)(prediction, target).item(),
        "iou_per_image": np.mean(
            [sk.jaccard_score(target[i][v], prediction[i][v]) for i, v in enumerate(valid)]
        ),
        "f1_per_image": np.mean(
            [sk.f1_score(target[i][v], prediction[i][v]) for i, v in enumerate(valid)]
        ),
    }
    found = score(prediction, target, 2)
    assert tuple(found) == score_names(2)
    assert found == pytest.approx(expected, abs=1e-7)


@pytest.mark.parametrize("classes", [3, 7])
def test_multiclass_scores_are_torchmetrics(classes: int) -> None:
    prediction, target = random_pair(classes, 1)
    kwargs: dict[str, Any] = {"num_classes": classes, "average": "macro", "ignore_index": IGNORE}
    expected = {
        "miou": tm.MulticlassJaccardIndex(**kwargs)(prediction, target).item(),
        "mdice": tm.MulticlassF1Score(**kwargs)(prediction, target).item(),
        "mprecision": tm.MulticlassPrecision(**kwargs)(prediction, target).item(),
        "mrecall": tm.MulticlassRecall(**kwargs)(prediction, target).item(),
        "pixel_accuracy": tm.MulticlassAccuracy(**kwargs | {"average": "micro"})(
            prediction, target
        ).item(),
    }
    found = score(prediction, target, classes)
    assert tuple(found) == score_names(classes)
    assert {name: found[name] for name in expected} == pytest.approx(expected, abs=1e-6)


def test_an_absent_class_is_left_out_never_zero() -> None:
    target = torch.tensor([[[0, 0, 1, 1]], [[0, 0, 0, 0]]])
    found = score(target.clone(), target, 3)  # class 2 is nowhere
    assert found["miou"] == 1.0
    assert found["miou_present"] == 1.0


def test_a_stray_pixel_of_an_absent_class_costs_its_pixel_and_no_more() -> None:
    target = torch.zeros(2, 8, 8, dtype=torch.long)
    target[:, 4:] = 1  # of three classes, 2 is nowhere
    stray = target.clone()
    stray[0, 0, 0] = 2
    clean, found = score(target.clone(), target, 3), score(stray, target, 3)
    assert clean["miou"] == 1.0
    assert found["miou"] == pytest.approx((63 / 64 + 1) / 2)
    assert found["mdice"] == pytest.approx((126 / 127 + 1) / 2)
    assert found["mprecision"] == 1.0
    assert found["mrecall"] == pytest.approx((63 / 64 + 1) / 2)
    assert found["miou_present"] == pytest.approx((31 / 32 + 1 + 0) / 3 / 2 + 1 / 2)


def test_a_mean_is_over_the_same_classes_whatever_is_predicted() -> None:
    """Against scikit-learn over the labels of the truth."""
    rng = np.random.default_rng(0)
    target = torch.from_numpy(rng.choice([0, 2, 3], (4, 16, 16)))  # of five classes
    labels, truth = [0, 2, 3], target.numpy().ravel()
    for classes in ([0], [0, 2, 3], [0, 1, 2, 3, 4], [4]):
        prediction = torch.from_numpy(rng.choice(classes, target.shape))
        found, guess = score(prediction, target, 5), prediction.numpy().ravel()
        options: dict[str, Any] = {"labels": labels, "average": "macro", "zero_division": 0}
        expected = {
            "miou": sk.jaccard_score(truth, guess, **options),
            "mdice": sk.f1_score(truth, guess, **options),
            "mprecision": sk.precision_score(truth, guess, **options),
            "mrecall": sk.recall_score(truth, guess, **options),
        }
        assert {name: found[name] for name in expected} == pytest.approx(expected)


def test_a_class_that_is_never_predicted_has_precision_0() -> None:
    target = torch.tensor([[[0, 1], [0, 1]]])
    found = score(torch.zeros_like(target), target, 2)
    assert (found["precision"], found["recall"], found["iou"]) == (0.0, 0.0, 0.0)


def test_empty_masks() -> None:
    empty = torch.zeros(2, 4, 4, dtype=torch.long)
    nothing = score(empty, empty, 2)
    assert nothing["iou"] is None
    assert nothing["iou_per_image"] is None
    assert nothing["pixel_accuracy"] == 1.0
    wrong = empty.clone()
    wrong[0, 0, 0] = 1
    found = score(wrong, empty, 2)
    assert found["iou"] is None  # the class does not occur, whatever was predicted
    assert found["recall"] is None
    assert found["iou_per_image"] == 0.0  # the image without truth and prediction does not count


def test_ignored_pixels_never_count() -> None:
    prediction, target = random_pair(2, 3)
    before = score(prediction, target, 2)
    prediction[target == IGNORE] = 1 - prediction[target == IGNORE]
    assert score(prediction, target, 2) == before
    everything = torch.full_like(target, IGNORE)
    assert set(score(prediction, everything, 2).values()) == {None}


def test_counts_stay_exact_beyond_what_float32_holds() -> None:
    side = 4100  # more than 2^24 pixels
    target = torch.zeros(1, side, side, dtype=torch.uint8)
    target[0, 0, 0] = 1
    matrix = confusion(target, target, 2)
    assert matrix.sum() == side * side > 2**24
    assert matrix[0, 1, 1] == 1


def test_two_ways_to_average_over_the_classes_of_an_image() -> None:
    target = torch.tensor([[[0, 0, 1, 1]], [[0, 0, 0, 0]]])
    prediction = torch.tensor([[[0, 0, 1, 1]], [[0, 0, 0, 2]]])  # 2 is in no truth
    found = score(prediction, target, 3)
    assert found["miou"] == pytest.approx((5 / 6 + 1) / 2)
    assert found["miou_present"] == pytest.approx((1 + (3 / 4 + 0) / 2) / 2)
    assert found["miou_per_image_present"] == pytest.approx((1 + 3 / 4) / 2)


@pytest.mark.parametrize("classes", [3, 7])
def test_scores_by_image_are_scikit_learns(classes: int) -> None:
    prediction, target = random_pair(classes, 8, images=4)
    target[1][target[1] == 2] = 1  # a class that one image lacks
    both, true = [], []
    for guess, truth in zip(prediction, target, strict=True):
        valid = truth != IGNORE
        each = sk.jaccard_score(
            truth[valid], guess[valid], labels=list(range(classes)), average=None
        )
        both.append(each.mean())
        true.append(np.mean([each[label] for label in truth[valid].unique()]))
    found = score(prediction, target, classes)
    assert found["miou_present"] == pytest.approx(np.mean(both))
    assert found["miou_per_image_present"] == pytest.approx(np.mean(true))


def test_every_class_has_its_iou_by_name() -> None:
    names = ["sky", "road sign", "pole/post", "present"]
    prediction, target = random_pair(4, 3)
    target[target == 3] = 0
    prediction[prediction == 3] = 0
    found = scores(confusion(prediction, target, 4).numpy(), names)
    own = ["iou_sky", "iou_road_sign", "iou_pole_post", "iou_present"]
    assert tuple(found) == score_names(names) == (*score_names(4), *own)
    valid = target != IGNORE
    each = sk.jaccard_score(target[valid], prediction[valid], labels=[0, 1, 2], average=None)
    assert [found[name] for name in own[:3]] == pytest.approx(list(each))
    assert found[own[3]] is None  # absent, never 0
    assert found["miou"] == pytest.approx(each.mean())


def test_names_of_classes_never_collide() -> None:
    names = class_names(["a b", "a-b", "per_image", "c"])
    assert names == ["iou_a_b_0", "iou_a_b_1", "iou_per_image_2", "iou_c"]
    assert class_names(["background", "lesion"]) == []


def test_every_score_has_a_column() -> None:
    for names in (score_names(2), score_names(3), extra_names(2), extra_names(3)):
        assert set(names) <= set(results.SCORES)


def test_per_class_counts_add_up() -> None:
    prediction, target = random_pair(4, 5)
    counts = per_class(confusion(prediction, target, 4).numpy())
    valid = (target != IGNORE).sum(dim=(1, 2)).numpy()
    np.testing.assert_array_equal(counts["valid"], valid)
    np.testing.assert_array_equal((counts["tp"] + counts["fn"]).sum(axis=1), valid)
    np.testing.assert_array_equal((counts["tp"] + counts["fp"]).sum(axis=1), valid)
