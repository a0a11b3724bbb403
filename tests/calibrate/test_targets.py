"""Datasets that are named for scoring."""

from __future__ import annotations

from pathlib import Path

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
