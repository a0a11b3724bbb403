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

from segsweep import pixelcounts
from segsweep.cli import app
from segsweep.data import sources
from segsweep.errors import RunError
from segsweep.export import folder, inference
from segsweep.export.inference import Runtime, Shipped
from segsweep.export.predicting import Options, predict
from segsweep.progress import EVIDENCE
from tests.export.conftest import Launched
from tests.export.pictures import opened, picture, rows, save


@pytest.mark.parametrize("runtime", ["onnx", "torch"])
def test_masks_are_the_trials_own(
    launched: Launched, exported: Path, tmp_path: Path, runtime: Runtime
) -> None:
    own = pixelcounts.read(launched.trial / EVIDENCE, "examples.prediction")
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
    found = rows(tmp_path / "out")
    assert [row["name"] for row in found] == ["a", "deep/b"]
    assert sum(found[0]["shares"].values()) == pytest.approx(1)


@pytest.fixture(scope="module")
def warm(exported: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The export with T = 2."""
    out = tmp_path_factory.mktemp("warm") / "fold"
    shutil.copytree(exported, out)
    facts = json.loads((out / folder.MANIFEST).read_text())
    (out / folder.MANIFEST).unlink()
    known = json.loads((out / folder.CALIBRATION).read_text())
    folder.write_json(out / folder.CALIBRATION, {**known, "value": 2.0})
    kept = {k: v for k, v in facts.items() if k in ("source", "data", "model", "precision", "onnx")}
    folder.seal(out, kept)
    return out


@pytest.fixture(scope="module")
def lesion(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A picture of the trained size of which the model paints a part."""
    source = sources.build("synthetic_lesions", root=None, options={"images": 12})
    native = source.read(source.samples()[0])[0]
    small = Image.fromarray(native).resize((32, 32))
    return save(tmp_path_factory.mktemp("lesion") / "a.png", np.asarray(small))


def logits_by_hand(export: Path, image: NDArray[np.uint8]) -> NDArray[np.float32]:
    """(H, W) of an image that needs no resizing, with nothing of segsweep's."""
    import onnxruntime

    facts = json.loads((export / folder.PREPROCESSING).read_text())
    session = onnxruntime.InferenceSession(str(export / folder.GRAPH))
    given = (image / 255 - np.asarray(facts["mean"])) / np.asarray(facts["std"])
    batch = given.transpose(2, 0, 1)[None].astype(np.float32)
    found: NDArray[np.float32] = session.run(None, {"image": batch})[0][0, 0]
    return found


def sigmoid(logits: NDArray[Any]) -> NDArray[Any]:
    found: NDArray[Any] = 1 / (1 + np.exp(-logits))
    return found


def test_everything_written_is_what_the_model_says(
    warm: Path, lesion: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    predict(warm, lesion, out)
    image, logits = opened(lesion), logits_by_hand(warm, opened(lesion))
    with np.load(out / "probabilities/a.npz") as file:
        np.testing.assert_allclose(file["probabilities"][0], sigmoid(logits / 2), atol=1e-3)
    assert np.abs(sigmoid(logits) - sigmoid(logits / 2)).max() > 0.01
    classes = json.loads((warm / folder.CLASSES).read_text())["classes"]
    colours = [one["colour"] for one in classes]
    assert colours == [[0, 0, 0], [128, 0, 0]]
    with Image.open(out / "masks/a.png") as mask:
        assert mask.mode == "P"
        palette = mask.getpalette()
        painted = np.asarray(mask) == 1
    assert palette is not None
    assert palette[:6] == [part for colour in colours for part in colour]
    clear = np.abs(logits) > 1e-4
    assert np.array_equal(painted[clear], (logits > 0)[clear])
    assert 0 < painted.sum() < painted.size
    overlay = opened(out / "overlays/a.png")
    assert np.array_equal(overlay[~painted], image[~painted])  # background is left
    half = (image[painted].astype(float) + colours[1]) / 2
    assert np.abs(overlay[painted] - half).max() <= 0.5


def test_what_is_written_is_what_was_asked_for(warm: Path, lesion: Path, tmp_path: Path) -> None:
    options = ["--masks", "ids", "--probabilities", "png", "--no-overlays", "--runtime", "torch"]
    arguments = ["predict", warm, lesion, "--out", tmp_path / "out", *options]
    done = CliRunner().invoke(app, [str(one) for one in arguments])
    assert done.exit_code == 0, done.output
    logits = logits_by_hand(warm, opened(lesion))
    with Image.open(tmp_path / "out/masks/a.png") as mask:
        assert mask.mode == "L"
        assert set(np.unique(np.asarray(mask))) == {0, 1}
    grey = opened(tmp_path / "out/probabilities/a.png")
    assert np.abs(grey - 255 * sigmoid(logits / 2)).max() <= 0.51
    assert not (tmp_path / "out/overlays").exists()
    assert not (tmp_path / "out/probabilities/a.npz").exists()


def test_results_inside_the_input_are_not_its_images(
    exported: Path, lesion: Path, tmp_path: Path
) -> None:
    save(tmp_path / "a.png", opened(lesion))
    for out in ("one", "deep/two", "one"):
        found = predict(exported, tmp_path, tmp_path / out, runtime="torch")
        assert (found.done, found.failed) == (1, ())
        assert [row["name"] for row in rows(tmp_path / out)] == ["a"]


def test_tiles_of_a_real_model_are_its_logits_on_them(warm: Path, tmp_path: Path) -> None:
    image = picture(32, 56, 3)
    save(tmp_path / "a.png", image)
    predict(warm, tmp_path / "a.png", tmp_path / "out", Options(tile=True))
    with np.load(tmp_path / "out/probabilities/a.npz") as file:
        found = file["probabilities"][0].astype(np.float32)
    left, right = (sigmoid(logits_by_hand(warm, image[:, x : x + 32]) / 2) for x in (0, 24))
    np.testing.assert_allclose(found[:, :24], left[:, :24], atol=1e-3)
    np.testing.assert_allclose(found[:, 32:], right[:, 8:], atol=1e-3)
    low, high = np.minimum(left[:, 24:], right[:, :8]), np.maximum(left[:, 24:], right[:, :8])
    assert (found[:, 24:32] > low - 1e-3).all()
    assert (found[:, 24:32] < high + 1e-3).all()
    assert np.abs(left[:, 24:] - right[:, :8]).max() > 0.01


def mean_model(size: tuple[int, int] = (8, 12)) -> Shipped:
    """Each pixel's logit is its own red value, and so does not depend on tiles."""
    return Shipped(
        run=lambda x: x[:, :1].clone(), runtime="torch", size=size,
        colours={"a": "#000000", "b": "#ff0000"}, temperature=1.0, mean=(0.5,) * 3,
        std=(0.25,) * 3,
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
    arguments[-1] = tmp_path / "again"
    told = json.loads(CliRunner().invoke(app, [str(one) for one in [*arguments, "--json"]]).stdout)
    assert (told["done"], told["runtime"]) == (3, "onnx")
    assert told["failed"][0]["where"].endswith("bad.png")


def test_an_export_is_told_as_json(launched: Launched, tmp_path: Path) -> None:
    arguments = ["export", launched.path, "--out", tmp_path / "out", "--no-onnx", "--json"]
    done = CliRunner().invoke(app, [str(one) for one in arguments])
    assert done.exit_code == 0, done.output
    told = json.loads(done.stdout)
    assert (told["config_id"], told["onnx"]) == (launched.champion.config_id, None)
    assert told["temperature"]["source"] == "fitted on the holdout"


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
