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
