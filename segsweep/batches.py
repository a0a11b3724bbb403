"""Which batches training sees: those of an epoch, and the parts of one where memory ran out."""

from __future__ import annotations


def starts(images: int, batch_size: int, *, training: bool) -> list[int]:
    """Where each batch of an epoch begins.

    In training a last batch of a single image is merged into the one before, since batch
    normalisation may need two (not for ``batch_size`` 1, where that cannot be had).

    Args:
        images: of an epoch.
        batch_size: images a batch.
        training: whether batches are trained on.
    """
    found = list(range(0, images, batch_size))
    alone = batch_size > 1 and images % batch_size == 1
    if training and alone and len(found) > 1:
        found.pop()
    return found


def smallest(images: int, batch_size: int) -> int:
    """Images of the smallest batch of an epoch of training; 0 where there is none."""
    begins = starts(images, batch_size, training=True)
    ends = [*begins[1:], images]
    return min((end - begin for begin, end in zip(begins, ends, strict=False)), default=0)


def part_count(size: int, micro_batch: int | None) -> int:
    """In how many parts of nearly equal size a batch is taken.

    A part of one image is made only where ``micro_batch`` is 1; with 2, an odd batch has one part
    of three.

    Args:
        size: images of the batch.
        micro_batch: images a part at most; None takes the batch at once.
    """
    if micro_batch is None or micro_batch >= size:
        return 1
    return size // 2 if micro_batch == 2 else -(-size // micro_batch)


def fewer(batch_size: int, micro_batch: int | None, least: int) -> int | None:
    """Images a part after memory ran out: half as many; None where fewer cannot be had.

    Args:
        batch_size: images a batch.
        micro_batch: images a part before; None: whole batches.
        least: images that a training step of the model needs, 1 or 2.
    """
    half = max(least, (micro_batch or batch_size) // 2)
    return half if _largest(batch_size, half) < _largest(batch_size, micro_batch) else None


def _largest(batch_size: int, micro_batch: int | None) -> int:
    """Images of the largest part of any batch."""
    sizes = (batch_size, batch_size + 1) if batch_size > 1 else (1,)  # one may have been merged
    return max(-(-size // part_count(size, micro_batch)) for size in sizes)
