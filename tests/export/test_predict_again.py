"""``predict`` where something goes wrong: the others are done, and the same command goes on."""

from __future__ import annotations

import errno
import json
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from segsweep.cli import app, show
from segsweep.data.image_file import Pixels
from segsweep.errors import DiskFull, RunError
from segsweep.export import images, inference, record
from segsweep.export.predicting import Options, predict
from tests.export.pictures import picture, rows, save

NAMES = ("a", "b", "c")


@pytest.fixture
def source(tmp_path: Path) -> Path:
    for name in NAMES:
        save(tmp_path / "in" / f"{name}.png", picture(20, 24, 3))
    return tmp_path / "in"


def summary(out: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((out / "predictions.json").read_text())
    return found


def masks(out: Path) -> list[str]:
    return sorted(path.name for path in (out / "masks").iterdir())


def call(*arguments: object) -> Any:
    return CliRunner().invoke(app, [str(one) for one in arguments])


def kill(count: int, of: int) -> None:
    if count == 1:
        os.kill(os.getpid(), signal.SIGINT)


@pytest.mark.parametrize(
    "error",
    [
        MemoryError("Unable to allocate 80 GiB"),
        torch.OutOfMemoryError("out of memory"),
        OSError(errno.EIO, "Input/output error"),
    ],
)
def test_an_image_that_fails_is_listed_and_the_others_done(
    exported: Path, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    read = images.stored

    def fail(path: Path, depth: int) -> tuple[Pixels, str]:
        if path.name == "b.png":
            raise error
        return read(path, depth)

    monkeypatch.setattr(images, "stored", fail)
    found = predict(exported, source, tmp_path / "out", runtime="torch")
    assert (found.done, found.complete) == (2, True)
    assert found.failed[0].where == str(source / "b.png")
    assert masks(tmp_path / "out") == ["a.png", "c.png"]
    assert summary(tmp_path / "out")["failed"][0]["image"] == str(source / "b.png")
    monkeypatch.undo()  # and is tried again
    found = predict(exported, source, tmp_path / "out", runtime="torch")
    assert (found.done, found.already, found.failed) == (3, 2, ())


def test_what_onnxruntime_raises_is_of_one_image(exported: Path) -> None:
    shipped = inference.open_folder(exported, "onnx")
    with pytest.raises(RuntimeError, match=r"onnxruntime: .*: "):
        shipped.run(torch.zeros(1, 5, 32, 32))


def test_names_may_be_as_long_as_names_can_be(exported: Path, source: Path, tmp_path: Path) -> None:
    long = "x" * 245
    for name in (f"{long}.png", f"{long}yyyyyy.png", f"{long}yyyyyy.jpg"):
        save(source / name, picture(20, 24, 3))
    found = predict(exported, source, tmp_path / "out", runtime="torch")
    assert found.done == 4
    assert f"{long}.png" in masks(tmp_path / "out")
    assert "too long" in str(found.failed[0])  # with both suffixes
    assert len(found.failed) == 2
    assert not [p for p in (tmp_path / "out").rglob("*") if len(p.name) > 250]


def test_after_an_interruption_the_same_command_goes_on(
    exported: Path, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    @contextmanager
    def killing(*_: object) -> Iterator[Callable[[int, int], None]]:
        yield kill

    arguments = ["predict", exported, source, "--out", tmp_path / "out", "--tile"]
    with monkeypatch.context() as patch:
        patch.setattr(show, "bar", killing)
        done = call(*arguments)
    assert done.exit_code == 130, done.output
    assert f"segsweep predict {exported} {source} --out {tmp_path / 'out'} --tile" in done.output
    assert summary(tmp_path / "out")["complete"] is False
    assert [row["name"] for row in rows(tmp_path / "out")] == ["a"]
    before = (tmp_path / "out/masks/a.png").stat().st_mtime_ns
    done = call(*arguments)
    assert done.exit_code == 0, done.output
    assert "(1 were there already)" in done.output
    assert (tmp_path / "out/masks/a.png").stat().st_mtime_ns == before
    assert summary(tmp_path / "out")["complete"] is True
    predict(exported, source, tmp_path / "straight", Options(tile=True))
    for name in NAMES:
        one, other = (tmp_path / out / "masks" / f"{name}.png" for out in ("out", "straight"))
        assert one.read_bytes() == other.read_bytes()


def test_after_a_full_disk_too(
    exported: Path, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keep = record.Record.save

    def fill(self: record.Record, files: dict[str, bytes], row: dict[str, Any]) -> None:
        if row["name"] == "b":
            raise OSError(errno.ENOSPC, "No space left on device")
        keep(self, files, row)

    with monkeypatch.context() as patch:
        patch.setattr(record.Record, "save", fill)
        with pytest.raises(DiskFull, match="the same command again"):
            predict(exported, source, tmp_path / "out", runtime="torch")
    assert summary(tmp_path / "out")["complete"] is False
    found = predict(exported, source, tmp_path / "out", runtime="torch")
    assert (found.done, found.already) == (3, 1)


def test_what_has_changed_meanwhile_is_predicted_anew(
    exported: Path, source: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    predict(exported, source, out, runtime="torch")
    with (out / "predictions.jsonl").open("a") as file:
        file.write('{"image": "torn')
    save(source / "a.png", picture(30, 24, 3))
    save(source / "b.jpg", picture(20, 24, 3))  # now both are called with their suffix
    (out / "masks/c.png").unlink()
    found = predict(exported, source, out, runtime="torch")
    assert (found.done, found.already) == (4, 0)
    assert masks(out) == ["a.png", "b.jpg.png", "b.png.png", "c.png"]
    with Image.open(out / "masks/a.png") as mask:
        assert mask.size == (24, 30)
    assert len(rows(out)) == 4
    (source / "c.png").unlink()  # its results stay
    assert predict(exported, source, out, runtime="torch").already == 3
    assert "c.png" in masks(out)
    assert len(rows(out)) == 4


def test_other_results_are_not_mixed_with_these(
    exported: Path, source: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    predict(exported, source, out, runtime="torch")
    with pytest.raises(RunError, match="tile False, not True") as caught:
        predict(exported, source, out, Options(tile=True), runtime="torch")
    assert "choose another --out" in str(caught.value)
    with pytest.raises(RunError, match="runtime torch, not onnx"):
        predict(exported, source, out, runtime="onnx")
    with pytest.raises(RunError, match=r"a\.png"):
        predict(exported, source / "a.png", out, runtime="torch")
    stale = summary(out)
    (out / "predictions.json").write_text(json.dumps({**stale, "manifest": "0" * 64}))
    with pytest.raises(RunError, match="manifest 000000000000, not"):
        predict(exported, source, out, runtime="torch")


def test_one_at_a_time_writes_there(exported: Path, source: Path, tmp_path: Path) -> None:
    inner: list[RunError] = []

    def again(count: int, of: int) -> None:
        with pytest.raises(RunError, match="another predict is writing there") as caught:
            predict(exported, source, tmp_path / "out", runtime="torch")
        inner.append(caught.value)

    found = predict(exported, source, tmp_path / "out", runtime="torch", told=again)
    assert (found.done, len(inner)) == (3, 3)


def test_a_place_that_cannot_be_written_is_refused(
    exported: Path, source: Path, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("kept")
    done = call("predict", exported, source, "--out", tmp_path / "file/x/out")
    assert done.exit_code == 2, done.output
    assert "cannot be written: Not a directory" in done.output
    assert "Traceback" not in done.output
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(record, "write_atomically", _refuse)
        with pytest.raises(RunError, match="cannot be written: Read-only"):
            predict(exported, source, tmp_path / "x/y", runtime="torch")
    assert not (tmp_path / "x").exists()


def _refuse(path: Path, text: str) -> None:
    raise OSError(errno.EROFS, "Read-only file system")


@pytest.mark.parametrize("tile", [False, True])
def test_a_lack_of_memory_is_told_with_what_to_do(
    exported: Path, source: Path, tmp_path: Path, tile: bool
) -> None:
    texts = iter(
        [
            RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 8"),
            cv2.error("OpenCV: (-4:Insufficient memory) Failed to allocate 80 bytes"),
            RuntimeError("something else"),
        ]
    )

    def fail(*_: Any, **__: Any) -> Any:
        raise next(texts)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(inference, "logits_of", fail)
        found = predict(exported, source, tmp_path / "out", Options(tile=tile), runtime="torch")
    hint = "make it smaller" if tile else "make it smaller, or predict with --size trained"
    assert [problem.hint for problem in found.failed] == [hint, hint, ""]


def test_no_softmax_where_none_is_asked_for(
    exported: Path, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    predict(exported, source, tmp_path / "all", runtime="torch")
    monkeypatch.setattr(inference, "probabilities_of", None)
    predict(exported, source, tmp_path / "none", Options(probabilities="none"), runtime="torch")
    assert [row["mean_confidence"] for row in rows(tmp_path / "none")] == [
        row["mean_confidence"] for row in rows(tmp_path / "all")
    ]
    with np.load(tmp_path / "all/probabilities/a.npz") as file:
        sure = np.abs(file["probabilities"].astype(float) - 0.5).mean() + 0.5
    assert rows(tmp_path / "all")[0]["mean_confidence"] == pytest.approx(sure, abs=1e-3)
    logits = 3 * torch.randn(4, 5, 6, generator=torch.Generator().manual_seed(0))
    expected = float((logits / 2).softmax(0).amax(0).mean())
    assert inference.confidence_of(logits, 2.0) == pytest.approx(expected, rel=1e-6)


def test_paths_are_told_as_a_shell_takes_them(exported: Path, source: Path, tmp_path: Path) -> None:
    (source / "d.heic").write_bytes(b"x")
    out = tmp_path / "pred[v1] x"
    done = call("predict", exported, source, "--out", out, "--runtime", "torch")
    assert done.exit_code == 0, done.output
    assert f"results in '{out}'" in done.output
    assert f"passed over: 1 .heic, such as {source / 'd.heic'}" in done.output
