"""What numbers are called where they are drawn, whatever a class is called."""

from __future__ import annotations

import pytest

from segsweep.tracking.names import curve, curves


@pytest.mark.parametrize(
    ("name", "drawn"),
    [
        ("val_iou", "val/iou"),
        ("train_loss", "train/loss"),
        ("val_iou_oval_spot", "val/iou_oval_spot"),
        ("val_iou_train_loss", "val/iou_train_loss"),
        ("lr", "lr"),
        ("train_seconds", "train_seconds"),
    ],
)
def test_only_the_beginning_of_a_name_is_a_section(name: str, drawn: str) -> None:
    assert curve(name) == drawn


def test_curves_are_numbers_and_no_moments() -> None:
    event = {"event": "epoch", "time": 1.0, "epoch": 2, "best_epoch": 1, "val_iou_oval_spot": 0.5}
    assert curves(event) == {"epoch": 2, "val/iou_oval_spot": 0.5}
    assert curves(event, besides=["epoch"]) == {"val/iou_oval_spot": 0.5}
