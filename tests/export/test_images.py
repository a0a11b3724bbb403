"""Image files: found, called, and read as RGB or refused by name."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageCms

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


@pytest.mark.parametrize(
    ("pixels", "why"),
    [
        (picture(5, 5, 4), "transparent"),
        ((picture(5, 5).astype(np.uint16) << 4), "16 bits a channel, of which the brightest"),
        (np.zeros((5, 5), np.float32), "float32"),
    ],
)
def test_images_that_would_need_guessing_are_refused_by_name(
    pixels: NDArray[Any], why: str, tmp_path: Path
) -> None:
    path = save(tmp_path / ("x.tif" if pixels.dtype == np.float32 else "x.png"), pixels)
    with pytest.raises(DataError, match=why) as caught:
        images.read(path)
    assert caught.value.problems[0].where == str(path)


def test_every_image_has_a_name_of_its_own(tmp_path: Path) -> None:
    root = tmp_path
    paths = [root / name for name in ("a.jpg", "a.png", "a.jpg.png", "deep/a.png")]
    found = images.names(paths, root)
    assert [str(name) for name in found] == ["a.jpg", "a.png", "a.jpg.png", "deep/a"]
    kinds = [root / f"{place}.{kind}" for place in range(10_000) for kind in ("jpg", "png")]
    before = time.process_time()
    assert len(set(images.names(kinds, root))) == 20_000
    assert time.process_time() - before < 1


def test_results_of_earlier_runs_and_folders_are_no_images(tmp_path: Path) -> None:
    own = [save(tmp_path / name, picture(4, 4)) for name in ("a.png", "deep/b.TIF")]
    save(tmp_path / "earlier/masks/a.png", picture(4, 4))
    (tmp_path / "earlier" / images.SUMMARY).write_text("{}")
    (tmp_path / "earlier/overlays").mkdir()
    save(tmp_path / ".hidden/c.png", picture(4, 4))
    save(tmp_path / "dir.png/d.png", picture(4, 4))
    assert images.find(tmp_path) == sorted([*own, tmp_path / "dir.png/d.png"])
    with pytest.raises(DataError, match="no images"):
        images.find(tmp_path / "earlier/overlays")


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
