"""Data that cannot be used is refused by ``launch`` with 2, by name, before anything is started."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from segsweep.check import check
from segsweep.cli import app
from tests.data.builders import (
    make_camvid,
    make_carparts,
    make_cityscapes,
    make_folder,
    make_mvtec,
    make_ph2,
    save,
)
from tests.helpers import tiny, write_sweep

CITIES = {"train": ("aachen", "bochum", "ulm"), "val": ("munster", "ulm")}
LESION = "PH2 Dataset images/IMD003/IMD003_lesion/IMD003_lesion.bmp"


def _label(root: Path) -> None:
    make_carparts(root)
    path = root / "arrays/photo_0029.npy"
    pixels = np.load(path)
    pixels[0, 0, 3] = 95
    np.save(path, pixels)


def _void(root: Path) -> None:
    make_camvid(root)
    path = root / "trainannot/0016E5_000030.png"
    save(path, np.full((24, 32), 12, np.uint8))  # 11 is void, 12 is nothing


def _lesion(root: Path) -> None:
    make_ph2(root, 7)
    save(root / LESION, np.full((24, 32), 128, np.uint8))


def _pickle(root: Path) -> None:
    make_carparts(root)
    content = np.asarray([{"a": 1}], dtype=object)
    np.save(root / "arrays/photo_0029.npy", content, allow_pickle=True)


def _deep(root: Path) -> None:
    make_folder(root, 6)
    values = np.zeros((24, 32), np.uint16)
    values[4:9] = 65535
    save(root / "masks/a01.png", values)


def _no_mask(root: Path) -> None:
    make_folder(root, 6)
    (root / "masks/a01.png").unlink()


def _no_image(root: Path) -> None:
    make_folder(root, 6)
    (root / "images/a01.png").unlink()
    (root / "metadata.csv").unlink()  # would say so, too


def _no_defect_mask(root: Path) -> None:
    make_mvtec(root)
    (root / "grid/ground_truth/hole/001_mask.png").unlink()


def _city(root: Path) -> None:
    make_cityscapes(root, CITIES)


CASES: dict[str, tuple[str, Callable[[Path], None], str, str]] = {
    "a label between the classes": ("carparts", _label, "photo_0029.npy", "no class: 95"),
    "a label above void": ("camvid", _void, "0016E5_000030.png", "no class: 12"),
    "a grey lesion": ("ph2", _lesion, "IMD003_lesion.bmp", "no class: 128"),
    "an array that needs pickle": ("carparts", _pickle, "photo_0029.npy", "need pickle"),
    "16 bits of another scale": ("folder", _deep, "a01.png", "no class: 65535"),
    "an image without a mask": ("folder", _no_mask, "images/a01.png", "has no mask"),
    "a mask without an image": ("folder", _no_image, "masks/a01.png", "has no image"),
    "a defect without a mask": ("mvtec", _no_defect_mask, "hole/001.png", "has no mask"),
    "a city in two splits": ("cityscapes", _city, "val/ulm", "in the split 'train', too"),
}


def _sweep(folder: Path, name: str, **changes: Any) -> Path:
    dataset = {"name": name, "root": str(folder / "data"), "image_size": [32, 32]}
    changes = {"factors__loss": ["focal"], **changes}
    if name in ("carparts", "camvid", "cityscapes"):
        changes["metric"] = {"name": "val/miou", "goal": "maximize"}
    return write_sweep(folder, tiny(dataset=dataset, **changes))


@pytest.mark.parametrize("case", CASES)
def test_it_is_refused_by_name(case: str, tmp_path: Path) -> None:
    name, spoil, where, what = CASES[case]
    spoil(tmp_path / "data")
    done = CliRunner().invoke(app, ["launch", str(_sweep(tmp_path, name)), "--runner", "inline"])
    assert done.exit_code == 2, done.output
    text = " ".join(done.output.split())
    assert "refused: 1 problem, nothing was started" in text
    assert where in text.replace(" ", "") or where in text
    assert what in text
    assert "Traceback" not in text
    assert not (tmp_path / "runs/tiny").exists()


@pytest.mark.parametrize("kind", ["16 bits", "palette"])
def test_masks_of_16_bits_or_with_a_palette_give_the_same_labels(kind: str, tmp_path: Path) -> None:
    root = make_folder(tmp_path / "data", 6)
    plain = check(_sweep(tmp_path, "folder")).data
    for path in (root / "masks").iterdir():
        values = (np.asarray(Image.open(path)) > 0).astype(np.uint8)
        if kind == "16 bits":
            save(path, values.astype(np.uint16))
            continue
        image = Image.fromarray(values)
        image.putpalette([200, 10, 10, 0, 90, 0])
        image.save(path)
    shutil.rmtree(tmp_path / "runs")
    found = check(_sweep(tmp_path, "folder")).data
    assert found.image_ids == plain.image_ids
    np.testing.assert_array_equal(found.masks, plain.masks)
