"""What is done to an image before a model sees it, for whoever does without segsweep."""

from __future__ import annotations

from typing import Any

from segsweep.data.image_file import DEPTHS
from segsweep.engine import MEAN, STD
from segsweep.export.capture import INPUT, OUTPUT


def facts(size: tuple[int, int], depth: int | None = None) -> dict[str, Any]:
    """From an image file to the model's input, for whoever does without segsweep.

    Args:
        size: height and width of the training.
        depth: the bits that the training's images of 16 bits used; None where it had none.
    """
    bits = depth or DEPTHS[-1]
    return {
        "input": {"name": INPUT, "dtype": "float32", "layout": "NCHW"},
        "output": {
            "name": OUTPUT,
            "layout": "NCHW",
            "meaning": "logits; one channel is that of class 1, class 0 having 0",
        },
        "orientation": "turned as EXIF says",
        "channels": "RGB",
        "16 bits": {
            "depth": bits,
            "scale": f"after resizing, min(value, {(1 << bits) - 1}) // {1 << bits - DEPTHS[0]}",
            "in_training": depth is not None,
        },
        "resize": {
            "height": size[0],
            "width": size[1],
            "shrinking": "area (OpenCV's INTER_AREA), where the number of pixels becomes less",
            "else": "bilinear with pixel centres (OpenCV's INTER_LINEAR)",
            "keep_aspect_ratio": False,
        },
        "normalise": "(value / 255 - mean) / std, by channel",
        "mean": list(MEAN),
        "std": list(STD),
    }
