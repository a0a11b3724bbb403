"""The cache's file format: one Arrow record batch that is mapped into memory, never copied.

Images and masks are fixed-size binary columns, ids and attributes (``@name``) strings; the
schema's metadata says size and classes, and carries a hash over all of it.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from segsweep.errors import DataError, Problem

VERSION = 3
"""Raised whenever the same input gives another file."""

_META = b"segsweep"
_COLUMNS = ("image", "mask", "image_id", "pixel_hash", "original_mask")


@dataclass(frozen=True)
class ImageSet:
    """Decoded images in memory, or mapped into it.

    Attributes:
        images: (N, H, W, 3) RGB.
        masks: (N, H, W) labels, IGNORE where nothing is labelled.
        image_ids: N ids.
        attributes: name → N values.
        classes: names; the index is the label.
        fingerprint: of the whole dataset, holdout included; see `Prepared`.
        pixel_hashes: N hashes of the images as decoded, before resizing: equal for equal pixels.
        original_masks: (N, H, W) labels of `original_classes`, where classes are left out.
        original_classes: names of all classes, where some are left out.
        depth: the bits that images of 16 bits used; None where there were none.
        notes: what a person should know about the whole dataset's files.
    """

    images: NDArray[np.uint8]
    masks: NDArray[np.uint8]
    image_ids: tuple[str, ...]
    attributes: dict[str, tuple[str, ...]]
    classes: tuple[str, ...]
    fingerprint: str
    pixel_hashes: tuple[str, ...] = ()
    original_masks: NDArray[np.uint8] | None = None
    original_classes: tuple[str, ...] = ()
    depth: int | None = None
    notes: tuple[str, ...] = ()

    def original(self) -> tuple[NDArray[np.uint8], tuple[str, ...]]:
        """Masks (N, H, W) and class names as if `dataset.leave_out` were not set.

        A left-out class is IGNORE in ``masks`` and has its own label here: the anomaly, for
        whoever scores how well a model knows what it does not know.
        """
        if self.original_masks is None:
            return self.masks, self.classes
        return self.original_masks, self.original_classes

    def for_trials(self) -> ImageSet:
        """The same without the labels of what is left out, which no trial may see."""
        return replace(self, original_masks=None, original_classes=())


def load(path: Path) -> ImageSet:
    """Maps a cache file into memory: views without a copy, read-only.

    Raises:
        DataError: the file is missing or damaged.
    """
    return _open(path)[0]


def _open(path: Path) -> tuple[ImageSet, dict[str, Any]]:
    try:
        batch = pa.ipc.open_file(pa.memory_map(str(path))).get_batch(0)
        meta: dict[str, Any] = json.loads(batch.schema.metadata[_META])
        height, width = meta["size"]
        shape = (batch.num_rows, height, width)
        original = "original_mask" in batch.schema.names
        names = [name for name in batch.schema.names if name not in _COLUMNS]
        data = ImageSet(
            _view(batch, "image", (*shape, 3)),
            _view(batch, "mask", shape),
            tuple(batch.column("image_id").to_pylist()),
            {name[1:]: tuple(batch.column(name).to_pylist()) for name in names},
            tuple(meta["classes"]),
            str(meta["fingerprint"]),
            tuple(batch.column("pixel_hash").to_pylist()),
            _view(batch, "original_mask", shape) if original else None,
            tuple(meta["original_classes"]),
            meta["depth"],
            tuple(meta["notes"]),
        )
    except FileNotFoundError as error:
        hint = "run the launch again: it is rebuilt from the dataset"
        raise DataError(Problem("the cache file is missing", str(path), hint=hint)) from error
    except (pa.ArrowException, OSError, KeyError, TypeError, ValueError) as error:
        hint = "delete it: the next launch rebuilds it from the dataset"
        raise DataError(Problem(f"damaged cache file: {error}", str(path), hint=hint)) from error
    return data, meta


def _view(batch: Any, name: str, shape: tuple[int, ...]) -> NDArray[np.uint8]:
    column = batch.column(name)
    return np.frombuffer(column.buffers()[1], dtype=np.uint8, count=int(np.prod(shape))).reshape(
        shape
    )


def write(path: Path, data: ImageSet) -> None:
    """Writes a cache file atomically.

    Raises:
        DataError: the directory cannot be written to, or is full.
    """
    count, height, width = data.masks.shape
    columns = {
        "image": _fixed(data.images, height * width * 3, count),
        "mask": _fixed(data.masks, height * width, count),
        "image_id": pa.array(data.image_ids, pa.string()),
        "pixel_hash": pa.array(data.pixel_hashes, pa.string()),
        **_original(data, height * width),
        **{f"@{name}": pa.array(values, pa.string()) for name, values in data.attributes.items()},
    }
    meta = {
        "version": VERSION,
        "size": [height, width],
        "classes": list(data.classes),
        "original_classes": list(data.original_classes),
        "fingerprint": data.fingerprint,
        "depth": data.depth,
        "notes": list(data.notes),
        "check": _check(data),
    }
    batch = pa.RecordBatch.from_arrays(list(columns.values()), names=list(columns))
    batch = batch.replace_schema_metadata({_META: json.dumps(meta)})
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with pa.OSFile(str(temporary), "wb") as sink, pa.ipc.new_file(sink, batch.schema) as writer:
            writer.write_batch(batch)
        temporary.replace(path)
    except OSError as error:
        hint = "free some space, or choose another cache directory"
        raise DataError(
            Problem(f"cannot write the cache: {error}", str(path), hint=hint)
        ) from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


def _original(data: ImageSet, width: int) -> dict[str, Any]:
    if data.original_masks is None:
        return {}
    return {"original_mask": _fixed(data.original_masks, width, len(data.original_masks))}


def _fixed(array: NDArray[np.uint8], width: int, count: int) -> Any:
    return pa.FixedSizeBinaryArray.from_buffers(
        pa.binary(width), count, [None, pa.py_buffer(array)]
    )


def digest(texts: Sequence[Any], arrays: Sequence[NDArray[np.uint8]] = ()) -> str:
    """SHA-256 over what JSON can say and over arrays with their shapes."""
    total = hashlib.sha256(json.dumps(texts, sort_keys=True, default=str).encode())
    for array in arrays:
        total.update(repr(array.shape).encode())
        total.update(array.reshape(-1).data)
    return total.hexdigest()


def _check(data: ImageSet) -> str:
    texts: list[Any] = [
        data.image_ids,
        data.attributes,
        data.classes,
        data.fingerprint,
        data.pixel_hashes,
    ]
    original = () if data.original_masks is None else (data.original_masks,)
    texts += [data.original_classes, data.depth, data.notes]
    return digest(texts, (data.images, data.masks, *original))


def verified(path: Path) -> ImageSet | None:
    """A cache file mapped into memory; None where it is missing or damaged."""
    try:
        data, meta = _open(path)
    except DataError:
        return None
    return data if meta.get("check") == _check(data) else None
