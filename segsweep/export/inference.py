"""An export folder as something that turns an RGB image of any size into logits of that size."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional as F

from segsweep.data import palette
from segsweep.data.decoding import resize_image
from segsweep.data.image_file import DEPTHS, Pixels, to_bytes
from segsweep.engine import autocast, classify, prepare_model
from segsweep.errors import Problem, RunError
from segsweep.export import folder, graph, members
from segsweep.export.capture import INPUT, OUTPUT, Unfit, first

Runtime = Literal["onnx", "torch"]
OVERLAP = 0.25  # of a tile, at least, is seen by its neighbour too
BATCH = 4  # tiles at a time


@dataclass(frozen=True)
class Shipped:
    """A verified export folder, ready to use.

    Attributes:
        run: normalised (N, 3, H, W) float32 → logits (N, C, H, W) float32, both on the CPU.
        size: height and width that the model was trained at.
        colours: class → ``#804080``, in the order of the labels.
        depth: the bits that the training's images of 16 bits used.
    """

    run: Callable[[torch.Tensor], torch.Tensor]
    runtime: Runtime
    size: tuple[int, int]
    colours: Mapping[str, str]
    temperature: float
    mean: tuple[float, ...]
    std: tuple[float, ...]
    depth: int = DEPTHS[-1]

    @property
    def classes(self) -> tuple[str, ...]:
        """Their names."""
        return tuple(self.colours)


def open_folder(place: Path, runtime: Runtime | None = None) -> Shipped:
    """Verify every byte and load the model.

    Args:
        place: what ``export`` has written.
        runtime: None takes onnxruntime where the graph and the library are there.

    Raises:
        RunError: the folder was changed, or cannot be used with this runtime.
    """
    manifest = folder.verified(place)
    chosen = _runtime(place, manifest, runtime)
    try:
        prepared = folder.read_json(place / folder.PREPROCESSING)
        size = (int(prepared["resize"]["height"]), int(prepared["resize"]["width"]))
        mean, std = (tuple(float(one) for one in prepared[name]) for name in ("mean", "std"))
        depth = int(prepared.get("16 bits", {}).get("depth", DEPTHS[-1]))  # older folders: all
        temperature = float(folder.read_json(place / folder.CALIBRATION)["value"])
        classes = folder.read_json(place / folder.CLASSES)["classes"]
        colours = {str(one["name"]): palette.text(one["colour"]) for one in classes}
        precision = str(manifest["precision"])
        trained = members.classes_of(place / folder.WEIGHTS)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
        what = f"cannot be used: {first(error)}"
        raise RunError(Problem(what, str(place), hint="export again")) from error
    _refuse_nonsense(place, len(classes), tuple(colours), trained, temperature, size, std, depth)
    load = _onnx if chosen == "onnx" else _torch
    try:
        run = load(place, precision)
    except Exception as error:  # a newer format, a broken graph, an unknown model, other shapes
        raise RunError(_not_loaded(place, manifest, chosen, error)) from error
    return Shipped(run, chosen, size, colours, temperature, mean, std, depth)


def _refuse_nonsense(
    place: Path,
    count: int,
    classes: tuple[str, ...],
    trained: tuple[str, ...],
    temperature: float,
    size: tuple[int, int],
    std: tuple[float, ...],
    depth: int,
) -> None:
    """What would be used without an error, and give wrong results."""
    problems = []
    if len(classes) < count:
        problems.append((folder.CLASSES, "has a class twice"))
    elif classes != trained:
        what = f"has the classes {', '.join(classes)}, and the model {', '.join(trained)}"
        problems.append((folder.CLASSES, what))
    if not 0 < temperature < float("inf"):
        problems.append((folder.CALIBRATION, f"{temperature} is no temperature"))
    if min(size) < 1 or len(std) != 3 or min(std) <= 0 or depth not in DEPTHS:
        problems.append((folder.PREPROCESSING, "is no preprocessing of RGB images"))
    if problems:
        hint = "export again"
        raise RunError([Problem(what, str(place / name), hint=hint) for name, what in problems])


def _not_loaded(
    place: Path, manifest: Mapping[str, Any], chosen: Runtime, error: Exception
) -> Problem:
    """With the versions that it was exported by where others are installed here."""
    given, here = manifest.get("versions"), folder.versions()
    then = given if isinstance(given, dict) else {}
    own = ("segsweep", "onnx", "onnxruntime") if chosen == "onnx" else _BUILT_BY
    others = [
        f"{name} {then.get(name)}, here {here.get(name, 'none')}"
        for name in own
        if name in then and then[name] != here.get(name)
    ]
    by = f" (exported by {'; '.join(others)})" if others else ""
    name = folder.GRAPH if chosen == "onnx" else folder.WEIGHTS
    hint = "try --runtime torch" if chosen == "onnx" else "export again"
    if chosen == "torch" and manifest["onnx"].get("written"):
        hint = "try --runtime onnx"
    reason = str(error) if isinstance(error, Unfit | RunError) else first(error)
    return Problem(f"cannot be loaded: {reason}{by}", str(place / name), "--runtime", hint)


_BUILT_BY = ("segsweep", "torch", "segmentation-models-pytorch", "timm", "transformers")


def _runtime(place: Path, manifest: dict[str, Any], wanted: Runtime | None) -> Runtime:
    if wanted == "torch":
        return "torch"
    try:
        import onnxruntime  # noqa: F401
    except ImportError as error:
        if wanted is None:
            return "torch"
        hint = f"{graph.INSTALL}, or --runtime torch"
        raise RunError(Problem("onnxruntime is not installed", "", "--runtime", hint)) from error
    if manifest["onnx"].get("written"):
        return "onnx"
    if wanted is None:
        return "torch"
    what = "was exported without an ONNX graph"
    raise RunError(Problem(what, str(place), "--runtime", "use --runtime torch, or export again"))


def _onnx(place: Path, _precision: str) -> Callable[[torch.Tensor], torch.Tensor]:
    session = graph.open_session(place / folder.GRAPH, torch.get_num_threads())

    def run(images: torch.Tensor) -> torch.Tensor:
        try:
            found = session.run([OUTPUT], {INPUT: images.contiguous().numpy()})[0]
        except Exception as error:  # the library's own classes have none in common
            raise RuntimeError(f"onnxruntime: {first(error)}") from error
        return torch.from_numpy(found)

    return run


def _torch(place: Path, precision: str) -> Callable[[torch.Tensor], torch.Tensor]:
    """By torch, on the GPU in the precision of the training where there is one."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model = prepare_model(members.load(place / folder.WEIGHTS), device)
    half = precision if device.type == "cuda" else "fp32"

    @torch.inference_mode()
    def run(images: torch.Tensor) -> torch.Tensor:
        moved = images.to(device).contiguous(memory_format=torch.channels_last)
        with autocast(device, half):
            logits: torch.Tensor = model(moved)
        return logits.float().cpu()

    return run


def logits_of(
    shipped: Shipped, image: Pixels, *, tile: bool = False, resize_back: bool = True
) -> torch.Tensor:
    """Logits of one image.

    Args:
        shipped: the model.
        image: (H, W, 3) RGB, of 8 bits or 16.
        tile: cut the image at its own resolution into overlapping tiles of the trained size,
            instead of resizing it to that size as the training did.
        resize_back: False leaves a resized image's logits at the trained size.

    Returns:
        (C, H, W), resized bilinearly where the model has seen another size.
    """
    if tile:
        return _tiled(shipped, to_bytes(image, shipped.depth))
    small = to_bytes(resize_image(image, shipped.size), shipped.depth)
    logits = shipped.run(_normalised(shipped, small[None]))
    if resize_back and tuple(logits.shape[2:]) != image.shape[:2]:
        logits = F.interpolate(logits, size=image.shape[:2], mode="bilinear", align_corners=False)
    return logits[0]


def _normalised(shipped: Shipped, images: NDArray[np.uint8]) -> torch.Tensor:
    """uint8 (N, H, W, 3) → float32 (N, 3, H, W), step by step as ``engine.prepare_images``."""
    mean = torch.tensor(shipped.mean).view(1, 3, 1, 1) * 255
    std = torch.tensor(shipped.std).view(1, 3, 1, 1) * 255
    moved = torch.from_numpy(np.ascontiguousarray(images)).permute(0, 3, 1, 2).float()
    return (moved - mean) / std


def _tiled(shipped: Shipped, image: NDArray[np.uint8]) -> torch.Tensor:
    """The mean of the tiles' logits, each weighted less towards its edge; nowhere zero."""
    height, width = image.shape[:2]
    tall, wide = shipped.size
    missing = (max(0, tall - height), max(0, wide - width))
    if any(missing):  # mirrored below and to the right, and cut off again
        image = np.asarray(
            cv2.copyMakeBorder(image, 0, missing[0], 0, missing[1], cv2.BORDER_REFLECT), np.uint8
        )
    weight = torch.from_numpy(np.outer(_taper(tall), _taper(wide)))
    total = torch.zeros(0)
    weights = torch.zeros(image.shape[:2])
    for corners in _batches(_corners(image.shape[0], tall), _corners(image.shape[1], wide)):
        tiles = np.stack([image[y : y + tall, x : x + wide] for y, x in corners])
        logits = shipped.run(_normalised(shipped, tiles))
        if not total.numel():
            total = torch.zeros(logits.shape[1], *image.shape[:2])
        for (y, x), own in zip(corners, logits, strict=True):
            total[:, y : y + tall, x : x + wide] += own * weight
            weights[y : y + tall, x : x + wide] += weight
    return (total / weights)[:, :height, :width]


def _corners(length: int, tile: int) -> list[int]:
    """Where tiles begin, evenly, so that neighbours share ``OVERLAP`` of a tile or more."""
    if length <= tile:
        return [0]
    step = max(1, int(tile * (1 - OVERLAP)))
    count = -(-(length - tile) // step) + 1
    return [round(place * (length - tile) / (count - 1)) for place in range(count)]


def _batches(rows: list[int], columns: list[int]) -> Iterator[list[tuple[int, int]]]:
    corners = [(y, x) for y in rows for x in columns]
    for start in range(0, len(corners), BATCH):
        yield corners[start : start + BATCH]


def _taper(length: int) -> NDArray[np.float32]:
    """Weights along a side: 1 in the middle, falling linearly over ``OVERLAP`` to the edges."""
    edge = max(1.0, OVERLAP * length)
    place = np.arange(length) + 0.5
    weights: NDArray[np.float32] = np.minimum(1.0, np.minimum(place, length - place) / edge).astype(
        np.float32
    )
    return weights


def mask_of(logits: torch.Tensor) -> NDArray[np.uint8]:
    """(C, H, W) logits → (H, W) classes, as a trial decides."""
    return np.asarray(classify(logits[None])[0].to(torch.uint8).numpy())


def probabilities_of(logits: torch.Tensor, temperature: float) -> NDArray[np.float32]:
    """(C, H, W) logits → calibrated probabilities; (1, H, W) of class 1 for two classes."""
    scaled = logits / temperature
    found = scaled.sigmoid() if len(logits) == 1 else scaled.softmax(0)
    return np.asarray(found.numpy(), np.float32)


def confidence_of(logits: torch.Tensor, temperature: float) -> float:
    """The mean over pixels of the largest probability, without the others."""
    scaled = logits / temperature
    if len(logits) == 1:
        return float(scaled[0].abs().sigmoid().mean())
    return float((scaled.amax(0) - scaled.logsumexp(0)).exp_().mean())
