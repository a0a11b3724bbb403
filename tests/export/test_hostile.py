"""Export folders that are broken or made to do harm, and exports that are killed."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from segsweep import checkpoint
from segsweep.errors import RunError
from segsweep.export import folder, inference, retraining
from segsweep.export.exporting import export
from segsweep.export.inference import Runtime
from tests.export.conftest import Launched

SEALED = ("format", "versions", "files", "manifest_sha256")


@pytest.fixture
def copy(exported: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(exported, tmp_path / "copy"))


def listed(place: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Change the manifest, and sign it again."""
    found = json.loads((place / folder.MANIFEST).read_text())
    found.pop("manifest_sha256")
    change(found)
    folder.write_json(place / folder.MANIFEST, {**found, "manifest_sha256": folder._digest(found)})


def resealed(place: Path, change: Callable[[], object]) -> None:
    """Change a file, and list it as if it had been so."""
    found = json.loads((place / folder.MANIFEST).read_text())
    (place / folder.MANIFEST).unlink()
    change()
    folder.seal(place, {key: value for key, value in found.items() if key not in SEALED})


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda m: m["files"].update({"../../etc/passwd": {"sha256": "0" * 64}}), "no plain name"),
        (lambda m: m["files"].update({"..": {"sha256": "0" * 64}}), "no plain name"),
        (lambda m: m["files"].pop(folder.WEIGHTS), "safetensors: is not listed"),
        (lambda m: m["files"].pop(folder.GRAPH), "onnx: is not listed"),
        (lambda m: m.update(files=[1]), "does not say what was exported"),
        (lambda m: m.pop("files"), "does not say what was exported"),
        (lambda m: m.pop("onnx"), "does not say what was exported"),
        (lambda m: m["files"].update({folder.CARD: 1}), "has no SHA-256"),
        (lambda m: m.pop("precision"), "cannot be used: KeyError"),
    ],
)
def test_a_manifest_that_says_nonsense_is_refused(
    copy: Path, change: Callable[[dict[str, Any]], object], why: str
) -> None:
    listed(copy, change)
    with pytest.raises(RunError, match=why):
        inference.open_folder(copy, "torch")


def test_nothing_but_regular_files_is_opened(copy: Path) -> None:
    (copy / folder.CARD).unlink()
    os.mkfifo(copy / folder.CARD)  # reading it would wait for ever
    with pytest.raises(RunError, match="is no regular file"):
        folder.verified(copy)


def rewritten(name: str, **changes: Any) -> Callable[[Path], None]:
    def write(place: Path) -> None:
        known = json.loads((place / name).read_text())
        folder.write_json(place / name, {**known, **changes})

    return write


def model(**changes: Any) -> Callable[[Path], None]:
    def write(place: Path) -> None:
        tensors, facts = checkpoint.load(place / folder.WEIGHTS)
        facts["model"].update(changes)
        checkpoint.save(place / folder.WEIGHTS, tensors, facts)

    return write


def newer(place: Path) -> None:
    import onnx

    graph = onnx.load(place / folder.GRAPH)
    graph.ir_version = 99
    onnx.save(graph, place / folder.GRAPH)


ONE, OTHER = ({"class": i, "name": n, "colour": [i, 0, 0]} for i, n in enumerate("ab"))
BROKEN: dict[str, tuple[Callable[[Path], object], Runtime, str]] = {
    "T = 0": (rewritten(folder.CALIBRATION, value=0.0), "torch", "no temperature"),
    "T < 0": (rewritten(folder.CALIBRATION, value=-2), "torch", "no temperature"),
    "one class": (rewritten(folder.CLASSES, classes=[ONE]), "onnx", "and the model background"),
    "other classes": (rewritten(folder.CLASSES, classes=[ONE, OTHER]), "onnx", "and the model"),
    "twice": (rewritten(folder.CLASSES, classes=[ONE, ONE]), "torch", "has a class twice"),
    "no classes": (rewritten(folder.CLASSES, classes=3), "torch", "cannot be used"),
    "no size": (rewritten(folder.PREPROCESSING, resize={}), "torch", "cannot be used: KeyError"),
    "unknown model": (model(name="unet_future"), "torch", "cannot be loaded.*unet_future"),
    "other shapes": (model(width=6), "torch", "cannot be loaded"),
    "a newer graph": (newer, "onnx", "onnxruntime cannot load it"),
    "no graph": (lambda p: (p / folder.GRAPH).write_bytes(b"junk"), "onnx", "cannot load it"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_folder_that_cannot_be_used_is_refused(
    copy: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    change, runtime, why = BROKEN[name]
    resealed(copy, lambda: change(copy))
    listed(copy, lambda m: m["versions"].update(segsweep="99.0"))
    with pytest.raises(RunError, match=why) as caught:
        inference.open_folder(copy, runtime)
    if "cannot be loaded" in str(caught.value):
        assert "exported by segsweep 99.0, here" in str(caught.value)
        assert "--runtime" in str(caught.value)


def test_a_killed_export_leaves_nothing(tmp_path: Path) -> None:
    """SIGTERM is cleaned up after; what SIGKILL has left goes with the next export."""
    ended = subprocess.Popen(["true"])
    ended.wait()
    dead, alive, other = (
        tmp_path / f".{name}.tmp" for name in (f"out.{ended.pid}", f"out.{os.getppid()}", "out.x")
    )
    for place in (dead, alive, other):
        place.mkdir()
    before = signal.getsignal(signal.SIGTERM)

    def killed() -> None:
        with folder.staged(tmp_path / "out") as place:
            assert place.is_dir()
            assert not dead.exists()
            os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(KeyboardInterrupt):
        killed()
    assert signal.getsignal(signal.SIGTERM) is before
    assert sorted(tmp_path.iterdir()) == sorted([alive, other])


def test_an_opset_is_judged_before_anything_is_trained(
    launched: Launched, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """onnx writes what onnxruntime cannot load."""
    import onnx

    monkeypatch.setattr(retraining, "run_trial", None)
    newest = onnx.defs.onnx_opset_version()
    for opset, why in ((newest + 1, "there is no opset"), (newest, "onnxruntime cannot load")):
        with pytest.raises(RunError, match=rf"--opset: .*{why}.*\n.*many need 18"):
            export(launched.path, tmp_path / "out", opset=opset, retrain_all=True)
    assert not list(tmp_path.iterdir())
