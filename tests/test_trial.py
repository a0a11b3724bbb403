"""A trial: what is in the config reaches the trainer, and a trial goes on as if never stopped."""

from __future__ import annotations

import errno
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch

from segsweep import checkpoint, checksum, losses, optim, trial
from segsweep.check import Checked, check
from segsweep.closing import model_of
from segsweep.data.loader import Loader
from segsweep.engine import evaluate, prepare_process
from segsweep.progress import BEST, EVIDENCE, LAST, PREVIOUS, Progress, Report
from segsweep.trial import Inputs, run_trial
from tests.helpers import tiny, write_sweep


@pytest.fixture(scope="module")
def checked(tmp_path_factory: pytest.TempPathFactory) -> Checked:
    folder = tmp_path_factory.mktemp("trial")
    return check(write_sweep(folder, tiny(train__epochs=4)), ["train.precision=fp32"])


def inputs(checked: Checked) -> Inputs:
    return Inputs(checked.data, checked.folds, run_directory="unused")


def config(checked: Checked, **values: Any) -> Mapping[str, Any]:
    return checked.cells[0].fill({k.replace("__", "."): v for k, v in values.items()})


def reports(checked: Checked, place: Path, fold: int = 0, **values: Any) -> list[Report]:
    return list(run_trial(config(checked, **values), fold, inputs(checked), place))


def numbers(found: list[Report]) -> list[dict[str, Any]]:
    """Without what a clock says."""
    return [{k: v for k, v in r.items() if "seconds" not in k} for r in found]


def test_a_trial_reports_each_epoch_and_its_end(checked: Checked, tmp_path: Path) -> None:
    found = reports(checked, tmp_path)
    assert [r.get("epoch") for r in found] == [1, 2, 3, 4, None]
    assert found[-1] == {"status": "finished"}
    assert found[-2]["train_loss"] < found[0]["train_loss"]
    for name in ("val_loss", "val_iou", "val_dice", "val_precision", "val_recall", "lr"):
        assert name in found[0]
    values = [r["val_iou"] or -1 for r in found[:-1]]
    assert found[-2]["best_epoch"] == values.index(max(values)) + 1


def test_same_seed_same_numbers(checked: Checked, tmp_path: Path) -> None:
    first = reports(checked, tmp_path / "a")
    torch.manual_seed(99)
    torch.set_default_dtype(torch.float64)  # what a trial before might have left behind
    assert numbers(reports(checked, tmp_path / "b")) == numbers(first)
    assert numbers(reports(checked, tmp_path / "c", seed=1)) != numbers(first)
    assert numbers(reports(checked, tmp_path / "d", fold=1)) != numbers(first)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("train__lr", 0.5),
        ("train__batch_size", 2),
        ("train__optimizer", "sgd"),
        ("train__schedule", "constant"),
        ("train__augment", "strong"),
        ("train__weight_decay", 0.9),
        ("train__grad_clip", 1e-3),
        ("train__epochs", 5),
        ("loss__bce__pos_weight", 5.0),
        ("model__norm", "none"),
        ("model__width", 3),
    ],
)
def test_every_setting_reaches_the_trainer(
    checked: Checked, tmp_path: Path, path: str, value: Any
) -> None:
    base = numbers(reports(checked, tmp_path / "a"))
    other = numbers(reports(checked, tmp_path / "b", **{path: value}))
    assert other[2] != base[2]


def interrupted(found: Iterator[Report], after: int) -> list[Report]:
    kept = [next(found) for _ in range(after)]
    found.close()  # type: ignore[attr-defined]
    return kept


@pytest.mark.parametrize("schedule", ["cosine", "plateau"])
@pytest.mark.parametrize("stop", [1, 3])
def test_a_trial_goes_on_bit_equal(
    checked: Checked, tmp_path: Path, schedule: str, stop: int
) -> None:
    settings: dict[str, Any] = {"train__schedule": schedule, "train__augment": "medium"}
    whole = reports(checked, tmp_path / "whole", **settings)
    place = tmp_path / "parts"
    begun = run_trial(config(checked, **settings), 0, inputs(checked), place)
    first = interrupted(begun, stop)
    torch.manual_seed(12345)
    rest = list(run_trial(config(checked, **settings), 0, inputs(checked), place))
    assert rest[0] == first[-1]  # its report may have been lost
    assert numbers(first + rest[1:]) == numbers(whole)
    for name in (BEST, LAST):
        a, b = (checkpoint.load(tmp_path / side / name)[0] for side in ("whole", "parts"))
        assert all(torch.equal(a[key], b[key]) for key in a)


def damage(path: Path, how: str) -> None:
    raw = bytearray(path.read_bytes())
    if how == "truncated":
        del raw[-1]
    else:
        raw[len(raw) // 2] ^= 1
    path.write_bytes(raw)


@pytest.mark.parametrize("how", ["truncated", "bit flipped"])
@pytest.mark.parametrize(("names", "goes_on_from"), [([LAST], 2), ([LAST, PREVIOUS], 0)])
def test_a_damaged_checkpoint_is_told_and_changes_no_number(
    checked: Checked, tmp_path: Path, how: str, names: list[str], goes_on_from: int
) -> None:
    whole = reports(checked, tmp_path / "whole")
    place = tmp_path / "parts"
    interrupted(run_trial(config(checked), 0, inputs(checked), place), 3)
    for name in names:
        damage(place / name, how)
    told, *rest = reports(checked, place)
    assert told["epoch"] == goes_on_from
    assert [text.split()[0] for text in told["damaged"]] == names
    assert numbers(rest) == numbers(whole)[max(0, goes_on_from - 1) :]
    for name in (BEST, LAST, PREVIOUS):
        a, b = (checkpoint.load(tmp_path / side / name)[0] for side in ("whole", "parts"))
        assert all(torch.equal(a[key], b[key]) for key in a)


def test_a_disk_that_does_not_answer_costs_no_checkpoint(
    checked: Checked, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stale handle says nothing about what the file holds."""
    whole = reports(checked, tmp_path / "whole")
    place = tmp_path / "parts"
    interrupted(run_trial(config(checked), 0, inputs(checked), place), 3)

    def stale(path: Path) -> None:
        raise OSError(116, "Stale file handle", str(path))

    with monkeypatch.context() as patch:
        patch.setattr("segsweep.checksum.verify", stale)
        (end,) = reports(checked, place)
    assert (end["status"], "Stale file handle" in end["error"]) == ("lost", True)
    assert numbers(reports(checked, place)) == numbers(whole)[2:]


@pytest.mark.parametrize("names", [[LAST], [LAST, PREVIOUS]])
def test_a_checkpoint_that_cannot_be_read_is_left_alone(
    checked: Checked, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, names: list[str]
) -> None:
    whole = reports(checked, tmp_path / "whole")
    place = tmp_path / "parts"
    interrupted(run_trial(config(checked), 0, inputs(checked), place), 3)
    before = {name: (place / name).read_bytes() for name in (LAST, PREVIOUS)}
    real = checksum.verify

    def unread(path: Path) -> None:
        if path.name in names:
            raise OSError(errno.EIO, "Input/output error", str(path))
        real(path)

    monkeypatch.setattr(checksum, "verify", unread)
    going = run_trial(config(checked), 0, inputs(checked), place)
    first = next(going)
    assert {name: (place / name).read_bytes() for name in (LAST, PREVIOUS)} == before
    if names == [LAST, PREVIOUS]:
        assert first["status"] == "lost"
        return
    assert (first["epoch"], [text.split()[0] for text in first["damaged"]]) == (2, [LAST])
    rest = [next(going), next(going)]  # epoch 2 again, then 3, which writes a new ``last``
    assert (place / PREVIOUS).read_bytes() == before[PREVIOUS]  # the one that could be read
    assert numbers([*rest, *going]) == numbers(whole)[1:]


def test_a_trial_of_the_cpu_leaves_the_gpu_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A look at its random state alone takes some hundred MB of it."""
    touched: list[str] = []
    cpu, model = torch.device("cpu"), torch.nn.Linear(1, 1)
    optimizer = torch.optim.SGD(model.parameters())
    schedule = optim.build_schedule("constant", optimizer, epochs=2, goal="maximize", patience=1)
    scaler = torch.amp.GradScaler("cpu", enabled=False)
    progress = Progress(tmp_path, model, optimizer, schedule, scaler, cpu)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    for name in ("get_rng_state", "set_rng_state", "empty_cache"):
        monkeypatch.setattr(torch.cuda, name, lambda *_, name=name: touched.append(name))
    prepare_process(0, 1, cpu)
    progress.save_last({"epoch": 1})
    assert progress.resume() == {"epoch": 1}
    assert touched == []
    assert not torch.are_deterministic_algorithms_enabled()


def test_a_worker_that_died_between_two_checkpoints_goes_on(
    checked: Checked, tmp_path: Path
) -> None:
    whole = reports(checked, tmp_path / "whole")
    place = tmp_path / "parts"
    interrupted(run_trial(config(checked), 0, inputs(checked), place), 3)
    (place / LAST).unlink()  # moved aside already, and the new one not yet in its place
    litter = place / f".{LAST}.12345.tmp"
    litter.write_bytes(b"half")
    assert numbers(reports(checked, place)) == numbers(whole)[1:]
    assert not litter.exists()


def test_patience_ends_a_trial_that_no_longer_improves(checked: Checked, tmp_path: Path) -> None:
    found = reports(checked, tmp_path, train__lr=1e-12, train__epochs=9, train__patience=2)
    assert found[-1]["status"] == "finished"
    assert len(found) - 1 == found[-2]["best_epoch"] + 2 < 9


def test_a_loss_that_is_not_a_number_is_diverged(checked: Checked, tmp_path: Path) -> None:
    found = reports(checked, tmp_path, train__lr=1e30, train__optimizer="sgd")
    assert found[-1]["status"] == "diverged"
    assert len(found) <= 2
    assert "loss is" in found[-1]["error"]


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (torch.OutOfMemoryError("CUDA out of memory"), "out_of_memory"),
        (MemoryError(), "out_of_memory"),
        (RuntimeError("CUDA error: out of memory"), "out_of_memory"),
        (OSError(errno.ENOSPC, "No space left on device"), "incomplete"),
        (OSError(errno.EACCES, "Permission denied"), "failed"),
        (OSError(errno.ESTALE, "Stale file handle"), "lost"),
        (RuntimeError("broken\nlong story"), "failed"),
    ],
)
def test_an_error_becomes_a_status(
    checked: Checked, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception, status: str
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise error

    monkeypatch.setattr(trial, "train_epoch", fail)
    (found,) = reports(checked, tmp_path)
    assert found["status"] == status
    assert type(error).__name__ in found["error"]
    assert "long story" not in found["error"]


def test_best_checkpoint_and_evidence_are_of_the_best_epoch(
    checked: Checked, tmp_path: Path
) -> None:
    found = reports(checked, tmp_path)
    best = found[-2]["best_epoch"]
    tensors, facts = checkpoint.load(tmp_path / BEST)
    assert facts["report"]["epoch"] == best
    assert facts["config"] == config(checked)
    assert any(name.startswith("model.") for name in tensors)
    tensors, facts = checkpoint.load(tmp_path / EVIDENCE)
    validation = checked.folds.validation_indices(0)
    assert facts["epoch"] == best
    assert facts["image_ids"] == [checked.data.image_ids[i] for i in validation]
    tp = tensors["matrix"][:, 1, 1].sum().item()
    wrong = (tensors["matrix"][:, 0, 1] + tensors["matrix"][:, 1, 0]).sum().item()
    assert found[best - 1]["val_iou"] == pytest.approx(tp / (tp + wrong))
    assert len(tensors["examples.image"]) == len(facts["examples"]) > 0


@pytest.mark.parametrize("precision", ["bf16"])
def test_mixed_precision_trains(checked: Checked, tmp_path: Path, precision: str) -> None:
    found = reports(checked, tmp_path / "a", train__precision=precision)
    assert found[-1] == {"status": "finished"}
    assert found[-2]["train_loss"] < found[0]["train_loss"]
    assert numbers(found) != numbers(reports(checked, tmp_path / "b"))


@pytest.mark.parametrize(("batch_size", "micro_batch"), [(2, None), (6, None), (6, 2), (6, 1)])
def test_the_validation_loss_of_a_checkpoint_does_not_hang_on_its_batches(
    checked: Checked, tmp_path: Path, batch_size: int, micro_batch: int | None
) -> None:
    values = {"train__batch_size": batch_size, "train__epochs": 1}
    own = {**config(checked, **values), "loss": losses.resolve("dice")}
    found = list(run_trial(own, 0, inputs(checked), tmp_path, micro_batch=micro_batch))
    tensors, facts = checkpoint.load(tmp_path / BEST)
    model = model_of(tensors, facts, 2, torch.device("cpu"))
    rows = checked.folds.validation_indices(0)
    for size in (1, 3, 64):
        loader = Loader(checked.data, rows, batch_size=size, seed=0, shuffle=False)
        loss = losses.build(own["loss"])
        again = evaluate(model, loader.epoch(1), loss, classes=2, device=torch.device("cpu"))
        assert found[0]["val_loss"] == pytest.approx(again.loss, rel=1e-5)
