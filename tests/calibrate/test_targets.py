"""Datasets that are named for scoring."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from segsweep.calibrate.targets import foreign, told
from segsweep.spec.shape import Scored
from tests.data.builders import disc, make_folder


def test_what_their_files_are_like_is_told_by_their_names(tmp_path: Path) -> None:
    root = make_folder(tmp_path / "data", 4)
    for index, path in enumerate(sorted((root / "masks").iterdir())):
        image = Image.fromarray(np.asarray(1 - disc(index), np.uint8))
        image.putpalette([255, 255, 255, 0, 0, 0])
        image.save(path)
    wanted = Scored(name="folder", root=str(root))
    target = foreign("other", wanted, classes=None, image_size=(24, 32), cache_dir=tmp_path)
    np.testing.assert_array_equal(target.labels, np.stack([disc(index) for index in range(4)]))
    (note,) = told({"other": target})
    assert note.startswith("dataset other: 4 of 4 masks have a palette")


def test_images_of_16_bits_are_scaled_as_those_of_the_training(tmp_path: Path) -> None:
    root = make_folder(tmp_path / "data", 4)
    dark = np.full((24, 32, 3), 800, np.uint16)  # 10 bits do for it
    for path in sorted((root / "images").iterdir()):
        path.unlink()
        assert cv2.imwrite(str(path.with_suffix(".png")), dark)
    wanted = Scored(name="folder", root=str(root))
    for depth, value in ((None, 800 // 4), (12, 800 // 16), (16, 800 // 256)):
        target = foreign(
            "other",
            wanted,
            classes=None,
            image_size=(24, 32),
            cache_dir=tmp_path,
            depth=depth,
        )
        assert set(np.unique(target.data.images)) == {value}
