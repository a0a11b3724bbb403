"""Boundary IoU against erosion by scipy, and on cases that can be counted by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy import ndimage

from segsweep.metrics import boundary_counts, boundary_scores
from segsweep.metrics.boundary import band_width

IGNORE = 255


def band(mask: NDArray[np.bool_], width: int) -> NDArray[np.bool_]:
    inner = ndimage.binary_erosion(mask, np.ones((3, 3), bool), iterations=width, border_value=0)
    return np.asarray(mask & ~inner)


@pytest.mark.parametrize("width", [1, 2, 3, 4, 6])
@pytest.mark.parametrize("classes", [2, 4])
def test_counts_are_those_of_erosion(width: int, classes: int) -> None:
    rng = np.random.default_rng(width)
    truth = ndimage.zoom(rng.integers(0, classes, (3, 5, 6)), (1, 7, 6), order=0)
    guess = np.roll(truth, (1, 2), axis=(1, 2))
    found = boundary_counts(torch.from_numpy(guess), torch.from_numpy(truth), classes, width=width)
    assert found.shape == (3, classes, 3)
    assert found.dtype == torch.int64
    for image in range(3):
        for label in range(classes):
            a, b = (band(x[image] == label, width) for x in (truth, guess))
            assert found[image, label].tolist() == [(a & b).sum(), (a | b).sum(), a.sum()]


def test_a_square_by_hand() -> None:
    truth = torch.zeros(1, 12, 12, dtype=torch.long)
    truth[0, 2:8, 2:8] = 1  # a 6 × 6 square has 20 pixels at its edge, a 4 × 4 one has 12
    guess = torch.zeros_like(truth)
    guess[0, 3:7, 3:7] = 1
    assert boundary_counts(guess, truth, 2, width=1)[0, 1, :2].tolist() == [0, 32]
    assert boundary_counts(truth, truth, 2, width=1)[0, 1, :2].tolist() == [20, 20]
    # a band of two takes the 12 in as well
    assert boundary_counts(guess, truth, 2, width=2)[0, 1, :2].tolist() == [12, 20 + 12 + 4]


def test_the_edge_of_the_image_is_a_contour() -> None:
    full = torch.ones(1, 10, 10, dtype=torch.long)
    assert boundary_counts(full, full, 2, width=1)[0, 1, :2].tolist() == [36, 36]


def test_a_band_wider_than_the_image_is_the_mask() -> None:
    generator = torch.Generator().manual_seed(0)
    truth = torch.randint(2, (2, 9, 9), generator=generator)
    guess = torch.randint(2, (2, 9, 9), generator=generator)
    found = boundary_counts(guess, truth, 2, width=20)[:, 1]
    assert found[:, 0].tolist() == ((truth & guess) == 1).sum((1, 2)).tolist()
    assert found[:, 1].tolist() == ((truth | guess) == 1).sum((1, 2)).tolist()


def test_ignored_pixels_never_count_and_make_no_contour() -> None:
    truth = torch.zeros(1, 20, 20, dtype=torch.long)
    truth[0, :, :10] = 1
    guess = truth.clone()
    truth[0, :, 5:15] = IGNORE  # the contour itself is unknown
    before = boundary_counts(guess, truth, 2, width=1)
    assert before[0, 1, :2].tolist() == [20 + 4 + 4, 28]  # the image's edge alone
    guess[0, :, 5:15] = 0
    assert torch.equal(boundary_counts(guess, truth, 2, width=1), before)


def test_absent_is_none() -> None:
    nothing = torch.zeros(2, 8, 8, dtype=torch.long)
    found = boundary_scores(boundary_counts(nothing, nothing, 2).numpy())
    assert found == {"boundary_iou": None, "boundary_iou_per_image": None}
    one = nothing.clone()
    one[0, 2:5, 2:5] = 1
    found = boundary_scores(boundary_counts(one, one, 2).numpy())
    assert found == {"boundary_iou": 1.0, "boundary_iou_per_image": 1.0}
    found = boundary_scores(boundary_counts(one, one, 5).numpy())
    assert found == {"mboundary_iou": 1.0}
    stray = one.clone()
    stray[0, 7, 7] = 4  # in no truth
    found = boundary_scores(boundary_counts(stray, one, 5).numpy())
    assert found["mboundary_iou"] == pytest.approx((54 / 55 + 1) / 2, abs=0.02)
    ignored = torch.full_like(nothing, IGNORE)
    found = boundary_scores(boundary_counts(one, ignored, 2).numpy())
    assert found == {"boundary_iou": None, "boundary_iou_per_image": None}


def test_a_class_without_a_contour_in_the_truth_has_no_score_whatever_is_predicted() -> None:
    truth = torch.full((1, 8, 8), IGNORE)
    truth[0, 0, :] = 0
    truth[0, 4, 4] = 1  # bordered by nothing that is labelled
    guess = torch.zeros_like(truth)
    guess[0, 4, 4] = 1
    wrong = guess.clone()
    wrong[0, 0, 0] = 1
    for found in (guess, wrong):
        assert boundary_scores(boundary_counts(found, truth, 2).numpy())["boundary_iou"] is None


def test_the_band_is_two_percent_of_the_diagonal() -> None:
    assert band_width(480, 640) == 16
    assert band_width(8, 8) == 1
