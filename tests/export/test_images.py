"""Image files: found, called, and read as RGB or refused by name."""

from __future__ import annotations

import errno
import os
import struct
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageCms

from segsweep.data import sources
from segsweep.data.image_file import read_image
from segsweep.errors import DataError
from segsweep.export import images
from tests.export.pictures import picture, save


def test_images_that_can_be_converted_are(tmp_path: Path) -> None:
    grey = picture(6, 7)
    rgb, how = images.read(save(tmp_path / "grey.png", grey))
    assert np.array_equal(rgb, np.stack([grey] * 3, axis=-1))
    assert "grey" in how
    colour = picture(6, 7, 3)
    opaque = np.concatenate([colour, np.full((6, 7, 1), 255, np.uint8)], axis=-1)
    rgb, how = images.read(save(tmp_path / "opaque.png", opaque))
    assert np.array_equal(rgb, colour)
    assert "alpha" in how
    deep = (grey.astype(np.uint16) << 8) + 7
    deep[0, 0] = 65535
    rgb, how = images.read(save(tmp_path / "deep.png", deep))
    assert np.array_equal(rgb[..., 0].ravel()[1:], grey.ravel()[1:])
    assert "16 bits" in how
    assert images.read(save(tmp_path / "plain.png", colour))[1] == ""


def tiff(path: Path, pixels: NDArray[Any]) -> Path:
    """A file of as many bands as one likes, grey as far as it says, which Pillow cannot write."""
    height, width, count = pixels.shape
    data = pixels.tobytes()
    bands = struct.pack(f"<{2 * count}H", *[8 * pixels.itemsize] * count, *[0] * count)
    start = 8 + len(data)
    entries = [
        (256, 4, 1, width), (257, 4, 1, height), (258, 3, count, start), (259, 3, 1, 1),
        (262, 3, 1, 1), (273, 4, 1, 8), (277, 3, 1, count), (278, 4, 1, height),
        (279, 4, 1, len(data)), (338, 3, count - 1, start + 2 * count),
    ]  # fmt: skip
    if count == 2:  # short enough to stand in the entries themselves
        entries[2], entries[-1] = (258, 3, 2, 0x80008), (338, 3, 1, 0)
    table = b"".join(struct.pack("<HHII", *entry) for entry in entries)
    head = struct.pack("<2sHI", b"II", 42, start + len(bands))
    path.write_bytes(head + data + bands + struct.pack("<H", len(entries)) + table + bytes(4))
    return path


@pytest.mark.parametrize("count", [2, 4, 5, 8])
def test_bands_that_are_no_colours_are_refused_by_number(
    count: int, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """OpenCV takes the first of two or four for grey, and calls five damaged, at length."""
    path = tiff(tmp_path / "x.tif", picture(6, 7, count))
    for read in (images.read, read_image):
        with pytest.raises(DataError, match=f"has {count} channels, and the model takes three"):
            read(path)
    assert capfd.readouterr().err == ""


def test_floats_are_refused_by_name(tmp_path: Path) -> None:
    path = save(tmp_path / "x.tif", np.zeros((5, 5), np.float32))
    for read in (images.read, read_image):
        with pytest.raises(DataError, match="holds floating-point numbers") as caught:
            read(path)
        assert caught.value.problems[0].where == str(path)


CONVERTED: dict[str, tuple[NDArray[Any], str]] = {
    "transparent.png": (picture(5, 5, 4), "alpha left out"),
    "transparent.tif": (picture(5, 5, 4), "alpha left out"),
    "both.png": (picture(5, 5, 2), "grey to three equal channels, alpha left out"),
    "both.tif": (picture(5, 5, 2), "grey to three equal channels, alpha left out"),
    "twelve.png": (
        picture(5, 5).astype(np.uint16) << 4,
        "16 bits divided by 16, grey to three equal channels",
    ),
}


@pytest.mark.parametrize("name", CONVERTED)
def test_what_was_trained_on_is_predicted_from_the_same_pixels(name: str, tmp_path: Path) -> None:
    """Whatever `validate` lets pass, `predict` takes, as the training has seen it."""
    pixels, told = CONVERTED[name]
    for kind in ("images", "masks"):
        (tmp_path / kind).mkdir()
    path = save(tmp_path / "images" / name, pixels)
    save(tmp_path / "masks" / f"{path.stem}.png", np.eye(5, dtype=np.uint8))
    source = sources.build("folder", root=tmp_path, options={})
    trained = source.read(source.samples()[0])[0]
    found, how = images.read(path, depth=12)
    assert np.array_equal(found, trained)
    assert how == told
    colours = pixels[..., : 3 if pixels.shape[-1] == 4 else 1] if pixels.ndim == 3 else pixels
    stored = np.asarray(colours >> (4 if name == "twelve.png" else 0))
    assert np.array_equal(found, np.broadcast_to(stored.reshape(5, 5, -1), (5, 5, 3)))


def test_every_image_has_a_name_of_its_own(tmp_path: Path) -> None:
    root = tmp_path
    paths = [root / name for name in ("a.jpg", "a.png", "a.jpg.png", "deep/a.png")]
    found = images.names(paths, root)
    assert [str(name) for name in found] == ["a.jpg", "a.png", "a.jpg.png", "deep/a"]
    beside = [root / name for name in ("a.jpg", "a.png/d.png", "b.jpg", "b.npz/d.png", "c.jpg")]
    assert [str(name) for name in images.names(beside, root)] == [
        "a.jpg", "a.png/d", "b.jpg", "b.npz/d", "c",
    ]  # fmt: skip
    kinds = [root / f"{place}.{kind}" for place in range(10_000) for kind in ("jpg", "png")]
    before = time.process_time()
    assert len(set(images.names(kinds, root))) == 20_000
    assert time.process_time() - before < 5  # quadratic, it would take minutes


def test_results_of_earlier_runs_and_folders_are_no_images(tmp_path: Path) -> None:
    own = [save(tmp_path / name, picture(4, 4)) for name in ("a.png", "deep/b.TIF")]
    save(tmp_path / "earlier/masks/a.png", picture(4, 4))
    (tmp_path / "earlier" / images.SUMMARY).write_text("{}")
    (tmp_path / "earlier/overlays").mkdir()
    save(tmp_path / ".hidden/c.png", picture(4, 4))
    save(tmp_path / "dir.png/d.png", picture(4, 4))
    assert images.find(tmp_path).paths == sorted([*own, tmp_path / "dir.png/d.png"])
    with pytest.raises(DataError, match="no images"):
        images.find(tmp_path / "earlier/overlays")
    with pytest.raises(DataError, match="holds results of `predict`"):
        images.find(tmp_path / "earlier")


def test_what_is_passed_over_is_named(tmp_path: Path) -> None:
    for name in ("b.heic", "deep/c.GIF", "notes.txt", ".hidden.gif"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    with pytest.raises(DataError, match="holds no images") as caught:
        images.find(tmp_path)
    assert "passed over 1 " in str(caught.value)
    own = save(tmp_path / "a.png", picture(4, 4))
    os.mkfifo(tmp_path / "x.bmp")  # reading it would wait for ever
    (tmp_path / "broken.png").symlink_to("nowhere")
    found = images.find(tmp_path)
    assert found.paths == [own, tmp_path / "broken.png"]
    assert [path.name for path in found.passed_over] == ["b.heic", "c.GIF", "x.bmp"]
    assert images.told(found.passed_over).startswith("1 .heic and 1 .gif and 1 .bmp, such as ")
    with pytest.raises(DataError, match="neither a file nor a folder"):
        images.find(tmp_path / "x.bmp")


def test_a_folder_that_cannot_be_read_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = save(tmp_path / "a.png", picture(4, 4))
    save(tmp_path / "closed/b.png", picture(4, 4))
    scan = os.scandir

    def refuse(place: Any) -> Any:  # root may read everything
        if str(place).endswith("closed"):
            raise PermissionError(errno.EACCES, "Permission denied", str(place))
        return scan(place)

    monkeypatch.setattr(os, "scandir", refuse)
    found = images.find(tmp_path)
    assert found.paths == [own]
    assert [problem.where for problem in found.unreadable] == [str(tmp_path / "closed")]


def test_colours_are_converted_with_the_right_note(tmp_path: Path) -> None:
    plain = Image.new("RGB", (6, 5), (200, 40, 90))
    srgb, lab = ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB")
    converted = ImageCms.profileToProfile(plain, srgb, lab, outputMode="LAB")
    assert converted is not None
    converted.save(tmp_path / "lab.tif")
    plain.convert("CMYK").save(tmp_path / "cmyk.tif")
    plain.convert("CMYK").save(tmp_path / "cmyk.jpg", quality=100)
    for name, told in (("lab.tif", "Lab"), ("cmyk.tif", "CMYK"), ("cmyk.jpg", "CMYK")):
        rgb, how = images.read(tmp_path / name)
        assert np.array_equal(rgb, read_image(tmp_path / name).pixels), name
        if name.startswith("cmyk"):
            assert np.abs(rgb.astype(int) - (200, 40, 90)).max() <= 1, name
        assert told in how
        assert "alpha" not in how


@pytest.mark.parametrize("name", ["a.tif", "a.png", "a.webp"])
def test_of_several_frames_the_first_is_taken_and_that_is_said(name: str, tmp_path: Path) -> None:
    frames = [Image.fromarray(picture(5, 6, 3)) for _ in range(3)]
    frames[0].save(tmp_path / name, save_all=True, append_images=frames[1:], lossless=True)
    rgb, how = images.read(tmp_path / name)
    assert np.array_equal(rgb, np.asarray(frames[0]))
    assert how == "the first of 3 frames"


def test_images_are_turned_as_exif_says(tmp_path: Path) -> None:
    upright = np.zeros((40, 64, 3), np.uint8)
    upright[:, :32] = 255
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees clockwise
    Image.fromarray(upright).save(tmp_path / "a.jpg", exif=exif, quality=95)
    rgb, _ = images.read(tmp_path / "a.jpg")
    assert rgb.shape == (64, 40, 3)
    assert rgb[:28].min() > 200
    assert rgb[36:].max() < 50
