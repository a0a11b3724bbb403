"""What is decided, counted or refused of a dataset as a whole, not file by file."""

from __future__ import annotations

import re
import unicodedata
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from ruamel.yaml import YAML

from segsweep.check import Checked, check
from segsweep.data.cache import Prepared, load, prepare
from segsweep.data.sources import IGNORE, build
from segsweep.errors import DataError, UserError
from tests.data.builders import make_cityscapes, save
from tests.helpers import tiny, write_sweep

COUNT = 12
SIZE = (32, 32)
Mask = NDArray[np.uint8]
Write = Callable[[Path, Mask, int], None]


def disk(index: int) -> Mask:
    y, x = np.mgrid[: SIZE[0], : SIZE[1]]
    return np.asarray((y - 12 - index % 5) ** 2 + (x - 14 - index % 3) ** 2 < 60, np.uint8)


def disks(root: Path, write: Write, kind: str = "png", count: int = COUNT) -> Path:
    """Noise with one disk 140 brighter in each; masks as ``write`` writes them."""
    rng = np.random.default_rng(0)
    for index in range(count):
        mask = disk(index)
        noise = rng.integers(0, 90, (*SIZE, 3))
        save(
            root / "images" / f"{index:02d}.png",
            np.asarray(noise + 140 * mask[..., None], np.uint8),
        )
        path = root / "masks" / f"{index:02d}.{kind}"
        path.parent.mkdir(exist_ok=True)
        write(path, mask, index)
    return root


def white(path: Path, mask: Mask, _: int) -> None:
    save(path, mask * np.uint8(255))


def with_palette(*colours: int) -> Write:
    """Places in a palette; of two greys whose first is white, 1 − m."""

    def write(path: Path, mask: Mask, _: int) -> None:
        image = Image.fromarray(1 - mask if colours[0] == 255 else mask)
        image.putpalette(list(colours))
        image.save(path)

    return write


def prepared(root: Path, size: tuple[int, int] = SIZE, **options: Any) -> Prepared:
    return prepare(
        build("folder", root=root, options=options),
        name="folder",
        options=options,
        image_size=size,
        holdout=0,
        seed=0,
        stratify_by=None,
        group_by=None,
        cache_dir=root.parent / "cache",
    )


def refused(root: Path, **options: Any) -> str:
    with pytest.raises(DataError) as caught:
        prepared(root, **options)
    return str(caught.value)


def is_disks(found: Prepared) -> bool:
    masks = load(found.train).masks
    return bool(np.array_equal(masks, np.stack([disk(index) for index in range(len(masks))])))


def checked(folder: Path, root: Path, **dataset: Any) -> Checked:
    whole = {"name": "folder", "root": str(root), "image_size": list(SIZE), "holdout": 0.25}
    return check(write_sweep(folder, tiny(dataset={**whole, **dataset})))


class TestPalettes:
    @pytest.mark.parametrize("kind", ["png", "bmp", "gif", "tif"])
    def test_two_greys_are_read_as_they_look(self, kind: str, tmp_path: Path) -> None:
        found = prepared(disks(tmp_path / "data", with_palette(255, 255, 255, 0, 0, 0), kind))
        assert is_disks(found)
        told = [note for note in found.notes if "palette" in note]
        if kind == "gif":  # whoever wrote it may have put the palette in order
            assert len(told) <= 1
        else:
            assert told == [
                "12 of 12 masks have a palette whose order is not that of brightness: they are "
                "read as they look, the brighter grey being the foreground"
            ]

    def test_black_and_white_in_order_is_no_news(self, tmp_path: Path) -> None:
        found = prepared(disks(tmp_path / "data", with_palette(0, 0, 0, 255, 255, 255)))
        assert is_disks(found)
        assert found.notes == ()

    @pytest.mark.parametrize("kind", ["png", "bmp"])  # Pillow packs the indices of a GIF
    def test_those_of_pascal_voc_are_indices(self, kind: str, tmp_path: Path) -> None:
        """Its third colour has index 255 and is no label: void."""

        def write(path: Path, mask: Mask, _: int) -> None:
            mask[:2] = 255
            colours = np.zeros((256, 3), np.uint8)
            colours[[1, 255]] = (128, 0, 0), (224, 224, 192)
            image = Image.fromarray(mask)
            image.putpalette(colours.ravel().tolist())
            image.save(path)

        found = load(prepared(disks(tmp_path / "data", write, kind), ignore_index=255).train)
        wanted = np.stack([disk(index) for index in range(COUNT)])
        wanted[:, :2] = IGNORE
        np.testing.assert_array_equal(found.masks, wanted)
        assert found.notes == ()

    def test_a_mask_of_one_colour_is_read_like_the_others(self, tmp_path: Path) -> None:
        def write(path: Path, mask: Mask, index: int) -> None:
            with_palette(255, 255, 255, 0, 0, 0)(path, mask * np.uint8(index > 0), index)

        masks = load(prepared(disks(tmp_path / "data", write)).train).masks
        assert not masks[0].any()
        np.testing.assert_array_equal(masks[1], disk(1))

    def test_under_classes_they_are_indices_and_that_is_said(self, tmp_path: Path) -> None:
        root = disks(tmp_path / "data", with_palette(255, 255, 255, 0, 0, 0))
        found = prepared(root, classes={"background": 0, "disk": 1})
        masks = load(found.train).masks
        np.testing.assert_array_equal(masks, 1 - np.stack([disk(i) for i in range(COUNT)]))
        assert any("the values are the places in the palette" in note for note in found.notes)
        in_order = disks(tmp_path / "other", with_palette(0, 0, 0, 255, 255, 255))
        assert prepared(in_order, classes={"background": 0, "disk": 1}).notes == ()


class TestOf255:
    def test_files_that_disagree_are_refused(self, tmp_path: Path) -> None:
        def write(path: Path, mask: Mask, index: int) -> None:
            rows = np.zeros_like(mask)
            rows[:3] = 255
            save(path, mask if index % 2 else rows)

        root = disks(tmp_path / "data", write)
        text = refused(root)
        assert "6 of 12 masks have the values 0 and 1 (such as 01.png), and 6 have 255" in text
        assert "`ignore_index: 255`" in text
        masks = load(prepared(root, ignore_index=255).train).masks
        assert (masks[0, :3] == IGNORE).all()
        np.testing.assert_array_equal(masks[1], disk(1))

    def test_black_and_white_of_one_bit_agrees_with_both(self, tmp_path: Path) -> None:
        for value in (1, 255):

            def write(path: Path, mask: Mask, index: int, value: int = value) -> None:
                save(path, mask.astype(np.bool_) if index % 2 else mask * np.uint8(value))

            assert is_disks(prepared(disks(tmp_path / f"data{value}", write)))

    @pytest.mark.parametrize("value", [254, 65535, 300])
    def test_the_hint_ends_it(self, value: int, tmp_path: Path) -> None:
        def write(path: Path, mask: Mask, _: int) -> None:
            values = mask * np.uint16(value)
            save(path, values if value > 255 else values.astype(np.uint8))

        root = disks(tmp_path / "data", write)
        with pytest.raises(UserError, match="stand for no class") as caught:
            checked(tmp_path, root)
        assert len(caught.value.problems) == 1
        assert "so it is with 11 more masks" in str(caught.value)
        (line,) = re.findall(r"`(classes: .*?)`", str(caught.value))
        pasted = YAML(typ="safe").load(line)
        found = checked(tmp_path, root, **pasted)
        assert is_disks(prepared(root, **pasted))
        assert found.data.classes == ("background", "foreground")


class TestAlpha:
    @pytest.mark.parametrize("clear", [bytes([255, 0]), 1])
    def test_masks_whose_palette_differs_in_it_alone(
        self, tmp_path: Path, clear: bytes | int
    ) -> None:
        def write(path: Path, mask: Mask, _: int) -> None:
            image = Image.fromarray(1 - mask)  # the disk has place 0, which is opaque
            image.putpalette([255, 0, 0, 255, 0, 0])
            image.save(path, transparency=clear)

        found = prepared(disks(tmp_path / "data", write))
        masks = load(found.train).masks
        np.testing.assert_array_equal(masks, np.stack([disk(i) for i in range(COUNT)]))
        assert found.notes == (
            "12 of 12 masks have one colour, and the mask in their alpha channel: it is read",
        )

    def test_masks_that_are_stored_in_it(self, tmp_path: Path) -> None:
        def write(path: Path, mask: Mask, index: int) -> None:
            mask = mask * np.uint8(index > 0)
            save(path, np.dstack([np.full((*SIZE, 3), 255, np.uint8), mask * np.uint8(255)]))

        found = prepared(disks(tmp_path / "data", write))
        masks = load(found.train).masks
        assert not masks[0].any()  # white and invisible: no disk, not nothing but disk
        np.testing.assert_array_equal(masks[1:], np.stack([disk(i) for i in range(1, COUNT)]))
        assert found.notes == (
            "11 of 12 masks have one colour, and the mask in their alpha channel: it is read",
        )

    def test_some_that_are_and_some_that_are_not(self, tmp_path: Path) -> None:
        def write(path: Path, mask: Mask, index: int) -> None:
            grey = mask * np.uint8(255)
            save(path, np.dstack([np.full((*SIZE, 3), 255, np.uint8), grey]) if index % 2 else grey)

        text = refused(disks(tmp_path / "data", write))
        assert "6 of 12 masks are stored in their alpha channel (such as 01.png), and 6 are" in text

    @pytest.mark.parametrize("turn", [False, True])
    def test_colour_and_alpha_that_disagree(self, turn: bool, tmp_path: Path) -> None:
        def write(path: Path, mask: Mask, _: int) -> None:
            grey = mask * np.uint8(255)
            other = 255 - grey if turn else np.flipud(grey)
            save(path, np.dstack([grey, grey, grey, other]))

        text = refused(disks(tmp_path / "data", write, count=4))
        assert text.count("colour and alpha of the mask disagree") == 4

    def test_an_alpha_that_says_the_same_is_left_out(self, tmp_path: Path) -> None:
        def write(path: Path, mask: Mask, _: int) -> None:
            save(path, np.dstack([mask * np.uint8(255)] * 4))

        found = prepared(disks(tmp_path / "data", write))
        assert is_disks(found)
        assert "12 of 12 masks have an alpha channel that parts pixels as their" in found.notes[0]

    def test_of_photos_with_what_nobody_sees(self, tmp_path: Path) -> None:
        root = disks(tmp_path / "data", white)
        for index in range(3):
            path = root / "images" / f"{index:02d}.png"
            pixels = np.asarray(Image.open(path))
            save(path, np.dstack([pixels, np.full(SIZE, 255 * (index > 0), np.uint8)]))
            if index == 2:
                save(path, np.dstack([pixels, disk(2) * np.uint8(255)]))
        assert prepared(root).notes == (
            "1 of 12 images have pixels that are invisible: the colours under them are read",
            "1 of 12 images are invisible everywhere: alpha is left out",
        )


def tagged(path: Path, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    with Image.open(path) as image:
        image.load()
        image.save(path, exif=exif)


class TestOrientation:
    @pytest.mark.parametrize("orientation", [3, 6])
    def test_of_images_alone_is_said(self, orientation: int, tmp_path: Path) -> None:
        root = disks(tmp_path / "data", white)
        for path in (root / "images").iterdir():
            tagged(path, orientation)
        assert prepared(root).notes == (
            "12 of 12 images are turned by their EXIF orientation; their masks have none",
        )
        for path in (root / "masks").iterdir():
            tagged(path, orientation)
        found = prepared(root)
        assert found.notes == ()
        data = load(found.train)
        grey = data.images.mean(axis=-1)
        for image, mask in zip(grey, data.masks, strict=True):
            assert image[mask == 1].min() > image[mask == 0].max() - 60

    def test_that_keeps_sizes_from_fitting_is_named(self, tmp_path: Path) -> None:
        root = disks(tmp_path / "data", white, count=4)
        for kind in ("images", "masks"):
            for path in (root / kind).iterdir():
                save(path, np.asarray(Image.open(path))[:20])
        tagged(root / "images" / "01.png", 6)
        text = refused(root)
        assert (
            "the mask is 32 × 20 pixels, its image 20 × 32: the image is turned by its EXIF "
            in text
        )
        assert "orientation (6), the mask has no such tag" in text
        tagged(root / "masks" / "01.png", 6)
        assert prepared(root).notes == ()


class TestDepth:
    @pytest.mark.parametrize(
        ("highest", "bits", "how"),
        [(200, 8, "taken as they are"), (1000, 10, "divided by 4"), (4095, 12, "divided by 16"),
         (9000, 14, "divided by 64"), (65535, 16, "divided by 256")],
    )  # fmt: skip
    def test_is_that_of_the_dataset(
        self, highest: int, bits: int, how: str, tmp_path: Path
    ) -> None:
        root = disks(tmp_path / "data", white)
        deep = []
        for index in range(1, COUNT):  # one stays as it was, with 8 bits
            path = root / "images" / f"{index:02d}.png"
            grey = np.asarray(Image.open(path))[..., 0].astype(np.float64)
            deep.append((grey / grey.max() * (highest >> (index != 7) * 2)).astype(np.uint16))
            save(path, deep[-1])
        eight = np.asarray(Image.open(root / "images" / "00.png"))
        for _ in range(2):  # the second time from the cache
            found = prepared(root)
            assert found.depth == bits
            assert found.notes == (
                f"11 of 12 images have 16 bits a channel; their largest value is {highest}: they "
                f"are read as {bits} bits ({how})",
            )
        images = load(found.train).images
        np.testing.assert_array_equal(images[0], eight)
        for image, values in zip(images[1:], deep, strict=True):
            np.testing.assert_array_equal(image[..., 0], values >> (bits - 8))

    @pytest.mark.parametrize("offset", [32768, 0])
    def test_images_that_scaling_leaves_few_greys_of_are_told(
        self, offset: int, tmp_path: Path
    ) -> None:
        """By an offset of all of them, or by one bright pixel in one."""
        root = disks(tmp_path / "data", white)
        for index in range(COUNT):
            values = np.full((*SIZE, 3), offset, np.uint16) + disk(index)[..., None] * np.uint16(99)
            if index == 5:
                values[0, 0] = 65535
            assert cv2.imwrite(str(root / "images" / f"{index:02d}.png"), values)
        told = " ".join(prepared(root).notes)
        assert "11 of 12 images of 16 bits have fewer than 16 of 256 greys left (such as 0" in told

    def test_of_8_bits_is_none(self, tmp_path: Path) -> None:
        assert prepared(disks(tmp_path / "data", white)).depth is None

    def test_resizing_comes_before_scaling(self, tmp_path: Path) -> None:
        root = disks(tmp_path / "data", white, count=4)
        values = np.random.default_rng(0).integers(0, 4096, SIZE).astype(np.uint16)
        save(root / "images" / "00.png", values)
        found = load(prepared(root, (16, 16)).train).images[0, ..., 0]
        means = values.reshape(16, 2, 16, 2).mean(axis=(1, 3))
        assert np.abs(found - np.floor(means / 16)).max() <= 1


class TestPages:
    def pages(self, path: Path, count: int) -> None:
        with Image.open(path) as image:
            image.load()
        path.unlink()
        image.save(path.with_suffix(".tif"), save_all=True, append_images=[image] * (count - 1))

    def test_of_images_are_said(self, tmp_path: Path) -> None:
        root = disks(tmp_path / "data", white)
        self.pages(root / "images" / "03.png", 3)
        self.pages(root / "masks" / "03.png", 3)
        found = prepared(root)
        assert is_disks(found)
        assert [note.split(":")[0] for note in found.notes] == [
            "1 of 12 images have further pages or frames (up to 3 in all)",
            "1 of 12 masks have further pages or frames (up to 3 in all)",
        ]

    def test_of_masks_alone_are_refused(self, tmp_path: Path) -> None:
        root = disks(tmp_path / "data", white)
        self.pages(root / "masks" / "03.png", 3)
        assert "03.tif: the mask has 3 pages, its image 1: which is the mask?" in refused(root)


def test_both_files_of_a_pair_are_named_where_both_are_damaged(tmp_path: Path) -> None:
    root = disks(tmp_path / "data", white, count=4)
    for kind in ("images", "masks"):
        (root / kind / "02.png").write_bytes(b"broken")
    text = refused(root)
    assert str(root / "images/02.png") in text
    assert str(root / "masks/02.png") in text


def test_images_that_lose_all_of_a_class_are_counted(tmp_path: Path) -> None:
    """Lines of one pixel: of eight rows one is left."""
    rows = np.random.default_rng(0).permutation(512)[:40]
    for index, row in enumerate(rows):
        mask = np.zeros((512, 512), np.uint8)
        mask[row] = 255
        save(tmp_path / "data/images" / f"{index:02d}.png", np.dstack([mask] * 3))
        save(tmp_path / "data/masks" / f"{index:02d}.png", mask)
    found = prepared(tmp_path / "data", (64, 64))
    lost = int(sum(not mask.any() for mask in load(found.train).masks))
    assert lost > 30
    assert found.notes == (
        f"resized to 64 × 64, of the images that show a class, {lost} of 40 lose all of "
        "'foreground'",
    )
    assert prepared(tmp_path / "data", (64, 64)) == Prepared(
        found.train, None, found.fingerprint, 40, 0, None, found.notes
    )
    assert prepared(tmp_path / "data", (512, 512)).notes == ()


def test_every_check_tells_it_also_from_the_cache(tmp_path: Path) -> None:
    root = disks(tmp_path / "data", with_palette(255, 255, 255, 0, 0, 0))
    for path in (root / "images").iterdir():
        tagged(path, 3)
    for decodes in (12, 0):
        found = checked(tmp_path, root)
        assert found.prepared.decodes == decodes
        told = [note for note in found.notices if note.startswith("12 of 12")]
        assert len(told) == 2
        assert list(found.as_dict()["notices"]) == list(found.notices)


NAMES = [f"Läsion é {index}" for index in range(4)]


def named(root: Path, images: str, masks: str, rows: str) -> Path:
    """Names and rows of a table in the Unicode forms that are given."""
    lines = ["image,patient"]
    for index, name in enumerate(NAMES):
        for kind, form in (("images", images), ("masks", masks)):
            pixels = disk(index) * np.uint8(255)
            path = root / kind / f"{unicodedata.normalize(form, name)}.png"  # type: ignore[arg-type]
            save(path, pixels if kind == "masks" else np.dstack([pixels] * 3))
        form = rows if index % 2 else images
        lines.append(unicodedata.normalize(form, f"{name}.png,Zoé"))  # type: ignore[arg-type]
    (root / "metadata.csv").write_text("\n".join(lines), encoding="utf-8")
    return root


class TestNames:
    @pytest.mark.parametrize("images", ["NFC", "NFD"])
    @pytest.mark.parametrize("masks", ["NFC", "NFD"])
    def test_are_paired_however_letters_are_composed(
        self, images: str, masks: str, tmp_path: Path
    ) -> None:
        root = named(tmp_path / "data", images, masks, "NFD")
        samples = build("folder", root=root, options={}).samples()
        assert [sample.image_id for sample in samples] == NAMES
        assert {sample.attributes["patient"] for sample in samples} == {"Zoé"}
        assert is_disks(prepared(root))
        with zipfile.ZipFile(tmp_path / "data.zip", "w") as out:
            for path in sorted(root.rglob("*.*")):
                out.write(path, str(path.relative_to(root)))
        dataset = {"holdout": 0, "image_size": list(SIZE)}
        assert checked(tmp_path, tmp_path / "data.zip", **dataset).data.image_ids == tuple(NAMES)

    def test_that_become_one_are_refused(self, tmp_path: Path) -> None:
        root = named(tmp_path / "data", "NFC", "NFC", "NFC")
        other = root / "images" / f"{unicodedata.normalize('NFD', NAMES[0])}.png"
        save(other, np.zeros((*SIZE, 3), np.uint8))
        if len(list((root / "images").iterdir())) == len(NAMES):
            pytest.skip("this file system composes names itself")
        text = refused(root)
        assert "has the same name as" in text
        assert "in another Unicode form" in text

    def test_of_cities_are_names_too(self, tmp_path: Path) -> None:
        root = make_cityscapes(tmp_path, {"train": ("zürich", "bern"), "val": ("genève",)})
        for path in list((root / "gtFine").rglob("*")):
            if path.is_file():
                path.rename(path.with_name(unicodedata.normalize("NFD", path.name)))
        for path in list((root / "gtFine").glob("*/*")):
            path.rename(path.with_name(unicodedata.normalize("NFD", path.name)))
        samples = build("cityscapes", root=root, options={}).samples()
        assert {sample.attributes["city"] for sample in samples} == {"zürich", "bern", "genève"}
        (root / "leftImg8bit/train" / unicodedata.normalize("NFD", "zürich")).mkdir()
        with pytest.raises(DataError, match="the same name as another directory"):
            build("cityscapes", root=root, options={}).samples()


def test_one_mistake_of_many_files_is_told_once(tmp_path: Path) -> None:
    root = disks(tmp_path / "data", white)
    for index in range(COUNT - 1):
        save(root / "masks" / f"{index:02d}.png", np.zeros((16, 32), np.uint8))
    save(root / "masks" / f"{COUNT - 1:02d}.png", np.zeros((8, 8), np.uint8))
    with pytest.raises(DataError) as caught:
        prepared(root)
    many, one = caught.value.problems
    assert many.what.endswith("its image 32 × 32; so it is with 10 more files")
    assert many.where.endswith("00.png")
    assert one.what == "the mask is 8 × 8 pixels, its image 32 × 32"
