"""The calibration sweep of one model on logits whose truth is known."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from segsweep.calibrate import anomaly, redraw
from segsweep.calibrate import sweep as module
from segsweep.calibrate.logits_file import Logits
from segsweep.calibrate.pool import ensemble, halves, pool
from segsweep.calibrate.sweep import sweep
from segsweep.calibrate.temperatures import grid, widened, wider
from segsweep.calibration.reliability import ReliabilitySweep
from segsweep.errors import CalibrationError, RunError, SegsweepError
from segsweep.export.members import Ensemble
from segsweep.spec.shape import Temperatures

TRUE_T = 2.5


@pytest.fixture(autouse=True)
def few_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "RESAMPLES", 50)


def logits(
    images: int = 12, pixels: int = 2000, classes: int = 4, seed: int = 0, first: int = 0
) -> Logits:
    """Labels drawn from softmax(z), and TRUE_T · z as logits; every third pixel near a contour."""
    generator = np.random.default_rng(seed)
    count = images * pixels
    wide = 1.5 * generator.standard_normal((count, classes))
    if classes == 2:
        wide[:, 0] = 0
    noise = -np.log(-np.log(generator.random((count, classes))))  # Gumbel: argmax draws a class
    labels = (wide + noise).argmax(axis=1).astype(np.uint8)
    values = wide[:, 1:] if classes == 2 else wide
    return of(TRUE_T * values, labels, images, first)


def of(values: NDArray[Any], labels: NDArray[np.uint8], images: int, first: int = 0) -> Logits:
    count = len(labels)
    return Logits(
        values=values.astype(np.float32),
        labels=labels,
        anomaly=np.zeros(count, np.uint8),
        boundary=np.arange(count) % 3 == 0,
        offsets=np.arange(0, count + 1, count // images),
        positions=np.arange(count) % (count // images),
        histogram=np.zeros((images, 2, 1500), np.int64),
        image_ids=tuple(f"i{first + i:03d}" for i in range(images)),
        facts={"sampling": {"pixels": 1, "of": 1}},
    )


def rows(found: list[dict[str, Any]], **wanted: Any) -> Iterator[dict[str, Any]]:
    return (row for row in found if all(row[key] == value for key, value in wanted.items()))


@pytest.mark.parametrize("classes", [2, 4])
def test_a_known_temperature_is_found_and_lowers_ece_on_images_it_was_not_fitted_on(
    classes: int,
) -> None:
    parts = [logits(classes=classes, seed=fold, first=100 * fold) for fold in range(3)]
    found = sweep(pool(parts, [0, 1, 2], "x"), grid(Temperatures(steps=9)))
    assert found.fit.temperature == pytest.approx(TRUE_T, rel=0.01)
    assert [fit.temperature for fit in found.fits] == pytest.approx([TRUE_T] * 3, rel=0.03)
    for region in ("all", "boundary"):
        for metric in ("nll", "brier", "ece", "ece_adaptive", "ece_classwise"):
            for scaling in ("temperature", "vector", "class_temperatures"):
                (row,) = rows(
                    found.rows, region=region, metric=metric, scaling=scaling, fitted=True
                )
                assert row["gain_low"] > 0, (region, metric, scaling)
                assert not row["at_bound"]
    before, after = (next(rows(found.diagrams, scaling=s)) for s in ("none", "temperature"))
    assert sum(before["pixels"]) == sum(after["pixels"]) == 3 * 12 * 2000


def test_each_fold_is_reported_with_the_temperature_of_the_others() -> None:
    odd = logits(seed=1, first=100)
    odd = of(4 * odd.values, odd.labels, 12, 100)
    found = sweep(pool([logits(), odd], [3, 7], "x"), [1.0, 2.0], scalings=False)
    assert found.fits[0].temperature == pytest.approx(4 * TRUE_T, rel=0.03)
    assert found.fits[1].temperature == pytest.approx(TRUE_T, rel=0.03)
    alone = sweep(pool([odd], [7], "x"), [1.0], given=found.fits[1])
    (row,) = rows(alone.rows, fitted=True, metric="nll", region="all")
    assert row["temperature"] == found.fits[1].temperature
    assert row["gain_low"] > 0


def test_at_one_the_grid_and_a_fit_of_one_say_the_same() -> None:
    own = pool([logits()], [0], "x")
    fit = sweep(own, [1.0], scalings=False).fit
    at_one = type(fit)(**{**vars(fit), "temperature": 1.0})
    found = sweep(own, [1.0], given=at_one)
    for row in rows(found.rows, fitted=True):
        assert row["gain"] == row["gain_low"] == row["gain_high"] == 0


def test_one_fold_falls_into_halves_and_replicates_share_their_images() -> None:
    own = pool([logits()], [2], "x", seed=1)
    assert own.groups.tolist() == halves(np.arange(12), 1).tolist()
    assert sorted(np.bincount(own.groups)) == [6, 6]
    twice = pool([logits(), logits(seed=5), logits(seed=6, first=50)], [0, 0, 1], "x")
    assert twice.images == 24
    assert np.bincount(twice.image).tolist() == [4000] * 12 + [2000] * 12
    part = twice.only(twice.file == 2)
    assert part.images == 12
    assert set(part.groups) == {1}


def test_a_temperature_at_its_bound_is_flagged() -> None:
    sure = np.eye(3, dtype=np.float32)[np.arange(1200) % 3]
    found = sweep(
        pool([of(sure, (np.arange(1200) % 3).astype(np.uint8), 4)], [0], "x"), [1.0],
        scalings=False,
    )  # fmt: skip
    assert all(row["at_bound"] for row in rows(found.rows, fitted=True))


def test_an_ensemble_is_the_mean_of_probabilities_and_has_a_temperature_of_its_own() -> None:
    parts = [logits(seed=1), logits(seed=1)]
    parts[1] = of(-parts[0].values, parts[0].labels, 12)
    whole = ensemble(parts, "x")
    p = [np.exp(x.values) / np.exp(x.values).sum(axis=1, keepdims=True) for x in parts]
    np.testing.assert_allclose(np.exp(whole.logits), (p[0] + p[1]) / 2, rtol=1e-4)
    two = [logits(classes=2, seed=1), logits(classes=2, seed=1)]
    same = ensemble(two, "x")
    np.testing.assert_allclose(same.logits, two[0].values, rtol=1e-3, atol=1e-3)
    found = sweep(same, [1.0], scalings=False)
    assert found.fit.temperature == pytest.approx(TRUE_T, rel=0.02)


@pytest.mark.parametrize("classes", [2, 3])
def test_an_ensemble_of_very_sure_models_is_the_one_that_is_exported(classes: int) -> None:
    """Members with logits of 200 and 220: no certainty is lost on the way."""
    generator = np.random.default_rng(4)
    channels = 1 if classes == 2 else classes
    values = [200.0 * generator.standard_normal((24, channels)) for _ in range(2)]
    values[0][0], values[1][0] = 200, 220
    parts = [of(one, np.zeros(24, np.uint8), 4) for one in values]
    members = [torch.nn.Identity(), torch.nn.Identity()]
    shipped = Ensemble(members)
    for member, one in zip(members, values, strict=True):
        logit = torch.from_numpy(one).double().view(24, channels, 1, 1)
        member.register_forward_hook(lambda *_, logit=logit: logit)
    expected = shipped(torch.zeros(1)).view(24, channels).numpy()
    np.testing.assert_allclose(ensemble(parts, "x").logits, expected, rtol=1e-5, atol=1e-4)
    assert np.abs(expected).max() > 100


def test_the_grid_is_widened_where_a_metric_is_best_at_its_end() -> None:
    own = pool([logits()], [0], "x")  # T = 2.5
    asked = grid(Temperatures(min=0.5, max=2.0, steps=5))
    narrow = sweep(own, asked, scalings=False)
    assert narrow.temperatures == asked
    last = [row for row in narrow.rows if row["at_bound"] and not row["fitted"]]
    assert {row["temperature"] for row in last} == {2.0}
    assert {row["metric"] for row in last} >= {"nll", "brier", "ece"}
    wide = sweep(own, asked, scalings=False, widen=True)
    assert wide.temperatures[0] == asked[0]
    assert 2.5 < wide.temperatures[-1] <= 20
    steps = np.diff(np.log(wide.temperatures))
    assert steps == pytest.approx(steps[0])
    assert not any(row["at_bound"] for row in wide.rows)
    assert widened(asked, wide.temperatures) == (
        f"a metric is best at the end of the grid of T, which was widened up to "
        f"{wide.temperatures[-1]:.3g}"
    )
    assert widened(asked, asked) is None


def test_a_grid_ends_where_a_fitted_temperature_does() -> None:
    asked = grid(Temperatures(min=0.25, max=4.0, steps=5))
    found, more = list(asked), wider(asked, {4.0})
    while more:
        found += more
        more = wider(found, {found[-1]})
    assert found == pytest.approx([0.25, 0.5, 1, 2, 4, 8, 16])
    assert wider([1.0], {1.0}) == []
    assert wider(asked, {1.0}) == []
    assert min(wider(asked, {0.25})) == pytest.approx(0.0625)


def test_a_gain_of_nothing_is_no_negative_zero() -> None:
    found = TestDrawsOfAnomalies().made()
    one = anomaly.detect(found, [1.0, 2.0], ["msp"], "x", fitted=np.full(8, 1.0))
    for row in anomaly.rows([({"of": "fold"}, one)], [1.0, 2.0], 1.0, {"of": "config"}):
        if row["temperature"] == 1.0 and not row["fitted"]:
            assert str(row["gain"]) == "0.0"
            assert str(row["gain_low"]) == str(row["gain_high"]) == "0.0"


def test_models_of_other_pixels_are_no_ensemble() -> None:
    with pytest.raises(RunError, match="not of the same pixels"):
        ensemble([logits(), logits(first=1)], "fold 1")


def test_a_temperature_that_changed_a_class_would_be_an_error() -> None:
    values = np.asarray([[1.0, 2.0]], np.float32)
    with pytest.raises(SegsweepError, match="changed the class of 1"):
        module._divided(values, np.asarray([-1.0]))
    with pytest.raises(SegsweepError, match="changed the class of 1"):
        module._divided(values[:, :1], np.asarray([-1.0]))


def test_logits_that_are_not_finite_are_refused_with_the_place() -> None:
    bad = logits()
    bad.values[5, 1] = np.nan
    with pytest.raises(CalibrationError, match="fold 3"):
        sweep(pool([bad], [0], "fold 3"), [1.0])


def test_the_grid_is_even_in_its_logarithm_and_has_one() -> None:
    found = grid(Temperatures(min=0.25, max=4.0, steps=5))
    assert found == pytest.approx([0.25, 0.5, 1, 2, 4])
    assert 1.0 in found
    assert len(grid(Temperatures(min=2.0, max=4.0, steps=3))) == 4


def test_one_image_has_no_interval_and_its_numbers() -> None:
    parts = [logits(images=1, seed=fold, first=fold) for fold in range(4)]
    whole = pool(parts, [0, 1, 2, 3], "x")
    assert all(row["gain_low"] is not None for row in sweep(whole, [1.0], scalings=False).rows)
    fit = sweep(whole, [1.0], scalings=False).fit
    found = sweep(whole.only(whole.file == 1), [1.0, 2.0], given=fit).rows
    assert {row[end] for row in found for end in ("low", "high", "gain_low", "gain_high")} == {None}
    assert {row["no_interval"] for row in found} == {"it rests on 1 image, and an interval needs 4"}
    (row,) = rows(found, fitted=True, metric="nll", region="all")
    assert row["gain"] > 0


def patients(count: int, each: int, seed: int) -> tuple[Logits, dict[str, str]]:
    """Images of which all of a patient are as hard as each other, and whose they are."""
    generator = np.random.default_rng(seed)
    pixels, images = 40, count * each
    easy = np.repeat(generator.normal(2.0, 1.0, count), each * pixels)
    right = generator.random(images * pixels) < 0.8
    values = np.stack([easy, np.zeros(len(easy))], axis=1)
    made = of(values, np.where(right, 0, 1).astype(np.uint8), images)
    return made, {name: f"p{i // each}" for i, name in enumerate(made.image_ids)}


def test_images_of_a_patient_are_drawn_and_halved_together() -> None:
    made, groups = patients(6, 10, 0)
    alone = pool([made], [0], "x")
    together = pool([made], [0], "x", groups=groups)
    halved = [set(together.groups[10 * i : 10 * i + 10]) for i in range(6)]
    assert [len(one) for one in halved] == [1] * 6
    assert sum(next(iter(one)) for one in halved) == 3
    assert set(ensemble([made, made], "x", groups=groups).units) == set(range(6))
    for metric in ("nll", "brier"):
        wide, narrow = (
            next(rows(sweep(own, [1.0], scalings=False).rows, metric=metric, region="all"))
            for own in (together, alone)
        )
        assert wide["high"] - wide["low"] > 1.25 * (narrow["high"] - narrow["low"])


def test_an_interval_over_patients_holds_the_truth() -> None:
    """Of other patients, in about 95 of 100 data sets; images one by one in some 80."""
    normal = np.random.default_rng(9).normal(2.0, 1.0, 100_000)
    truth = float(np.mean(0.8 * np.log1p(np.exp(-normal)) + 0.2 * np.log1p(np.exp(normal))))
    held = {"patients": 0, "images": 0}
    for seed in range(120):
        made, groups = patients(15, 6, seed)
        for kind in held:
            own = pool([made], [0], "x", groups=groups if kind == "patients" else {})
            counter = ReliabilitySweep(2, [1.0], own.images)
            counter.update(own.logits, own.labels, own.image)
            (one,) = counter.result(resamples=200, groups=own.units)
            nll = one.estimates["nll"]
            assert nll.low is not None
            assert nll.high is not None
            held[kind] += nll.low <= truth <= nll.high
    assert 0.88 * 120 <= held["patients"] <= 119
    assert held["images"] < 0.85 * 120


def simulated(groups: int, generator: np.random.Generator) -> tuple[Logits, dict[str, str]]:
    """Groups of 5 images; of each the model says a z, labels being drawn from σ(z)."""
    images = 5 * groups
    scale = np.repeat(np.exp(generator.normal(np.log(2), 0.3, groups)), 5)
    z = generator.normal(0, 2, (images, 60))
    labels = generator.random(z.shape) < 1 / (1 + np.exp(-z))
    made = of((scale[:, None] * z).reshape(-1, 1), labels.ravel().astype(np.uint8), images)
    return made, {name: f"p{i // 5}" for i, name in enumerate(made.image_ids)}


def truth_of(metric: str, temperature: float) -> float:
    generator = np.random.default_rng(99)
    z = generator.normal(0, 2, 400_000)
    said = np.exp(generator.normal(np.log(2), 0.3, len(z))) * z / temperature
    right = 1 / (1 + np.exp(-z))
    if metric == "nll":
        return float((right * np.logaddexp(0, -said) + (1 - right) * np.logaddexp(0, said)).mean())
    p = 1 / (1 + np.exp(-said))
    return float((2 * (right * (1 - p) ** 2 + (1 - right) * p**2)).mean())


@pytest.mark.parametrize("groups", [4, 6])
def test_intervals_of_values_and_gains_hold_the_truth_from_four_groups_on(groups: int) -> None:
    """Nominal 95 %; widened percentiles hold the gains of 4 groups in 76 to 84 %."""
    hits: dict[str, list[bool]] = {}
    truth = {(m, t): truth_of(m, t) for m in ("nll", "brier") for t in (1.0, 2.0)}
    generator = np.random.default_rng(5)
    for _ in range(200):
        made, names = simulated(groups, generator)
        own = pool([made], [0], "x", groups=names)
        for row in sweep(own, [1.0, 2.0], scalings=False).rows:
            metric, at = row["metric"], row["temperature"]
            if (metric, at) not in truth or row["fitted"]:
                continue
            value = truth[metric, at]
            hits.setdefault(metric, []).append(row["low"] <= value <= row["high"])
            if at == 2.0:
                gain = truth[metric, 1.0] - value
                held = row["gain_low"] <= gain <= row["gain_high"]
                hits.setdefault(f"gain in {metric}", []).append(held)
    for name, own_hits in hits.items():
        assert 0.90 <= np.mean(own_hits) <= 0.99, name
    assert 0.92 <= np.mean(np.concatenate(list(hits.values()))) <= 0.97


class TestDrawsOfAnomalies:
    def made(self, first: int = 0, images: int = 8) -> Logits:
        found = logits(images=images, pixels=200, first=first)
        odd = np.random.default_rng(3).random(len(found.labels)) < 0.2
        found.anomaly[:] = odd & (found.values.max(axis=1) < 2)
        return found

    def drawn(self, found: Logits, metric: str = "auroc") -> Any:
        units = np.arange(len(found.image_ids))
        return redraw.resampled(-found.values.max(axis=1), found, units)[metric].drawn

    def test_the_same_images_are_drawn_alike_and_others_otherwise(self) -> None:
        a, same, other = (self.drawn(self.made(first)) for first in (0, 0, 100))
        np.testing.assert_array_equal(a, same)
        assert abs(np.corrcoef(a, other)[0, 1]) < 0.3

    def test_ends_stay_within_the_range_of_the_metric(self) -> None:
        found = self.made(images=4)
        found.anomaly[:] = found.values.max(axis=1) < np.median(found.values.max(axis=1))
        whose = {"of": "fold"}
        one = anomaly.detect(found, [1.0], ["max_logit"], "x", fitted=np.ones(4))
        for row in anomaly.rows([(whose, one)], [1.0], 1.0, {"of": "config"}):
            assert 0 <= row["low"] <= row["value"] <= row["high"] <= 1

    def test_one_group_has_no_interval(self) -> None:
        found = self.made(images=3)
        units = np.zeros(3, np.int64)
        one = anomaly.detect(found, [1.0, 2.0], ["msp"], "x", fitted=np.ones(3), units=units)
        assert not any("low" in r for r in anomaly.rows([({}, one)], [1.0, 2.0], 1.0, {}))

    def test_draws_without_an_anomaly_are_made_again(self) -> None:
        """Two images of eight have them: a tenth of plain draws have none."""
        found = self.made()
        found.anomaly[found.image_of > 1] = 0
        assert len(self.drawn(found)) == redraw.DRAWS
        assert np.isfinite(self.drawn(found)).all()

    def test_what_rests_on_few_images_with_anomalies_has_no_interval(self) -> None:
        """In each of three folds, 1 or 2 of 4 images have them."""
        for has, refused in ((0, "it rests on 3 of 12 images, and an interval needs 4"), (1, None)):
            folds = []
            for fold in range(3):
                found = self.made(first=10 * fold, images=4)
                largest = found.values.max(axis=1)
                found.anomaly[:] = (found.image_of <= has) & (largest < np.median(largest))
                one = anomaly.detect(found, [1.0], ["max_logit"], "x", fitted=np.ones(4))
                folds.append(({"of": "fold"}, one))
            made = list(anomaly.rows(folds, [1.0], 1.0, {"of": "config"}))
            mean = next(rows(made, of="config"))
            assert mean["no_interval"] == refused
            assert mean["rests_on"] == 3 * (has + 1)
            assert ("low" in mean) == ("gain_high" in mean) == (refused is None)
            fold_row = next(rows(made, of="fold"))
            assert "and an interval needs 4" in fold_row["no_interval"]

    def test_fold_models_on_the_same_images_are_no_more_images(self) -> None:
        found = self.made()
        one = anomaly.detect(found, [1.0], ["max_logit"], "x", fitted=np.ones(8))
        alone = next(iter(anomaly.rows([({"of": "fold"}, one)], [1.0], 1.0, {"of": "config"})))
        made = anomaly.rows([({"of": "fold"}, one)] * 3, [1.0], 1.0, {"of": "config"})
        mean = next(rows(list(made), of="config"))
        assert mean["rests_on"] == 8
        assert (mean["low"], mean["high"]) == pytest.approx((alone["low"], alone["high"]))
