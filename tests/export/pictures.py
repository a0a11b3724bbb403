"""Pictures for tests of ``predict``, and what it wrote about them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

RNG = np.random.default_rng(0)


def picture(*shape: int) -> NDArray[np.uint8]:
    return RNG.integers(0, 256, shape).astype(np.uint8)


def save(path: Path, pixels: NDArray[Any]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
    return path


def opened(path: Path) -> NDArray[Any]:
    with Image.open(path) as image:
        return np.asarray(image)


def rows(out: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (out / "predictions.jsonl").read_text().splitlines()]
