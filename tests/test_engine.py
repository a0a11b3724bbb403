"""One step of a whole batch, and the same step in passes that need less memory."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from segsweep import losses
from segsweep.data.loader import Batch
from segsweep.engine import evaluate, passes, prepare_images, train_epoch
from segsweep.losses import IGNORE


def batch(size: int) -> Batch:
    made = torch.Generator().manual_seed(size)
    images = torch.randint(0, 256, (size, 3, 8, 8), generator=made, dtype=torch.uint8)
    masks = torch.randint(0, 2, (size, 8, 8), generator=made, dtype=torch.uint8)
    masks[0, :5] = IGNORE  # images count by what is labelled in them
    return Batch(images, masks, np.arange(size))


def trained(batches: list[Batch], loss: str, micro_batch: int | None) -> tuple[torch.Tensor, float]:
    """The weights after an epoch, and its loss."""
    torch.manual_seed(0)
    model = torch.nn.Conv2d(3, 1, 3, padding=1).double()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
    torch.set_default_dtype(torch.float64)
    try:
        value, images = train_epoch(
            torch.nn.Sequential(Double(), model),
            batches,
            losses.build(losses.resolve(loss)),
            optimizer,
            device=torch.device("cpu"),
            micro_batch=micro_batch,
        )
    finally:
        torch.set_default_dtype(torch.float32)
    assert images == sum(len(b.masks) for b in batches)
    return model.weight.detach().clone(), value


class Double(torch.nn.Module):
    """Images in the precision in which sums in another order are still nearly the same."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return images.double()


@pytest.mark.parametrize("micro_batch", [1, 2, 3])
def test_passes_of_any_size_make_the_same_step(micro_batch: int) -> None:
    batches = [batch(6), batch(5)]  # the last one is smaller
    whole, value = trained(batches, "bce", None)
    parts, also = trained(batches, "bce", micro_batch)
    assert torch.allclose(parts, whole, rtol=1e-9, atol=0)
    assert also == pytest.approx(value, rel=1e-9)
    by_images = trained([batches[0]], "bce", None)[0]
    assert not torch.allclose(by_images, whole, rtol=1e-3)  # the small batch counts at all


def test_a_loss_over_the_whole_batch_is_changed_which_is_why_it_is_recorded() -> None:
    whole, _ = trained([batch(6)], "dice", None)
    parts, _ = trained([batch(6)], "dice", 2)
    assert not torch.allclose(parts, whole, rtol=1e-6)


@pytest.mark.parametrize("micro_batch", [None, 6, 100])
def test_a_batch_that_fits_is_taken_as_it_is(micro_batch: int | None) -> None:
    whole = batch(6)
    ((only, share),) = passes(whole, micro_batch)
    assert only is whole
    assert share == 1.0


@pytest.mark.parametrize("size", range(2, 18))
@pytest.mark.parametrize("micro_batch", [1, 2, 3, 4, 8])
def test_passes_hold_each_image_once_and_none_is_alone(size: int, micro_batch: int) -> None:
    parts = passes(batch(size), micro_batch)
    sizes = [len(part.masks) for part, _ in parts]
    assert np.concatenate([part.indices for part, _ in parts]).tolist() == list(range(size))
    assert sum(share for _, share in parts) == pytest.approx(1)
    assert max(sizes) <= micro_batch + (micro_batch == 2)
    assert min(sizes) > 1 or micro_batch == 1


def test_a_batch_without_labels_has_shares_all_the_same() -> None:
    empty = batch(4)
    empty.masks[:] = IGNORE
    assert [share for _, share in passes(empty, 2)] == [0.5, 0.5]


LOSSES = ("bce", "dice", "focal", "jaccard", "tversky", "lovasz", "bce+dice")


@pytest.mark.parametrize("name", LOSSES)
def test_the_validation_loss_is_the_same_whatever_the_batch(name: str) -> None:
    whole = batch(12)
    whole.masks[3:5] = IGNORE  # nothing of these is labelled
    whole.masks[7, 2:] = 0
    torch.manual_seed(0)
    model = torch.nn.Conv2d(3, 1, 3, padding=1)
    loss = losses.build(losses.resolve(name))

    def scored(size: int) -> float:
        parts = zip(
            torch.split(whole.images, size),
            torch.split(whole.masks, size),
            np.array_split(whole.indices, range(size, 12, size)),
            strict=True,
        )
        batches = [Batch(*part) for part in parts]
        return evaluate(model, batches, loss, classes=2, device=torch.device("cpu")).loss

    found = [scored(size) for size in (1, 2, 5, 12)]
    assert found == pytest.approx([found[0]] * 4, rel=1e-6)
    alone = [i for i in range(12) if i not in (3, 4)]
    with torch.inference_mode():
        logits = model(prepare_images(whole.images, torch.device("cpu")))
        each = [float(loss(logits[[i]], whole.masks[[i]].long())) for i in alone]
    assert found[0] == pytest.approx(np.mean(each), rel=1e-6)


def test_images_without_labels_have_no_loss() -> None:
    blank = batch(3)
    blank.masks[:] = IGNORE
    model = torch.nn.Conv2d(3, 1, 3, padding=1)
    loss = losses.build(losses.resolve("dice"))
    assert evaluate(model, [blank], loss, classes=2, device=torch.device("cpu")).loss == 0.0
