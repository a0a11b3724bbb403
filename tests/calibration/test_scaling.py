"""Vector scaling and class temperatures against scipy's optimizer on the same loss."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.optimize import minimize
from sklearn.metrics import accuracy_score, jaccard_score, log_loss

from segsweep.calibration.pixels import Floats
from segsweep.calibration.scaling import Scaling, agreement, fit_class_temperatures, fit_vector
from segsweep.calibration.temperature import SAMPLE, fit_temperature
from segsweep.errors import CalibrationError
from tests.calibration.drawing import Ints, known, softmax

Fitter = Callable[..., Scaling]


def warped(pixels: int = 4000) -> tuple[Floats, Ints]:
    """Logits whose best scale is 1, 2, 3, 0.5 and best bias 0, 1, -1, 0.5."""
    z, labels = known(4, 1.0, pixels=pixels, spread=1.5)
    return ((z - [0, 1, -1, 0.5]) / [1, 2, 3, 0.5]).astype(np.float32), labels


def loss(logits: NDArray[np.floating], labels: Ints) -> float:
    return float(log_loss(labels, softmax(logits), labels=range(logits.shape[1])))


def test_vector_scaling_finds_what_the_logits_were_warped_by() -> None:
    fit = fit_vector(*warped(60000))
    np.testing.assert_allclose(fit.scale, [1, 2, 3, 0.5], rtol=0.05)
    np.testing.assert_allclose(fit.bias - fit.bias[0], [0, 1, -1, 0.5], atol=0.06)
    assert not fit.at_bound


def test_vector_scaling_is_the_minimum() -> None:
    logits, labels = warped()
    fit = fit_vector(logits, labels)
    other = minimize(
        lambda x: loss(logits * x[:4] + x[4:], labels), np.repeat([1.0, 0.0], 4), method="BFGS"
    )
    assert fit.nll == pytest.approx(other.fun, abs=1e-5)
    assert fit.nll == pytest.approx(loss(fit.apply(logits), labels), abs=1e-6)
    assert fit.nll_before == pytest.approx(loss(logits, labels), abs=1e-6)


def test_class_temperatures_are_the_minimum() -> None:
    logits, labels = warped()
    fit = fit_class_temperatures(logits, labels)
    other = minimize(
        lambda x: loss(logits * x, labels), np.ones(4), method="L-BFGS-B", bounds=[(0.05, 20)] * 4
    )
    assert fit.nll == pytest.approx(other.fun, abs=1e-5)
    np.testing.assert_allclose(fit.scale, other.x, rtol=0.02)
    assert not fit.bias.any()


@pytest.mark.parametrize("fitter", [fit_vector, fit_class_temperatures])
def test_more_freedom_never_fits_worse_than_one_temperature(fitter: Fitter) -> None:
    logits, labels = warped()
    assert fitter(logits, labels).nll <= fit_temperature(logits, labels).nll + 1e-6


@pytest.mark.parametrize("fitter", [fit_vector, fit_class_temperatures])
def test_many_pixels_void_ones_and_weights(fitter: Fitter) -> None:
    logits, labels = warped(4 * SAMPLE + 500)
    few = fitter(logits[: 3 * SAMPLE], labels[: 3 * SAMPLE])
    image = (np.arange(len(labels)) >= 3 * SAMPLE).astype(np.int64)
    weighted = fitter(logits, labels, image=image, weights=np.array([1.0, 0.0]), threads=2)
    np.testing.assert_allclose(weighted.scale, few.scale, rtol=1e-3)
    void = np.where(image == 1, 255, labels)
    dropped = fitter(logits, void)
    assert dropped.pixels == 3 * SAMPLE
    np.testing.assert_allclose(dropped.scale, few.scale, rtol=1e-3)


def test_a_binary_head() -> None:
    logits, labels = known(2, 2.0, pixels=3000)
    z = logits[:, 1] - logits[:, 0]
    one = fit_class_temperatures(z, labels)
    assert one.scale[0] == 1
    assert 1 / one.scale[1] == pytest.approx(fit_temperature(z, labels).temperature, rel=1e-3)
    assert one.apply(z).shape == (3000, 2)
    assert fit_vector(z[:, None], labels).nll <= one.nll + 1e-6


def test_classes_that_are_told_apart_perfectly_are_flagged() -> None:
    logits, _ = known(3, pixels=500)
    fit = fit_class_temperatures(logits, logits.argmax(axis=1))
    assert fit.at_bound
    assert fit.scale.max() == pytest.approx(20)


def test_an_absent_class_has_a_low_bias_and_breaks_nothing() -> None:
    logits, labels = known(3, pixels=2000)
    labels[labels == 2] = 0
    fit = fit_vector(logits, labels)
    assert np.isfinite(fit.scale).all()
    assert (fit.apply(logits).argmax(axis=1) != 2).all()


def test_accuracy_and_miou_are_reported_where_the_argmax_moves() -> None:
    logits, labels = warped()
    labels[::5] = 255
    fit = fit_vector(logits, labels)
    valid = labels != 255
    before, after = logits.argmax(axis=1), fit.apply(logits).argmax(axis=1)
    for guess, found in (
        (before, agreement(logits, labels)), (after, agreement(logits, labels, fit))
    ):  # fmt: skip
        truth = labels[valid], guess[valid]
        assert found.accuracy == pytest.approx(accuracy_score(*truth))
        assert found.miou == pytest.approx(jaccard_score(*truth, average="macro"))
        assert found.changed == pytest.approx((guess != before)[valid].mean())
    assert agreement(logits, labels, fit).changed > 0


def test_nothing_valid_is_refused() -> None:
    logits, labels = warped(20)
    for function in (fit_vector, fit_class_temperatures, agreement):
        with pytest.raises(CalibrationError, match="no valid pixel"):
            function(logits, 0 * labels + 255)
