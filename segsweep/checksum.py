"""A checksum inside a safetensors file, over all its bytes: a flipped bit anywhere is found.

The file's header holds 64 hexadecimal digits of SHA-256, taken while zeros stand in their place.
Neither torch nor numpy is needed to verify a file.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from pathlib import Path

KEY = "checksum"  # in the file's metadata, beside whatever else is there
BLANK = "0" * 64
_PLACE = re.compile(rb'"checksum":"([0-9a-f]{64})"')  # quotes inside other texts are escaped
_CHUNK = 1 << 20
_MOST_HEADER = 100_000_000  # what safetensors itself allows


class Damaged(ValueError):
    """The file is not what was written."""


def sealed(data: bytes) -> Iterator[memoryview | bytes]:
    """The bytes of a file whose metadata has ``BLANK`` under ``KEY``, with its checksum, in parts.

    Raises:
        ValueError: there is no such place in the header.
    """
    size = 8 + int.from_bytes(data[:8], "little")
    place = _PLACE.search(data, 8, size)
    if place is None:
        raise ValueError("no place for a checksum in the header")
    view = memoryview(data)
    yield view[: place.start(1)]
    yield hashlib.sha256(data).hexdigest().encode()
    yield view[place.end(1) :]


def verify(path: Path) -> None:
    """Read a whole file and compare.

    Raises:
        Damaged: truncated, changed, or without a checksum.
        OSError: it cannot be read.
    """
    with path.open("rb") as file:
        length = file.read(8)
        size = int.from_bytes(length, "little")
        header = file.read(size) if size <= _MOST_HEADER else b""
        place = _PLACE.search(header)
        if place is None:
            raise Damaged("its header is damaged, or it is of another kind")
        digest = hashlib.sha256(length + header[: place.start(1)] + BLANK.encode())
        digest.update(header[place.end(1) :])
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    if digest.hexdigest().encode() != place[1]:
        raise Damaged("its checksum does not match")
