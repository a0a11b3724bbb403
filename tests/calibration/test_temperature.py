"""Temperatures: known ones are found again, to the minimum that other optimizers find."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import minimize_scalar
from sklearn.metrics import log_loss

from segsweep.calibration.curve import cross_fit, nll_curve
from segsweep.calibration.margins import Margins
from segsweep.calibration.temperature import SAMPLE, fit_temperature
from segsweep.errors import CalibrationError
from tests.calibration.drawing import Floats, Ints, known, softmax


def nll(logits: Floats, labels: Ints, temperature: float) -> float:
    p = softmax(logits / np.float64(temperature))
    return float(log_loss(labels, p, labels=range(logits.shape[1])))


def best(logits: Floats, labels: Ints) -> float:
    """By an optimizer that knows no derivative."""
    found = minimize_scalar(
        lambda t: nll(logits, labels, t), bounds=(0.1, 10), method="bounded",
        options={"xatol": 1e-9},
    )  # fmt: skip
    return float(found.x)


@pytest.mark.parametrize("classes", [2, 3, 19])
def test_a_known_temperature_is_found_to_one_percent(classes: int) -> None:
    fit = fit_temperature(*known(classes, 2.5, pixels=60000))
    assert fit.temperature == pytest.approx(2.5, rel=0.01)
    assert not fit.at_bound
    assert fit.pixels == 60000


@pytest.mark.parametrize("classes", [2, 4])
@pytest.mark.parametrize("temperature", [0.4, 1.0, 3.0])
def test_it_is_the_minimum_and_the_error_holds(classes: int, temperature: float) -> None:
    logits, labels = known(classes, temperature, pixels=3000)
    fit = fit_temperature(logits, labels)
    truth = best(logits, labels)
    # the other optimizer is only sure to the square root of a double's precision
    assert abs(fit.temperature - truth) <= fit.error + 3e-6 * truth
    assert fit.nll == pytest.approx(nll(logits, labels, fit.temperature), abs=2e-6)
    assert fit.nll_before == pytest.approx(nll(logits, labels, 1.0), rel=1e-6)
    assert fit.error < 1e-4 * fit.temperature


def test_a_binary_head_is_two_classes_with_logits_zero_and_z() -> None:
    logits, labels = known(2, 1.7, pixels=5000)
    z = logits[:, 1] - logits[:, 0]
    both = fit_temperature(np.stack([0 * z, z], axis=1), labels)
    for shape in (z, z[:, None]):
        assert fit_temperature(shape, labels) == both


def test_the_bound_of_the_histogram_holds_at_every_beta() -> None:
    generator = np.random.default_rng(3)
    s = (5 * generator.normal(size=20000) + 2).astype(np.float32)
    margins = Margins()
    margins.add(s)
    table = margins.table()
    exact = s.astype(np.float64)
    for beta in (0.05, 0.3, 1.0, 4.0, 20.0):
        u = np.clip(beta * exact, -700, 700)
        slope = float((-exact / (1 + np.exp(u))).mean())
        assert abs(table.at(beta).slope - slope) <= table.bound(beta)
        assert table.bound(beta) < 1e-3


def test_many_pixels_start_from_a_sample_and_end_at_the_same_minimum() -> None:
    logits, labels = known(3, 2.0, pixels=4 * SAMPLE + 1000)
    fit = fit_temperature(logits, labels, threads=2)
    t = fit.temperature
    assert nll(logits, labels, t) < nll(logits, labels, t * 1.002)
    assert nll(logits, labels, t) < nll(logits, labels, t * 0.998)
    assert t == pytest.approx(2.0, rel=0.01)


@pytest.mark.parametrize("classes", [2, 3])
def test_void_pixels_and_weights(classes: int) -> None:
    logits, labels = known(classes, 2.0, pixels=4000)
    image = np.arange(4000) // 1000
    without = fit_temperature(logits[1000:], labels[1000:])
    void = labels.copy()
    void[:1000] = 255
    logits_nan = logits.copy()
    logits_nan[:1000] = np.nan
    assert fit_temperature(logits_nan, void).temperature == without.temperature
    weighted = fit_temperature(logits, labels, image=image, weights=np.array([0.0, 1.0, 1.0, 1.0]))
    assert weighted.temperature == pytest.approx(without.temperature, rel=1e-7)
    twice = np.concatenate([logits, logits[:1000]]), np.concatenate([labels, labels[:1000]])
    counted = fit_temperature(logits, labels, image=image, weights=np.array([2.0, 1.0, 1.0, 1.0]))
    assert counted.temperature == pytest.approx(fit_temperature(*twice).temperature, rel=1e-6)


@pytest.mark.parametrize("classes", [2, 3])
def test_a_temperature_at_its_bound_is_flagged(classes: int) -> None:
    logits, labels = known(classes, 2.0, pixels=2000)
    sure = fit_temperature(logits, logits.argmax(axis=1))  # always right: the colder the better
    assert sure.at_bound
    assert sure.temperature == pytest.approx(0.05)
    wrong = fit_temperature(logits, logits.argmin(axis=1))
    assert wrong.at_bound
    assert wrong.temperature == pytest.approx(20)
    fit = fit_temperature(logits, labels, bounds=(0.5, 1.5))
    assert fit.at_bound
    assert fit.temperature == pytest.approx(1.5)


def test_the_argmax_is_the_same_at_every_temperature() -> None:
    logits, _ = known(6, pixels=3000)
    for temperature in (0.05, 0.7, 20.0):
        assert (softmax(logits / temperature).argmax(axis=1) == logits.argmax(axis=1)).all()


@pytest.mark.parametrize("classes", [2, 5])
def test_the_curve_of_images_gives_the_same_temperatures(classes: int) -> None:
    logits, labels = known(classes, 2.5, pixels=6000)
    labels[::7] = 255
    image = np.arange(6000) % 6
    curve = nll_curve(logits, labels, image, 7)  # the last image has no pixel
    whole, exact = curve.fit(), fit_temperature(logits, labels)
    assert abs(whole.temperature - exact.temperature) <= whole.error
    assert whole.nll == pytest.approx(exact.nll, abs=1e-6)
    assert whole.nll_before == pytest.approx(exact.nll_before, abs=1e-5)
    folds = np.arange(7) % 3
    for fold, fit in enumerate(cross_fit(curve, folds)):
        others = folds[image] != fold
        exact = fit_temperature(logits[others], labels[others])
        assert fit.temperature == pytest.approx(exact.temperature, rel=1e-4)
        assert fit.pixels == exact.pixels


def test_the_curve_flags_bounds_too() -> None:
    logits, _ = known(3, pixels=500)
    image = np.zeros(500, np.int64)
    assert nll_curve(logits, logits.argmax(axis=1), image, 1).fit().at_bound
    assert nll_curve(logits, logits.argmin(axis=1), image, 1).fit().at_bound


def test_bootstrap_intervals_cover_the_true_temperature() -> None:
    """Images with a temperature of their own around 2: 90 % intervals hold 2 nine times in ten."""
    covered = 0
    for seed in range(40):
        generator = np.random.default_rng(1000 + seed)
        own = np.exp(generator.normal(0, 0.05, size=40))
        image = np.repeat(np.arange(40), 100)
        logits, labels = known(2, 2.0, pixels=4000, seed=seed)
        logits *= own[image, None].astype(np.float32)
        curve = nll_curve(logits, labels, image, 40, nodes=25, bounds=(0.5, 8))
        low, high = np.quantile(curve.bootstrap(100, seed), [0.05, 0.95])
        covered += int(low <= 2.0 <= high)
    assert 29 <= covered <= 40  # of 36, or 35: percentiles of 40 images are a bit narrow


def test_one_image_has_no_spread() -> None:
    logits, labels = known(3, pixels=300)
    curve = nll_curve(logits, labels, np.zeros(300, np.int64), 1)
    assert np.ptp(curve.bootstrap(5)) == 0


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"logits": np.full((6, 3), np.nan, np.float32)}, "NaN or infinite"),
        ({"logits": np.full((6, 3), np.inf, np.float32)}, "NaN or infinite"),
        ({"labels": np.full(6, 255)}, "no valid pixel"),
        ({"labels": np.array([0, 1, 2, 3, 0, 0])}, "labels [3]"),
        ({"labels": np.zeros(5, np.int64)}, "shape"),
        ({"logits": np.ones((6, 3), np.float32)}, "all logits are equal"),
        ({"bounds": (2.0, 1.0)}, "no bounds"),
        ({"weights": np.ones(1)}, "no image is given"),
        ({"weights": np.array([-1.0]), "image": np.zeros(6, np.int64)}, "not negative"),
        ({"weights": np.ones(1), "image": np.arange(6)}, "has no weight"),
    ],
)
def test_bad_input_is_refused_with_the_reason(change: dict[str, object], words: str) -> None:
    logits, labels = known(3, pixels=6)
    given = {"logits": logits, "labels": labels, "where": "fold 2 of cell a", **change}
    with pytest.raises(CalibrationError) as error:
        fit_temperature(**given)  # type: ignore[arg-type]
    assert words in str(error.value)
    assert "fold 2 of cell a" in str(error.value)


def test_the_first_bad_pixel_is_named() -> None:
    logits, labels = known(3, pixels=50)
    labels[10] = 255
    logits[10], logits[33, 1] = np.nan, np.inf
    with pytest.raises(CalibrationError, match=r"1 or more pixels .* the first is 33"):
        fit_temperature(logits, labels)


def test_folds_that_cannot_be_crossed_are_refused() -> None:
    logits, labels = known(3, pixels=60)
    curve = nll_curve(logits, labels, np.arange(60) % 3, 3, where="fold 1")
    with pytest.raises(CalibrationError, match="one fold alone"):
        cross_fit(curve, np.zeros(3, np.int64))
    with pytest.raises(CalibrationError, match="2 folds for 3 images"):
        cross_fit(curve, np.zeros(2, np.int64))
    with pytest.raises(CalibrationError, match="no valid pixel"):
        curve.fit(np.zeros(3))
