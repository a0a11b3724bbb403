"""AUROC, AP and FPR at 95 % TPR against scikit-learn and torchmetrics, exact and from bins."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest
import sklearn.metrics as sk
import torch
import torchmetrics.classification as tm
from torch import Tensor

from segsweep.metrics.ranking import Bounded, PixelScores, Ranking, rank_bins

NAMES = ("auroc", "ap", "fpr95")
FEW = {"kept": 64}  # so that bins are counted


def ranking(scores: Tensor, target: Tensor, parts: int = 3, **options: Any) -> Ranking:
    counts = PixelScores(**options)
    for some, labels in zip(scores.chunk(parts), target.chunk(parts), strict=True):
        counts.update(some, labels)
    return counts.ranking()


def expected(scores: Tensor, target: Tensor) -> dict[str, float]:
    """Of scikit-learn, on the pixels that count."""
    valid = target != 255
    truth, values = (target[valid] == 1).numpy(), scores[valid].double().numpy()
    false, true, _ = sk.roc_curve(truth, values, drop_intermediate=False)
    return {
        "auroc": float(sk.roc_auc_score(truth, values)),
        "ap": float(sk.average_precision_score(truth, values)),
        "fpr95": float(false[np.argmax(true >= 0.95)]),
    }


def pixels(kind: str, count: int = 6000, seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    target = (torch.rand(count, generator=generator) < 0.2).long()
    scores = torch.randn(count, generator=generator) + 1.5 * target
    target[torch.rand(count, generator=generator) < 0.1] = 255
    return {
        "float32": scores,
        "float64": scores.double(),
        "float16": scores.half(),
        "bfloat16": scores.bfloat16(),
        "probabilities": scores.sigmoid(),
        "saturated": (40 * scores).sigmoid(),
        "ties": scores.round(),
        "signs of zero": torch.where(scores > 0, 0.0, -0.0),
        "infinite": torch.where(scores > 1, torch.inf, scores),
        "constant": torch.full_like(scores, 0.5),
        "perfect": target.float(),
        "inverted": -target.float(),
        "one negative": scores,
    }[kind], target


KINDS = (
    "float32", "float64", "float16", "bfloat16", "probabilities", "saturated", "ties",
    "signs of zero", "infinite", "constant", "perfect", "inverted",
)  # fmt: skip


@pytest.mark.parametrize("options", [{}, {"exact": True, "kept": 64}], ids=["few", "exact"])
@pytest.mark.parametrize("kind", KINDS)
def test_exact_scores_are_scikit_learns(kind: str, options: dict[str, Any]) -> None:
    scores, target = pixels(kind)
    wanted = expected(torch.nan_to_num(scores, posinf=1e9), target)
    found = ranking(scores, target, **options)
    for name in NAMES:
        one: Bounded = getattr(found, name)
        assert one.value == pytest.approx(wanted[name], abs=1e-12), name
        assert one.error == 0


@pytest.mark.parametrize("kind", KINDS)
def test_bins_are_within_the_bound_they_state(kind: str) -> None:
    scores, target = pixels(kind, 60000)
    wanted = expected(torch.nan_to_num(scores, posinf=1e9), target)
    found = ranking(scores, target, parts=2, kept=2**14)
    for name in NAMES:
        one: Bounded = getattr(found, name)
        assert one.value is not None
        assert abs(one.value - wanted[name]) <= one.error + 1e-12, name
        if kind in ("float16", "bfloat16"):
            assert one.error == 0, name
            assert one.value == pytest.approx(wanted[name], abs=1e-12), name
    if kind == "float32":
        assert max(found.auroc.error, found.fpr95.error, found.ap.error) < 1e-3
        assert found.auroc.value == pytest.approx(wanted["auroc"], abs=1e-6)
        assert found.ap.value == pytest.approx(wanted["ap"], abs=1e-5)


@pytest.mark.parametrize("seed", range(20))
def test_bounds_hold_for_any_order_within_bins(seed: int) -> None:
    rng = np.random.default_rng(seed)
    bins = int(rng.integers(1, 8))
    order = np.sort(rng.integers(0, bins, 40))  # one bin for each pixel, from the highest
    truth = rng.random(40) < rng.random()
    truth[int(rng.integers(40))] = True
    truth[0] = truth[0] and truth[1:].any()
    if truth.all():
        truth[3] = False
    used = np.unique(order)
    counts = [np.array([(truth[order == b] == x).sum() for b in used]) for x in (True, False)]
    found = rank_bins(counts[0], counts[1])
    for ties in (1, 2, 5, 100):  # from all apart to all the same within a bin
        place = rng.integers(0, ties, 40) if ties < 100 else rng.random(40)
        values = torch.from_numpy(-(order + place / (100 if ties >= 100 else ties + 1)))
        wanted = expected(values, torch.from_numpy(truth).long())
        for name in NAMES:
            one: Bounded = getattr(found, name)
            assert one.value is not None
            assert abs(one.value - wanted[name]) <= one.error + 1e-12, (name, ties)


@pytest.mark.parametrize(
    ("centre", "spread"), [(-3, 1e-2), (-3, 1e-3), (-3, 3e-4), (3, 1e-4), (1e-3, 1e-8)]
)
def test_scores_that_crowd_around_a_number_are_told_apart(centre: float, spread: float) -> None:
    made = torch.Generator().manual_seed(0)
    target = (torch.rand(200_000, generator=made) < 0.2).long()
    scores = centre + spread * (torch.randn(len(target), generator=made) + 1.2 * target)
    counter = PixelScores(kept=20_000)
    for part, labels in zip(torch.split(scores, 7_000), torch.split(target, 7_000), strict=True):
        counter.update(part, labels)
    found, wanted = counter.ranking(), expected(scores, target)
    for name in NAMES:
        one: Bounded = getattr(found, name)
        assert one.value == pytest.approx(wanted[name], abs=1e-5), name
        assert one.error < 5e-4, name


def test_a_crowd_is_found_though_one_label_comes_first() -> None:
    made = torch.Generator().manual_seed(0)
    target = (torch.rand(100_000, generator=made) < 0.2).long()
    target = torch.cat([torch.zeros(50_000, dtype=torch.long), target])  # normal images first
    scores = -3 + 3e-4 * (torch.randn(len(target), generator=made) + 1.2 * target)
    counter = PixelScores(kept=20_000)
    counter.update(scores, target)
    found, wanted = counter.ranking(), expected(scores, target)
    assert found.auroc.value == pytest.approx(wanted["auroc"], abs=1e-5)


def test_a_crowd_that_comes_later_is_within_its_bound() -> None:
    made = torch.Generator().manual_seed(0)
    target = (torch.rand(100_000, generator=made) < 0.2).long()
    where = torch.where(torch.arange(100_000) < 60_000, -3.0, 5.0)
    scores = where + 3e-4 * (torch.randn(len(target), generator=made) + 1.2 * target)
    counter = PixelScores(kept=20_000)
    counter.update(scores, target)
    found, wanted = counter.ranking(), expected(scores, target)
    assert found.auroc.error > 0.01
    for name in NAMES:
        one: Bounded = getattr(found, name)
        assert one.value is not None
        assert abs(one.value - wanted[name]) <= one.error, name


def test_torchmetrics_agrees() -> None:
    scores, target = pixels("probabilities")
    found = ranking(scores, target)
    options: dict[str, Any] = {"ignore_index": 255, "validate_args": False}
    assert found.auroc.value == pytest.approx(
        tm.BinaryAUROC(**options)(scores, target).item(), abs=1e-6
    )
    wanted = tm.BinaryAveragePrecision(**options)(scores, target).item()
    assert found.ap.value == pytest.approx(wanted, abs=1e-6)


@pytest.mark.parametrize("options", [{}, {"kept": 8}])
class TestUndefined:
    def test_without_positives_nothing_is_defined(self, options: dict[str, int]) -> None:
        found = ranking(torch.randn(100), torch.zeros(100), **options)
        assert [getattr(found, name).value for name in NAMES] == [None] * 3

    def test_without_negatives_precision_is_all(self, options: dict[str, int]) -> None:
        found = ranking(torch.randn(100), torch.ones(100), **options)
        assert found.ap.value == 1
        assert found.auroc.value is None
        assert found.fpr95.value is None

    def test_all_ignored(self, options: dict[str, int]) -> None:
        found = ranking(torch.randn(100), torch.full((100,), 255), **options)
        assert [getattr(found, name).value for name in NAMES] == [None] * 3

    def test_nan_has_no_rank(self, options: dict[str, int]) -> None:
        scores, target = pixels("float32", 100)
        scores[target != 255] = torch.where(
            torch.rand(int((target != 255).sum())) > 0.5, torch.nan, 1.0
        )
        with pytest.raises(ValueError, match="scores are NaN"):
            ranking(scores, target, **options)

    def test_nan_where_nothing_counts_does_not_matter(self, options: dict[str, int]) -> None:
        scores, target = pixels("float32", 300)
        wanted = expected(scores, target)
        scores[target == 255] = torch.nan
        found = ranking(scores, target, **options)
        assert found.auroc.value == pytest.approx(wanted["auroc"], abs=1e-4)


def test_asking_twice_and_going_on() -> None:
    scores, target = pixels("float32", 3000)
    for kept in (2**22, 256):
        counts = PixelScores(kept=kept)
        counts.update(scores[:1500], target[:1500])
        assert counts.ranking() == counts.ranking()
        counts.update(scores[1500:], target[1500:])
        value = counts.ranking().auroc.value
        assert value == pytest.approx(expected(scores, target)["auroc"], abs=1e-5)


def test_counts_are_whole_beyond_what_float32_holds() -> None:
    count = 2**24 + 3
    scores, target = torch.zeros(count), torch.zeros(count, dtype=torch.uint8)
    scores[:2] = torch.tensor([1.0, -1.0])
    target[:2] = 1
    found = ranking(scores, target, parts=1)
    # of the count - 2 negatives, one positive is above all and one below
    assert found.auroc.value == 0.5
    assert found.ap.value == (1 + 2 / count) / 2
    assert found.fpr95.value == 1.0
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert found.auroc.error == 0  # nothing shares a bin
