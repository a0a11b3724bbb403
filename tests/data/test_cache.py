"""The cache: decoded once, mapped without a copy, keyed by content, rebuilt when damaged."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from segsweep.data.cache import Prepared, load, prepare
from segsweep.data.sources import Sample, Source, build
from segsweep.data.sources.folder import Folder
from segsweep.data.sources.seen import Look
from segsweep.errors import DataError
from tests.data.builders import SIZE, disc, make_folder, make_ph2, picture, save


class _Counting(Folder):
    """A folder that counts how often each image is decoded."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.decoded: list[str] = []

    def look(self, sample: Sample) -> Look:
        self.decoded.append(sample.image_id)
        return super().look(sample)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return make_folder(tmp_path / "data", 12)


def _prepare(root: Path | Source, cache_dir: Path, **changed: Any) -> Prepared:
    source = build("folder", root=root, options={}) if isinstance(root, Path) else root
    settings: dict[str, Any] = {
        "name": "folder",
        "options": {},
        "image_size": (12, 16),
        "holdout": 0.25,
        "seed": 0,
        "stratify_by": "diagnosis",
        "group_by": "patient",
        "cache_dir": cache_dir,
    }
    return prepare(source, **settings | changed)


def test_each_image_is_decoded_once_and_then_never(root: Path, tmp_path: Path) -> None:
    source, steps = _Counting(root), list[tuple[int, int]]()
    first = _prepare(source, tmp_path / "c", on_progress=lambda *step: steps.append(step))
    assert sorted(source.decoded) == [f"a{n:02d}" for n in range(12)]
    assert first.decodes == first.images == 12
    assert steps == [(n, 12) for n in range(1, 13)]
    second = _prepare(source, tmp_path / "c")
    assert len(source.decoded) == 12
    assert second.decodes == 0
    assert (second.train, second.holdout, second.fingerprint) == (
        (first.train, first.holdout, first.fingerprint)
    )
    assert len(list((tmp_path / "c").iterdir())) == 2


def test_load_maps_without_a_copy(root: Path, tmp_path: Path) -> None:
    data = load(_prepare(root, tmp_path / "c").train)
    for array in (data.images, data.masks):
        assert not array.flags.writeable
        assert not array.flags.owndata
        assert array.flags.c_contiguous
    again = load(_prepare(root, tmp_path / "c").train)
    assert not np.shares_memory(data.images, again.images)
    maps = Path("/proc/self/maps")
    if maps.exists():  # the pixels lie inside a mapping of the file itself
        address = data.images.__array_interface__["data"][0]
        ranges = [line.split() for line in maps.read_text().splitlines() if ".arrow" in line]
        spans = [[int(end, 16) for end in fields[0].split("-")] for fields in ranges]
        assert any(low <= address < high for low, high in spans)


def test_content_is_the_source_s(root: Path, tmp_path: Path) -> None:
    prepared = _prepare(root, tmp_path / "c", image_size=SIZE, holdout=0)
    assert prepared.holdout is None
    data = load(prepared.train)
    assert data.image_ids == tuple(f"a{n:02d}" for n in range(12))
    assert data.attributes["patient"][:3] == ("p0", "p0", "p1")
    assert data.classes == ("background", "foreground")
    assert data.fingerprint == prepared.fingerprint
    source = build("folder", root=root, options={})
    for row, sample in enumerate(source.samples()):
        image, mask = source.read(sample)
        np.testing.assert_array_equal(data.images[row], image)
        np.testing.assert_array_equal(data.masks[row], mask)


@pytest.mark.parametrize("size", [(12, 16), (50, 70), (20, 20)])
def test_resizing_keeps_labels_and_place(size: tuple[int, int], root: Path, tmp_path: Path) -> None:
    data = load(_prepare(root, tmp_path / "c", image_size=size, holdout=0).train)
    assert data.images.shape == (12, *size, 3)
    assert set(np.unique(data.masks)) == {0, 1}
    source = build("folder", root=root, options={})
    for row, sample in enumerate(source.samples()):
        mask = source.read(sample)[1]
        assert abs(float(mask.mean()) - float(data.masks[row].mean())) < 0.05
        centre = [np.mean(np.argwhere(m) + 0.5, axis=0) / m.shape for m in (mask, data.masks[row])]
        np.testing.assert_allclose(centre[0], centre[1], atol=0.03)


def test_a_shrunk_mask_lies_over_its_shrunk_image(tmp_path: Path) -> None:
    root = make_folder(tmp_path / "data", 4)
    for index in range(4):
        mask = disc(index, (192, 256))
        save(root / "masks" / f"a{index:02d}.png", mask * 255)
        save(root / "images" / f"a{index:02d}.png", np.dstack([mask * 255] * 3))
    data = load(_prepare(root, tmp_path / "c", holdout=0).train)
    for image, mask in zip(data.images, data.masks, strict=True):
        assert ((image[..., 0] > 127) == (mask == 1)).mean() > 0.97


def test_the_holdout_is_apart(root: Path, tmp_path: Path) -> None:
    prepared = _prepare(root, tmp_path / "c", holdout=0.33)
    assert prepared.holdout is not None
    train, holdout = load(prepared.train), load(prepared.holdout)
    assert (len(train.image_ids), len(holdout.image_ids)) == (8, 4)  # pairs of images a patient
    assert not set(train.image_ids) & set(holdout.image_ids)
    assert not set(train.attributes["patient"]) & set(holdout.attributes["patient"])
    assert not {image.tobytes() for image in train.images} & {i.tobytes() for i in holdout.images}
    assert train.fingerprint == holdout.fingerprint == prepared.fingerprint


def test_the_official_holdout(root: Path, tmp_path: Path) -> None:
    prepared = _prepare(root, tmp_path / "c", holdout="official")
    assert prepared.holdout is not None
    assert load(prepared.holdout).image_ids == ("a00", "a04", "a08")
    ph2 = build("ph2", root=make_ph2(tmp_path / "ph2", 3), options={})
    with pytest.raises(DataError, match="no image is in a split 'test'"):
        _prepare(ph2, tmp_path / "c", holdout="official", group_by=None)


@pytest.mark.parametrize(
    "changed",
    [
        {"image_size": (16, 12)},
        {"seed": 1},
        {"holdout": 0},
        {"holdout": 0.5},
        {"options": {"x": 1}},
    ],
)
def test_the_key_changes_with_settings(changed: dict[str, Any], root: Path, tmp_path: Path) -> None:
    assert _prepare(root, tmp_path / "c").train != _prepare(root, tmp_path / "c", **changed).train


def _other_pixels(root: Path) -> None:
    save(root / "images" / "a03.png", picture(99))


def _other_mask(root: Path) -> None:
    save(root / "masks" / "a03.png", disc(1) * 255)


@pytest.mark.parametrize("change", [_other_pixels, _other_mask])
def test_key_and_fingerprint_change_with_content(
    change: Callable[[Path], None], root: Path, tmp_path: Path
) -> None:
    before = _prepare(root, tmp_path / "c")
    change(root)
    after = _prepare(root, tmp_path / "c")
    assert after.train != before.train
    assert after.fingerprint != before.fingerprint
    assert after.decodes == 12


def test_the_fingerprint_does_not_know_the_path(root: Path, tmp_path: Path) -> None:
    elsewhere = make_folder(tmp_path / "elsewhere", 12)
    found = [_prepare(place, tmp_path / place.name) for place in (root, elsewhere)]
    assert found[0].fingerprint == found[1].fingerprint
    assert found[0].train.name == found[1].train.name


def _truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def _flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0x10
    path.write_bytes(content)


def _garbage(path: Path) -> None:
    path.write_bytes(b"not an Arrow file")


def _empty(path: Path) -> None:
    path.write_bytes(b"")


@pytest.mark.parametrize("damage", [_truncate, _flip, _garbage, _empty, Path.unlink])
@pytest.mark.parametrize("part", ["train", "holdout"])
def test_a_damaged_file_is_rebuilt(
    damage: Callable[[Path], None], part: str, root: Path, tmp_path: Path
) -> None:
    first = _prepare(root, tmp_path / "c")
    path: Path = getattr(first, part)
    content = path.read_bytes()
    damage(path)
    if damage is not _flip:  # loading checks the structure, preparing every byte
        with pytest.raises(DataError, match="cache file"):
            load(path)
    again = _prepare(root, tmp_path / "c")
    assert again.decodes == 12
    assert path.read_bytes() == content


def test_everything_wrong_in_one_error_and_nothing_written(root: Path, tmp_path: Path) -> None:
    (root / "masks" / "a00.png").unlink()
    (root / "images" / "a01.png").write_bytes(b"broken")
    save(root / "masks" / "a02.png", disc(2, (10, 10)) * 255)
    save(root / "masks" / "a03.png", disc(3) * 9)
    with pytest.raises(DataError) as caught:
        _prepare(root, tmp_path / "c")
    found = {Path(problem.where).name: problem.what for problem in caught.value.problems}
    assert len(caught.value.problems) == 4
    assert found["a00.png"] == "has no mask"
    assert "damaged" in found["a01.png"]
    assert found["a02.png"] == "the mask is 10 × 10 pixels, its image 32 × 24"
    assert "no class: 9" in found["a03.png"]
    assert not (tmp_path / "c").exists()


def test_broken_pixels_alone_write_nothing(root: Path, tmp_path: Path) -> None:
    (tmp_path / "c").mkdir()
    (root / "images" / "a01.png").write_bytes(b"broken")
    save(root / "masks" / "a03.png", disc(3) * 9)
    with pytest.raises(DataError) as caught:
        _prepare(root, tmp_path / "c")
    assert len(caught.value.problems) == 2
    assert list((tmp_path / "c").iterdir()) == []


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"stratify_by": "diagnosi"}, "did you mean 'diagnosis'"),
        ({"group_by": "hospital"}, "no attribute 'hospital'"),
        ({"holdout": 1.5}, "neither 'official' nor a number"),
    ],
)
def test_settings_that_do_not_fit(
    changed: dict[str, Any], message: str, root: Path, tmp_path: Path
) -> None:
    with pytest.raises(DataError, match=message):
        _prepare(root, tmp_path / "c", **changed)


def test_a_group_that_is_not_known_for_all_images(root: Path, tmp_path: Path) -> None:
    table = root / "metadata.csv"
    table.write_text(table.read_text().replace("a05.png,p2", "a05.png,"))
    with pytest.raises(DataError, match="no 'patient' is known for a05"):
        _prepare(root, tmp_path / "c")


def test_a_directory_that_cannot_be_written(root: Path, tmp_path: Path) -> None:
    (tmp_path / "c").write_text("a file")
    with pytest.raises(DataError, match="cannot write the cache"):
        _prepare(root, tmp_path / "c")


BY_CLASSES = {"stratify_by": "classes", "folds": 2}


class TestByClasses:
    """The holdout is drawn from the masks, which are decoded once all the same."""

    @pytest.fixture
    def rare(self, tmp_path: Path) -> Path:
        """Twenty images, of which six have a third class."""
        root = make_folder(tmp_path / "rare", 20, {"skin": 0, "mole": 1, "hair": 2})
        for index in range(20):
            mask = disc(index)
            mask[:6, :6] = 2 if index in (0, 1, 2, 3, 4, 5) else 0
            save(root / "masks" / f"a{index:02d}.png", mask)
        return root

    def prepare(self, root: Path | Source, cache_dir: Path, **changed: Any) -> Prepared:
        if isinstance(root, Path):
            classes = {"skin": 0, "mole": 1, "hair": 2}
            root = build("folder", root=root, options={"classes": classes})
        return _prepare(root, cache_dir, **BY_CLASSES | {"group_by": None} | changed)

    def test_each_image_is_decoded_once_and_then_never(self, root: Path, tmp_path: Path) -> None:
        source = _Counting(root)
        first = self.prepare(source, tmp_path / "c")
        assert sorted(source.decoded) == [f"a{n:02d}" for n in range(12)]
        second = self.prepare(source, tmp_path / "c")
        assert len(source.decoded) == 12
        assert (second.decodes, second.train, second.holdout) == (0, first.train, first.holdout)
        assert second.fingerprint == first.fingerprint

    def test_both_parts_have_the_rare_class_for_every_seed(
        self, rare: Path, tmp_path: Path
    ) -> None:
        for seed in range(5):
            prepared = self.prepare(rare, tmp_path / "c", seed=seed)
            assert prepared.holdout is not None
            train, holdout = load(prepared.train), load(prepared.holdout)
            counts = [int((part.masks == 2).any(axis=(1, 2)).sum()) for part in (train, holdout)]
            assert counts in ([4, 2], [5, 1])
            assert (len(train.image_ids), len(holdout.image_ids)) == (15, 5)

    def test_rows_are_those_of_the_source(self, rare: Path, tmp_path: Path) -> None:
        whole = load(self.prepare(rare, tmp_path / "c", holdout=0).train)
        prepared = self.prepare(rare, tmp_path / "c")
        assert prepared.holdout is not None
        seen: list[str] = []
        for part in (load(prepared.train), load(prepared.holdout)):
            assert list(part.image_ids) == sorted(part.image_ids)
            for row, image_id in enumerate(part.image_ids):
                place = whole.image_ids.index(image_id)
                np.testing.assert_array_equal(part.images[row], whole.images[place])
                np.testing.assert_array_equal(part.masks[row], whole.masks[place])
                assert part.pixel_hashes[row] == whole.pixel_hashes[place]
                assert part.attributes["patient"][row] == whole.attributes["patient"][place]
            seen += part.image_ids
        assert sorted(seen) == list(whole.image_ids)

    def test_groups_stay_together_and_what_is_left_out_does_not_count(
        self, rare: Path, tmp_path: Path
    ) -> None:
        prepared = self.prepare(rare, tmp_path / "c", group_by="patient")
        assert prepared.holdout is not None
        train, holdout = load(prepared.train), load(prepared.holdout)
        assert not set(train.attributes["patient"]) & set(holdout.attributes["patient"])
        without = self.prepare(rare, tmp_path / "c", leave_out=["hair"])
        assert load(without.train).classes == ("skin", "mole")
        assert load(without.train).original_classes == ("skin", "mole", "hair")

    def test_a_damaged_part_is_rebuilt_as_it_was(self, rare: Path, tmp_path: Path) -> None:
        first = self.prepare(rare, tmp_path / "c")
        assert first.holdout is not None
        content = first.holdout.read_bytes()
        first.holdout.unlink()
        assert self.prepare(rare, tmp_path / "c").decodes == 20
        assert first.holdout.read_bytes() == content

    def test_an_attribute_of_that_name_goes_first(self, root: Path, tmp_path: Path) -> None:
        table = root / "metadata.csv"
        named = _prepare(root, tmp_path / "c", group_by=None, folds=2)
        table.write_text(table.read_text().replace("diagnosis", "classes"))
        found = _prepare(root, tmp_path / "c", group_by=None, **BY_CLASSES)
        assert load(found.train).image_ids == load(named.train).image_ids
