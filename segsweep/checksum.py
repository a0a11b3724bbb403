"""A checksum inside a safetensors file, over all its bytes: a flipped bit anywhere is found.

The file's header holds 64 hexadecimal digits of SHA-256, taken while zeros stand in their place.
Neither torch nor numpy is needed to verify a file.
"""

from __future__ import annotations

import hashlib
import re
from pathlib import Path
from typing import IO

KEY = "checksum"  # in the file's metadata, beside whatever else is there
BLANK = "0" * 64
_PLACE = re.compile(rb'"checksum":"([0-9a-f]{64})"')  # quotes inside other texts are escaped
_CHUNK = 1 << 20
_MOST_HEADER = 100_000_000  # what safetensors itself allows


class Damaged(ValueError):
    """The file is not what was written."""


def seal(path: Path) -> None:
    """Put the checksum into a file whose metadata has ``BLANK`` under ``KEY``.

    Raises:
        Damaged: there is no such place in the header.
        OSError: it cannot be read or written.
    """
    with path.open("r+b") as file:
        digest, _, place = _digest(file)
        file.seek(place)
        file.write(digest.encode())


def verify(path: Path) -> None:
    """Read a whole file and compare.

    Raises:
        Damaged: truncated, changed, or without a checksum.
        OSError: it cannot be read.
    """
    with path.open("rb") as file:
        digest, found, _ = _digest(file)
    if digest != found:
        raise Damaged("its checksum does not match")


def _digest(file: IO[bytes]) -> tuple[str, str, int]:
    """What the checksum should be, what it is, and where in the file it stands."""
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
    return digest.hexdigest(), place[1].decode(), len(length) + place.start(1)
