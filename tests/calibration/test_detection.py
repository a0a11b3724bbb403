"""AuPRC, AUROC, FPR95 both ways and the best mean IoU, against scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest
import sklearn.metrics as sk
import torch
import torchmetrics.functional.classification as tm
from numpy.typing import NDArray

from segsweep.calibration import pixels, pooled
from segsweep.calibration.anomaly import PIXEL_SCORES, pixel_scores
from segsweep.calibration.detection import METRICS, DetectionSweep, ScoreSweep, detect
from segsweep.calibration.pixels import Floats
from segsweep.calibration.pooled import FEWEST, Detection
from segsweep.errors import CalibrationError
from tests.calibration.drawing import road

TEMPERATURES = (0.25, 1.0, 4.0)


def expected(scores: NDArray[np.floating], labels: NDArray[np.uint8]) -> dict[str, float]:
    valid = labels != 255
    truth, values = labels[valid], scores[valid].astype(np.float64)
    false, true, _ = sk.roc_curve(truth, values, drop_intermediate=False)
    return {
        "auprc": float(sk.average_precision_score(truth, values)),
        "auroc": float(sk.roc_auc_score(truth, values)),
        "fpr95_interpolated": float(np.interp(0.95, true, false)),
        "fpr95_first": float(false[np.argmax(true >= 0.95)]),
        "miou": best_iou(values, truth)[0],
    }


def best_iou(values: NDArray[np.floating], truth: NDArray[np.uint8]) -> tuple[float, float]:
    """By trying every threshold."""
    found = []
    for threshold in [*np.unique(values), np.inf]:
        guess = values >= threshold
        hit = [((truth == k) & (guess == k)).sum() for k in (0, 1)]
        either = [((truth == k) | (guess == k)).sum() for k in (0, 1)]
        found.append((float(np.mean([a / b for a, b in zip(hit, either, strict=True)])), threshold))
    return max(found)


def check(found: Detection, wanted: dict[str, float], most: float) -> None:
    for name in METRICS:
        one = getattr(found, name)
        assert one.value is not None
        assert abs(one.value - wanted[name]) <= one.error + 1e-6, name
        assert abs(one.value - wanted[name]) <= most, name


@pytest.mark.parametrize("kind", ["smooth", "ties", "constant", "perfect", "inverted"])
def test_exactly_by_sorting(kind: str) -> None:
    logits, labels = road(900)
    smooth = pixel_scores(logits, 1.0, ["energy"])["energy"]
    scores = {
        "smooth": smooth,
        "ties": np.round(smooth),
        "constant": np.zeros_like(smooth),
        "perfect": (labels == 1) + np.abs(smooth) / 1000,
        "inverted": -(labels == 1).astype(np.float32),
    }[kind]
    found = detect(scores, labels)
    check(found, expected(scores, labels), 1e-9)
    valid = labels != 255
    value, threshold = best_iou(scores[valid], labels[valid])
    guess = scores[valid] >= found.threshold
    again = [sk.jaccard_score(labels[valid] == k, guess == k, zero_division=0) for k in (0, 1)]
    assert np.mean(again) == pytest.approx(value)
    if kind in ("smooth", "perfect"):
        assert found.threshold == pytest.approx(threshold)
    truth = torch.from_numpy((labels[valid] == 1).astype(np.int64))
    values = torch.from_numpy(scores[valid].astype(np.float32)).sigmoid()
    assert found.auprc.value == pytest.approx(
        float(tm.binary_average_precision(values, truth)), abs=1e-5
    )
    assert found.auroc.value == pytest.approx(float(tm.binary_auroc(values, truth)), abs=1e-5)


def test_the_two_conventions_of_fpr95_by_hand() -> None:
    """40 anomalies, 20 normal. 37 anomalies lead, then 5 normal, 2 anomalies, 5 normal, the rest.

    TPR is 37/40 until the FPR is 5/20, and 38/40 = 0.95 with the next: first FPR 5/20. Where the
    curve passes 0.95 it goes straight up: interpolated 5/20 too.
    With 36 ahead, then 5 normal, then 4 tied with 5 normal, the curve goes straight from (5/20,
    36/40) to (10/20, 1): first 10/20, interpolated 7.5/20.
    """
    labels = np.repeat([1, 0, 1, 0, 1, 0], [37, 5, 2, 5, 1, 10]).astype(np.uint8)
    found = detect(-np.arange(60, dtype=np.float32), labels)
    assert found.fpr95_first.value == pytest.approx(5 / 20)
    assert found.fpr95_interpolated.value == pytest.approx(5 / 20)
    labels = np.repeat([1, 0, 1, 0, 0], [36, 5, 4, 5, 10]).astype(np.uint8)
    scores = -np.repeat([0.0, 1.0, 2.0, 3.0], [36, 5, 9, 10]).astype(np.float32)
    found = detect(scores, labels)
    assert found.fpr95_first.value == pytest.approx(10 / 20)
    assert found.fpr95_interpolated.value == pytest.approx(7.5 / 20)


@pytest.mark.parametrize("classes", [2, 5, 19])
def test_many_scores_and_temperatures_at_once(
    classes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pixels, "BLOCK", 1000)  # several blocks
    logits, labels = road(9000, classes)
    logits[labels == 255] = np.nan
    sweep = DetectionSweep(TEMPERATURES, threads=2)
    sweep.update(logits[:5000], labels[:5000])
    sweep.update(logits[5000:], labels[5000:])
    found = sweep.result()
    for score in PIXEL_SCORES:
        moves = score == "energy" or (score != "max_logit" and classes > 2)
        asked = TEMPERATURES if moves else [None]
        assert [t for name, t in found if name == score] == list(asked)
        for temperature in asked:
            clean = np.nan_to_num(logits)
            scores = pixel_scores(clean, temperature or 1.0, [score])[score]
            one = found[score, temperature]
            wanted = expected_fast(scores, labels)
            check(one, wanted, 1.5e-3)
            valid = labels != 255
            assert (one.anomalous, one.normal) == ((labels == 1).sum(), (labels == 0).sum())
            guess = scores[valid] >= one.threshold
            iou = [sk.jaccard_score(labels[valid] == k, guess == k) for k in (0, 1)]
            assert np.mean(iou) == pytest.approx(wanted["miou"], abs=2e-3)


def expected_fast(scores: Floats, labels: NDArray[np.uint8]) -> dict[str, float]:
    """``expected``, with the best IoU by sorting, which another test checks."""
    valid = labels != 255
    exact = detect(scores, labels)
    truth, values = labels[valid], scores[valid].astype(np.float64)
    false, true, _ = sk.roc_curve(truth, values, drop_intermediate=False)
    assert exact.miou.value is not None
    return {
        "auprc": float(sk.average_precision_score(truth, values)),
        "auroc": float(sk.roc_auc_score(truth, values)),
        "fpr95_interpolated": float(np.interp(0.95, true, false)),
        "fpr95_first": float(false[np.argmax(true >= 0.95)]),
        "miou": exact.miou.value,
    }


def test_bins_grow_and_join_and_the_bounds_still_hold(monkeypatch: pytest.MonkeyPatch) -> None:
    """The range of scores grows a thousandfold, on both sides, after the width was chosen."""
    monkeypatch.setattr(pooled, "LONGEST", 4096)
    generator = np.random.default_rng(0)
    labels = (generator.random(8000) < 0.2).astype(np.uint8)
    scores = (generator.normal(size=8000) + labels).astype(np.float32)
    scores *= np.repeat([0.01, 1.0, 10.0, -10.0], 2000).astype(np.float32)
    sweep = ScoreSweep()
    for begin in range(0, 8000, 500):
        part = slice(begin, begin + 500)
        sweep.update(("mine", 1.0), scores[part], labels[part])
    found = sweep.result()["mine", 1.0]
    assert (found.anomalous, found.normal) == ((labels == 1).sum(), (labels == 0).sum())
    check(found, expected_fast(scores, labels), 0.05)


def test_equal_scores_are_one_bin() -> None:
    labels = np.repeat([0, 1], 50).astype(np.uint8)
    sweep = ScoreSweep()
    sweep.update(("flat", None), np.full((10, 10), 3.5, np.float32), labels.reshape(10, 10))
    found = sweep.result()["flat", None]
    assert found.auroc.value == pytest.approx(0.5)


def test_images_are_pooled_as_they_are_and_those_without_anomalies_count() -> None:
    """Rescaling an image by its own range, or leaving normal images out, would change both."""
    generator = np.random.default_rng(2)
    labels = np.concatenate([np.repeat([0, 1], [300, 100]), np.zeros(400, np.int64)])
    scores = generator.normal(size=800).astype(np.float32) + labels + np.repeat([0, 0.5], 400)
    sweep = ScoreSweep()
    for image in (slice(0, 400), slice(400, 800)):
        sweep.update(("any", 1.0), scores[image].astype(np.float32), labels[image])
    whole = detect(scores, labels)
    found = sweep.result()["any", 1.0]
    assert found.normal == 700
    assert whole.auprc.value is not None
    assert found.auprc.value == pytest.approx(whole.auprc.value, abs=1e-3)
    assert found.auprc.value != pytest.approx(
        detect(scores[:400], labels[:400]).auprc.value, abs=0.01
    )


@pytest.mark.parametrize("anomalous", [0, FEWEST - 1])
def test_too_few_anomalous_pixels_are_refused(anomalous: int) -> None:
    logits, _ = road(300)
    labels = (np.arange(300) < anomalous).astype(np.uint8)
    sweep = DetectionSweep([1.0], where="smiyc/validation")
    sweep.update(logits, labels)
    scores = ScoreSweep()
    scores.update(("rba", 1.0), logits[:, 0], labels)
    for run in (sweep.result, scores.result, lambda: detect(logits[:, 0], labels)):
        with pytest.raises(CalibrationError, match=f"there are {anomalous} anomalous pixels"):
            run()
    with pytest.raises(CalibrationError, match="smiyc/validation"):
        sweep.result()


def test_bad_input_is_refused() -> None:
    logits, labels = road(300)
    with pytest.raises(CalibrationError, match=r"labels \[2\]"):
        DetectionSweep([1.0]).update(logits, np.where(labels == 1, 2, labels))
    with pytest.raises(CalibrationError, match=r"labels \[7\]"):
        detect(logits[:, 0], np.where(labels == 1, 7, labels))
    with pytest.raises(CalibrationError, match="NaN or infinite"):
        DetectionSweep([1.0]).update(logits * np.float32(np.inf), labels)
    with pytest.raises(CalibrationError, match="NaN or infinite"):
        detect(logits[:, 0] * np.float32(np.nan), labels)
    with pytest.raises(CalibrationError, match="shape"):
        detect(logits, labels)
    with pytest.raises(CalibrationError, match="there are 0 anomalous"):
        DetectionSweep([1.0]).result()
    with pytest.raises(CalibrationError, match="no score"):
        DetectionSweep([1.0], ["rba"])
    sweep = DetectionSweep([1.0])
    sweep.update(logits, labels)
    with pytest.raises(CalibrationError, match="in one sweep"):
        sweep.update(logits[:, :3], labels)
