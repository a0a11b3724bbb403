"""``predict``: masks, calibrated probabilities and overlays for a folder of images.

::

    OUT/masks/<name>.png           the class of every pixel, with the classes' colours as palette
    OUT/probabilities/<name>.npz   ``probabilities``: float16 (C, H, W), C = 1 (class 1) for two
    OUT/overlays/<name>.png        the image under its mask
    OUT/predictions.jsonl          what was done with every image, a line each
    OUT/predictions.json           what was asked for, and what could not be done
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from segsweep.data import palette
from segsweep.data.decoding import resize_image
from segsweep.data.image_file import Pixels, to_bytes
from segsweep.errors import DataError, DiskFull, Problem, RunError, disk_is_full
from segsweep.export import encoding, folder, images, inference, record
from segsweep.export.capture import first
from segsweep.export.inference import Runtime, Shipped
from segsweep.export.record import Record
from segsweep.interrupt import Interrupt

Masks = Literal["palette", "ids"]
Probabilities = Literal["npz", "png", "none"]
Size = Literal["original", "trained"]


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
        out: where the results are.
        done: how many images have results.
        already: how many of them had some before.
        complete: every image was tried; False where a signal came first.
        failed: what is wrong with each of the others.
        converted: how images were converted, and how many were so now.
        passed_over: files that people call images too, and that are of no kind that is read.
    """

    out: Path
    runtime: Runtime
    done: int
    already: int
    complete: bool
    failed: tuple[Problem, ...]
    converted: dict[str, int]
    passed_over: tuple[Path, ...] = ()

    @property
    def notes(self) -> tuple[str, ...]:
        """What the user should know besides."""
        notes = [f"{count} converted: {how}" for how, count in self.converted.items()]
        if self.passed_over:
            notes.append(f"passed over: {images.told(self.passed_over)}")
        return tuple(notes)

    def as_dict(self) -> dict[str, Any]:
        """Plain values; ``predictions.jsonl`` has more of every image."""
        plain = {"out": str(self.out), "passed_over": [str(path) for path in self.passed_over]}
        return {**asdict(self), **plain}


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

    An image that cannot be predicted is listed, and the others are done. After the first Ctrl-C
    or SIGTERM no other is begun.

    Args:
        place: an export folder.
        source: a folder of images, or one image.
        out: where results go; it must not be there, be empty, or hold results of the same export
            with the same options, which it then goes on with.
        options: what is written.
        runtime: None takes onnxruntime where it can be had.
        told: is called with images done and their number.

    Raises:
        UserError: refused, nothing was written: a changed export folder, no images, options that
            do not go together.
        DiskFull: no more can be written; the same call goes on.
    """
    if options.tile and options.size == "trained":
        hint = "tiles are predicted at the image's own size: leave --size out"
        raise RunError(Problem("trained does not go with --tile", key="--size", hint=hint))
    if not (out / images.SUMMARY).exists():
        folder.refuse_taken(out)
    found = images.find(source)
    shipped = _opened(place, runtime, options)
    named = dict(zip(map(str, images.names(found.paths, source)), found.paths, strict=True))
    book = record.begin(out, _facts(place, source, shipped, options), named)
    book.failed += found.unreadable
    already, complete = len(book.there), False
    try:
        with Interrupt() as interrupt:
            converted = _all(shipped, book, named, options, interrupt, told)
        complete = not interrupt.requested
    except OSError as error:
        if not disk_is_full(error):
            raise
        text = f"{error}\n    free some space and give the same command again: it goes on"
        raise DiskFull(text) from error
    finally:
        with contextlib.suppress(OSError):  # a full disk: the summary of the beginning stays
            book.close(complete=complete)
    return Predicted(
        out, shipped.runtime, len(book.there), already, complete, tuple(book.failed), converted,
        tuple(found.passed_over),
    )  # fmt: skip


def _opened(place: Path, runtime: Runtime | None, options: Options) -> Shipped:
    """The export, where what is asked for can be written of its classes."""
    shipped = inference.open_folder(place, runtime)
    if options.probabilities == "png" and len(shipped.classes) != 2:
        what = f"png holds one probability a pixel, and there are {len(shipped.classes)} classes"
        raise RunError(Problem(what, key="--probabilities", hint="use npz"))
    return shipped


def _facts(place: Path, source: Path, shipped: Shipped, options: Options) -> dict[str, Any]:
    return {
        "export": str(place),
        "manifest": folder.sha256(place / folder.MANIFEST),
        "source": str(source.resolve()),
        "runtime": shipped.runtime,
        "temperature": shipped.temperature,
        "options": asdict(options),
        "classes": list(shipped.classes),
    }


def _all(
    shipped: Shipped,
    book: Record,
    named: dict[str, Path],
    options: Options,
    interrupt: Interrupt,
    told: Callable[[int, int], None],
) -> dict[str, int]:
    """Every image that is not done yet; how they were converted, and how many were so."""
    converted: dict[str, int] = {}
    for count, (name, path) in enumerate(named.items(), start=1):
        if interrupt.requested:
            break
        if str(path) not in book.there:
            try:
                how = _one(shipped, book, name, path, options)
            except (DataError, MemoryError, RuntimeError, OSError, cv2.error) as error:
                book.forget(name)
                if disk_is_full(error):
                    raise
                book.failed += _problems(path, error, tile=options.tile)
            else:
                if how:
                    converted[how] = converted.get(how, 0) + 1
        told(count, len(named))
    return converted


def _problems(path: Path, error: Exception, *, tile: bool) -> list[Problem]:
    if isinstance(error, DataError):
        return list(error.problems)
    if isinstance(error, OSError):
        return [Problem(f"its results cannot be written: {error.strerror or error}", str(path))]
    hint = ""
    if _memory(error):
        hint = "make it smaller" if tile else "make it smaller, or predict with --size trained"
    return [Problem(f"cannot be predicted: {first(error)}", str(path), hint=hint)]


# torch's allocator of the CPU, the C library's and OpenCV's raise no class of their own
NO_MEMORY = ("defaultcpuallocator", "allocate memory", "out of memory", "insufficient memory")


def _memory(error: Exception) -> bool:
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return any(words in str(error).lower() for words in NO_MEMORY)


def _one(shipped: Shipped, book: Record, name: str, path: Path, options: Options) -> str:
    """Predict and write one image; how it was converted."""
    image, how = images.stored(path, shipped.depth)
    logits = inference.logits_of(
        shipped, image, tile=options.tile, resize_back=options.size == "original"
    )
    if not torch.isfinite(logits).all():
        raise DataError(Problem("the model gives no finite numbers for it", str(path)))
    mask = inference.mask_of(logits)
    shares = np.bincount(mask.ravel(), minlength=len(shipped.classes)) / mask.size
    row = {
        "image": str(path),
        "stamp": record.stamp(path),
        "name": name,
        "height": mask.shape[0],
        "width": mask.shape[1],
        "shares": dict(zip(shipped.classes, shares.round(6).tolist(), strict=True)),
        "mean_confidence": round(inference.confidence_of(logits, shipped.temperature), 6),
    }
    files = _files(shipped, name, image, mask, logits, options)
    book.save(files, {**row, "converted": how} if how else row)
    book.there.add(str(path))
    return how


def _files(
    shipped: Shipped,
    name: str,
    image: Pixels,
    mask: NDArray[np.uint8],
    logits: torch.Tensor,
    options: Options,
) -> dict[str, bytes]:
    """Place below the folder → content."""
    files: dict[str, bytes] = {}
    if options.probabilities != "none":
        chances = inference.probabilities_of(logits, shipped.temperature)
        if options.probabilities == "npz":
            content = encoding.npz(probabilities=chances.astype(np.float16))
        else:
            content = encoding.colour_png(np.round(chances[0] * 255).astype(np.uint8))
        files[f"probabilities/{name}.{options.probabilities}"] = content
    if options.overlays:
        shown = resize_image(image, (mask.shape[0], mask.shape[1]))
        shown = to_bytes(shown, shipped.depth)
        painted = palette.paint(shown, mask, shipped.colours)
        files[f"overlays/{name}.png"] = encoding.colour_png(painted)
    if options.masks == "palette":
        colours = [palette.rgb(colour) for colour in shipped.colours.values()]
        return {**files, f"masks/{name}.png": encoding.palette_png(mask, colours)}
    return {**files, f"masks/{name}.png": encoding.colour_png(mask)}
