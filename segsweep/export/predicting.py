"""``predict``: masks, calibrated probabilities and overlays for a folder of images.

::

    OUT/masks/<name>.png           the class of every pixel, with the classes' colours as palette
    OUT/probabilities/<name>.npz   ``probabilities``: float16 (C, H, W), C = 1 (class 1) for two
    OUT/overlays/<name>.png        the image under its mask
    OUT/predictions.json           what was done with every image, and what could not be
"""

from __future__ import annotations

import io
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from segsweep.data.decoding import resize_image
from segsweep.errors import DataError, Problem, RunError, UserError
from segsweep.export import folder, images, inference
from segsweep.export.inference import Runtime, Shipped

Masks = Literal["palette", "ids"]
Probabilities = Literal["npz", "png", "none"]
Size = Literal["original", "trained"]
SUMMARY = "predictions.json"
OVERLAY = 0.45  # of the mask's colour; class 0 is left as it is


@dataclass(frozen=True)
class Options:
    """What is written.

    Attributes:
        tile: images are cut into overlapping tiles at their own resolution, not resized.
        masks: ``palette`` (indices with colours) or ``ids`` (plain grey values).
        probabilities: ``png`` is 8-bit and for two classes alone.
        size: ``trained`` leaves results at the size that the model sees.
    """

    tile: bool = False
    masks: Masks = "palette"
    probabilities: Probabilities = "npz"
    overlays: bool = True
    size: Size = "original"


@dataclass(frozen=True)
class Predicted:
    """How it went.

    Attributes:
        done: how many images have results.
        failed: what is wrong with each of the others.
        converted: how images were converted, and how many were so.
    """

    runtime: Runtime
    done: int
    failed: tuple[Problem, ...]
    converted: dict[str, int]


def predict(
    place: Path,
    source: Path,
    out: Path,
    options: Options = Options(),
    *,
    runtime: Runtime | None = None,
    told: Callable[[int, int], None] = lambda _done, _of: None,
) -> Predicted:
    """Predict every image at or below ``source``.

    Args:
        place: an export folder.
        source: a folder of images, or one image.
        out: where results go; it must not be there, or be empty.
        options: what is written.
        runtime: None takes onnxruntime where it can be had.
        told: is called with images done and their number.

    Raises:
        UserError: refused, nothing was written: a changed export folder, no images, options that
            do not go together.
    """
    if options.tile and options.size == "trained":
        hint = "tiles are predicted at the image's own size: leave --size out"
        raise RunError(Problem("trained does not go with --tile", key="--size", hint=hint))
    folder.refuse_taken(out)
    paths = images.find(source, out)
    shipped = inference.open_folder(place, runtime)
    if options.probabilities == "png" and len(shipped.classes) != 2:
        what = f"png holds one probability a pixel, and there are {len(shipped.classes)} classes"
        raise RunError(Problem(what, key="--probabilities", hint="use npz"))
    rows: list[dict[str, Any]] = []
    failed: list[Problem] = []
    converted: dict[str, int] = {}
    names = images.names(paths, source)
    for count, (path, name) in enumerate(zip(paths, names, strict=True), start=1):
        try:
            image, how = images.read(path)
            rows.append({"image": str(path), **_one(shipped, image, out, name, options)})
        except DataError as error:
            failed += error.problems
        else:
            if how:
                rows[-1]["converted"] = how
                converted[how] = converted.get(how, 0) + 1
        told(count, len(paths))
    _summarise(out, place, shipped, options, rows, failed)
    return Predicted(shipped.runtime, len(rows), tuple(failed), converted)


def _one(
    shipped: Shipped, image: NDArray[np.uint8], out: Path, name: Path, options: Options
) -> dict[str, Any]:
    """Predict and write one image."""
    logits = inference.logits_of(
        shipped, image, tile=options.tile, resize_back=options.size == "original"
    )
    if not torch.isfinite(logits).all():
        raise DataError(Problem("the model gives no finite numbers for it", str(name)))
    mask = inference.mask_of(logits)
    chances = inference.probabilities_of(logits, shipped.temperature)
    _save(out / "masks" / f"{name}.png", _mask_png(mask, shipped.palette, options.masks))
    if options.probabilities == "npz":
        stream = io.BytesIO()
        np.savez_compressed(stream, probabilities=chances.astype(np.float16))
        _save(out / "probabilities" / f"{name}.npz", stream.getvalue())
    elif options.probabilities == "png":
        grey = np.round(chances[0] * 255).astype(np.uint8)
        _save(out / "probabilities" / f"{name}.png", _png(Image.fromarray(grey)))
    if options.overlays:
        shown = resize_image(image, (mask.shape[0], mask.shape[1]))
        _save(out / "overlays" / f"{name}.png", _png(_overlay(shown, mask, shipped.palette)))
    shares = np.bincount(mask.ravel(), minlength=len(shipped.classes)) / mask.size
    sure = np.maximum(chances[0], 1 - chances[0]) if len(chances) == 1 else chances.max(axis=0)
    return {
        "name": str(name),
        "height": mask.shape[0],
        "width": mask.shape[1],
        "shares": dict(zip(shipped.classes, shares.round(6).tolist(), strict=True)),
        "mean_confidence": round(float(sure.mean()), 6),
    }


def _mask_png(mask: NDArray[np.uint8], palette: NDArray[np.uint8], how: Masks) -> bytes:
    picture = Image.fromarray(mask)
    if how == "palette":
        picture.putpalette(palette.ravel().tolist())  # the values stay the classes
    return _png(picture)


def _overlay(
    image: NDArray[np.uint8], mask: NDArray[np.uint8], palette: NDArray[np.uint8]
) -> Image.Image:
    share = np.where(mask == 0, 0.0, OVERLAY)[..., None]
    return Image.fromarray(np.round(image * (1 - share) + palette[mask] * share).astype(np.uint8))


def _png(picture: Image.Image) -> bytes:
    stream = io.BytesIO()
    picture.save(stream, "png")
    return stream.getvalue()


def _save(path: Path, content: bytes) -> None:
    """A file is whole or not there."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_bytes(content)
        temporary.replace(path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        if isinstance(error, NotADirectoryError | PermissionError):
            what = f"cannot be written: {error.strerror}"
            raise UserError(Problem(what, str(path), "--out")) from error
        raise


def _summarise(
    out: Path,
    place: Path,
    shipped: Shipped,
    options: Options,
    rows: list[dict[str, Any]],
    failed: list[Problem],
) -> None:
    out.mkdir(parents=True, exist_ok=True)
    folder.write_json(
        out / SUMMARY,
        {
            "export": str(place),
            "manifest": folder.sha256(place / folder.MANIFEST),
            "runtime": shipped.runtime,
            "temperature": shipped.temperature,
            "tile": options.tile,
            "classes": list(shipped.classes),
            "images": rows,
            "failed": [{"image": p.where, "what": p.what, "hint": p.hint} for p in failed],
        },
    )
