"""Zip archives: unpacked once and whole, or refused with nothing written."""

from __future__ import annotations

import shutil
import stat
import struct
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest

from segsweep.check import check
from segsweep.data import archive
from segsweep.errors import DataError, UserError
from tests.data.builders import make_folder, make_ph2
from tests.helpers import tiny, write_sweep


def pack(path: Path, entries: Mapping[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as out:
        for name, content in entries.items():
            out.writestr(name, content)
    return path


def pack_tree(path: Path, root: Path, prefix: str = "") -> Path:
    files = sorted(file for file in root.rglob("*") if file.is_file())
    return pack(path, {prefix + str(f.relative_to(root)): f.read_bytes() for f in files})


def refused(path: Path, message: str) -> None:
    """It is refused, and neither the cache nor its surroundings have anything new."""
    cache = path.parent / "around" / "cache"
    cache.mkdir(parents=True)
    before = sorted(path.parent.rglob("*"))
    with pytest.raises(DataError, match=message) as caught:
        archive.unpack(path, cache)
    assert str(path) in str(caught.value)
    assert sorted(path.parent.rglob("*")) == before


def test_unpacked_once_and_keyed_by_content(tmp_path: Path) -> None:
    path = pack(
        tmp_path / "a.zip", {"x/": b"", "x/a.txt": b"one", "x/ü/b": b"", "__MACOSX/x": b"1"}
    )
    first = archive.unpack(path, tmp_path / "cache")
    assert (first / "x" / "a.txt").read_text() == "one"
    assert (first / "x" / "ü" / "b").read_bytes() == b""
    assert [child.name for child in first.iterdir()] == ["x"]
    (first / "x" / "mark").touch()  # a second time would not have it
    path.rename(tmp_path / "b.zip")
    assert archive.unpack(tmp_path / "b.zip", tmp_path / "cache") == first
    assert (first / "x" / "mark").exists()
    other = archive.unpack(pack(tmp_path / "a.zip", {"x/a.txt": b"two"}), tmp_path / "cache")
    assert other != first
    assert sorted((tmp_path / "cache").iterdir()) == sorted([first, other])


def test_what_the_entries_say_about_modes_is_not_believed(tmp_path: Path) -> None:
    entry = zipfile.ZipInfo("a")
    entry.external_attr = (stat.S_IFREG | 0o6777) << 16
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as out:
        out.writestr(entry, b"#!/bin/sh")
    mode = (archive.unpack(tmp_path / "a.zip", tmp_path / "cache") / "a").stat().st_mode
    assert not mode & 0o7111


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("../evil", "leads out"),
        ("images/../../evil", "leads out"),
        ("..", "leads out"),
        ("/etc/evil", "absolute"),
        ("//host/evil", "absolute"),
        ("C:/evil", "drive letter"),
        ("c:evil", "drive letter"),
        ("..\\evil", "backslash"),
        ("a\nb", "control character"),
        ("a\x00.png", "control character"),
        ("a//b", "no path"),
        ("./a", "no path"),
        ("a" * 256, "more than 255 bytes"),
        ("ü" * 128, "more than 255 bytes"),
    ],
)
def test_a_name_that_is_not_to_be_trusted(name: str, message: str, tmp_path: Path) -> None:
    plain = "~" * len(name.encode())  # zipfile itself changes some names when writing
    path = pack(tmp_path / "a.zip", {"good": b"1", plain: b"2"})
    raw = path.read_bytes()
    assert raw.count(plain.encode()) == 2
    path.write_bytes(raw.replace(plain.encode(), name.encode()))
    refused(path, message)


@pytest.mark.parametrize(
    ("kind", "message"), [(stat.S_IFLNK, "is a link"), (stat.S_IFIFO, "neither a file")]
)
def test_links_and_pipes(kind: int, message: str, tmp_path: Path) -> None:
    entry = zipfile.ZipInfo("images")
    entry.external_attr = (kind | 0o777) << 16
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as out:
        out.writestr(entry, b"/etc")
        out.writestr("images/passwd", b"x")
    refused(tmp_path / "a.zip", message)


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (("a", "A"), "name of another"),
        (("x/a", "X/b"), "name of another"),
        (("ß", "ss"), "name of another"),
        (("e\u0301", "\u00e9"), "name of another"),
        (("a", "a/b"), "file and a directory"),
        (("A/b", "a"), "name of another"),
    ],
)
def test_names_that_collide(names: tuple[str, str], message: str, tmp_path: Path) -> None:
    refused(pack(tmp_path / "a.zip", dict.fromkeys(names, b"")), message)


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_one_name_twice(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as out:
        out.writestr("a", b"1")
        out.writestr("a", b"2")
    refused(tmp_path / "a.zip", "name of another")


def _local_and_central(path: Path, offsets: tuple[int, int], form: str, value: int) -> None:
    """Changes a field of the first entry in its local and its central header."""
    raw = bytearray(path.read_bytes())
    for signature, offset in zip((b"PK\x03\x04", b"PK\x01\x02"), offsets, strict=True):
        if offset:
            struct.pack_into(form, raw, raw.index(signature) + offset, value)
    path.write_bytes(raw)


def test_encrypted_entries(tmp_path: Path) -> None:
    path = pack(tmp_path / "a.zip", {"a": b"secret"})
    _local_and_central(path, (6, 8), "<H", 0x1)
    refused(path, "is encrypted")


def test_another_compression(tmp_path: Path) -> None:
    path = pack(tmp_path / "a.zip", {"a": b"abc"})
    _local_and_central(path, (8, 10), "<H", zipfile.ZIP_LZMA)
    refused(path, "method 14")


@pytest.mark.parametrize("size", [1, 5_000])
def test_an_entry_that_lies_about_its_size(size: int, tmp_path: Path) -> None:
    path = pack(tmp_path / "a.zip", {"good": b"1", "a": bytes(1000)})
    raw = bytearray(path.read_bytes())
    struct.pack_into("<I", raw, raw.rindex(b"PK\x01\x02") + 24, size)
    path.write_bytes(raw)
    refused(path, "cannot be unpacked")


def test_a_bomb_by_ratio(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archive, "FREE_BYTES", 1000)
    bomb = pack(tmp_path / "a.zip", {"a": bytes(1_000_000)})
    assert bomb.stat().st_size * archive.MAX_RATIO < 1_000_000
    refused(bomb, "more than 100 times")
    monkeypatch.setattr(archive, "FREE_BYTES", 1_000_000)  # small ones are harmless
    assert archive.unpack(bomb, tmp_path / "cache").is_dir()


def test_a_bomb_by_declared_size(tmp_path: Path) -> None:
    path = tmp_path / "a.zip"
    names = {str(i): b"x" for i in range(80)}
    with zipfile.ZipFile(path, "w") as out:
        for name, content in names.items():
            out.writestr(name, content)
    raw = bytearray(path.read_bytes())
    place = -1
    for _ in names:
        place = raw.index(b"PK\x01\x02", place + 1)
        struct.pack_into("<I", raw, place + 24, 2**32 - 2)
    path.write_bytes(raw)
    refused(path, f"{archive.MAX_BYTES:,}")


def test_too_many_entries(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archive, "MAX_ENTRIES", 3)
    refused(pack(tmp_path / "a.zip", {str(i): b"" for i in range(4)}), "4 entries; at most 3")


def test_a_disk_that_is_too_small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = shutil.disk_usage(tmp_path)._replace(free=2)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    refused(pack(tmp_path / "a.zip", {"a": b"abc"}), "it needs 3 bytes, and 2 are free")


def _garbage(path: Path) -> None:
    path.write_bytes(b"no archive at all")


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-30])


def _flip(path: Path) -> None:
    raw = bytearray(path.read_bytes())
    raw[raw.index(b"PK\x03\x04", 4) + 40] ^= 0x55  # in the second file, when the first is written
    path.write_bytes(raw)


@pytest.mark.parametrize("damage", [_garbage, _cut, _flip])
def test_a_damaged_archive(damage: Callable[[Path], None], tmp_path: Path) -> None:
    path = pack(tmp_path / "a.zip", {"a": b"first", "b": bytes(range(256)) * 40})
    damage(path)
    refused(path, "cannot be unpacked")


def test_any_broken_byte_is_refused_or_harmless(tmp_path: Path) -> None:
    whole = pack(tmp_path / "a.zip", {"a/b": b"first" * 9, "c": bytes(range(256))}).read_bytes()
    rng = np.random.default_rng(0)
    refusals = 0
    for number in range(300):
        raw = bytearray(whole)
        raw[rng.integers(len(raw))] = rng.integers(256)
        (tmp_path / "a.zip").write_bytes(raw)
        try:
            archive.unpack(tmp_path / "a.zip", tmp_path / "around" / str(number))
        except DataError:
            refusals += 1
            left = list((tmp_path / "around").rglob(str(number) + "/*"))
            assert left == []
    assert refusals > 100
    assert {path.name for path in tmp_path.iterdir()} == {"a.zip", "around"}


def test_many_hostile_entries_are_cut_short(tmp_path: Path) -> None:
    path = pack(tmp_path / "a.zip", {f"../{i}": b"" for i in range(100)})
    refused(path, "and 90 more")


class TestAsRoot:
    """``dataset.root`` is an archive."""

    def test_the_same_data_as_unpacked(self, tmp_path: Path) -> None:
        make_folder(tmp_path / "data", 8)
        pack_tree(tmp_path / "data.zip", tmp_path / "data")
        pack_tree(tmp_path / "inside.ZIP", tmp_path / "data", prefix="all/lesions v2/")
        found = []
        for root in ("data", "data.zip", "inside.ZIP"):
            dataset = {"name": "folder", "root": str(tmp_path / root), "image_size": [16, 16]}
            found.append(check(write_sweep(tmp_path, tiny(dataset=dataset))))
        assert len({checked.prepared.fingerprint for checked in found}) == 1
        assert len(found[0].data.image_ids) + len(found[0].holdout.image_ids) == 8  # type: ignore[union-attr]

    def test_ph2(self, tmp_path: Path) -> None:
        make_ph2(tmp_path / "data", 6)
        path = pack_tree(tmp_path / "ph2.zip", tmp_path / "data", prefix="PH2Dataset/")
        dataset = {"name": "ph2", "root": str(path), "image_size": [16, 16], "holdout": 0}
        checked = check(write_sweep(tmp_path, tiny(dataset=dataset)))
        assert len(checked.data.image_ids) == 6

    @pytest.mark.parametrize(
        ("entries", "message"),
        [({"../x": b""}, "leads out"), ({"images/a.png": b""}, "no directory 'masks' here")],
    )
    def test_what_is_wrong_is_told_with_the_rest(
        self, entries: dict[str, bytes], message: str, tmp_path: Path
    ) -> None:
        path = pack(tmp_path / "a.zip", entries)
        dataset = {"name": "folder", "root": str(path), "image_size": [16, 16]}
        data = tiny(dataset=dataset, factors__loss=["dise"])
        with pytest.raises(UserError, match=message) as caught:
            check(write_sweep(tmp_path, data))
        assert "'dice'" in str(caught.value)
        assert "sweep.yaml" in str(caught.value)

    def test_an_archive_that_is_not_there(self, tmp_path: Path) -> None:
        dataset = {"name": "folder", "root": str(tmp_path / "a.zip"), "image_size": [16, 16]}
        with pytest.raises(UserError, match="does not exist"):
            check(write_sweep(tmp_path, tiny(dataset=dataset)))


@pytest.mark.parametrize("name", ["\u00e9.png", "e\u0301.png"])
def test_names_in_utf8_without_the_flag_are_read_as_such(tmp_path: Path, name: str) -> None:
    """As ``zip`` and macOS write them."""
    path = pack(tmp_path / "a.zip", {f"images/{name}": b"x"})
    raw = bytearray(path.read_bytes())
    for signature, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        at = raw.index(signature) + offset
        raw[at : at + 2] = b"\0\0"  # the flags
    path.write_bytes(raw)
    top = archive.unpack(path, tmp_path / "cache")
    assert [one.name for one in top.rglob("*.png")] == [name]
