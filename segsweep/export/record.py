"""A folder of predictions: what was asked for, what is done, and where the same command goes on.

::

    OUT/predictions.json    what was asked for, whether all is done, and what could not be
    OUT/predictions.jsonl   a line an image, written as soon as its results lie there
"""

from __future__ import annotations

import contextlib
import fcntl
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from segsweep.errors import Problem, RunError
from segsweep.export import folder
from segsweep.export.images import SUMMARY
from segsweep.rundir import write_atomically

ROWS = "predictions.jsonl"
SUFFIXES = {"masks": (".png",), "probabilities": (".npz", ".png"), "overlays": (".png",)}
_SAME = ("manifest", "source", "runtime", "options")  # else results are not of one kind
_TEMPORARY = ".new"  # short, since an image's own name may be as long as a name can be


def begin(out: Path, facts: Mapping[str, Any], wanted: Mapping[str, Path]) -> Record:
    """Open a new folder, or one in which the same was begun before.

    Args:
        out: the folder.
        facts: for the summary; those of ``_SAME`` say what is asked for.
        wanted: name of the results → image.

    Raises:
        RunError: something else is there, or nothing can be written there; nothing was.
    """
    _refuse_other(out, facts)
    made = folder.make(out, out)
    new = not (out / ROWS).exists()
    try:
        return Record(out, facts, wanted)
    except OSError as error:
        if new:
            with contextlib.suppress(OSError):
                (out / ROWS).unlink(missing_ok=True)
        folder.unmake(made)
        what = f"cannot be written: {error.strerror or error}"
        raise RunError(Problem(what, str(out), "--out")) from error


class Record:
    """One run of ``predict`` into one folder; no other may write there at the same time.

    Attributes:
        there: images whose results lie there.
        failed: what is wrong with each of the others.
    """

    def __init__(self, out: Path, facts: Mapping[str, Any], wanted: Mapping[str, Path]) -> None:
        self.out, self.facts = out, facts
        self.failed: list[Problem] = []
        self._rows = (out / ROWS).open("a+", encoding="ascii")
        try:
            self._lock()
            self.there = self._kept(wanted)
            self._summarise(complete=False)
        except BaseException:
            self._rows.close()
            raise

    def _lock(self) -> None:
        try:
            fcntl.flock(self._rows, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            what, hint = "another predict is writing there", "wait for it, or stop that process"
            raise RunError(Problem(what, str(self.out), "--out", hint)) from error

    def _kept(self, wanted: Mapping[str, Path]) -> set[str]:
        """Read the rows; those that hold no more are forgotten, with their results."""
        self._rows.seek(0)
        images = {str(path) for path in wanted.values()}
        kept, there, whole = [], set(), True
        for line in self._rows:
            row = _parsed(line)
            if row is None:  # torn: whatever wrote it was killed
                whole = False
            elif row["name"] in wanted or row["image"] in images:
                path = wanted.get(row["name"])
                if str(path) == row["image"] and self._holds(row):
                    kept.append(line)
                    there.add(row["image"])
                else:
                    whole = False
                    self.forget(row["name"])
            else:
                kept.append(line)  # of an image that is gone from its place
        if not whole:
            self._rows.truncate(0)
            self._rows.writelines(kept)
            self._rows.flush()
        return there

    def _holds(self, row: Mapping[str, Any]) -> bool:
        """Is the image still the same, and its mask there?"""
        if not (self.out / "masks" / f"{row['name']}.png").is_file():
            return False
        try:
            return bool(stamp(Path(row["image"])) == row["stamp"])
        except OSError:
            return False

    def forget(self, name: str) -> None:
        """Remove the results of an image."""
        for kind, suffixes in SUFFIXES.items():
            for suffix in suffixes:
                with contextlib.suppress(OSError):
                    (self.out / kind / f"{name}{suffix}").unlink()

    def save(self, files: Mapping[str, bytes], row: Mapping[str, Any]) -> None:
        """Write an image's results, each whole or not at all, and then its row."""
        for name, content in files.items():
            path = self.out / name
            path.parent.mkdir(parents=True, exist_ok=True)
            temporary = path.with_name(_TEMPORARY)
            try:
                temporary.write_bytes(content)
                temporary.replace(path)
            except BaseException:
                with contextlib.suppress(OSError):
                    temporary.unlink()
                raise
        self._rows.write(json.dumps(row) + "\n")
        self._rows.flush()

    def close(self, *, complete: bool) -> None:
        """Write the summary; whether every image was tried."""
        try:
            self._summarise(complete=complete)
        finally:
            self._rows.close()

    def _summarise(self, *, complete: bool) -> None:
        failed = [{"image": p.where, "what": p.what, "hint": p.hint} for p in self.failed]
        summary = {**self.facts, "rows": ROWS, "complete": complete, "failed": failed}
        write_atomically(self.out / SUMMARY, json.dumps(summary, indent=2) + "\n")


def stamp(path: Path) -> list[int]:
    """Size and time of an image file: others mean that it was written anew."""
    found = path.stat()
    return [found.st_size, found.st_mtime_ns]


def _parsed(line: str) -> dict[str, Any] | None:
    try:
        row = json.loads(line)
    except ValueError:
        return None
    return row if isinstance(row, dict) and {"image", "name", "stamp"} <= row.keys() else None


def _refuse_other(out: Path, facts: Mapping[str, Any]) -> None:
    """Nothing is written among other things.

    Raises:
        RunError: what lies there, and what to do.
    """
    try:
        found = json.loads((out / SUMMARY).read_text(encoding="utf-8"))
        earlier = {key: found[key] for key in _SAME}
    except (OSError, ValueError, TypeError, KeyError):
        folder.refuse_taken(out)
        return
    asked = {key: facts[key] for key in _SAME}
    if earlier == asked:
        return
    old, new = _flat(earlier), _flat(asked)
    others = [f"{key} {old.get(key)}, not {new[key]}" for key in new if old.get(key) != new[key]]
    hint = "choose another --out, or ask for the same as before to go on with it"
    raise RunError(Problem(f"holds predictions of {'; '.join(others)}", str(out), "--out", hint))


def _flat(asked: Mapping[str, Any]) -> dict[str, Any]:
    own = {key: value for key, value in asked.items() if key != "options"}
    options = asked["options"] if isinstance(asked["options"], Mapping) else {}
    return {**own, "manifest": str(asked["manifest"])[:12], **options}
