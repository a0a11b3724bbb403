"""Tiny datasets on disk, for any test that needs one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

SIZE = (24, 32)


def picture(index: int, size: tuple[int, int] = SIZE) -> NDArray[np.uint8]:
    """RGB with a gradient and noise, another for each index."""
    rng = np.random.default_rng(index)
    ramp = np.linspace(0, 150, size[1])[None, :, None] + rng.uniform(0, 60, 3)
    return np.asarray(ramp + rng.integers(0, 40, (*size, 3)), dtype=np.uint8)


def disc(index: int, size: tuple[int, int] = SIZE) -> NDArray[np.uint8]:
    """Labels 0 and 1, another disc for each index."""
    mask = np.zeros(size, np.uint8)
    cv2.circle(mask, (size[1] // 2 + index % 5, size[0] // 2), size[0] // 4 + index % 3, 1, -1)
    return mask


def save(path: Path, pixels: NDArray[np.uint8] | NDArray[np.uint16] | NDArray[np.bool_]) -> Path:
    """Writes RGB, 8-bit or 16-bit grey, or 1-bit pixels; makes directories."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
    return path


def make_ph2(root: Path, n: int, *, bars: bool = False) -> Path:
    """A PH2 of ``n`` images: every third mask is RGB, every third 8 bits, the others 1 bit.

    Args:
        root: made if missing.
        n: how many; diagnoses in turn.
        bars: the table of the original release instead of the one with tabs.
    """
    lines = []
    for index in range(n):
        name = f"IMD{index + 2:03d}"
        folder = root / "PH2 Dataset images" / name
        save(folder / f"{name}_Dermoscopic_Image" / f"{name}.bmp", picture(index))
        mask = disc(index)
        grey = np.asarray(mask * 255, dtype=np.uint8)
        kinds = (np.dstack([grey] * 3), grey, mask.astype(np.bool_))
        save(folder / f"{name}_lesion" / f"{name}_lesion.bmp", kinds[index % 3])
        lines.append((name, str(index % 3)))
    root.mkdir(parents=True, exist_ok=True)
    (root / "PH2_dataset.txt").write_text(_table(lines, bars), encoding="latin-1")
    return root


def _table(lines: Sequence[tuple[str, str]], bars: bool) -> str:
    if not bars:
        head = "Name\tClinical Diagnosis\tAsymmetry\r\n"
        body = "".join(f"{name}\t{code}\t0\r\n" for name, code in lines)
        return head + body + "\t\t\r\nLegends f\t\t\r\n0 - Co\t\t\r\n"
    head = "|| Name     ||   Histological Diagnosis  | Clinical Diagnosis || Asymmetry ||\n"
    body = "".join(
        f"|| {name}   ||             ||    {code}    ||    0   ||\n" for name, code in lines
    )
    return head + body + "\nLegends for the table\n|| 0 - Common Nevus ||\n"


def make_folder(
    root: Path, n: int, classes: Mapping[str, int] | None = None, *, suffix: str = ""
) -> Path:
    """A folder dataset of ``n`` images ``a00.png`` … with ``metadata.csv``.

    Args:
        root: made if missing.
        n: how many.
        classes: class name → pixel value; None: masks of 0 and 255.
        suffix: appended to the masks' stems.
    """
    values = list(classes.values()) if classes else [0, 255]
    rows = ["image,patient,diagnosis,split"]
    for index in range(n):
        labels = disc(index).astype(np.int64)
        labels[: index % 4 + 1, :4] = len(values) - 1
        pixels = np.asarray(values, np.uint16)[labels]
        mask = root / "masks" / f"a{index:02d}{suffix}.png"
        save(root / "images" / f"a{index:02d}.png", picture(index))
        save(mask, pixels if max(values) > 255 else pixels.astype(np.uint8))
        diagnosis = ("common", "melanoma")[index % 2]
        split = "test" if index % 4 == 0 else "train"
        rows.append(f"a{index:02d}.png,p{index // 2},{diagnosis},{split}")
    (root / "metadata.csv").write_text("\n".join(rows) + "\n", encoding="utf-8")
    return root


def scene(
    index: int, classes: int, size: tuple[int, int] = SIZE
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """RGB and labels (H, W): a band for each class, in a colour of its own under noise."""
    place = (np.arange(size[1]) + 3 * index) % size[1]
    labels = np.broadcast_to(place * classes // size[1], size).astype(np.uint8)
    colours = np.random.default_rng(0).integers(0, 200, (classes, 3))
    noise = np.random.default_rng(index).integers(0, 50, (*size, 3))
    return np.asarray(colours[labels] + noise, np.uint8), labels


def make_camvid(root: Path, n: int = 12, *, lists: bool = True) -> Path:
    """A CamVid of ``n`` frames: of every six four in train, one in val, one in test."""
    lines: dict[str, list[str]] = {"train": [], "val": [], "test": []}
    for index in range(n):
        split = ("train", "train", "val", "train", "test", "train")[index % 6]
        name = f"{('0001TP', '0016E5', 'Seq05VD')[index % 3]}_{30 * index:06d}.png"
        image, labels = scene(index, 12)
        save(root / split / name, image)
        save(root / f"{split}annot" / name, labels)
        lines[split].append(f"/SegNet/CamVid/{split}/{name} /SegNet/CamVid/{split}annot/{name}\n")
    for split, text in lines.items():
        if lists:
            (root / f"{split}.txt").write_text("".join(text))
    return root


def make_carparts(root: Path, n: int = 6) -> Path:
    """Arrays ``photo_0028.npy`` …, of which the first three are official test images."""
    (root / "arrays").mkdir(parents=True)
    for index in range(n):
        image, labels = scene(index, 10)
        np.save(root / "arrays" / f"photo_{index + 28:04d}.npy", np.dstack([image, labels * 10]))
    return root


def make_mvtec(root: Path, categories: Sequence[str] = ("bottle", "grid"), n: int = 2) -> Path:
    """MVTec AD with ``n`` images of each defect, and of good ones in train and test."""
    for number, category in enumerate(categories):
        place, grey = root / category, category == "grid"
        (place).mkdir(parents=True)
        (place / "license.txt").touch()
        for index in range(n):
            image = picture(100 * number + index)
            save(place / "train/good" / f"{index:03d}.png", image[..., 0] if grey else image)
            for kind, defect in enumerate(("good", "crack", "hole")):
                image = picture(100 * number + 10 * (kind + 1) + index)
                name = f"{defect}/{index:03d}"
                save(place / "test" / f"{name}.png", image[..., 0] if grey else image)
                if defect != "good":
                    mask = np.asarray(disc(index + kind) * 255, np.uint8)
                    save(place / "ground_truth" / f"{name}_mask.png", mask)
    return root


def make_cityscapes(
    root: Path, cities: Mapping[str, Sequence[str]] | None = None, n: int = 2
) -> Path:
    """Cityscapes with ``n`` images a city, all 34 ids in each, and an unlabelled test split."""
    cities = cities or {"train": ("aachen", "bochum"), "val": ("munster",), "test": ("berlin",)}
    index = 0
    for split, names in cities.items():
        for city in names:
            for frame in range(n):
                image, labels = scene(index, 34, (24, 68))
                name = f"{city}_{frame:06d}_000019"
                folder = root / "gtFine" / split / city
                save(root / "leftImg8bit" / split / city / f"{name}_leftImg8bit.png", image)
                save(folder / f"{name}_gtFine_labelIds.png", labels * (split != "test"))
                save(folder / f"{name}_gtFine_color.png", image)
                (folder / f"{name}_gtFine_polygons.json").touch()
                index += 1
    return root


def make_smiyc(root: Path, layout: str = "smiyc", n: int = 5) -> Path:
    """Scoring data in one of the layouts; the official one has images without labels, too."""
    names = {
        "smiyc": ("validation{:04d}.jpg", "validation{:04d}_labels_semantic.png"),
        "fishyscapes": ("{}.webp", "{}.png"),
        "road_anomaly": ("{}.jpg", "{}.png"),
    }[layout]
    for index in range(n):
        mask = disc(index) * (2 if layout == "road_anomaly" else 1)
        mask[0] = 255
        save(root / "images" / names[0].format(index), picture(index))
        save(root / "labels_masks" / names[1].format(index), mask)
        if layout == "smiyc":
            save(root / "images" / f"airplane{index:04d}.jpg", picture(50 + index))
            colour = f"validation{index:04d}_labels_semantic_color.png"
            save(root / "labels_masks" / colour, picture(index))
    return root
