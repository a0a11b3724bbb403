"""Which batches training sees, and that every model can be trained with each of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from torch import Tensor, nn

from segsweep import batches, engine, models
from segsweep.check import check
from segsweep.data.cache import ImageSet
from segsweep.data.loader import Loader
from segsweep.errors import SpecError
from segsweep.launching import launch
from tests.faults.test_memory import memory_for
from tests.helpers import events, tiny, write_sweep

DEEP = {"name": "unet/resnet18", "encoder_weights": "none"}  # one value a channel at 32 pixels
POOLED = {"name": "deeplabv3plus/resnet18", "encoder_weights": "none"}  # at any size


def sweep(model: dict[str, Any], **changes: Any) -> dict[str, Any]:
    return tiny(
        factors__model=[model],
        factors__loss=["bce"],
        parameters=None,
        configs_per_cell=None,
        train__epochs=1,
        calibration={"keep": "none"},
        **changes,
    )


def refused(path: Path) -> list[str]:
    with pytest.raises(SpecError) as caught:
        check(path)
    return [str(problem) for problem in caught.value.problems]


@pytest.mark.parametrize("size", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("images", range(1, 14))
def test_the_smallest_batch_is_what_the_loader_makes(images: int, size: int) -> None:
    pixels = np.zeros((images, 4, 4, 3), np.uint8)
    ids = tuple(map(str, range(images)))
    data = ImageSet(pixels, pixels[..., 0], ids, {}, ("a", "b"), "f")
    loader = Loader(data, range(images), batch_size=size, seed=0, shuffle=True)
    made = [len(batch.indices) for batch in loader.epoch(1)]
    assert sum(made) == images
    assert min(made) == batches.smallest(images, size)


@pytest.mark.parametrize(("model", "side"), [(DEEP, 32), (POOLED, 64)])
def test_batches_of_one_are_refused_where_the_model_cannot_be_trained_with_them(
    tmp_path: Path, model: dict[str, Any], side: int
) -> None:
    data = sweep(model, train__batch_size=1, dataset__image_size=[side, side])
    (told,) = refused(write_sweep(tmp_path, data))
    assert "train.batch_size" in told
    assert "Expected more than 1 value per channel" in told
    assert "the smallest batch that works is 2" in told
    assert ("with dataset.image_size 64×64, 1 would work" in told) == (model is DEEP)
    check(write_sweep(tmp_path, data | {"train": {**data["train"], "batch_size": 2}}))


def test_so_is_a_searched_batch_size_and_a_factor(tmp_path: Path) -> None:
    data = sweep(DEEP) | {"parameters": {"train.batch_size": {"min": 1, "max": 8}}}
    (told,) = refused(write_sweep(tmp_path, data))
    assert "parameters.train.batch_size" in told
    data = sweep(DEEP)
    data["factors"]["train.batch_size"] = [4, 1]
    (told,) = refused(write_sweep(tmp_path, data))
    assert "factors.train.batch_size" in told


def test_a_model_that_can_may_have_batches_of_one(tmp_path: Path) -> None:
    found = check(write_sweep(tmp_path, sweep({"name": "unet_vanilla", "width": 2},
                                              train__batch_size=1)))  # fmt: skip
    assert found.tried.of(found.cells[0].config["model"]).least == 1


def test_a_fold_that_trains_on_one_image_is_refused(tmp_path: Path) -> None:
    data = sweep(DEEP, dataset__images=4, dataset__holdout=0.5)
    (told,) = refused(write_sweep(tmp_path, data))
    assert "is trained on a batch of 1 in fold 0, of 1 images" in told


def test_a_model_that_no_batch_goes_through_in_training_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Single(nn.Module):
        """Normalises each image by itself, which takes more than one value."""

        def __init__(self, channels: int) -> None:
            super().__init__()
            self.last = nn.Conv2d(3, channels, 1)
            self.norm = nn.InstanceNorm2d(3, track_running_stats=True)

        def forward(self, x: Tensor) -> Tensor:
            pooled = self.norm(nn.functional.adaptive_avg_pool2d(x, 1))
            done: Tensor = self.last(x + pooled)
            return done

    monkeypatch.setitem(models.MODELS, "single", Single)
    (problem,) = models.problems({"name": "single"}, classes=2, image_size=(32, 32))
    assert "2 images of 32×32 do not go through in training" in problem.what


def test_a_model_is_tried_once_however_many_cells_have_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, built = models.try_out, []

    def try_out(config: Any, **options: Any) -> Any:
        built.append(config["width"])
        return real(config, **options)

    monkeypatch.setattr(models, "try_out", try_out)
    data = tiny(parameters={"model.width": {"values": [2, 4]}})
    data["factors"]["loss"] = ["bce", "dice", "focal"]
    check(write_sweep(tmp_path, data))
    assert sorted(built) == [2, 4]


def test_after_out_of_memory_no_part_is_smaller_than_what_works(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "prepare_images", memory_for(1))
    outcome = launch(write_sweep(tmp_path, sweep(DEEP)), runner="inline")
    assert [e["micro_batch"] for e in events(outcome.run_directory, "start")] == [None, 2]
    rows = pq.read_table(outcome.run_directory / "results" / "trials.parquet").to_pylist()
    assert {(row["status"], row["micro_batch"]) for row in rows} == {("out_of_memory", 2)}
    assert all("CUDA out of memory" in row["error"] for row in rows)


@pytest.mark.parametrize(
    ("size", "least", "sizes"),
    [
        (16, 1, [8, 4, 2, 1]),
        (16, 2, [8, 4, 2]),
        (4, 2, [2]),
        (3, 1, [1]),
        (3, 2, [2]),  # of a merged batch of four; three cannot be parted
        (2, 2, []),
        (1, 1, []),
    ],
)
def test_halving_ends_where_no_part_can_be_smaller(size: int, least: int, sizes: list[int]) -> None:
    found: list[int] = []
    while (less := batches.fewer(size, found[-1] if found else None, least)) is not None:
        found.append(less)
    assert found == sizes
    for micro in found:
        for whole in range(max(least, 2), size + 2):
            assert whole // batches.part_count(whole, micro) >= least


def test_trying_in_training_costs_about_one_pass_more() -> None:
    passes: list[tuple[bool, int]] = []

    class Counting(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.last = nn.Conv2d(3, 1, 1)

        def forward(self, x: Tensor) -> Tensor:
            passes.append((self.training, len(x)))
            done: Tensor = self.last(x)
            return done

    models.fit.try_out(Counting(), "counting", channels=1, image_size=(8, 8))
    assert passes == [(False, 1), (True, 1)]
    assert torch.is_grad_enabled()
