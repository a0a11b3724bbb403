"""The export folder: what lies in it, that it is whole or not there, and that it is unchanged.

=================== ==========================================================================
model.safetensors   every weight; its header says how the model is built
model.onnx          the same as a graph, ``image`` → ``logits`` (``model.onnx.data`` beside it
                    where the weights are too large for one file)
config.yaml         the sweep of this one config, for ``segsweep launch``
preprocessing.json  from an image file to the model's input
classes.json        names and colours; the place in the list is the class
calibration.json    the temperature that logits are divided by, and where it comes from
metrics.json        scores with intervals
MODEL_CARD.md       the same for people
manifest.json       what was exported, versions, SHA-256 of every file; written last
=================== ==========================================================================
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.metadata
import itertools
import json
import os
import platform
import re
import shutil
import signal
import stat
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from segsweep import __version__
from segsweep.errors import Problem, RunError

WEIGHTS, GRAPH, CONFIG = "model.safetensors", "model.onnx", "config.yaml"
PREPROCESSING, CLASSES, CALIBRATION = "preprocessing.json", "classes.json", "calibration.json"
METRICS, CARD, MANIFEST = "metrics.json", "MODEL_CARD.md", "manifest.json"
FORMAT: Final = 1
NEEDED = (WEIGHTS, CONFIG, PREPROCESSING, CLASSES, CALIBRATION, METRICS, CARD)
LIBRARIES = (
    "torch", "numpy", "opencv-python-headless", "segmentation-models-pytorch", "timm",
    "transformers", "onnx", "onnxscript", "onnxruntime",
)  # fmt: skip
_SELF = "manifest_sha256"


def refuse_taken(out: Path) -> None:
    """Nothing is ever written over.

    Raises:
        RunError: ``out`` is a file, or a directory with anything in it.
    """
    if out.is_dir() and not any(out.iterdir()):
        return
    if out.exists() or out.is_symlink():
        hint = "choose another --out, or remove it first"
        raise RunError(Problem("is there already", str(out), "--out", hint))


@contextmanager
def staged(out: Path) -> Iterator[Path]:
    """A folder beside ``out`` that takes its place at the end, or leaves nothing behind.

    SIGTERM ends it as Ctrl-C does; what a killed process has left of the same name is removed.

    Raises:
        RunError: ``out`` is taken, or cannot be written.
    """
    refuse_taken(out)
    out = out.absolute()
    _sweep_up(out)
    fresh = out.with_name(f".{out.name}.{os.getpid()}.tmp")
    made = make(fresh, out)
    try:
        with _terminable():
            yield fresh
            refuse_taken(out)
            if out.is_dir():
                out.rmdir()
            fresh.rename(out)
    except BaseException:
        shutil.rmtree(fresh, ignore_errors=True)
        unmake(made)
        raise


def _sweep_up(out: Path) -> None:
    """Remove what exports to ``out`` have left that were killed."""
    named = re.compile(rf"\.{re.escape(out.name)}\.(\d+)\.tmp")
    for path in out.parent.iterdir() if out.parent.is_dir() else ():
        if (found := named.fullmatch(path.name)) and not Path(f"/proc/{found[1]}").exists():
            shutil.rmtree(path, ignore_errors=True)


@contextmanager
def _terminable() -> Iterator[None]:
    """SIGTERM is raised as Ctrl-C is, so that it is cleaned up after."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def end(_number: int, _frame: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def make(place: Path, out: Path) -> list[Path]:
    """Make a folder and those above it; which were made, the topmost first.

    Args:
        place: the folder.
        out: what the user has asked for, for the message.

    Raises:
        RunError: it cannot be made; nothing is left behind.
    """
    made: list[Path] = []
    try:
        missing = list(itertools.takewhile(lambda one: not one.exists(), [place, *place.parents]))
        for one in reversed(missing):
            one.mkdir(exist_ok=one != place)  # another may make what is above at the same time
            made.append(one)
    except OSError as error:
        unmake(made)
        what = f"cannot be written: {error.strerror or error}"
        raise RunError(Problem(what, str(out), "--out")) from error
    return made


def unmake(made: Sequence[Path]) -> None:
    """Take back what ``make`` has made, as far as it is empty."""
    for one in reversed(made):
        with contextlib.suppress(OSError):
            one.rmdir()


def write_json(path: Path, value: Any) -> None:
    """Write a value as readable JSON."""
    path.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def seal(folder: Path, facts: Mapping[str, Any]) -> None:
    """Write the manifest over everything that lies in ``folder``."""
    files = {
        path.name: {"sha256": sha256(path), "bytes": path.stat().st_size}
        for path in sorted(folder.iterdir())
    }
    manifest = {"format": FORMAT, **facts, "versions": versions(), "files": files}
    write_json(folder / MANIFEST, {**manifest, _SELF: _digest(manifest)})


def versions() -> dict[str, str]:
    """Python, segsweep, and the libraries that the numbers depend on."""
    found = {"python": platform.python_version(), "segsweep": __version__}
    for name in LIBRARIES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def verified(folder: Path) -> dict[str, Any]:
    """The manifest of an export folder of which every byte is as it was written.

    Raises:
        RunError: it is no export folder, or of a later format; or files are missing or changed,
            each named.
    """
    try:
        manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        plain = {key: value for key, value in manifest.items() if key != _SELF}
        own, kind = manifest.get(_SELF), manifest.get("format")
    except (OSError, ValueError, AttributeError) as error:
        hint = "name a folder that export has written"
        what = f"is no export folder: {MANIFEST} cannot be read: {error}"
        raise RunError(Problem(what, str(folder), hint=hint)) from error
    again = "export again, or take a sound copy"
    if own != _digest(plain):
        what = "is not what was exported: its own hash does not match"
        raise RunError(Problem(what, str(folder / MANIFEST), hint=again))
    if kind != FORMAT:
        what = f"format {kind!r} is not known to this version, {__version__}"
        raise RunError(Problem(what, str(folder), hint="use the version that exported it"))
    problems = [
        Problem(what, str(folder / name), hint=again) for name, what in _unsound(folder, manifest)
    ]
    if problems:
        raise RunError(problems)
    found: dict[str, Any] = manifest
    return found


def _unsound(folder: Path, manifest: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """What is wrong with files of the manifest, by name; none that lies elsewhere is opened."""
    files = manifest.get("files")
    if not isinstance(files, dict) or not isinstance(manifest.get("onnx"), dict):
        yield MANIFEST, "does not say what was exported"
        return
    needed = {*NEEDED, *((GRAPH,) if manifest["onnx"].get("written") else ())}
    for name in sorted(needed - files.keys()):
        yield name, f"is not listed in {MANIFEST}"
    for name, known in files.items():
        wanted = known.get("sha256") if isinstance(known, dict) else None
        if name in ("", ".", "..") or "/" in name or "\0" in name:
            yield MANIFEST, f"lists {name!r}, which is no plain name"
        elif not isinstance(wanted, str):
            yield MANIFEST, f"has no SHA-256 of {name}"
        elif what := _changed(folder / name, wanted):
            yield name, what


def _changed(path: Path, wanted: str) -> str:
    try:
        if not stat.S_ISREG(path.lstat().st_mode):
            return "is no regular file"
        found = sha256(path)
    except OSError as error:
        return f"cannot be read: {error.strerror or error}"
    if found == wanted:
        return ""
    return f"is not what was exported: SHA-256 {found[:12]}…, not {wanted[:12]}…"


def read_json(path: Path) -> Any:
    """A file of a verified folder."""
    return json.loads(path.read_text(encoding="utf-8"))


def sha256(path: Path) -> str:
    """Of a file's content, 64 hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _digest(manifest: Mapping[str, Any]) -> str:
    text = json.dumps(manifest, sort_keys=True, ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()
