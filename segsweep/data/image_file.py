"""Image and mask files as pixels: the one place where either is decoded.

Sources and ``predict`` read by it, so that an image and its mask, and what is trained on and what
is predicted, are treated alike: turned as the orientation tag says, whatever the format; the first
page of several; alpha apart from the colours; all bits as stored; one limit of size.

OpenCV decodes: a JPEG takes it a sixth of Pillow's time, and Pillow cuts colours of 16 bits to 8.
Pillow decodes what OpenCV does not give as stored: places in a palette, which OpenCV replaces by
colours, and grey with alpha in TIFF, whose alpha it drops. Neither turns anything here.
"""

from __future__ import annotations

import io
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import BmpImagePlugin, GifImagePlugin, PngImagePlugin, TiffImagePlugin

from segsweep.data.image_header import Header, header
from segsweep.errors import DataError, Problem

# what it finds wrong with a file is told as a problem, once, and not on standard error
cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)

IMAGE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp"})
MASK_SUFFIXES = IMAGE_SUFFIXES | {".gif"}
"""Masks come as GIF, too: it has a palette and loses nothing."""

MOST_PIXELS = 2**30
LONGEST_SIDE = 2**20
"""OpenCV's limits, for every file, whoever decodes it."""

DEPTHS = (8, 10, 12, 14, 16)
"""Bits that cameras and scanners use of 16."""

Pixels = NDArray[np.uint8] | NDArray[np.uint16]
_REPLACE = "replace the file or remove the image"
_COLOUR = cv2.IMREAD_COLOR | cv2.IMREAD_ANYDEPTH | cv2.IMREAD_IGNORE_ORIENTATION
_PALETTES: dict[str, Any] = {
    "PNG": PngImagePlugin.PngImageFile, "BMP": BmpImagePlugin.BmpImageFile,
    "GIF": GifImagePlugin.GifImageFile, "TIFF": TiffImagePlugin.TiffImageFile,
}  # fmt: skip


@dataclass(frozen=True)
class Picture:
    """An image.

    Attributes:
        pixels: (H, W, 3) RGB, of 8 bits or 16 as stored, turned.
        header: what the file says of itself.
        alpha: what its transparency is like: ``same`` everywhere, or none; ``nothing``: all of it
            is invisible; ``hidden``: some pixels are; ``partial``: it differs otherwise.
    """

    pixels: Pixels
    header: Header
    alpha: Literal["same", "nothing", "hidden", "partial"] = "same"


@dataclass(frozen=True)
class Stored:
    """A mask's numbers as they are stored.

    Attributes:
        values: (H, W) 8-bit or 16-bit grey, 0 and 1 of 1 bit, or places in a palette; turned.
        header: what the file says of itself.
        alpha: (H, W), where there is any, of the same depth.
        palette: (N, 3) RGB colours, where values are places in it.
    """

    values: NDArray[np.integer[Any]]
    header: Header
    alpha: NDArray[np.integer[Any]] | None = None
    palette: NDArray[np.uint8] | None = None


def read_image(path: Path) -> Picture:
    """An image file.

    Raises:
        DataError: it cannot be read or decoded, is too large, holds other channels than grey, RGB
            or CMYK, floats or more than 16 bits; or its picture is in its alpha alone.
    """
    content, about = _content(path)
    _refuse_others(about, path)
    if about.kind == "TIFF" and about.alpha and about.space == "grey" and about.bits == 8:
        grey, alpha, _ = _by_pillow(content, about, path)
        colour: NDArray[Any] = np.dstack([grey] * 3)
    else:
        pixels = _by_opencv(content, about, cv2.IMREAD_UNCHANGED if about.alpha else _COLOUR, path)
        colour, alpha = _rgb(pixels)
    if colour.dtype not in (np.uint8, np.uint16):
        hint = "save it with 8 bits a channel"
        raise DataError(Problem(f"holds {colour.dtype} numbers", str(path), hint=hint))
    return Picture(_turned(colour, about), about, _alpha(colour, alpha, path))


def read_mask(path: Path) -> Stored:
    """A mask file.

    Raises:
        DataError: it cannot be read or decoded, is too large, in colour, or holds floats or values
            outside 0 … 65535.
    """
    content, about = _content(path)
    palette: NDArray[np.uint8] | None = None
    alpha: NDArray[Any] | None = None
    grey_tiff = about.kind == "TIFF" and about.space == "grey"
    if about.kind == "TIFF" and about.indexed and about.bits in (1, 8):  # OpenCV's
        values = _places(content, about, path)
        palette = np.frombuffer(about.colours, np.uint8).reshape(-1, 3)
    elif about.indexed or (grey_tiff and about.alpha and about.bits == 8):
        values, alpha, palette = _by_pillow(content, about, path)
    else:
        pixels = _by_opencv(content, about, cv2.IMREAD_UNCHANGED, path)
        if pixels.ndim == 3 and pixels.shape[2] == 4:
            pixels, alpha = pixels[..., :3], pixels[..., 3]
        values = one_channel(pixels, path)
        if about.bits == 1:
            values = np.asarray(values != 0, np.uint8)
    turned = _turned(values, about)
    return Stored(turned, about, None if alpha is None else _turned(alpha, about), palette)


def to_bytes(pixels: Pixels, depth: int) -> NDArray[np.uint8]:
    """8 bits of what has 16, of which ``depth`` are used; 8 bits stay as they are.

    By powers of two: 16 bits are divided by 256, 12 by 16. What is above the depth is white.
    """
    if pixels.dtype == np.uint8:
        return np.asarray(pixels, np.uint8)
    most = np.uint16((1 << depth) - 1)
    return (np.minimum(pixels, most) >> np.uint16(depth - 8)).astype(np.uint8)


def depth_of(highest: int) -> int:
    """The bits that are used where ``highest`` is the largest value."""
    return next(depth for depth in DEPTHS if highest < 1 << depth)


def one_channel(pixels: NDArray[Any], path: Path) -> NDArray[np.integer[Any]]:
    """Mask pixels without their colour channels: (H, W) integers from 0 to 65535.

    Args:
        pixels: (H, W), or (H, W, 3) with equal channels.
        path: where they come from, for messages.

    Raises:
        DataError: real colours, floats or values out of range.
    """
    hint = "save masks with one channel, whose values are the classes (PNG with 8 bits)"
    if pixels.ndim == 3:
        first = pixels[..., 0]
        if not all(np.array_equal(first, pixels[..., place]) for place in (1, 2)):
            raise DataError(Problem("the mask is in colour", where=str(path), hint=hint))
        pixels = first
    if not np.issubdtype(pixels.dtype, np.integer):
        what = f"the mask holds {pixels.dtype} numbers"
        raise DataError(Problem(what, where=str(path), hint=hint))
    if pixels.dtype not in (np.uint8, np.uint16):
        if pixels.size and (pixels.min() < 0 or pixels.max() > np.iinfo(np.uint16).max):
            what = "the mask has values outside 0 … 65535"
            raise DataError(Problem(what, where=str(path), hint=hint))
        pixels = pixels.astype(np.uint16)
    return np.ascontiguousarray(pixels)


def unreadable(path: Path, error: OSError) -> Problem:
    """A file that the system does not give."""
    return Problem(f"cannot be read: {error.strerror or error}", where=str(path))


def _content(path: Path) -> tuple[bytes, Header]:
    """A file's bytes and header.

    Raises:
        DataError: it cannot be read, is empty, or larger than what is decoded.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise DataError(unreadable(path, error)) from error
    if not content:
        raise DataError(Problem("the file is empty", where=str(path), hint=_REPLACE))
    about = header(content)
    refuse_larger(about.width, about.height, path)
    return content, about


def refuse_larger(width: int, height: int, path: Path) -> None:
    """The limit of size.

    Raises:
        DataError: so many pixels are not decoded.
    """
    most = ""
    if max(width, height) > LONGEST_SIDE:
        most = f"{LONGEST_SIDE:,} pixels a side"
    elif width * height > MOST_PIXELS:
        most = f"{MOST_PIXELS:,} pixels"
    if most:
        what = f"is {width} × {height} pixels: larger than {most}"
        raise DataError(Problem(what, str(path), hint="cut it into tiles, or make it smaller"))


def _refuse_others(about: Header, path: Path) -> None:
    """Nothing but grey, RGB or CMYK, with alpha or without, of 16 bits at most.

    Raises:
        DataError: a TIFF file has other channels, of which OpenCV would take the first.
    """
    if about.kind != "TIFF":
        return
    colours = about.count - about.alpha
    known = {"grey": {1}, "CMYK": {4}}.get(about.space, {1, 3})
    if about.space == "RGB" and about.count == 4:
        known = {3, 4}  # some writers leave it open what the fourth is
    if colours not in known or about.alpha > 1:
        what = f"has {about.count} channels, and the model takes three"
        raise DataError(Problem(what, str(path), hint="save it as RGB"))
    kind = "floating-point" if about.floats else f"{about.bits}-bit"
    if about.floats or about.bits > 16:
        hint = "save it with 8 bits a channel"
        raise DataError(Problem(f"holds {kind} numbers", str(path), hint=hint))


def _by_opencv(content: bytes, about: Header, flags: int, path: Path) -> NDArray[Any]:
    """BGR, BGR with alpha, or grey, as stored, not turned.

    Raises:
        DataError: it is no image, or a damaged one.
    """
    try:
        pixels = cv2.imdecode(np.frombuffer(_patched(content, about), np.uint8), flags)
    except cv2.error:
        pixels = None
    if pixels is None:
        what = "damaged, or not an image file"
        raise DataError(Problem(what, where=str(path), hint=_REPLACE))
    if about.bits == 16 and pixels.dtype == np.uint8:  # of two channels, in TIFF
        what = "has 16 bits a channel and alpha: the decoder would cut them to 8"
        raise DataError(Problem(what, str(path), hint="save it without alpha"))
    return np.asarray(pixels)


def _places(content: bytes, about: Header, path: Path) -> NDArray[np.integer[Any]]:
    """Places in a TIFF file's palette, decoded as grey, of which 1 bit is stretched to 8.

    Raises:
        DataError: a damaged file.
    """
    as_grey = replace(about, patches=about.patches + about.as_grey)
    grey = one_channel(_by_opencv(content, as_grey, cv2.IMREAD_UNCHANGED, path), path)
    return grey // 255 if about.bits == 1 else grey


def _by_pillow(
    content: bytes, about: Header, path: Path
) -> tuple[NDArray[np.uint8], NDArray[np.uint8] | None, NDArray[np.uint8] | None]:
    """Grey or places in a palette, alpha, and the palette, as stored, not turned.

    The kind's plugin is called itself: `PIL.Image.open` refuses sizes that OpenCV decodes.

    Raises:
        DataError: a damaged file.
    """
    try:
        with _PALETTES[about.kind](io.BytesIO(_patched(content, about))) as image:
            if image.mode not in ("1", "L", "P", "LA", "La"):
                raise ValueError(f"its mode is {image.mode}")
            colours = image.getpalette("RGB") if image.mode == "P" else None
            pixels, clear = np.asarray(image), image.info.get("transparency")
    except Exception as error:  # decoders raise nearly anything on damaged input
        what = f"damaged, or not an image file: {error}"
        raise DataError(Problem(what, where=str(path), hint=_REPLACE)) from error
    if image.mode in ("LA", "La"):
        return pixels[..., 0], pixels[..., 1], None
    if colours is None:  # a BMP file of plain grey, or of black and white, has a palette, too
        return pixels.astype(np.uint8, copy=False), None, None
    palette = np.asarray(colours, np.uint8).reshape(-1, 3)
    alpha = _shown_by_alpha(pixels, palette, clear)
    if alpha is not None:  # as a file of one grey with alpha shows it
        return np.full_like(pixels, palette[pixels.flat[0]].max()), alpha, None
    return pixels, None, palette


def _shown_by_alpha(
    pixels: NDArray[np.uint8], palette: NDArray[np.uint8], clear: bytes | int | None
) -> NDArray[np.uint8] | None:
    """Alpha of each pixel where its colours are all the same and alpha is not; else None.

    Args:
        pixels: (H, W) places in the palette.
        palette: (N, 3).
        clear: the alpha of each place, or the place that is invisible.
    """
    used = np.unique(pixels)
    if clear is None or len(used) < 2 or (palette[used] != palette[used[0]]).any():
        return None
    table = np.full(256, 255, np.uint8)
    if isinstance(clear, int):
        table[clear] = 0
    else:
        table[: len(clear)] = np.frombuffer(clear, np.uint8)
    return table[pixels] if len(np.unique(table[used])) > 1 else None


def _patched(content: bytes, about: Header) -> bytes | bytearray:
    """A TIFF file that no decoder turns, or multiplies by its alpha, as some do."""
    if not about.patches:
        return content
    changed = bytearray(content)
    for place, value in about.patches:
        changed[place : place + 2] = value.to_bytes(2, "big" if about.big_endian else "little")
    return changed


def _rgb(pixels: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any] | None]:
    """RGB and alpha of what OpenCV gives."""
    if pixels.ndim == 2:
        return np.dstack([pixels] * 3), None
    alpha = pixels[..., 3] if pixels.shape[2] == 4 else None
    how = cv2.COLOR_BGR2RGB if alpha is None else cv2.COLOR_BGRA2RGB
    return np.asarray(cv2.cvtColor(pixels, how)), alpha


def _alpha(
    colour: NDArray[Any], alpha: NDArray[Any] | None, path: Path
) -> Literal["same", "nothing", "hidden", "partial"]:
    """What the transparency of an image is like.

    Raises:
        DataError: the picture is in it alone.
    """
    if alpha is None or not alpha.size:
        return "same"
    low, high = int(alpha.min()), int(alpha.max())
    if low == high:
        return "same" if high else "nothing"
    if all(int(colour[..., place].min()) == int(colour[..., place].max()) for place in range(3)):
        what = "its colour is the same everywhere: what it shows is in its alpha channel"
        hint = "put it on a background, and save it without alpha"
        raise DataError(Problem(what, str(path), hint=hint))
    return "partial" if low else "hidden"


def _turned(pixels: NDArray[Any], about: Header) -> NDArray[Any]:
    """Upright, as the orientation tag says (EXIF 2.3, tag 274)."""
    turn = about.orientation
    if turn >= 5:
        pixels = np.swapaxes(pixels, 0, 1)
    if turn in (3, 4, 7, 8):
        pixels = pixels[::-1]
    if turn in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    return np.ascontiguousarray(pixels)
