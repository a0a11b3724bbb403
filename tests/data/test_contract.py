"""The contract of all sources, and what each does with odd and broken files."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from segsweep.data.cache import load, prepare
from segsweep.data.sources import IGNORE, SOURCES, Sample, Source, build
from segsweep.errors import DataError
from tests.data.builders import (
    make_camvid,
    make_carparts,
    make_cityscapes,
    make_folder,
    make_mvtec,
    make_ph2,
    make_smiyc,
    picture,
    save,
)

COLOURS = {"background": 0, "lesion": 7, "hair": 300}


@dataclass(frozen=True)
class Layout:
    """A source, tiny data for it, and whether masks are image files of any kind."""

    name: str
    make: Callable[[Path], Path | None]
    options: Mapping[str, Any] = field(default_factory=dict)
    masks: bool = True

    def source(self, folder: Path) -> Source:
        return build(self.name, root=self.make(folder), options=self.options)


def _real(*parts: str) -> Callable[[Path], Path]:
    def find(_: Path) -> Path:
        root = Path(os.environ.get("SEGSWEEP_DATA", "data")).joinpath(*parts)
        if not root.is_dir():
            pytest.skip(f"the real data is not at {root}: set SEGSWEEP_DATA")
        return root

    return find


def _bars(root: Path) -> Path:
    return make_ph2(root, 7, bars=True)


LAYOUTS = {
    "ph2": Layout("ph2", lambda root: make_ph2(root, 7), masks=False),
    "ph2_bars": Layout("ph2", _bars, masks=False),
    "folder": Layout("folder", lambda root: make_folder(root, 5)),
    "folder_classes": Layout(
        "folder", lambda root: make_folder(root, 5, COLOURS), {"classes": COLOURS}, masks=False
    ),
    "synthetic": Layout("synthetic_lesions", lambda _: None, {"images": 7}, masks=False),
    "camvid": Layout("camvid", make_camvid),
    "camvid_no_lists": Layout("camvid", lambda root: make_camvid(root, lists=False)),
    "carparts": Layout("carparts", make_carparts, masks=False),
    "mvtec": Layout("mvtec", make_mvtec),
    "mvtec_one": Layout("mvtec", make_mvtec, {"category": "grid", "train_good": True}),
    "cityscapes": Layout("cityscapes", make_cityscapes),
    "cityscapes_8cat": Layout("cityscapes", make_cityscapes, {"classes": "8cat"}),
    "smiyc": Layout("smiyc", make_smiyc),
    "fishyscapes": Layout(
        "smiyc", lambda root: make_smiyc(root, "fishyscapes"), {"layout": "fishyscapes"}
    ),
    "road_anomaly": Layout(
        "smiyc", lambda root: make_smiyc(root, "road_anomaly"), {"layout": "road_anomaly"}
    ),
}
REAL = {
    "ph2_real": Layout("ph2", _real("PH2Dataset")),
    "camvid_real": Layout("camvid", _real("CamVid")),
    "carparts_real": Layout("carparts", _real("carparts")),
    "carparts_arrays": Layout("carparts", _real("carparts", "arrays")),
}
OF_FILES = [name for name in LAYOUTS if name != "synthetic"]
WITH_MASKS = [name for name, layout in LAYOUTS.items() if layout.masks]


def test_every_source_is_covered() -> None:
    assert {layout.name for layout in LAYOUTS.values()} == set(SOURCES)


@pytest.fixture(params=[*LAYOUTS, *REAL])
def source(request: pytest.FixtureRequest, tmp_path: Path) -> Source:
    layout: Layout = (LAYOUTS | REAL)[request.param]
    return layout.source(tmp_path / "data")


class TestContract:
    """What every source promises."""

    def test_ids_are_sorted_and_unique(self, source: Source) -> None:
        ids = [sample.image_id for sample in source.samples()]
        assert len(ids) >= 5
        assert ids == sorted(set(ids))

    def test_a_sound_dataset_has_no_problems(self, source: Source) -> None:
        samples, problems = source.scan()
        assert problems == []
        assert samples == source.samples()

    def test_classes_and_palette(self, source: Source) -> None:
        assert len(set(source.classes)) == len(source.classes) >= 2
        assert source.official_holdout
        if source.palette is not None:
            assert len(set(source.palette)) == len(source.palette) == len(source.classes)
            assert all(0 <= part <= 255 for colour in source.palette for part in colour)

    def test_pixels_and_labels(self, source: Source) -> None:
        seen: set[int] = set()
        for sample in source.samples()[:7]:
            image, mask = source.read(sample)
            assert image.dtype == mask.dtype == np.uint8
            assert image.shape == (*mask.shape, 3)
            seen |= {int(value) for value in np.unique(mask)}
        assert {0, 1} <= seen <= {*range(len(source.classes)), IGNORE}

    def test_reading_twice_gives_the_same(self, source: Source) -> None:
        first, *_, last = source.samples()
        for sample in (first, last, first):
            for one, other in zip(source.read(sample), source.read(sample), strict=True):
                np.testing.assert_array_equal(one, other)

    def test_digests_are_stable_and_differ(self, source: Source) -> None:
        samples = source.samples()[:7]
        digests = [source.digest(sample) for sample in samples]
        assert digests == [source.digest(sample) for sample in samples]
        assert len(set(digests)) == len(samples)
        assert {len(digest) for digest in digests} == {64}


@pytest.mark.parametrize("name", LAYOUTS)
def test_it_goes_through_the_cache(name: str, tmp_path: Path) -> None:
    layout = LAYOUTS[name]
    source = layout.source(tmp_path / "data")
    prepared = prepare(
        source,
        name=layout.name,
        options=layout.options,
        image_size=(24, 68),
        holdout=0,
        seed=0,
        stratify_by=None,
        group_by=None,
        cache_dir=tmp_path / "cache",
    )
    data = load(prepared.train)
    assert data.image_ids == tuple(sample.image_id for sample in source.samples())
    assert set(np.unique(data.masks)) - {IGNORE} == set(range(len(source.classes)))
    assert len(set(data.pixel_hashes)) == len(data.image_ids)


def _problems(source: Source) -> str:
    with pytest.raises(DataError) as caught:
        source.samples()
    return str(caught.value)


@pytest.mark.parametrize("name", OF_FILES)
class TestBrokenFiles:
    """Any source of files names what is wrong with them."""

    def test_a_root_that_is_missing_or_none(self, name: str, tmp_path: Path) -> None:
        layout = LAYOUTS[name]
        text = _problems(build(layout.name, root=tmp_path / "nowhere", options=layout.options))
        for part in (str(tmp_path / "nowhere"), "dataset.root", "SEGSWEEP_DATA"):
            assert part in text
        none = _problems(build(layout.name, root=None, options=layout.options))
        assert "dataset.root" in none

    def test_an_empty_root(self, name: str, tmp_path: Path) -> None:
        layout = LAYOUTS[name]
        text = _problems(build(layout.name, root=tmp_path, options=layout.options))
        assert str(tmp_path) in text

    def test_damaged_files(self, name: str, tmp_path: Path) -> None:
        source = LAYOUTS[name].source(tmp_path)
        sample = _full(source)
        for place in sample.files:
            whole = place.read_bytes()
            for content in (b"", b"no image", whole[: len(whole) // 2]):
                place.write_bytes(content)
                with pytest.raises(DataError) as caught:
                    source.read(sample)
                assert str(place) in str(caught.value)
            place.write_bytes(whole)

    def test_a_link_out_of_the_root(self, name: str, tmp_path: Path) -> None:
        source = LAYOUTS[name].source(tmp_path / "data")
        for number, place in enumerate(_full(source).files):
            outside = tmp_path / f"{number}{place.suffix}"
            place.rename(outside)
            place.symlink_to(outside)
            text = _problems(source)
            assert "leads out of" in text
            assert str(place) in text
            outside.rename(place)  # over the link
        folder = _full(source).files[0].parent
        folder.rename(tmp_path / "elsewhere")
        folder.symlink_to(tmp_path / "elsewhere")
        assert "leads out of" in _problems(source)

    def test_a_missing_file(self, name: str, tmp_path: Path) -> None:
        source = LAYOUTS[name].source(tmp_path)
        files = _full(source).files
        for place, other in zip(files, reversed(files), strict=len(files) == 2):
            if len(files) == 1:
                continue  # nothing can be missing beside it
            whole = place.read_bytes()
            place.unlink()
            text = _problems(source)
            assert str(other) in text or str(place) in text
            assert "has no" in text or "is missing" in text
            place.write_bytes(whole)
        assert source.scan()[1] == []

    def test_a_file_that_does_not_belong_there(self, name: str, tmp_path: Path) -> None:
        source = LAYOUTS[name].source(tmp_path)
        folder = source.samples()[0].files[0].parent
        if LAYOUTS[name].name == "ph2":
            folder = folder.parent.parent
        (folder / "notes.txt").touch()
        assert "notes.txt: " in _problems(source)


def _full(source: Source) -> Sample:
    """A sample with as many files as there are."""
    return max(source.samples(), key=lambda sample: len(sample.files))


def _stored(path: Path) -> NDArray[np.uint8]:
    with Image.open(path) as image:
        return np.asarray(image)


@pytest.mark.parametrize("name", WITH_MASKS)
class TestOddMasks:
    """Masks as other programs write them are read rightly, or refused by name."""

    @pytest.fixture
    def found(self, name: str, tmp_path: Path) -> tuple[Source, Sample, Path]:
        source = LAYOUTS[name].source(tmp_path)
        sample = _full(source)
        return source, sample, sample.files[1]

    def test_a_value_that_stands_for_no_class(self, found: tuple[Source, Sample, Path]) -> None:
        source, sample, path = found
        values = _stored(path).copy()
        values[0, 0], values[0, 1] = 77, 99
        save(path, values)
        with pytest.raises(DataError, match=r"2 pixels .* no class: 77, 99") as caught:
            source.read(sample)
        assert caught.value.problems[0].where == str(path)
        assert "known values: 0, " in caught.value.problems[0].hint

    @pytest.mark.parametrize("kind", ["16 bits", "palette", "alpha", "equal channels"])
    def test_the_same_values_otherwise(self, kind: str, found: tuple[Source, Sample, Path]) -> None:
        source, sample, path = found
        before = source.read(sample)[1]
        values = _stored(path)
        if kind == "16 bits":
            save(path, values.astype(np.uint16))
        elif kind == "palette":
            image = Image.fromarray(values)
            image.putpalette(np.random.default_rng(0).integers(0, 256, 768).tolist())
            assert image.mode == "P"
            image.save(path)
        elif kind == "alpha":
            save(path, np.dstack([values, np.full_like(values, 255)]))
        else:
            save(path, np.dstack([values] * 3))
        np.testing.assert_array_equal(source.read(sample)[1], before)

    def test_16_bits_with_large_values(self, found: tuple[Source, Sample, Path]) -> None:
        source, sample, path = found
        values = _stored(path).astype(np.uint16)
        save(path, np.asarray(values * 257, np.uint16))  # 255 as 65535
        with pytest.raises(DataError, match="no class"):
            source.read(sample)

    def test_a_mask_in_colour(self, found: tuple[Source, Sample, Path]) -> None:
        source, sample, path = found
        save(path, picture(0))
        with pytest.raises(DataError, match="in colour") as caught:
            source.read(sample)
        assert caught.value.problems[0].where == str(path)

    def test_a_16_bit_image(self, found: tuple[Source, Sample, Path]) -> None:
        source, sample, _ = found
        grey = picture(0)[..., 0]
        path = sample.files[0]
        Image.fromarray(grey.astype(np.uint16) * 256).save(path, format="PNG")
        np.testing.assert_array_equal(source.read(sample)[0], np.dstack([grey] * 3))
