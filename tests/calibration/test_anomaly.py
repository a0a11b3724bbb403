"""Every anomaly score by hand, and whether a temperature can change its ranking."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.special import expit, logsumexp
from scipy.special import softmax as soft
from scipy.stats import entropy

from segsweep.calibration.anomaly import (
    MASK_SCORES,
    PIXEL_SCORES,
    mask_scores,
    pixel_scores,
    ranking_depends_on_temperature,
)
from segsweep.errors import CalibrationError
from tests.calibration.drawing import road

LOG = math.log


def test_pixel_scores_by_hand() -> None:
    """Logits log 4, log 2, log 2 at T = 1: p = 1/2, 1/4, 1/4; at T = 1/2: 2/3, 1/6, 1/6."""
    z = np.log(np.array([[4, 2, 2]], np.float32))
    one = {name: float(values[0]) for name, values in pixel_scores(z, 1.0).items()}
    assert one == pytest.approx(
        {"msp": 0.5, "max_logit": -LOG(4), "max_entropy": 1.5 * LOG(2), "energy": -LOG(8)},
        rel=1e-6,
    )
    half = {name: float(values[0]) for name, values in pixel_scores(z, 0.5).items()}
    unsure = -(2 / 3 * LOG(2 / 3) + 1 / 3 * LOG(1 / 6))
    assert half == pytest.approx(
        {"msp": 1 / 3, "max_logit": -LOG(4), "max_entropy": unsure, "energy": -LOG(24) / 2},
        rel=1e-6,
    )


@pytest.mark.parametrize("temperature", [0.05, 0.5, 1.0, 3.0, 20.0])
@pytest.mark.parametrize("classes", [2, 3, 19])
def test_pixel_scores_against_scipy(classes: int, temperature: float) -> None:
    logits, _ = road(500, classes)
    z = logits.astype(np.float64)
    p = soft(z / temperature, axis=1)
    found = pixel_scores(logits, temperature)
    wanted = {
        "msp": 1 - p.max(axis=1),
        "max_logit": -z.max(axis=1),
        "max_entropy": entropy(p, axis=1),
        "energy": -temperature * logsumexp(z / temperature, axis=1),
    }
    for name in PIXEL_SCORES:
        np.testing.assert_allclose(found[name], wanted[name], rtol=2e-5, atol=2e-5, err_msg=name)
        assert found[name].dtype == np.float32


def test_pixels_with_ties_and_pixels_that_are_certain() -> None:
    z = np.array([[1, 1, 1], [2, 2, -50], [90, -90, -90]], np.float32)
    found = pixel_scores(z, 1.0)
    np.testing.assert_allclose(found["msp"], [2 / 3, 1 / 2, 0], atol=1e-6)
    np.testing.assert_allclose(found["max_entropy"], [LOG(3), LOG(2), 0], atol=1e-6)
    np.testing.assert_allclose(found["energy"], [-1 - LOG(3), -2 - LOG(2), -90], rtol=1e-6)


def test_a_binary_head_is_two_logits() -> None:
    z = np.array([-3.0, 0.0, 0.5, 7.0], np.float32)
    both = pixel_scores(np.stack([0 * z, z], axis=1), 1.5)
    for shape in (z, z[:, None]):
        for name, values in pixel_scores(shape, 1.5).items():
            np.testing.assert_array_equal(values, both[name])
    np.testing.assert_allclose(both["msp"], 1 - expit(np.abs(z) / 1.5), rtol=1e-5)


# two queries, two classes and "no object"; four pixels: only query 0's, only query 1's, both's,
# and one that no mask covers
MASKS = np.array([[[np.inf, -np.inf, np.inf, -np.inf]], [[-np.inf, np.inf, np.inf, -np.inf]]])
CLASSES = np.log(np.array([[6.0, 1.0, 1.0], [2.0, 4.0, 2.0]]))  # P: 3/4 1/8 1/8, and 1/4 1/2 1/4


def test_mask_scores_by_hand() -> None:
    found = {
        name: values[0].astype(np.float64)
        for name, values in mask_scores(
            MASKS.astype(np.float32), CLASSES.astype(np.float32), 1.0
        ).items()
    }
    sums = np.array([[3 / 4, 1 / 8], [1 / 4, 1 / 2], [1, 5 / 8], [0, 0]])
    wanted = {
        "rba": [-(math.tanh(a) + math.tanh(b)) for a, b in sums],
        "rba_course": [1 / 8, 1 / 4, -5 / 8, 1],
        "msp_sum": [1 / 4, 1 / 2, 0, 1],
        "msp_softmax": [1 - 1 / (1 + math.exp(-abs(a - b))) for a, b in sums],
        "msp_query": [-3 / 4, -1 / 2, -5 / 4, 0],
    }
    assert list(found) == list(MASK_SCORES)
    for name in MASK_SCORES:
        np.testing.assert_allclose(found[name], wanted[name], atol=1e-6, err_msg=name)


def test_a_pixel_that_no_mask_covers_is_the_most_anomalous() -> None:
    found = mask_scores(MASKS.astype(np.float32), CLASSES.astype(np.float32), 1.0)
    for name, values in found.items():
        assert values[0].argmax() == 3, name
    assert found["msp_softmax"][0, 3] == pytest.approx(1 / 2)


def test_where_the_temperature_acts_in_mask_models() -> None:
    """In each query's softmax, "no object" included; in ``msp_softmax`` alone after the sum."""
    generator = np.random.default_rng(0)
    masks = generator.normal(size=(5, 3, 4)).astype(np.float32) * 3
    classes = generator.normal(size=(5, 5)).astype(np.float32) * 2
    for temperature in (0.5, 1.0, 2.0):
        found = mask_scores(masks, classes, temperature)
        covered = expit(masks.astype(np.float64))
        inside = np.einsum("qk,qhw->khw", soft(classes / temperature, axis=1)[:, :-1], covered)
        after = np.einsum("qk,qhw->khw", soft(classes, axis=1)[:, :-1], covered)
        sure = soft(classes / temperature, axis=1)[:, :-1].max(axis=1)
        wanted = {
            "rba": -np.tanh(inside).sum(axis=0),
            "rba_course": 1 - inside.sum(axis=0),
            "msp_sum": 1 - inside.max(axis=0),
            "msp_softmax": 1 - soft(after / temperature, axis=0).max(axis=0),
            "msp_query": -np.einsum("q,qhw->hw", sure, covered),
        }
        for name in MASK_SCORES:
            np.testing.assert_allclose(found[name], wanted[name], atol=2e-6, err_msg=name)


HEADS = [("pixel", 2), ("pixel", 3), ("binary", 2), ("mask", 2), ("mask", 3)]


@pytest.mark.parametrize(("head", "classes"), HEADS)
def test_whether_a_temperature_can_change_the_ranking(head: str, classes: int) -> None:
    """Said to be so exactly where some pair of pixels is ranked otherwise at another T."""
    generator = np.random.default_rng(5)
    grid = (0.3, 1.0, 3.0)
    if head == "mask":
        masks = generator.normal(size=(4, 1, 300)).astype(np.float32) * 2
        queries = generator.normal(size=(4, classes + 1)).astype(np.float32) * 2
        found = {t: mask_scores(masks, queries, t) for t in grid}
    else:
        z = generator.normal(size=(300, classes)).astype(np.float32)
        z = z[:, 0] if head == "binary" else z
        found = {t: pixel_scores(z, t) for t in grid}
    for name in found[1.0]:
        first = found[1.0][name].ravel().astype(np.float64)
        swapped = False
        for t in grid:
            other = found[t][name].ravel().astype(np.float64)
            # pairs that are ranked one way here and the other there, by more than rounding
            a, b = np.subtract.outer(first, first), np.subtract.outer(other, other)
            swapped |= bool(((a > 1e-5) & (b < -1e-5)).any())
        assert ranking_depends_on_temperature(name, head, classes) == swapped, name


def test_bad_input_is_refused() -> None:
    z = np.ones((4, 3), np.float32)
    with pytest.raises(CalibrationError, match=r"no score 'mps'\n.*msp"):
        pixel_scores(z, 1.0, ["mps"])
    with pytest.raises(CalibrationError, match="no temperature"):
        pixel_scores(z, -1.0)
    with pytest.raises(CalibrationError, match="NaN or infinite"):
        pixel_scores(z * np.float32(np.nan), 1.0)
    with pytest.raises(CalibrationError, match="do not fit"):
        mask_scores(np.ones((4, 2, 2), np.float32), np.ones((3, 3), np.float32), 1.0)
    with pytest.raises(CalibrationError, match="NaN or infinite"):
        mask_scores(np.ones((3, 2, 2), np.float32), np.full((3, 3), np.nan, np.float32), 1.0)
    with pytest.raises(CalibrationError, match="kind of head"):
        ranking_depends_on_temperature("msp", "pixels", 3)
