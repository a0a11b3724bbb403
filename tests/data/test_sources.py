"""Sources of one's own data and of PH2: options, layouts, mistakes of structure."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from segsweep import registry
from segsweep.data.sources import IGNORE, Source, build, resolve
from segsweep.errors import DataError, UnknownName, UserError
from tests.data.builders import SIZE, disc, make_folder, make_ph2, picture, save

COLOURS = {"background": 0, "lesion": 7, "hair": 300}


def _real_ph2() -> Path:
    root = Path(os.environ.get("SEGSWEEP_DATA", "data")) / "PH2Dataset"
    if not root.is_dir():
        pytest.skip(f"the real PH2 is not at {root}: set SEGSWEEP_DATA")
    return root


def _problems(source: Source) -> str:
    with pytest.raises(DataError) as caught:
        source.samples()
    return str(caught.value)


def _folder(root: Path, **options: Any) -> Source:
    return build("folder", root=root, options=options)


@pytest.mark.parametrize("place", [0, 1])
@pytest.mark.parametrize("name", ["ph2", "folder"])
def test_a_digest_changes_with_image_and_mask(name: str, place: int, tmp_path: Path) -> None:
    source = build(name, root=(make_ph2 if name == "ph2" else make_folder)(tmp_path, 2), options={})
    sample = source.samples()[0]
    before = source.digest(sample)
    content = bytearray(sample.files[place].read_bytes())
    content[-1] ^= 1
    sample.files[place].write_bytes(content)
    assert source.digest(sample) != before


class TestOptions:
    def test_defaults_are_filled_in(self) -> None:
        assert resolve("synthetic_lesions", {"seed": 3}) == {"images": 120, "seed": 3}
        assert resolve("ph2", {}) == {}

    def test_all_mistakes_at_once(self) -> None:
        with pytest.raises(UserError) as caught:
            resolve("synthetic_lesions", {"images": 3, "sead": 1, "seed": "x"})
        assert {problem.key for problem in caught.value.problems} == {"images", "sead", "seed"}
        assert "did you mean 'seed'" in str(caught.value)

    def test_unknown_source(self) -> None:
        with pytest.raises(UnknownName, match="did you mean 'folder'"):
            resolve("foldr", {})

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"classes": {"a": 1}}, "2 to 254"),
            ({"classes": {"a": 1, "b": 1}}, "same pixel value 1"),
            ({"classes": {"a": 0, "b": 1}, "ignore_index": 1}, "value of a class"),
            ({"ignore_index": 0}, "value of a class"),
            ({"classes": {"a": -1, "b": 1}}, "greater than or equal to 0"),
        ],
    )
    def test_folder_options_that_cannot_be(self, options: Mapping[str, Any], message: str) -> None:
        with pytest.raises(UserError, match=message):
            resolve("folder", options)


class TestPh2:
    @pytest.mark.parametrize("bars", [False, True])
    def test_masks_of_every_kind_and_both_tables(self, bars: bool, tmp_path: Path) -> None:
        source = build("ph2", root=make_ph2(tmp_path, 6, bars=bars), options={})
        found = [sample.attributes["diagnosis"] for sample in source.samples()]
        assert found == ["common", "atypical", "melanoma"] * 2
        for index, sample in enumerate(source.samples()):
            image, mask = source.read(sample)
            np.testing.assert_array_equal(mask, disc(index))
            np.testing.assert_array_equal(image, picture(index))

    def test_the_real_one(self) -> None:
        source = build("ph2", root=_real_ph2(), options={})
        samples = source.samples()
        counts = [s.attributes["diagnosis"] for s in samples].count
        assert (len(samples), counts("common"), counts("atypical"), counts("melanoma")) == (
            (200, 80, 80, 40)
        )
        rgb = next(sample for sample in samples if sample.image_id == "IMD002")
        assert set(np.unique(source.read(rgb)[1])) == {0, 1}

    def test_everything_wrong_is_listed_at_once(self, tmp_path: Path) -> None:
        images = make_ph2(tmp_path, 6) / "PH2 Dataset images"
        (images / "IMD002" / "IMD002_lesion" / "IMD002_lesion.bmp").unlink()
        (images / "IMD003" / "IMD003_Dermoscopic_Image" / "IMD003.bmp").unlink()
        shutil.rmtree(images / "IMD004")
        (images / "IMD999").mkdir()
        (images / "notes.doc").touch()
        table = tmp_path / "PH2_dataset.txt"
        table.write_text(table.read_text().replace("IMD005\t0", "IMD005\t9"))
        source = build("ph2", root=tmp_path, options={})
        text = _problems(source)
        for part in (
            "IMD002_lesion.bmp: the mask is missing",
            "IMD003.bmp: the image is missing",
            "IMD004: missing, although PH2_dataset.txt lists it",
            "IMD999: has no diagnosis",
            "notes.doc: not an image of PH2",
            "PH2_dataset.txt:5: IMD005 has the clinical diagnosis '9'",
        ):
            assert part in text
        usable = [sample.image_id for sample in source.scan()[0]]
        assert {"IMD006", "IMD007"} <= set(usable)
        assert not {"IMD002", "IMD003", "IMD004"} & set(usable)

    def test_a_link_out_of_root_is_refused(self, tmp_path: Path) -> None:
        root = make_ph2(tmp_path / "ph2", 2)
        mask = root / "PH2 Dataset images" / "IMD002" / "IMD002_lesion" / "IMD002_lesion.bmp"
        mask.rename(tmp_path / "elsewhere.bmp")
        mask.symlink_to(tmp_path / "elsewhere.bmp")
        assert "leads out of" in _problems(build("ph2", root=root, options={}))


class TestFolder:
    def test_binary_masks_of_255_and_of_1(self, tmp_path: Path) -> None:
        make_folder(tmp_path, 2)
        save(tmp_path / "masks" / "a01.png", disc(1))
        source = _folder(tmp_path)
        assert source.classes == ("background", "foreground")
        np.testing.assert_array_equal(source.read(source.samples()[1])[1], disc(1))
        assert set(np.unique(source.read(source.samples()[0])[1])) == {0, 1}

    def test_classes_ignore_and_16_bits(self, tmp_path: Path) -> None:
        make_folder(tmp_path, 2, COLOURS)
        values = np.zeros(SIZE, np.uint16)
        values[0], values[1], values[2] = 7, 300, 65535
        save(tmp_path / "masks" / "a00.png", values)
        source = _folder(tmp_path, classes=COLOURS, ignore_index=65535)
        mask = source.read(source.samples()[0])[1]
        assert [int(row[0]) for row in mask[:4]] == [1, 2, IGNORE, 0]
        assert source.classes == ("background", "lesion", "hair")

    def test_ignore_255_beside_0_and_1(self, tmp_path: Path) -> None:
        make_folder(tmp_path, 1)
        values = disc(0)
        values[0] = 255
        save(tmp_path / "masks" / "a00.png", values)
        source = _folder(tmp_path, ignore_index=255)
        np.testing.assert_array_equal(source.read(source.samples()[0])[1], values)
        with pytest.raises(DataError, match="no class: 1"):
            _folder(tmp_path).read(source.samples()[0])

    def test_a_palette_is_read_as_indices(self, tmp_path: Path) -> None:
        make_folder(tmp_path, 1)
        image = Image.fromarray(disc(0) * 2)
        image.putpalette([200, 10, 10, 0, 0, 0, 10, 200, 10])
        assert image.mode == "P"
        image.save(tmp_path / "masks" / "a00.png")
        source = _folder(tmp_path, classes={"background": 0, "x": 1, "lesion": 2})
        np.testing.assert_array_equal(source.read(source.samples()[0])[1], disc(0) * 2)

    def test_metadata(self, tmp_path: Path) -> None:
        samples = _folder(make_folder(tmp_path, 5)).samples()
        assert samples[3].attributes == {"patient": "p1", "diagnosis": "melanoma"}
        assert [sample.split for sample in samples] == ["test", "train", "train", "train", "test"]
        (tmp_path / "metadata.csv").unlink()
        assert _folder(tmp_path).samples()[0].attributes == {}

    def test_suffix_and_letters_of_any_script(self, tmp_path: Path) -> None:
        root = make_folder(tmp_path / "Läsionen 皮膚", 2, suffix="_mask")
        source = _folder(root, mask_suffix="_mask")
        np.testing.assert_array_equal(source.read(source.samples()[1])[0], picture(1))
        text = _problems(_folder(root))
        assert "expected masks/a00.png" in text
        assert "a00_mask.png: has no image" in text

    def test_a_root_that_may_not_be_looked_at(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        root = tmp_path / "data"
        real = os.stat

        def refused(path: Any, **options: Any) -> os.stat_result:
            if Path(path) == root:
                raise PermissionError(13, "Permission denied", str(path))
            return real(path, **options)

        monkeypatch.setattr(os, "stat", refused)
        assert "cannot be looked at (Permission denied)" in _problems(_folder(root))

    def test_a_mistyped_root_is_not_compared_with_thousands(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(registry, "COMPARED", 5)
        for number in range(5):
            (tmp_path / f"data{number}").mkdir()
        assert "did you mean" in _problems(_folder(tmp_path / "data"))
        (tmp_path / "more").mkdir()
        assert "did you mean" not in _problems(_folder(tmp_path / "data"))

    def test_every_structural_mistake_at_once(self, tmp_path: Path) -> None:
        make_folder(tmp_path, 4)
        (tmp_path / "masks" / "a00.png").unlink()
        (tmp_path / "images" / "a01.png").unlink()
        (tmp_path / "images" / "readme.txt").touch()
        save(tmp_path / "images" / "a02.bmp", picture(2))
        with (tmp_path / "metadata.csv").open("a") as stream:
            stream.write("a03.png,p1,common,train\nb.png,p1,common,train\n")
            stream.write("../images/a03.png,p1,common,train\n")
        text = _problems(_folder(tmp_path))
        for part in (
            "a00.png: has no mask",
            "a01.png: has no image",
            "readme.txt: is not an image file",
            "a02.png: has the same name as a02.bmp",
            "there is no image 'b.png'",
            "there is no image '../images/a03.png'",
            "'a03.png' is listed twice",
        ):
            assert part in text

    def test_unusable_pixels(self, tmp_path: Path) -> None:
        root = make_folder(tmp_path, 3)
        save(root / "masks" / "a00.png", picture(0))
        save(root / "masks" / "a01.png", disc(0) * 9)
        image = root / "images" / "a02.png"
        image.write_bytes(image.read_bytes()[:-200])
        source = _folder(root)
        for sample, message in zip(
            source.samples(),
            ["is in colour", r"no class: 9\n.*known values: 0, 1", "damaged"],
            strict=True,
        ):
            with pytest.raises(DataError, match=message) as caught:
                source.read(sample)
            assert sample.image_id in caught.value.problems[0].where

    @pytest.mark.parametrize("name", ["images", "masks"])
    @pytest.mark.parametrize("content", [b"", b"no image"])
    def test_files_that_are_no_image(self, name: str, content: bytes, tmp_path: Path) -> None:
        source = _folder(make_folder(tmp_path, 1))
        (tmp_path / name / "a00.png").write_bytes(content)
        with pytest.raises(DataError, match=name):
            source.read(source.samples()[0])
