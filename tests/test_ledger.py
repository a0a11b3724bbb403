"""The ledger: on the disk before anything else, and readable after any interruption."""

from __future__ import annotations

import json
import os
from contextlib import closing
from pathlib import Path

import pytest

from segsweep import events, ledger
from segsweep.errors import RunError
from segsweep.ledger import Ledger


@pytest.fixture(autouse=True)
def _events_of_any_kind(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(ledger.CHECKED)


def test_what_is_appended_is_read_again(tmp_path: Path) -> None:
    path = tmp_path / "ledger" / "events.jsonl"
    book = Ledger(path)
    book.append("config", config_id="a", value=0.1)
    book.append("epoch", epoch=1)
    book.close()
    assert [event["event"] for event in ledger.read(path)] == ["config", "epoch"]
    assert ledger.read(path)[0]["value"] == 0.1
    assert Ledger(path).events == ledger.read(path)


def test_an_event_is_on_the_disk_when_listeners_hear_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "events.jsonl"
    order: list[str] = []
    real = os.fsync

    def fsync(number: int) -> None:
        order.append("fsync")
        real(number)

    monkeypatch.setattr(os, "fsync", fsync)
    book = Ledger(path)

    def listener(event: ledger.Event) -> None:
        order.append("heard")
        assert json.loads(path.read_text()) == event

    book.listen(listener)
    book.append("x")
    assert order == ["fsync", "heard"]


@pytest.mark.parametrize(
    "torn", [b'{"event": "ep', b'{"event": "whole but no newline"}', b"\x00\x00"]
)
def test_a_torn_last_line_is_dropped_and_written_over(tmp_path: Path, torn: bytes) -> None:
    path = tmp_path / "events.jsonl"
    book = Ledger(path)
    book.append("first")
    book.close()
    with path.open("ab") as file:
        file.write(torn)
    assert [event["event"] for event in ledger.read(path)] == ["first"]
    book = Ledger(path)
    book.append("second")
    book.close()
    assert [event["event"] for event in ledger.read(path)] == ["first", "second"]
    assert path.read_bytes().count(b"\n") == 2


def test_damage_in_the_middle_is_named(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    path.write_text('{"event": "a"}\nbroken\n{"event": "b"}\n')
    with pytest.raises(RunError, match=r"events.jsonl:2"):
        ledger.read(path)


def test_a_number_that_json_cannot_hold_is_not_written(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    book = Ledger(path)
    with pytest.raises(ValueError, match="JSON"):
        book.append("x", value=float("nan"))
    book.append("y")
    assert [event["event"] for event in ledger.read(path)] == ["y"]


def test_a_full_disk_leaves_the_ledger_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "events.jsonl"
    book = Ledger(path)
    book.append("first")

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        for name in ("second", "and again"):
            with pytest.raises(OSError, match="No space"):
                book.append(name)
    assert [event["event"] for event in ledger.read(path)] == ["first"]
    book.append("third")
    assert [event["event"] for event in ledger.read(path)] == ["first", "third"]


def test_a_full_disk_after_a_torn_line_leaves_the_ledger_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "events.jsonl"
    with closing(Ledger(path)) as book:
        book.append("first")
    with path.open("ab") as file:
        file.write(b'{"event": "cut sho')
    book = Ledger(path)

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(OSError, match="No space"):
            book.append("second")
    book.append("third")
    assert [event["event"] for event in ledger.read(path)] == ["first", "third"]


def test_an_event_that_is_not_as_the_schema_says_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(ledger.CHECKED, "1")
    with closing(Ledger(tmp_path / "events.jsonl")) as book:
        book.append("champion", cell="a", config_id="b")
        for event, fields, said in (
            ("champion", {"cell": "a"}, "champion lacks config_id"),
            ("champion", {"cell": "a", "config_id": "b", "of": 1}, "champion has no field of"),
            ("crowned", {}, "no event 'crowned'"),
        ):
            with pytest.raises(ValueError, match=said):
                book.append(event, **fields)
    assert len(ledger.read(tmp_path / "events.jsonl")) == 1


def test_the_schema_describes_itself() -> None:
    words = events.__doc__ or ""
    for event, fields in events.EVENTS.items():
        assert event in words
        assert all(name in words for name in fields)


def test_a_ledger_of_a_newer_format_is_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    newer = events.LEDGER_VERSION + 1
    path.write_text(json.dumps({"event": "launch", "ledger": newer, "version": "9.0"}) + "\n")
    for opened in (ledger.read, Ledger):
        with pytest.raises(RunError, match=f"has version {newer} of the ledger") as caught:
            opened(path)
        assert "segsweep 9.0 wrote it" in str(caught.value)
