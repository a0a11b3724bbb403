"""Pictures: the best, median and worst predictions of the winner, drawn over their images."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from safetensors import SafetensorError, safe_open

from segsweep import checksum, pixelcounts
from segsweep.report.facts import Facts
from segsweep.state import Slot

Pixels = NDArray[np.uint8]
Colour = tuple[int, int, int]
IGNORE = 255  # of a mask: no label here
WIDTH = 320  # pixels of a picture
QUALITY = 82
# Okabe and Ito's colours, which the colour-blind tell apart, then tints of them
COLOURS: Sequence[Colour] = (
    (110, 110, 110), (230, 159, 0), (86, 180, 233), (0, 158, 115), (240, 228, 66), (0, 114, 178),
    (213, 94, 0), (204, 121, 167), (148, 103, 189), (140, 86, 75), (188, 189, 34), (23, 190, 207),
)  # fmt: skip
HIT, EXTRA, MISSED = (0, 158, 115), (213, 94, 0), (0, 114, 178)


@dataclass(frozen=True)
class Example:
    """One image whose prediction was kept.

    Attributes:
        image: (H, W, 3); ``truth`` and ``prediction`` (H, W) labels, IGNORE where none is.
        score: its own IoU, for more than two classes the mean over the classes in it.
    """

    image_id: str
    fold: int
    epoch: int
    score: float
    image: Pixels
    truth: Pixels
    prediction: Pixels


@dataclass(frozen=True)
class Picture:
    """An example as the page shows it: captions and data URIs."""

    title: str
    caption: str
    panels: Sequence[tuple[str, str]]


def colours(classes: int, recorded: Sequence[Sequence[int]] | None) -> list[Colour]:
    """A colour for each class: the dataset's own where the run has recorded them."""
    if recorded is not None and len(recorded) == classes:
        return [(int(r), int(g), int(b)) for r, g, b in recorded]
    return [_tint(i) for i in range(classes)]


def _tint(label: int) -> Colour:
    turn, place = divmod(label, len(COLOURS))
    r, g, b = COLOURS[place]
    return (r, g, b) if not turn else (r // (turn + 1), g // (turn + 1), b // (turn + 1))


def examples(facts: Facts, config_id: str) -> tuple[list[str], list[Example]]:
    """Classes, and all examples that a config's trials kept, from worst to best."""
    classes: list[str] = []
    found: list[Example] = []
    for slot, trial in sorted(facts.state.configs[config_id].trials.items()):
        if trial.status != "finished" or slot not in facts.spec.slots:
            continue
        place = facts.run.path / "trials" / config_id
        name = pixelcounts.fold_name({"fold": slot[0], "replicate": slot[1]})
        own, kept = _read(place / name / "evidence.safetensors", slot)
        classes = own or classes
        found += kept
    return classes, sorted(found, key=lambda example: example.score)


def _read(path: object, slot: Slot) -> tuple[list[str], list[Example]]:
    from pathlib import Path

    evidence = pixelcounts.read(Path(str(path)))
    if evidence is None:
        return [], []
    matrix, facts = evidence
    try:
        checksum.verify(Path(str(path)))
        with safe_open(path, framework="numpy") as file:
            images, truths, predictions = (
                file.get_tensor(f"examples.{name}") for name in ("image", "truth", "prediction")
            )
    except (OSError, SafetensorError):
        return facts["classes"], []
    row = {name: i for i, name in enumerate(facts["image_ids"])}
    found = []
    for name, image, truth, prediction in zip(
        facts["examples"], images, truths, predictions, strict=True
    ):
        score = image_score(matrix[row[name]])
        if score is not None:
            found.append(Example(name, slot[0], facts["epoch"], score, image, truth, prediction))
    return facts["classes"], found


def image_score(matrix: NDArray[np.int64]) -> float | None:
    """IoU of one image from its (K, K) counts: of the object, or the mean over classes in it."""
    true = np.diagonal(matrix).astype(float)
    union = matrix.sum(axis=0) + matrix.sum(axis=1) - true
    if len(matrix) == 2:
        return float(true[1] / union[1]) if union[1] else None
    present = matrix.sum(axis=1) > 0
    return float((true[present] / union[present]).mean()) if present.any() else None


def chosen(found: Sequence[Example]) -> list[tuple[str, Example]]:
    """Best, median and worst of examples that are sorted from worst to best; each once."""
    if not found:
        return []
    if len(found) == 1:
        return [("the only one", found[0])]
    if len(found) == 2:
        return [("best", found[1]), ("worst", found[0])]
    each = 2 if len(found) >= 9 else 1
    middle = (len(found) - each) // 2
    parts = [
        ("best", list(reversed(found[-each:]))),
        ("median", list(found[middle : middle + each])),
        ("worst", list(found[:each])),
    ]
    return [(title, example) for title, group in parts for example in group]


def picture(title: str, example: Example, palette: Sequence[Colour]) -> Picture:
    """Image, truth, prediction and mistakes of one example."""
    image, truth, prediction = _resized(example)
    binary = len(palette) == 2
    panels = [
        ("image", image),
        ("truth", _painted(image, truth, palette, binary)),
        ("prediction", _painted(image, prediction, palette, binary)),
        ("mistakes", _mistakes(image, truth, prediction, binary)),
    ]
    caption = f"{example.image_id}: IoU {example.score:.3f}, fold {example.fold}"
    return Picture(title, caption, [(name, data_uri(panel)) for name, panel in panels])


def data_uri(pixels: Pixels) -> str:
    """An image as a JPEG inside a URI."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=QUALITY, optimize=True)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()


def _resized(example: Example) -> tuple[Pixels, Pixels, Pixels]:
    height, width = example.truth.shape
    size = (WIDTH, max(1, round(WIDTH * height / width)))
    image = Image.fromarray(example.image).resize(size, Image.Resampling.BICUBIC)
    masks = [
        Image.fromarray(mask.astype(np.uint8)).resize(size, Image.Resampling.NEAREST)
        for mask in (example.truth, example.prediction)
    ]
    return np.asarray(image), np.asarray(masks[0]), np.asarray(masks[1])


def _painted(image: Pixels, mask: Pixels, palette: Sequence[Colour], binary: bool) -> Pixels:
    """Labels in their colours over the image; of two classes, the object alone."""
    table = np.zeros((256, 3), dtype=np.float32)
    table[: len(palette)] = palette
    shown = (mask != IGNORE) & ((mask > 0) | (not binary))
    strength = np.where(shown, 0.45 if binary else 0.6, 0.0).astype(np.float32)[..., None]
    strength[_edge(mask) & shown] = 1.0
    return np.asarray(image * (1 - strength) + table[mask] * strength).astype(np.uint8)


def _mistakes(image: Pixels, truth: Pixels, prediction: Pixels, binary: bool) -> Pixels:
    """Grey, with hits, false alarms and misses in colour; of many classes, what is wrong."""
    grey = image.mean(axis=2, keepdims=True).repeat(3, axis=2) * 0.6 + 60
    known = truth != IGNORE
    areas: Mapping[Colour, NDArray[np.bool_]] = {
        EXTRA: known & (truth != prediction) & ((prediction == 1) | (not binary)),
        **({MISSED: known & (truth == 1) & (prediction == 0)} if binary else {}),
        **({HIT: known & (truth == 1) & (prediction == 1)} if binary else {}),
    }
    for colour, area in areas.items():
        strength = 0.35 if colour == HIT else 0.8
        grey[area] = grey[area] * (1 - strength) + np.asarray(colour) * strength
    return np.asarray(grey).clip(0, 255).astype(np.uint8)


def _edge(mask: Pixels) -> NDArray[np.bool_]:
    """Pixels whose right or lower neighbour has another label."""
    edge = np.zeros(mask.shape, dtype=bool)
    edge[:, :-1] |= mask[:, :-1] != mask[:, 1:]
    edge[:-1] |= mask[:-1] != mask[1:]
    edge[:, 1:] |= mask[:, :-1] != mask[:, 1:]
    edge[1:] |= mask[:-1] != mask[1:]
    return edge
