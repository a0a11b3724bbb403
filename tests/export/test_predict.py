"""``predict``: the trial's own masks, any image, and what cannot be read."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from typer.testing import CliRunner

from segsweep import results
from segsweep.cli import app
from segsweep.data import sources
from segsweep.errors import DataError, RunError
from segsweep.export import folder, images, inference
from segsweep.export.inference import Runtime, Shipped
from segsweep.export.predicting import Options, predict
from segsweep.progress import EVIDENCE
from tests.export.conftest import Launched

RNG = np.random.default_rng(0)


def picture(*shape: int) -> NDArray[np.uint8]:
    return RNG.integers(0, 256, shape).astype(np.uint8)


def save(path: Path, pixels: NDArray[Any]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
    return path


@pytest.mark.parametrize("runtime", ["onnx", "torch"])
def test_masks_are_the_trials_own(
    launched: Launched, exported: Path, tmp_path: Path, runtime: Runtime
) -> None:
    own = results.read_evidence(launched.trial / EVIDENCE, "examples.prediction")
    assert own is not None
    expected, facts = own
    source = sources.build("synthetic_lesions", root=None, options={"images": 12})
    known = {sample.image_id: sample for sample in source.samples()}
    for name in facts["examples"]:  # as they are before anything is resized
        save(tmp_path / "in" / f"{name}.png", source.read(known[name])[0])
    options = Options(size="trained", probabilities="png")
    predict(exported, tmp_path / "in", tmp_path / "out", options, runtime=runtime)
    assert len(np.unique(expected)) == 2
    for name, mask in zip(facts["examples"], expected, strict=True):
        with Image.open(tmp_path / "out/masks" / f"{name}.png") as found:
            assert np.array_equal(np.asarray(found), mask)


def test_results_have_the_images_size_and_agree(exported: Path, tmp_path: Path) -> None:
    save(tmp_path / "in/a.png", picture(45, 61, 3))
    save(tmp_path / "in/deep/b.jpg", picture(20, 30, 3))
    seen: list[tuple[int, int]] = []
    done = predict(
        exported, tmp_path / "in", tmp_path / "out", told=lambda *count: seen.append(count)
    )
    assert (done.done, done.failed, seen) == (2, (), [(1, 2), (2, 2)])
    for name, size in (("a", (45, 61)), ("deep/b", (20, 30))):
        with Image.open(tmp_path / "out/masks" / f"{name}.png") as picked:
            mask = np.asarray(picked)
        with np.load(tmp_path / "out/probabilities" / f"{name}.npz") as file:
            chances = file["probabilities"]
        assert mask.shape == size
        assert chances.shape == (1, *size)
        assert chances.dtype == np.float16
        clear = np.abs(chances[0].astype(float) - 0.5) > 1e-3
        assert np.array_equal((chances[0] > 0.5)[clear], (mask == 1)[clear])
        with Image.open(tmp_path / "out/overlays" / f"{name}.png") as shown:
            assert shown.size == size[::-1]
    summary = json.loads((tmp_path / "out/predictions.json").read_text())
    assert [row["name"] for row in summary["images"]] == ["a", "deep/b"]
    assert sum(summary["images"][0]["shares"].values()) == pytest.approx(1)


def mean_model(size: tuple[int, int] = (8, 12)) -> Shipped:
    """Each pixel's logit is its own red value, and so does not depend on tiles."""
    return Shipped(
        run=lambda x: x[:, :1].clone(), runtime="torch", size=size, classes=("a", "b"),
        palette=np.zeros((2, 3), np.uint8), temperature=1.0, mean=(0.5,) * 3, std=(0.25,) * 3,
    )  # fmt: skip


@pytest.mark.parametrize("size", [(8, 12), (9, 12), (40, 31), (3, 50), (1, 1)])
def test_tiles_cover_every_pixel_once(size: tuple[int, int]) -> None:
    image = picture(*size, 3)
    found = inference.logits_of(mean_model(), image, tile=True)
    expected = (torch.from_numpy(image[..., 0]).float() / 255 - 0.5) / 0.25
    torch.testing.assert_close(found[0], expected, atol=1e-5, rtol=1e-5)


def test_neighbouring_tiles_share_a_quarter() -> None:
    for length in (33, 64, 100, 1000):
        starts = inference._corners(length, 32)
        assert (starts[0], starts[-1]) == (0, length - 32)
        assert max(np.diff(starts)) <= 24


def test_the_input_is_the_trainings(exported: Path) -> None:
    from segsweep.engine import prepare_images

    image = picture(32, 32, 3)
    expected = prepare_images(
        torch.from_numpy(image[None]).permute(0, 3, 1, 2), torch.device("cpu")
    )
    shipped = inference.open_folder(exported, "torch")
    assert torch.equal(inference._normalised(shipped, image[None]), expected)


def test_a_temperature_moves_probabilities_and_no_mask() -> None:
    logits = torch.randn(3, 5, 5)
    cold, warm = (inference.probabilities_of(logits, t) for t in (1.0, 3.0))
    np.testing.assert_allclose(warm, (logits / 3).softmax(0).numpy(), rtol=1e-6)
    assert np.array_equal(cold.argmax(0), warm.argmax(0))
    assert warm.max() < cold.max()


def test_images_that_can_be_converted_are(tmp_path: Path) -> None:
    grey = picture(6, 7)
    rgb, how = images.read(save(tmp_path / "grey.png", grey))
    assert np.array_equal(rgb, np.stack([grey] * 3, axis=-1))
    assert "grey" in how
    colour = picture(6, 7, 3)
    opaque = np.concatenate([colour, np.full((6, 7, 1), 255, np.uint8)], axis=-1)
    rgb, how = images.read(save(tmp_path / "opaque.png", opaque))
    assert np.array_equal(rgb, colour)
    assert "alpha" in how
    deep = (grey.astype(np.uint16) << 8) + 7
    deep[0, 0] = 65535
    rgb, how = images.read(save(tmp_path / "deep.png", deep))
    assert np.array_equal(rgb[..., 0].ravel()[1:], grey.ravel()[1:])
    assert "16 bits" in how
    assert images.read(save(tmp_path / "plain.png", colour))[1] == ""


@pytest.mark.parametrize(
    ("pixels", "why"),
    [
        (picture(5, 5, 4), "transparent"),
        ((picture(5, 5).astype(np.uint16) << 4), "16 bits a channel, of which the brightest"),
        (np.zeros((5, 5), np.float32), "float32"),
    ],
)
def test_images_that_would_need_guessing_are_refused_by_name(
    pixels: NDArray[Any], why: str, tmp_path: Path
) -> None:
    path = save(tmp_path / ("x.tif" if pixels.dtype == np.float32 else "x.png"), pixels)
    with pytest.raises(DataError, match=why) as caught:
        images.read(path)
    assert caught.value.problems[0].where == str(path)


def test_unreadable_images_are_listed_and_the_others_done(exported: Path, tmp_path: Path) -> None:
    save(tmp_path / "in/good.png", picture(20, 20, 3))
    save(tmp_path / "in/same.png", picture(20, 20, 3))
    save(tmp_path / "in/same.jpg", picture(20, 20, 3))
    (tmp_path / "in/bad.png").write_bytes(b"nothing")
    arguments = ["predict", exported, tmp_path / "in", "--out", tmp_path / "out"]
    done = CliRunner().invoke(app, [str(one) for one in [*arguments, "--runtime", "torch"]])
    assert done.exit_code == 3, done.output
    assert "3 images by torch" in done.output
    assert "1 not predicted" in done.output
    assert "bad.png: damaged, or not an image file" in done.output
    masks = sorted(path.name for path in (tmp_path / "out/masks").iterdir())
    assert masks == ["good.png", "same.jpg.png", "same.png.png"]


@pytest.mark.parametrize("command", ["changed", "empty", "taken", "no graph"])
def test_bad_input_is_refused_and_nothing_written(
    command: str, launched: Launched, exported: Path, tmp_path: Path
) -> None:
    shutil.copytree(exported, tmp_path / "export")
    save(tmp_path / "in/a.png", picture(20, 20, 3))
    out, options = tmp_path / "out", ["--runtime", "onnx"]
    expected = "is not what was exported"
    if command == "changed":
        with (tmp_path / "export" / folder.WEIGHTS).open("ab") as file:
            file.write(b"x")
    elif command == "empty":
        (tmp_path / "in/a.png").unlink()
        expected = "holds no images"
    elif command == "taken":
        out, expected = tmp_path / "in", "is there already"
    else:
        run = ["export", str(launched.path), "--out", str(tmp_path / "bare"), "--no-onnx"]
        done = CliRunner().invoke(app, run)
        assert done.exit_code == 0, done.output
        (tmp_path / "bare").replace(tmp_path / "export2")
        shutil.rmtree(tmp_path / "export")
        (tmp_path / "export2").replace(tmp_path / "export")
        expected = "without an ONNX graph"
    arguments = ["predict", tmp_path / "export", tmp_path / "in", "--out", out, *options]
    done = CliRunner().invoke(app, [str(one) for one in arguments])
    assert done.exit_code == 2, done.output
    assert expected in done.output
    assert not (tmp_path / "out").exists()


def test_options_that_do_not_go_together(exported: Path, tmp_path: Path) -> None:
    with pytest.raises(RunError, match="--tile"):
        predict(exported, tmp_path, tmp_path / "out", Options(tile=True, size="trained"))
