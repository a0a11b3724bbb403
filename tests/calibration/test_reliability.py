"""NLL, Brier and ECE at many temperatures against scikit-learn, torchmetrics and a sort."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torchmetrics.functional.classification as tm
from numpy.typing import NDArray
from sklearn.metrics import brier_score_loss, log_loss

from segsweep.calibration.reliability import METRICS, ReliabilitySweep, reliability
from segsweep.errors import CalibrationError
from tests.calibration.drawing import Floats, Ints, known, softmax

TEMPERATURES = (0.5, 1.0, 2.5, 4.0)  # scikit-learn cuts probabilities off at 2e-16


def expected(logits: Floats, labels: Ints, temperature: float) -> dict[str, float]:
    classes = logits.shape[1]
    p = softmax(logits / np.float64(temperature))
    q, y = torch.from_numpy(p), torch.from_numpy(labels)
    ece = tm.multiclass_calibration_error(q, y, classes, n_bins=15)
    of_class = [
        tm.binary_calibration_error(q[:, k].contiguous(), (y == k).int(), n_bins=15)
        for k in range(classes)
    ]
    return {
        "nll": float(log_loss(labels, p, labels=range(classes))),
        "brier": float(
            sum(
                brier_score_loss(labels == k, p[:, k], labels=[False, True], pos_label=True)
                for k in range(classes)
            )
        ),
        "ece": float(ece),
        "ece_adaptive": by_sorting(p, labels),
        "ece_classwise": float(np.mean([float(one) for one in of_class])),
    }


def by_sorting(p: NDArray[np.float64], labels: Ints) -> float:
    """ECE in 15 bins of equally many pixels."""
    confidence = p.max(axis=1)
    gap = (confidence - (p.argmax(axis=1) == labels))[np.argsort(confidence)]
    sums = np.concatenate([[0], np.cumsum(gap)])
    borders = np.interp(np.linspace(0, len(gap), 16), np.arange(len(gap) + 1), sums)
    return float(np.abs(np.diff(borders)).sum() / len(gap))


@pytest.mark.parametrize("classes", [2, 7])
def test_every_metric_at_every_temperature_and_region(classes: int) -> None:
    logits, labels = known(classes, 2.5, pixels=6000, spread=1.0)
    labels[::9] = 255
    image = np.arange(6000) // 500
    boundary = np.random.default_rng(0).random(6000) < 0.2
    rows = reliability(logits, labels, image, TEMPERATURES, boundary, resamples=20)
    assert [(row.temperature, row.region) for row in rows] == [
        (temperature, region) for temperature in TEMPERATURES for region in ("all", "boundary")
    ]
    for row in rows:
        kept = labels != 255
        if row.region == "boundary":
            kept &= boundary
        wanted = expected(logits[kept], labels[kept], row.temperature)
        assert row.pixels == kept.sum()
        assert row.accuracy == pytest.approx((logits.argmax(axis=1) == labels)[kept].mean())
        for name in METRICS:
            # a probability within a rounding of a bin's border may be in either bin
            error = row.estimates[name].error
            assert name == "ece_adaptive" or error == 0
            near = 2 / row.pixels if "ece" in name else 2e-6
            near = error + 1e-6 if name == "ece_adaptive" else near
            assert row.estimates[name].value == pytest.approx(wanted[name], abs=near), name


def test_the_diagram_is_what_the_ece_is_made_of() -> None:
    logits, labels = known(4, 2.0, pixels=3000)
    row = reliability(logits, labels, np.zeros(3000, np.int64), [1.0])[0]
    confidence = softmax(logits).max(axis=1)
    inside = np.clip(np.ceil(confidence * 15).astype(int) - 1, 0, 14)
    correct = logits.argmax(axis=1) == labels
    for place in range(15):
        some = inside == place
        assert row.diagram.pixels[place] == some.sum()
        if some.any():
            assert row.diagram.confidence[place] == pytest.approx(confidence[some].mean(), rel=1e-5)
            assert row.diagram.accuracy[place] == pytest.approx(correct[some].mean())
        else:
            assert np.isnan(row.diagram.accuracy[place])
    used = row.diagram.pixels > 0
    gaps = np.abs(row.diagram.confidence - row.diagram.accuracy)[used]
    ece = row.estimates["ece"].value
    assert float((gaps * row.diagram.pixels[used]).sum()) / 3000 == pytest.approx(ece, abs=1e-6)


def test_by_hand() -> None:
    """Two pixels at 3/4, one right: NLL -(log 3/4 + log 1/4)/2, Brier (1/8 + 9/8)/2, ECE 1/4."""
    z = np.log(np.array([3.0, 3.0], np.float32))
    row = reliability(z, np.array([1, 0]), np.zeros(2, np.int64), [1.0])[0]
    values = {name: one.value for name, one in row.estimates.items()}
    assert values["nll"] == pytest.approx(-(np.log(0.75) + np.log(0.25)) / 2, rel=1e-6)
    assert values["brier"] == pytest.approx(0.625, rel=1e-6)
    assert values["ece"] == pytest.approx(0.25, rel=1e-6)
    assert values["ece_adaptive"] == pytest.approx(0.25, rel=1e-6)
    assert values["ece_classwise"] == pytest.approx(0.25, rel=1e-6)
    assert row.accuracy == 0.5


def test_what_bins_leave_open_of_the_adaptive_ece_is_known() -> None:
    """Sure ones a little too sure, unsure ones too unsure, and many ties: signs that change."""
    rng = np.random.default_rng(2)
    z = np.repeat(rng.normal(0, 2, 400), 50).astype(np.float32)
    z[::7] += rng.normal(0, 0.01, len(z[::7])).astype(np.float32)
    labels = (rng.random(len(z)) < 1 / (1 + np.exp(-np.tanh(z) * 1.2))).astype(np.int64)
    errors = []
    for temperature in (0.3, 0.9, 1.3, 2.0):
        one = reliability(z, labels, np.zeros(len(z), int), [temperature])[0]
        p = softmax(np.stack([np.zeros_like(z), z], axis=1) / np.float64(temperature))
        found = one.estimates["ece_adaptive"]
        assert found.error < 0.02
        assert found.value == pytest.approx(by_sorting(p, labels), abs=found.error + 1e-7)
        errors.append(abs(found.value - by_sorting(p, labels)))
    assert max(errors) > 1e-5


def test_ties_are_all_in_one_bin_of_equal_mass() -> None:
    """All pixels alike: however they are divided, every bin has the same gap."""
    z = np.full(1000, np.log(4.0), np.float32)  # 0.8
    labels = (np.arange(1000) % 2).astype(np.int64)
    row = reliability(z, labels, np.zeros(1000, np.int64), [1.0])[0]
    assert row.estimates["ece_adaptive"].value == pytest.approx(0.3, abs=1e-6)


def test_pieces_and_threads_change_nothing() -> None:
    logits, labels = known(3, pixels=9000)
    image = np.random.default_rng(1).integers(0, 5, 9000)  # not in order
    whole = reliability(logits, labels, image, TEMPERATURES, threads=1, resamples=30)
    sweep = ReliabilitySweep(3, TEMPERATURES, 5, threads=2)
    for begin in range(0, 9000, 2500):
        part = slice(begin, begin + 2500)
        sweep.update(logits[part], labels[part], image[part])
    for a, b in zip(whole, sweep.result(resamples=30), strict=True):
        for name in METRICS:
            assert a.estimates[name].value == pytest.approx(b.estimates[name].value, abs=1e-6)
            assert a.estimates[name].low == pytest.approx(b.estimates[name].low, abs=1e-6)


def test_an_interval_holds_its_value_and_shrinks_with_more_images() -> None:
    widths = []
    for images in (10, 160):
        logits, labels = known(3, 2.0, pixels=images * 100)
        rows = reliability(logits, labels, np.arange(images * 100) // 100, [2.0], resamples=300)
        for one in rows[0].estimates.values():
            assert one.low is not None
            assert one.high is not None
            assert 0 <= one.low <= one.value <= one.high
        nll = rows[0].estimates["nll"]
        assert nll.low is not None
        assert nll.high is not None
        widths.append(nll.high - nll.low)
    assert 2 < widths[0] / widths[1] < 8  # 4 with four times the root


def test_draws_are_the_images_drawn_anew() -> None:
    logits, labels = known(3, pixels=800)
    image = np.arange(800) // 100
    sweep = ReliabilitySweep(3, [1.0, 2.0], 8)
    sweep.update(logits, labels, image)
    sweep.result(resamples=50, seed=4)
    counts = np.random.default_rng(4).multinomial(8, np.full(8, 1 / 8), size=50)
    again = np.repeat(np.arange(800), counts[7][image])
    wanted = expected(logits[again], labels[again], 2.0)
    for name in ("nll", "brier", "ece", "ece_classwise"):
        assert sweep.replicas(name)[1].drawn[7] == pytest.approx(wanted[name], abs=2e-5)


def test_one_image_has_no_interval() -> None:
    logits, labels = known(3, pixels=100)
    row = reliability(logits, labels, np.zeros(100, np.int64), [1.0])[0]
    assert row.estimates["nll"].low is None
    assert row.estimates["nll"].no_interval == "it rests on 1 image, and an interval needs 4"


def test_a_region_without_pixels_is_left_out() -> None:
    logits, labels = known(3, pixels=100)
    rows = reliability(logits, labels, np.zeros(100, np.int64), [1.0], np.zeros(100, bool))
    assert [row.region for row in rows] == ["all"]


def test_bad_input_is_refused() -> None:
    logits, labels = known(3, pixels=10)
    image = np.zeros(10, np.int64)
    with pytest.raises(CalibrationError, match="no valid pixel"):
        reliability(logits, 0 * labels + 255, image, [1.0])
    with pytest.raises(CalibrationError, match="no temperature"):
        reliability(logits, labels, image, [0.0])
    with pytest.raises(CalibrationError, match="NaN or infinite"):
        reliability(logits * np.float32(np.nan), labels, image, [1.0])
    sweep = ReliabilitySweep(4, [1.0], 1)
    with pytest.raises(CalibrationError, match="3 classes, not 4"):
        sweep.update(logits, labels, image)
    sweep = ReliabilitySweep(3, [1.0], 1, boundary=True)
    with pytest.raises(CalibrationError, match="boundary masks"):
        sweep.update(logits, labels, image)
    with pytest.raises(CalibrationError, match="not in 0 to 0"):
        sweep.update(logits, labels, image + 1, np.zeros(10, bool))
