"""Results as files' contents: PNG and npz at the fastest level, which is most of the speed.

Level 1 of deflate is three to eight times as fast as level 6, for files a tenth larger.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

LEVEL = 1


def colour_png(pixels: NDArray[np.uint8]) -> bytes:
    """(H, W, 3) RGB, or (H, W) grey."""
    given = pixels if pixels.ndim == 2 else cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR)
    done, content = cv2.imencode(".png", given, [cv2.IMWRITE_PNG_COMPRESSION, LEVEL])
    if not done:
        raise RuntimeError("OpenCV cannot write it as PNG")
    return content.tobytes()


def palette_png(mask: NDArray[np.uint8], colours: Sequence[tuple[int, int, int]]) -> bytes:
    """(H, W) classes as indices of their colours; the values stay the classes."""
    picture = Image.fromarray(mask)
    picture.putpalette(np.ravel(colours).tolist())
    stream = io.BytesIO()
    picture.save(stream, "png", compress_level=LEVEL)
    return stream.getvalue()


def npz(**arrays: NDArray[np.float16]) -> bytes:
    """What ``numpy.savez_compressed`` writes, which leaves no choice of the level."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED, compresslevel=LEVEL) as file:
        for name, values in arrays.items():
            content = io.BytesIO()
            np.lib.format.write_array(content, values, allow_pickle=False)
            file.writestr(f"{name}.npy", content.getbuffer())
    return stream.getvalue()
