"""Published datasets, each in its own layout: splits, attributes, classes and odd cases."""

from __future__ import annotations

import os
import shutil
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from torchvision.datasets import Cityscapes as Oracle

from segsweep.data.content import label_counts
from segsweep.data.folds import make_folds, split_holdout
from segsweep.data.sources import IGNORE, Source, build, cityscapes, resolve
from segsweep.errors import DataError, UserError
from tests.data.builders import (
    SIZE,
    disc,
    make_camvid,
    make_carparts,
    make_cityscapes,
    make_mvtec,
    make_smiyc,
    picture,
    save,
    scene,
)


def _problems(source: Source) -> str:
    with pytest.raises(DataError) as caught:
        source.samples()
    return str(caught.value)


def _read(source: Source, place: int = 0) -> Any:
    return source.read(source.samples()[place])


def _real(name: str) -> Path:
    root = Path(os.environ.get("SEGSWEEP_DATA", "data")) / name
    if not root.is_dir():
        pytest.skip(f"the real data is not at {root}: set SEGSWEEP_DATA")
    return root


class TestCamVid:
    def test_splits_sequences_and_void(self, tmp_path: Path) -> None:
        source = build("camvid", root=make_camvid(tmp_path), options={})
        samples = {sample.image_id: sample for sample in source.samples()}
        assert Counter(s.split for s in samples.values()) == {"train": 8, "val": 2, "test": 2}
        sample = samples["0016E5_000030"]
        assert (sample.split, sample.attributes) == ("train", {"sequence": "0016E5"})
        (image, mask), (pixels, labels) = source.read(sample), scene(1, 12)
        np.testing.assert_array_equal(image, pixels)
        np.testing.assert_array_equal(mask, np.where(labels == 11, IGNORE, labels))

    def test_the_real_one(self) -> None:
        source = build("camvid", root=_real("CamVid"), options={})
        samples = source.samples()
        assert Counter(s.split for s in samples) == {"train": 60, "val": 20, "test": 20}
        assert {s.attributes["sequence"] for s in samples} == (
            {"0001TP", "0006R0", "0016E5", "Seq05VD"}
        )
        image, mask = source.read(samples[0])
        assert image.shape == (360, 480, 3)
        # the palette is the authors': what is labelled sky lies above what is labelled road
        rows = [np.argwhere(mask == source.classes.index(name))[:, 0] for name in ("sky", "road")]
        assert rows[0].mean() < rows[1].mean()

    @pytest.mark.parametrize("k", [3, 5, 10])
    def test_its_classes_are_spread_far_more_evenly_than_by_chance(self, k: int) -> None:
        source = build("camvid", root=_real("CamVid"), options={})
        masks = np.stack([source.read(sample)[1][::8, ::8] for sample in source.samples()])
        present, ids = label_counts(masks, 11)[:, :-1] > 0, [str(n) for n in range(len(masks))]

        def unevenness(classes: NDArray[np.bool_] | None, seed: int) -> float:
            folds = make_folds(ids, k=k, seed=seed, strata=None, groups=None, classes=classes)
            parts = np.asarray(folds.assignment)
            assert np.ptp(np.bincount(parts)) <= 1
            shares = np.stack([present[parts == fold].mean(axis=0) for fold in range(k)])
            return float(np.abs(shares - present.mean(axis=0)).mean())

        by_classes, by_chance = (
            float(np.mean([unevenness(classes, seed) for seed in range(5)]))
            for classes in (present, None)
        )
        assert by_classes < 0.6 * by_chance

    @pytest.mark.parametrize(
        ("line", "message"),
        [
            ("../train/x.png ../trainannot/x.png", "test.txt:3: a path leads out"),
            ("/a/../../test/x.png testannot/x.png", "test.txt:3: a path leads out"),
            ("/etc/passwd /etc/passwd", "test.txt:3: expected 'test/NAME.png"),
            ("train/x.png trainannot/x.png", "test.txt:3: expected 'test/NAME.png"),
            ("test/a.png testannot/b.png", "test.txt:3: expected 'test/NAME.png"),
            ("test/a.png", "test.txt:3: expected 'test/NAME.png"),
            ("test/none.png testannot/none.png", "test.txt:3: there is no image 'none'"),
        ],
    )
    def test_a_line_of_a_list(self, line: str, message: str, tmp_path: Path) -> None:
        root = make_camvid(tmp_path)
        with (root / "test.txt").open("a") as stream:
            stream.write(f"{line}\n")
        assert message in _problems(build("camvid", root=root, options={}))

    def test_lists_and_directories_that_do_not_agree(self, tmp_path: Path) -> None:
        root = make_camvid(tmp_path)
        lines = (root / "val.txt").read_text().splitlines(keepends=True)
        (root / "val.txt").write_text(lines[0] * 2)
        (root / "test.txt").unlink()
        shutil.copy(root / "test" / "0016E5_000120.png", root / "val" / "0016E5_000120.png")
        shutil.copy(root / "testannot" / "0016E5_000120.png", root / "valannot")
        text = _problems(build("camvid", root=root, options={}))
        for part in (
            "val.txt:2: 'Seq05VD_000060' is listed twice",
            "Seq05VD_000240.png: is not listed in val.txt",
            "test.txt: cannot be read",
            "0016E5_000120.png: is in the split 'val', too",
        ):
            assert part in text


def _object(path: Path) -> None:
    np.save(path, np.asarray([{"a": 1}], dtype=object), allow_pickle=True)


def _pickle(path: Path) -> None:
    path.write_bytes(b"\x80\x04\x95\x05\x00\x00\x00\x00\x00\x00\x00K\x01.")


def _npz(path: Path) -> None:
    with path.open("wb") as stream:
        np.savez(stream, a=np.zeros((2, 2, 4), np.uint8))


def _promises(path: Path) -> None:
    """A header of 4 TB with no content."""
    np.save(path, np.zeros((8, 8, 4), np.uint8))
    head = path.read_bytes()[:128]
    path.write_bytes(head.replace(b"(8, 8, 4), }       ", b"(1000000, 1000000, 4), }       "[:19]))


def _array(*shape: int, kind: Any = np.uint8) -> Callable[[Path], None]:
    return lambda path: np.save(path, np.zeros(shape, kind))


class TestCarParts:
    def test_splits_kinds_and_labels(self, tmp_path: Path) -> None:
        root = make_carparts(tmp_path)
        shutil.copy(root / "arrays/photo_0031.npy", root / "arrays/black_5_doors_0007.npy")
        for place in (root, root / "arrays"):
            source = build("carparts", root=place, options={})
            samples = {sample.image_id: sample for sample in source.samples()}
            assert samples["black_5_doors_0007"].attributes == {"kind": "black_5_doors"}
            held = [name for name, sample in samples.items() if sample.split == "test"]
            assert held == ["photo_0028", "photo_0029", "photo_0030"]
            image, mask = source.read(samples["photo_0028"])
            np.testing.assert_array_equal(image, scene(0, 10)[0])
            np.testing.assert_array_equal(mask, scene(0, 10)[1])

    @pytest.mark.parametrize(
        ("write", "message"),
        [
            (_object, "would need pickle"),
            (_pickle, "would need pickle"),
            (_npz, "archive of arrays"),
            (_promises, "damaged"),
            (_array(8, 8), "the shape 8 × 8"),
            (_array(8, 8, 3), "the shape 8 × 8 × 3"),
            (_array(4, 8, 8), "the shape 4 × 8 × 8"),
            (_array(), "a single number"),
            (_array(0, 8, 4), "the shape 0 × 8 × 4"),
            (_array(8, 8, 4, kind=np.float64), "holds float64 numbers"),
            (_array(8, 8, 4, kind=np.int16), "holds int16 numbers"),
        ],
    )
    def test_a_file_that_cannot_be_used(
        self, write: Callable[[Path], None], message: str, tmp_path: Path
    ) -> None:
        source = build("carparts", root=make_carparts(tmp_path), options={})
        path = tmp_path / "arrays" / "photo_0028.npy"
        write(path)
        with pytest.raises(DataError, match=message) as caught:
            _read(source)
        assert caught.value.problems[0].where == str(path)

    def test_a_label_between_the_classes(self, tmp_path: Path) -> None:
        source = build("carparts", root=make_carparts(tmp_path), options={})
        path = tmp_path / "arrays" / "photo_0028.npy"
        pixels = np.load(path)
        pixels[0, :3, 3] = 15, 15, 100
        np.save(path, pixels)
        with pytest.raises(DataError, match=r"3 pixels .* no class: 15, 100") as caught:
            _read(source)
        assert caught.value.problems[0].where == str(path)


class TestMvTec:
    def test_good_images_have_empty_masks(self, tmp_path: Path) -> None:
        source = build("mvtec", root=make_mvtec(tmp_path), options={})
        samples = source.samples()
        assert Counter(s.attributes["kind"] for s in samples) == dict.fromkeys(
            [f"{c}/{d}" for c in ("bottle", "grid") for d in ("good", "crack", "hole")], 2
        )
        for sample in samples:
            image, mask = source.read(sample)
            assert image.shape == (*SIZE, 3)
            assert mask.any() == (sample.attributes["defect"] != "good")
        assert samples[0].image_id == "bottle/test/crack/000"
        np.testing.assert_array_equal(source.read(samples[0])[1], disc(1))

    def test_options(self, tmp_path: Path) -> None:
        root = make_mvtec(tmp_path, ("bottle", "cable", "grid"))

        def count(**options: Any) -> int:
            return len(build("mvtec", root=root, options=options).samples())

        assert count() == count(category="all") == 18
        assert count(category="grid") == count(category=["grid"]) == 6
        assert count(category=["grid", "bottle"]) == 12
        assert count(category="grid", train_good=True) == 8
        text = _problems(build("mvtec", root=root, options={"category": ["grid", "botle"]}))
        assert "dataset.category" in text
        assert "did you mean 'bottle'" in text
        with pytest.raises(UserError, match="category"):
            resolve("mvtec", {"category": []})

    def test_masks_and_images_that_do_not_match(self, tmp_path: Path) -> None:
        root = make_mvtec(tmp_path)
        shutil.rmtree(root / "bottle/test/hole")
        shutil.rmtree(root / "grid/ground_truth/hole")
        (root / "grid/ground_truth/crack/001_mask.png").rename(
            root / "grid/ground_truth/crack/001.png"
        )
        text = _problems(build("mvtec", root=root, options={}))
        for part in (
            "bottle/ground_truth/hole: has no images",
            "no directory 'grid/ground_truth/hole'",
            "grid/ground_truth/crack/001.png: does not end with '_mask'",
            "expected grid/ground_truth/crack/001_mask.png",
        ):
            assert part in text

    def test_a_category_instead_of_the_root(self, tmp_path: Path) -> None:
        root = make_mvtec(tmp_path)
        assert "directory above" in _problems(build("mvtec", root=root / "grid", options={}))


def _table(options: Mapping[str, Any], root: Path) -> dict[int, tuple[str, int]]:
    """label id → (class name, label), read off an image that has every id."""
    source = build("cityscapes", root=root, options=options)
    labels = _read(source)[1][0]
    ids = scene(0, 34, (24, 68))[1][0]
    names = (*source.classes, *[""] * 256)
    return {int(one): (names[two], int(two)) for one, two in zip(ids, labels, strict=True)}


class TestCityscapes:
    def test_the_19_classes_are_the_official_ones(self, tmp_path: Path) -> None:
        found = _table({}, make_cityscapes(tmp_path))
        assert len(found) == 34
        palette = build("cityscapes", root=None, options={}).palette or ()
        for one in Oracle.classes:
            if one.id < 0:
                continue
            name, label = found[one.id]
            if one.ignore_in_eval:
                assert label == IGNORE
            else:
                assert (name.replace("_", " "), label) == (one.name, one.train_id)
                assert palette[label] == one.color

    def test_the_8_categories_are_the_official_ones(self, tmp_path: Path) -> None:
        found = _table({"classes": "8cat"}, make_cityscapes(tmp_path))
        for one in Oracle.classes:
            if one.id >= 0:
                assert found[one.id] == (one.category, one.category_id)

    def test_val_is_held_out_and_test_passed_over(self, tmp_path: Path) -> None:
        source = build("cityscapes", root=make_cityscapes(tmp_path), options={})
        samples = source.samples()
        assert {(s.split, s.attributes["city"]) for s in samples} == (
            {("train", "aachen"), ("train", "bochum"), ("val", "munster")}
        )
        assert source.official_holdout == "val"

    def test_a_city_in_two_splits(self, tmp_path: Path) -> None:
        root = make_cityscapes(tmp_path, {"train": ("aachen", "ulm"), "val": ("ulm", "munster")})
        text = _problems(build("cityscapes", root=root, options={}))
        assert "the city 'ulm' is in the split 'train', too" in text

    @pytest.mark.parametrize("classes", [8, "19", 20, "8"])
    def test_other_classes(self, classes: Any) -> None:
        with pytest.raises(UserError, match="'8cat' or 19"):
            resolve("cityscapes", {"classes": classes})

    def test_a_missing_half(self, tmp_path: Path) -> None:
        root = make_cityscapes(tmp_path)
        shutil.rmtree(root / "gtFine" / "train" / "aachen")
        assert "'gtFine/train/aachen'" in _problems(build("cityscapes", root=root, options={}))
        shutil.rmtree(root / "gtFine")
        assert "no 'gtFine'" in _problems(build("cityscapes", root=root, options={}))

    def test_the_new_split_that_the_docstring_states(self) -> None:
        images = {
            "aachen": 174, "bochum": 96, "bremen": 316, "cologne": 154, "darmstadt": 85,
            "dusseldorf": 221, "erfurt": 109, "hamburg": 248, "hanover": 196, "jena": 119,
            "krefeld": 99, "monchengladbach": 94, "strasbourg": 365, "stuttgart": 196,
            "tubingen": 144, "ulm": 95, "weimar": 142, "zurich": 122, "frankfurt": 267,
            "lindau": 59, "munster": 174,
        }  # fmt: skip
        cities = [city for city in sorted(images) for _ in range(images[city])]
        ids = [f"{city}_{number:06d}" for number, city in enumerate(cities)]
        held = split_holdout(ids, fraction=0.0751, seed=0, strata=None, groups=cities)
        left = [place for place in range(len(ids)) if not held[place]]
        folds = make_folds(
            [ids[place] for place in left],
            k=12,
            seed=0,
            strata=None,
            groups=[cities[place] for place in left],
        )
        counts = (len(folds.train_indices(0)), len(folds.validation_indices(0)), int(held.sum()))
        assert " / ".join(map(str, counts)) in (cityscapes.__doc__ or "")
        assert sum(counts) == 3475


class TestSmiyc:
    def test_hidden_images_are_passed_over(self, tmp_path: Path) -> None:
        samples = build("smiyc", root=make_smiyc(tmp_path), options={}).samples()
        assert [sample.image_id for sample in samples] == [f"validation000{n}" for n in range(5)]
        assert {sample.split for sample in samples} == {"test"}
        (tmp_path / "labels_masks" / "validation0003_labels_semantic.png").unlink()
        text = _problems(build("smiyc", root=tmp_path, options={}))
        assert "validation0003.jpg: has no mask" in text
        assert "airplane" not in text

    @pytest.mark.parametrize("layout", ["smiyc", "fishyscapes", "road_anomaly"])
    def test_anomaly_and_void(self, layout: str, tmp_path: Path) -> None:
        source = build("smiyc", root=make_smiyc(tmp_path, layout), options={"layout": layout})
        expected = disc(2)
        expected[0] = IGNORE
        np.testing.assert_array_equal(_read(source, 2)[1], expected)

    def test_another_layout_than_stated(self, tmp_path: Path) -> None:
        root = make_smiyc(tmp_path, "road_anomaly")
        source = build("smiyc", root=root, options={"layout": "fishyscapes"})
        with pytest.raises(DataError, match="no class: 2"):
            _read(source)
        text = _problems(build("smiyc", root=root, options={}))
        assert "layout 'smiyc' expects" in text

    def test_an_image_in_webp(self, tmp_path: Path) -> None:
        root = make_smiyc(tmp_path, "fishyscapes")
        save(root / "images" / "0.webp", np.full((*SIZE, 3), 200, np.uint8))
        source = build("smiyc", root=root, options={"layout": "fishyscapes"})
        assert abs(_read(source)[0].astype(int) - 200).max() <= 4
        assert _read(source, 1)[0].shape == picture(1).shape
