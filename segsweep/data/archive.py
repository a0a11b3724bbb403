"""A dataset that comes as a ``.zip``: unpacked once, safely, beside the decoded images.

The directory is named by the archive's content. Everything is looked at before anything is
written, then written into a temporary directory that gets its name at the very end: what is there
is whole. Nothing but plain files is made, and nothing outside that directory.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import shutil
import stat
import struct
import unicodedata
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path

from segsweep.errors import DataError, Problem

MAX_ENTRIES = 500_000
MAX_BYTES = 200 * 2**30
"""Unpacked, all entries together."""
MAX_RATIO = 100
"""Unpacked bytes a byte of the archive …"""
FREE_BYTES = 256 * 2**20
"""… which so much may exceed: masks of one colour shrink a thousandfold."""

_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
_DAMAGE = (zipfile.BadZipFile, zlib.error, struct.error)
_UTF8 = 0x800
_ENCRYPTED = 0x1 | 0x40 | 0x2000
_LONGEST = 255  # bytes in a name, on all common file systems
_SHOWN = 10
_BLOCK = 2**20
_JUNK = ("__MACOSX",)  # what macOS adds beside the files
_BAD = re.compile(r"[\x00-\x1f\x7f\\]|^[A-Za-z]:")


def is_archive(root: Path | None) -> bool:
    """Is ``root`` a zip file, by its name?"""
    return root is not None and root.suffix.lower() == ".zip" and root.is_file()


def unpack(path: Path, cache_dir: Path) -> Path:
    """The directory with the archive's files; unpacked unless it has been before.

    Args:
        path: the archive.
        cache_dir: where the directory is made.

    Raises:
        DataError: damaged, encrypted, too large, or with entries that are not to be trusted;
            nothing is left behind then.
    """
    try:
        with path.open("rb") as stream:
            key = hashlib.file_digest(stream, "sha256").hexdigest()[:16]
        target = cache_dir / f"unpacked-{key}"
        if target.is_dir():
            return target
        with zipfile.ZipFile(path) as archive:
            _rename(archive)
            entries = [e for e in archive.infolist() if e.filename.split("/")[0] not in _JUNK]
            problems = _problems(entries, path.stat().st_size)
            if problems:
                raise DataError(Problem(p.what, str(path), "root", p.hint) for p in problems)
            _extract(archive, entries, cache_dir, target)
    except (OSError, EOFError, ValueError, RuntimeError, *_DAMAGE) as error:
        reason = getattr(error, "strerror", None) or error
        hint = "unpack it yourself, and point `dataset.root` to the directory"
        problem = Problem(f"cannot be unpacked: {reason}", str(path), "root", hint)
        raise DataError(problem) from error
    return target


def nested(top: Path) -> Iterator[Path]:
    """``top``, the one directory in it, the one in that, …: where a dataset's root may be."""
    place: Path | None = top
    while place is not None:
        yield place
        inner = [path for path in place.iterdir() if path.is_dir()]
        place = inner[0] if len(inner) == 1 else None


def _problems(entries: list[zipfile.ZipInfo], packed: int) -> list[Problem]:
    """Everything that speaks against unpacking."""
    if len(entries) > MAX_ENTRIES:
        return [Problem(f"has {len(entries):,} entries; at most {MAX_ENTRIES:,} are unpacked")]
    problems = [
        Problem(f"the entry {entry.filename!r} {what}", hint="pack it again, plain files only")
        for entry in entries
        if (what := _entry_problem(entry))
    ]
    problems += _collisions(entries)
    total = sum(entry.file_size for entry in entries)
    if total > MAX_BYTES:
        what = f"would be {total:,} bytes unpacked; at most {MAX_BYTES:,} are"
        problems.append(Problem(what, hint="unpack it yourself, where you trust it"))
    elif total > FREE_BYTES + MAX_RATIO * packed:
        what = f"would grow from {packed:,} to {total:,} bytes: more than {MAX_RATIO} times"
        problems.append(Problem(what, hint="unpack it yourself, where you trust it"))
    if len(problems) > _SHOWN:
        problems = [*problems[:_SHOWN], Problem(f"and {len(problems) - _SHOWN} more like these")]
    return problems


def _entry_problem(entry: zipfile.ZipInfo) -> str:
    """Why an entry is not unpacked, or an empty string."""
    name, kind = entry.orig_filename, stat.S_IFMT(entry.external_attr >> 16)
    parts = _parts(name)
    if _BAD.search(name):
        return "has a drive letter, a backslash or a control character in its name"
    if name.startswith("/"):
        return "has an absolute path"
    if ".." in parts:
        return "leads out of the archive"
    if not name or "" in parts or "." in parts:
        return "has a name that is no path"
    if any(len(part.encode("utf-8", "surrogatepass")) > _LONGEST for part in parts):
        return f"has a name of more than {_LONGEST} bytes"
    if kind == stat.S_IFLNK:
        return "is a link"
    if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
        return "is neither a file nor a directory"
    if entry.flag_bits & _ENCRYPTED:
        return "is encrypted"
    if entry.compress_type not in _METHODS:
        return f"is compressed by method {entry.compress_type}, not by deflate"
    return ""


def _parts(name: str) -> list[str]:
    return name.removesuffix("/").split("/")


def _rename(archive: zipfile.ZipFile) -> None:
    """Names in UTF-8 without the flag that says so, as ``zip`` and macOS write them.

    The standard library reads them as code page 437, so that ``é`` becomes two other letters.
    """
    for entry in archive.infolist():
        if not entry.flag_bits & _UTF8:
            with contextlib.suppress(UnicodeError):
                entry.filename = entry.filename.encode("cp437").decode("utf-8")


def _collisions(entries: Iterable[zipfile.ZipInfo]) -> list[Problem]:
    """Entries that some file systems cannot tell apart, and files that are directories, too."""
    spelling: dict[tuple[str, ...], tuple[str, ...]] = {}
    files: set[tuple[str, ...]] = set()
    folders: set[tuple[str, ...]] = set()
    problems: list[Problem] = []
    hint = "pack it again with each name once"
    for entry in entries:
        parts = _parts(entry.filename)
        known = True
        for end in range(1, len(parts) + 1):
            own = tuple(parts[:end])
            folded = tuple(unicodedata.normalize("NFC", part).casefold() for part in own)
            first = spelling.setdefault(folded, own)
            known = known and first == own
        if not known or (not entry.is_dir() and folded in files):
            what = f"the entry {entry.filename!r} has the name of another one"
            problems.append(Problem(what, hint=hint))
        folders |= {folded[:end] for end in range(1, len(folded))}
        (folders if entry.is_dir() else files).add(folded)
    problems += [
        Problem(f"{'/'.join(spelling[name])!r} is a file and a directory", hint=hint)
        for name in sorted(files & folders)
    ]
    return problems


def _extract(
    archive: zipfile.ZipFile, entries: list[zipfile.ZipInfo], cache_dir: Path, target: Path
) -> None:
    cache_dir.mkdir(parents=True, exist_ok=True)
    needed, free = sum(entry.file_size for entry in entries), shutil.disk_usage(cache_dir).free
    if needed > free:
        raise OSError(f"it needs {needed:,} bytes, and {free:,} are free in {cache_dir}")
    temporary = cache_dir / f".{target.name}.{os.getpid()}"
    shutil.rmtree(temporary, ignore_errors=True)  # of a killed process with the same number
    try:
        temporary.mkdir()
        for entry in entries:
            place = temporary.joinpath(*_parts(entry.filename))
            if entry.is_dir():
                place.mkdir(parents=True, exist_ok=True)
                continue
            place.parent.mkdir(parents=True, exist_ok=True)
            _copy(archive, entry, place)
        try:
            temporary.rename(target)
        except OSError:
            if not target.is_dir():  # else another process was faster, with the same content
                raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _copy(archive: zipfile.ZipFile, entry: zipfile.ZipInfo, place: Path) -> None:
    """One file; its size is counted again, since an archive can lie about it."""
    left = entry.file_size
    with archive.open(entry) as source, place.open("xb") as sink:
        while block := source.read(_BLOCK):
            left -= len(block)
            if left < 0:
                raise zipfile.BadZipFile(f"{entry.filename} is larger than the archive says")
            sink.write(block)
    if left:
        raise zipfile.BadZipFile(f"{entry.filename} is smaller than the archive says")
