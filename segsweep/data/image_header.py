"""What an image file says of itself, read from its bytes before anything is decoded.

One reader for all kinds, so that orientation, alpha, bit depth, pages and size mean the same in
each: PNG (third edition: ``eXIf``, ``acTL``), JPEG, BMP, GIF, TIFF 6.0 and BigTIFF, and WebP.
Nothing is believed but what decoding needs: a header that lies ends in a damaged file.
"""

from __future__ import annotations

import io
import struct
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, Literal

from PIL import TiffImagePlugin

Kind = Literal["PNG", "JPEG", "BMP", "GIF", "TIFF", "WEBP", ""]
Space = Literal["grey", "RGB", "CMYK", "Lab"]

UPRIGHT = 1
_TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_PNG = b"\x89PNG\r\n\x1a\n"
_WIDTH, _HEIGHT, _BITS, _MEANING, _ORIENTATION = 256, 257, 258, 262, 274
_SAMPLES, _COLOUR_MAP, _EXTRA, _FORMAT, _SUBFILE = 277, 320, 338, 339, 254
_ALPHA = (1, 2)  # what an extra sample must be called to be one
_FLOATS, _COMPLEX = 3, (5, 6)
_GREY, _PALETTE, _CMYK, _LAB = (0, 1), 3, 5, (8, 9, 10)
_MOST_PAGES = 10_000
_NO_FRAME = frozenset({0xC4, 0xC8, 0xCC})  # JPEG markers among those of frames


@dataclass(frozen=True)
class Header:
    """Of the first page of a file.

    Attributes:
        kind: empty where it is none that is known here.
        width: pixels, before it is turned; 0 where it is not known.
        height: likewise.
        bits: of the deepest channel.
        space: what the channels are.
        count: channels, alpha among them.
        alpha: how many of them are transparency.
        indexed: pixels are places in a palette.
        colours: of a TIFF file's palette, RGB one after the other; other kinds leave it to the
            decoder.
        as_grey: what to write where into such a file so that places in the palette are decoded as
            grey, not as colours: (offset, value).
        floats: numbers are no integers.
        orientation: 1 to 8, as EXIF counts.
        pages: full ones, or frames of an animation.
        patches: where a TIFF file has tags that decoders treat in ways of their own, and what to
            write there so that they do not: (offset, value).
        big_endian: how a TIFF file's numbers are written.
    """

    kind: Kind = ""
    width: int = 0
    height: int = 0
    bits: int = 8
    space: Space = "RGB"
    count: int = 3
    alpha: int = 0
    indexed: bool = False
    colours: bytes = b""
    as_grey: tuple[tuple[int, int], ...] = ()
    floats: bool = False
    orientation: int = UPRIGHT
    pages: int = 1
    patches: tuple[tuple[int, int], ...] = ()
    big_endian: bool = False


def header(content: bytes) -> Header:
    """The header of a file's content; an empty one where it cannot be read."""
    for begins, read in _READERS.items():
        if content.startswith(begins):
            try:
                found = read(content)
            except Exception:  # whatever damage leads to: the decoder has the last word
                return Header()
            upright = found.orientation in range(1, 9)
            return found if upright else replace(found, orientation=UPRIGHT)
    return Header()


def _png(content: bytes) -> Header:
    width, height, bits, colour = struct.unpack_from(">IIBB", content, 16)
    alpha, pages, orientation = int(colour in (4, 6)), 1, UPRIGHT
    for name, start, length in _chunks(content):
        if name == b"tRNS":
            alpha = 1
        elif name == b"acTL":
            pages = struct.unpack_from(">I", content, start)[0]
        elif name == b"eXIf":
            orientation = _exif(content[start : start + length])
    grey = colour in (0, 4)
    return Header(
        "PNG", width, height, bits, "grey" if grey else "RGB", (1 if grey else 3) + alpha, alpha,
        indexed=colour == 3, orientation=orientation, pages=pages,
    )  # fmt: skip


def _chunks(content: bytes) -> Iterator[tuple[bytes, int, int]]:
    """Name, start and length of a PNG's chunks; of a file that is cut off, those that are there."""
    place = len(_PNG)
    while place + 8 <= len(content):
        (length,) = struct.unpack_from(">I", content, place)
        yield content[place + 4 : place + 8], place + 8, length
        place += 12 + length


def _jpeg(content: bytes) -> Header:
    place, orientation = 2, UPRIGHT
    found = Header("JPEG")
    while place + 4 <= len(content):
        if content[place] != 0xFF:
            break
        marker = content[place + 1]
        if marker == 0xFF or 0xD0 <= marker <= 0xD8 or marker == 1:  # padding, or without length
            place += 1 if marker == 0xFF else 2
            continue
        (length,) = struct.unpack_from(">H", content, place + 2)
        body = place + 4
        if marker == 0xE1 and content[body : body + 6] == b"Exif\0\0" and orientation == UPRIGHT:
            orientation = _exif(content[body + 6 : place + 2 + length])
        elif 0xC0 <= marker <= 0xCF and marker not in _NO_FRAME:
            bits, height, width, count = struct.unpack_from(">BHHB", content, body)
            space: Space = {1: "grey", 4: "CMYK"}.get(count, "RGB")  # type: ignore[assignment]
            found = Header("JPEG", width, height, bits, space, count)
        elif marker == 0xDA:  # the pixels begin
            break
        place += 2 + length
    return replace(found, orientation=orientation)


def _bmp(content: bytes) -> Header:
    (size,) = struct.unpack_from("<I", content, 14)
    if size == 12:
        width, height, _, depth = struct.unpack_from("<HHHH", content, 18)
    else:
        width, height, _, depth = struct.unpack_from("<iiHH", content, 18)
    bits = depth if depth < 8 else 8
    # the fourth byte of a pixel is alpha where a mask says so; else it is nothing
    alpha = int(depth == 32 and size >= 56 and any(content[66:70]))
    return Header(
        "BMP", abs(width), abs(height), bits, count=3 + alpha, alpha=alpha, indexed=depth <= 8
    )


def _gif(content: bytes) -> Header:
    width, height, flags = struct.unpack_from("<HHB", content, 6)
    place = 13 + (3 << (flags & 7) + 1 if flags & 0x80 else 0)
    pages = 0
    while place < len(content) and content[place] in b"!,":
        if content[place] == 0x2C:
            pages += 1
            own = content[place + 9]
            place += 11 + (3 << (own & 7) + 1 if own & 0x80 else 0)
        else:
            place += 2
        while place < len(content) and content[place]:
            place += 1 + content[place]
        place += 1
    return Header("GIF", width, height, indexed=True, pages=max(1, pages))


def _webp(content: bytes) -> Header:
    if content[8:12] != b"WEBP":
        return Header()
    found, place, pages = Header("WEBP"), 12, 0
    while place + 8 <= len(content):
        name, body = content[place : place + 4], place + 8
        (length,) = struct.unpack_from("<I", content, place + 4)
        if name == b"VP8X":
            width, height = (
                1 + int.from_bytes(content[body + at : body + at + 3], "little") for at in (4, 7)
            )
            found = replace(found, width=width, height=height, alpha=content[body] >> 4 & 1)
        elif name == b"VP8 " and not found.width:
            wide, high = struct.unpack_from("<HH", content, body + 6)
            found = replace(found, width=wide & 0x3FFF, height=high & 0x3FFF)
        elif name == b"VP8L" and not found.width:
            (packed,) = struct.unpack_from("<I", content, body + 1)
            wide, high = (packed & 0x3FFF) + 1, (packed >> 14 & 0x3FFF) + 1
            found = replace(found, width=wide, height=high, alpha=packed >> 28 & 1)
        elif name == b"ANMF":
            pages += 1
        elif name == b"EXIF":
            blob = content[body : body + length].removeprefix(b"Exif\0\0")
            found = replace(found, orientation=_exif(blob))
        place = body + length + length % 2
    return replace(found, pages=max(1, pages), count=3 + found.alpha)


def _tags(content: bytes, place: int | None = None) -> TiffImagePlugin.ImageFileDirectory_v2:
    """A directory of tags, the first one or that at ``place``."""
    big = b"+" in content[2:4]
    tags = TiffImagePlugin.ImageFileDirectory_v2(content[: 16 if big else 8])
    stream = io.BytesIO(content)
    stream.seek(tags.next if place is None else place)
    tags.load(stream)
    return tags


def _exif(blob: bytes) -> int:
    """The orientation in EXIF data, which is laid out as a TIFF file without pixels."""
    try:
        return int(_tags(blob).get(_ORIENTATION, UPRIGHT))
    except Exception:  # damaged tags turn nothing
        return UPRIGHT


def _tiff(content: bytes) -> Header:
    tags = _tags(content)
    first = TiffImagePlugin.ImageFileDirectory_v2(content[: 16 if b"+" in content[2:4] else 8])
    meaning, count = int(tags.get(_MEANING, 1)), int(tags.get(_SAMPLES, 1))
    extra, formats = _all(tags.get(_EXTRA, ())), _all(tags.get(_FORMAT, 1))
    space: Space = "RGB"
    if meaning in _GREY:
        space = "grey"
    elif meaning == _CMYK:
        space = "CMYK"
    elif meaning in _LAB:
        space = "Lab"
    alpha = sum(int(one) in _ALPHA for one in extra)
    orientation = int(tags.get(_ORIENTATION, UPRIGHT))
    wanted = {} if orientation == UPRIGHT else {_ORIENTATION: UPRIGHT}
    if alpha == 1 == len(extra):
        wanted[_EXTRA] = _ALPHA[0]  # as if colours were multiplied by it: then no decoder does it
    indexed = meaning == _PALETTE
    as_grey = _places(content, first.next, {_MEANING: _GREY[1]}) if indexed else ()
    return Header(
        "TIFF", int(tags[_WIDTH]), int(tags[_HEIGHT]), max(map(int, _all(tags.get(_BITS, 1)))),
        space, count, alpha,
        indexed=indexed,
        colours=_colours(tags) if indexed else b"",
        as_grey=tuple(as_grey),
        floats=any(one == _FLOATS or one in _COMPLEX for one in formats),
        orientation=orientation,
        pages=_pages(content, tags),
        patches=tuple(_places(content, first.next, wanted)),
        big_endian=content[:2] == b"MM",
    )  # fmt: skip


def _colours(tags: TiffImagePlugin.ImageFileDirectory_v2) -> bytes:
    """All reds, all greens, all blues of 16 bits → RGB of 8, one after the other."""
    parts = [int(one) >> 8 for one in _all(tags.get(_COLOUR_MAP, ()))]
    count = len(parts) // 3
    return bytes(parts[place + channel * count] for place in range(count) for channel in range(3))


def _pages(content: bytes, tags: TiffImagePlugin.ImageFileDirectory_v2) -> int:
    """Full pages, at least one: no previews, and no masks of other pages."""
    pages, seen = 1, set[int]()
    place = tags.next
    while place and place not in seen and len(seen) < _MOST_PAGES:
        seen.add(place)
        try:
            further = _tags(content, place)
            pages += not int(further.get(_SUBFILE, 0)) & 0b101
        except Exception:  # damage behind the first page is none of it
            break
        place = further.next
    return pages


def _places(content: bytes, start: int, wanted: dict[int, int]) -> Iterator[tuple[int, int]]:
    """Where the first directory holds the values of tags that are one short number each."""
    order = ">" if content[:2] == b"MM" else "<"
    big = b"+" in content[2:4]
    (number,) = struct.unpack_from(f"{order}{'Q' if big else 'H'}", content, start)
    head, size, value = (8, 20, 12) if big else (2, 12, 8)
    for at in range(start + head, start + head + number * size, size):
        tag, kind = struct.unpack_from(f"{order}HH", content, at)
        if tag in wanted and kind == 3:  # SHORT
            yield at + value, wanted[tag]


def _all(value: Any) -> tuple[Any, ...]:
    return value if isinstance(value, tuple) else (value,)


_READERS = {
    _PNG: _png, b"\xff\xd8": _jpeg, b"BM": _bmp, b"GIF8": _gif, b"RIFF": _webp,
    **dict.fromkeys(_TIFF, _tiff),
}  # fmt: skip
