"""Image and mask files: both of a pair are decoded by one rule, whatever the format."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from segsweep.data.image_file import depth_of, read_image, read_mask, to_bytes
from segsweep.data.image_header import header
from segsweep.errors import DataError

RNG = np.random.default_rng(0)
COLOUR = RNG.integers(0, 256, (5, 7, 3)).astype(np.uint8)
GREY = COLOUR[..., 0]
LOSSLESS: dict[str, dict[str, Any]] = {
    "png": {}, "tif": {}, "webp": {"lossless": True, "exact": True},
}  # fmt: skip
# what EXIF says to do with rows and columns as stored, written out as in its table of positions of
# the 0th row and column: top-left, top-right, bottom-right, bottom-left, left-top, right-top, …
TURNED: dict[int, Any] = {
    1: lambda p: p,
    2: lambda p: p[:, ::-1],
    3: lambda p: p[::-1, ::-1],
    4: lambda p: p[::-1],
    5: lambda p: p.swapaxes(0, 1),
    6: lambda p: np.rot90(p, -1),
    7: lambda p: p[::-1, ::-1].swapaxes(0, 1),
    8: lambda p: np.rot90(p),
}


def tagged(orientation: int) -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif


@pytest.mark.parametrize("kind", [*LOSSLESS, "jpg"])
@pytest.mark.parametrize("orientation", TURNED)
def test_image_and_mask_are_turned_alike(orientation: int, kind: str, tmp_path: Path) -> None:
    turn, path = TURNED[orientation], tmp_path / f"a.{kind}"
    options = {
        **LOSSLESS.get(kind, {"quality": 100, "subsampling": 0}),
        "exif": tagged(orientation),
    }
    smooth = np.asarray(np.add.outer(np.arange(40) * 4, np.arange(56)), np.uint8)
    for pixels in (np.dstack([smooth] * 3), smooth):
        Image.fromarray(pixels).save(path, **options)
        image, mask = read_image(path), read_mask(path)
        wanted = turn(smooth).astype(int)
        assert image.header.orientation == mask.header.orientation == orientation
        for found in (image.pixels[..., 0], mask.values):
            assert found.shape == wanted.shape
            assert np.abs(found.astype(int) - wanted).max() <= (3 if kind == "jpg" else 0)


@pytest.mark.parametrize("kind", ["png", "tif"])
@pytest.mark.parametrize("orientation", [1, 3, 6])
def test_a_palette_s_indices_are_turned_too(orientation: int, kind: str, tmp_path: Path) -> None:
    image = Image.fromarray(GREY)
    image.putpalette(RNG.integers(0, 256, 768).tolist())
    image.save(tmp_path / f"a.{kind}", exif=tagged(orientation))
    found = read_mask(tmp_path / f"a.{kind}")
    np.testing.assert_array_equal(found.values, TURNED[orientation](GREY))
    assert found.palette is not None


def test_a_png_s_orientation_may_stand_behind_its_pixels(tmp_path: Path) -> None:
    """PNG allows eXIf anywhere but between the pixels' chunks."""
    path = tmp_path / "a.png"
    Image.fromarray(COLOUR).save(path)
    raw = path.read_bytes()
    tags = b"MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0"
    chunk = b"eXIf" + tags
    chunk = struct.pack(">I", len(tags)) + chunk + struct.pack(">I", zlib.crc32(chunk))
    path.write_bytes(raw[:-12] + chunk + raw[-12:])
    np.testing.assert_array_equal(read_image(path).pixels, TURNED[6](COLOUR))


def _png_of(width: int, height: int) -> bytes:
    """A header that is not followed by pixels."""
    body = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + body + struct.pack(">I", zlib.crc32(body))


@pytest.mark.parametrize(
    ("size", "most"), [((40_000, 40_000), "1,073,741,824 pixels"), ((2**20 + 1, 2), "a side")]
)
def test_one_limit_of_size(size: tuple[int, int], most: str, tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(_png_of(*size))
    for read in (read_image, read_mask):
        with pytest.raises(DataError, match="larger than") as caught:
            read(path)
        assert most in str(caught.value)
        assert "damaged" not in str(caught.value)


@pytest.mark.parametrize("kind", ["png", "bmp", "gif", "tif"])
def test_pillow_s_own_limit_is_none(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Pillow, which decodes palettes, warns from 89 million pixels on, and refuses twice that."""
    image = Image.fromarray(GREY)
    image.putpalette(RNG.integers(0, 256, 768).tolist())
    image.save(tmp_path / f"a.{kind}")  # GIF writes the colours in another order
    shown = np.asarray(image.convert("RGB"))
    for limit in (20, 10):
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)
        mask = read_mask(tmp_path / f"a.{kind}")
        assert mask.palette is not None
        np.testing.assert_array_equal(mask.palette[mask.values], shown)
        if kind != "gif":  # which is accepted for masks alone
            assert read_image(tmp_path / f"a.{kind}").pixels.shape == COLOUR.shape


def test_a_mask_above_pillow_s_limit_is_read(tmp_path: Path) -> None:
    values = np.zeros((9500, 9500), np.uint8)
    values[-1, -1] = 1
    Image.fromarray(values).save(tmp_path / "a.png", compress_level=1)
    assert int(read_mask(tmp_path / "a.png").values[-1, -1]) == 1


@pytest.mark.parametrize("kind", ["png", "tif", "webp"])
@pytest.mark.parametrize(
    ("alpha", "found"),
    [
        (np.full((5, 7), 255), "same"),
        (np.full((5, 7), 9), "same"),
        (np.zeros((5, 7)), "nothing"),
        (np.eye(5, 7) * 255, "hidden"),
        (np.eye(5, 7) * 200 + 5, "partial"),
    ],
)
def test_colours_are_read_as_stored_whatever_is_visible(
    kind: str, alpha: NDArray[Any], found: str, tmp_path: Path
) -> None:
    path = tmp_path / f"a.{kind}"
    pixels = np.dstack([COLOUR, alpha.astype(np.uint8)])
    Image.fromarray(pixels).save(path, **LOSSLESS[kind])
    picture = read_image(path)
    np.testing.assert_array_equal(picture.pixels, COLOUR)
    if kind != "webp" or found != "same" or alpha[0, 0] < 255:  # WebP drops what says nothing
        assert picture.header.alpha == 1
    assert picture.alpha == found


@pytest.mark.parametrize("kind", ["png", "tif", "webp"])
def test_a_picture_in_its_alpha_alone_is_refused(kind: str, tmp_path: Path) -> None:
    pixels = np.dstack([np.full((5, 7, 3), 30, np.uint8), GREY])
    Image.fromarray(pixels).save(tmp_path / f"a.{kind}", **LOSSLESS[kind])
    with pytest.raises(DataError, match="what it shows is in its alpha channel"):
        read_image(tmp_path / f"a.{kind}")


def test_16_bits_and_alpha_in_tiff_are_not_cut_to_8(tmp_path: Path) -> None:
    """OpenCV gives two channels of 16 bits as one of 8."""
    pixels = RNG.integers(0, 65536, (6, 7, 2)).astype("<u2")
    entries = [
        (256, 4, 1, 7), (257, 4, 1, 6), (258, 3, 2, 16 | 16 << 16), (259, 3, 1, 1), (262, 3, 1, 1),
        (273, 4, 1, 8), (277, 3, 1, 2), (278, 4, 1, 6), (279, 4, 1, pixels.nbytes), (338, 3, 1, 2),
    ]  # fmt: skip
    table = b"".join(struct.pack("<HHII", *entry) for entry in entries)
    head = struct.pack("<2sHI", b"II", 42, 8 + pixels.nbytes)
    count = struct.pack("<H", len(entries))
    (tmp_path / "a.tif").write_bytes(head + pixels.tobytes() + count + table + bytes(4))
    for read in (read_image, read_mask):
        with pytest.raises(DataError, match="would cut them to 8"):
            read(tmp_path / "a.tif")


@pytest.mark.parametrize("bits", [1, 4, 8])
def test_a_palette_in_tiff_of_few_bits(bits: int, tmp_path: Path) -> None:
    values = RNG.integers(0, 1 << bits, (6, 16)).astype(np.uint8)
    colours = RNG.integers(0, 256, (1 << bits, 3)).astype(np.uint16)
    rows = np.unpackbits(values[..., None], axis=-1)[..., 8 - bits :].reshape(6, -1)
    data = np.packbits(rows, axis=1).tobytes()
    table_at = 8 + len(data)
    entries = [
        (256, 4, 1, 16), (257, 4, 1, 6), (258, 3, 1, bits), (259, 3, 1, 1), (262, 3, 1, 3),
        (273, 4, 1, 8), (277, 3, 1, 1), (278, 4, 1, 6), (279, 4, 1, len(data)),
        (320, 3, colours.size, table_at),
    ]  # fmt: skip
    palette = (colours.T * 257).astype("<u2").tobytes()
    head = struct.pack("<2sHI", b"II", 42, table_at + len(palette))
    table = b"".join(struct.pack("<HHII", *entry) for entry in entries)
    content = head + data + palette + struct.pack("<H", len(entries)) + table + bytes(4)
    (tmp_path / "a.tif").write_bytes(content)
    found = read_mask(tmp_path / "a.tif")
    np.testing.assert_array_equal(found.values, values)
    np.testing.assert_array_equal(found.palette, colours)
    np.testing.assert_array_equal(read_image(tmp_path / "a.tif").pixels, colours[values])


def test_alpha_of_a_mask_is_kept(tmp_path: Path) -> None:
    for name, pixels in (
        ("rgba.png", np.dstack([GREY, GREY, GREY, COLOUR[..., 1]])),
        ("la.png", np.dstack([GREY, COLOUR[..., 1]])),
        ("rgba.tif", np.dstack([GREY, GREY, GREY, COLOUR[..., 1]])),
        ("la.tif", np.dstack([GREY, COLOUR[..., 1]])),
    ):
        Image.fromarray(pixels).save(tmp_path / name)
        found = read_mask(tmp_path / name)
        np.testing.assert_array_equal(found.values, GREY, err_msg=name)
        assert found.alpha is not None, name
        np.testing.assert_array_equal(found.alpha, COLOUR[..., 1], err_msg=name)


def test_depth_is_what_is_used() -> None:
    assert [depth_of(highest) for highest in (1, 255, 256, 1023, 4095, 4096, 65535)] == [
        8, 8, 10, 10, 12, 14, 16,
    ]  # fmt: skip
    values = np.array([[0, 15, 16, 4095, 5000]], np.uint16)
    assert to_bytes(values, 12).tolist() == [[0, 0, 1, 255, 255]]
    assert to_bytes(values, 16).tolist() == [[0, 0, 0, 15, 19]]
    assert to_bytes(values.astype(np.uint8), 12).tolist() == values.astype(np.uint8).tolist()


@pytest.mark.parametrize("kind", ["png", "tif"])
def test_all_16_bits_are_kept(kind: str, tmp_path: Path) -> None:
    deep = GREY.astype(np.uint16) << 4
    Image.fromarray(deep).save(tmp_path / f"a.{kind}")
    np.testing.assert_array_equal(read_image(tmp_path / f"a.{kind}").pixels, np.dstack([deep] * 3))
    np.testing.assert_array_equal(read_mask(tmp_path / f"a.{kind}").values, deep)


def test_pages_are_counted_and_previews_are_none(tmp_path: Path) -> None:
    pages = [Image.fromarray(GREY + page) for page in range(3)]
    for name in ("a.tif", "a.gif"):
        pages[0].save(tmp_path / name, save_all=True, append_images=pages[1:])
        found = read_mask(tmp_path / name)
        assert found.header.pages == 3
        shown = found.values if found.palette is None else found.palette[found.values][..., 0]
        np.testing.assert_array_equal(shown, GREY)
    raw = bytearray((tmp_path / "a.tif").read_bytes())
    second = struct.unpack_from(
        "<I", raw, struct.unpack_from("<I", raw, 4)[0] + 2 + 12 * _tags(raw)
    )
    place = second[0] + 2
    struct.pack_into("<HHII", raw, place, 254, 4, 1, 1)  # a smaller version of another
    assert header(bytes(raw)).pages == 2


def _tags(raw: bytearray) -> int:
    return int(struct.unpack_from("<H", raw, struct.unpack_from("<I", raw, 4)[0])[0])


@pytest.mark.parametrize("kind", ["png", "jpg", "bmp", "gif", "tif", "webp"])
def test_a_damaged_header_is_no_more_than_that(kind: str, tmp_path: Path) -> None:
    """Any byte may be wrong: there is a header or none, and the decoder has the last word."""
    path = tmp_path / f"a.{kind}"
    Image.fromarray(GREY).save(path)
    whole = path.read_bytes()
    for _ in range(300):
        raw = bytearray(whole)
        for _ in range(3):
            raw[RNG.integers(len(raw))] = RNG.integers(256)
        header(bytes(raw[: RNG.integers(len(raw))]))
        assert 1 <= header(bytes(raw)).orientation <= 8
