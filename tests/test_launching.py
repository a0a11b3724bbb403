"""``launch`` in this process: the whole way from a sweep file to Parquet and the holdout."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import torch
from rich.console import Console

from segsweep import closing, engine, identity, results, rundir, spec, trial
from segsweep import launching as launch_module
from segsweep.check import check
from segsweep.data import cache, decoding
from segsweep.data.sources import folder as folder_source
from segsweep.errors import RunError, WeightsError
from segsweep.launching import Outcome, launch
from segsweep.runners.inline import InlineRunner
from segsweep.state import SearchState
from tests.data.builders import make_folder, picture, save
from tests.helpers import events, tiny, write_sweep


def run(folder: Path, *overrides: str, **changes: Any) -> Outcome:
    return launch(write_sweep(folder, tiny(**changes)), overrides, runner="inline")


def table(outcome: Outcome, name: str) -> list[dict[str, Any]]:
    found = pq.read_table(outcome.run_directory / "results" / f"{name}.parquet")
    assert found.schema.metadata[b"segsweep_schema"] == results.SCHEMA_VERSION.encode()
    rows: list[dict[str, Any]] = found.to_pylist()
    return rows


def test_a_whole_sweep(tmp_path: Path) -> None:
    outcome = run(tmp_path)
    assert outcome.exit_code == 0
    assert outcome.started == 2 * 2 * 2  # cells × configs × folds
    assert [row.final for row in outcome.ranking] == [True, True]
    assert outcome.ranking[0].mean >= outcome.ranking[1].mean
    for name in ("sweep.yaml", "resolved.yaml", "optuna.journal", "ledger/events.jsonl"):
        assert (outcome.run_directory / name).exists()


def test_results_hold_the_documented_columns_and_agree_with_each_other(tmp_path: Path) -> None:
    outcome = run(tmp_path)
    trials, epochs = table(outcome, "trials"), table(outcome, "epochs")
    documented = {
        "trial_id", "config_id", "cell", "model", "encoder", "loss", "fold", "replicate", "params",
        "status", "stopped_by", "epochs", "best_epoch", "metric", "val_loss", "val_iou",
        "train_seconds", "images_per_second", "parameters", "attempts", "node", "error",
    }  # fmt: skip
    assert documented <= set(trials[0])
    curve = {"trial_id", "epoch", "train_loss", "val_loss", "val_iou", "lr", "seconds"}
    assert curve <= set(epochs[0])
    assert len(trials) == 8
    assert len(epochs) == 16
    images = table(outcome, "images")
    assert set(images[0]) == {
        "trial_id", "split", "image_id", "class", "tp", "fp", "fn", "valid",
    }  # fmt: skip
    for row in trials:
        own = [i for i in images if i["trial_id"] == row["trial_id"] and i["split"] == "validation"]
        tp = sum(i["tp"] for i in own)
        union = tp + sum(i["fp"] + i["fn"] for i in own)
        assert row["metric"] == pytest.approx(tp / union)
        assert row["status"] == "finished"
        assert json.loads(row["params"])["train.lr"] > 0
    confusion = [c for c in table(outcome, "confusion") if c["split"] == "validation"]
    assert sum(c["pixels"] for c in confusion) == sum(
        i["valid"] for i in images if i["split"] == "validation"
    )


def test_every_image_validates_once_and_the_holdout_never(tmp_path: Path) -> None:
    outcome = run(tmp_path)
    (split,) = events(outcome.run_directory, "split")
    images = table(outcome, "images")
    by_config: dict[str, list[str]] = {}
    for row in images:
        if row["split"] == "validation":
            by_config.setdefault(row["trial_id"].split("-")[0], []).append(row["image_id"])
    for seen in by_config.values():
        assert sorted(seen) == sorted(split["folds"])
    held = {row["image_id"] for row in images if row["split"] == "holdout"}
    assert held == set(split["holdout"])
    assert not held & set(split["folds"])


def test_the_holdout_is_scored_once_for_champions_alone(tmp_path: Path) -> None:
    outcome = run(tmp_path)
    champions = {event["config_id"] for event in events(outcome.run_directory, "champion")}
    scored = [event["trial_id"] for event in events(outcome.run_directory, "holdout")]
    assert {name.split("-")[0] for name in scored} == champions
    assert len(scored) == len(set(scored)) == 2 * 2
    assert outcome.ranking[0].holdout is not None
    run(tmp_path)
    assert [event["trial_id"] for event in events(outcome.run_directory, "holdout")] == scored


def test_launching_again_starts_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = run(tmp_path)
    before = table(first, "trials")
    monkeypatch.setattr(launch_module, "start", lambda *_: pytest.fail("a runner was started"))
    second = run(tmp_path)
    assert second.started == 0
    assert second.exit_code == 0
    assert table(second, "trials") == before
    assert second.ranking == first.ranking


@pytest.mark.parametrize(
    ("changes", "new_trials"),
    [
        ({"configs_per_cell": 3}, 2 * 2),
        ({"factors__loss": ["bce", "dice", "focal"]}, 2 * 2),
        # a second level of the same model: the first one's cells keep their names
        ({"factors__model": [{"name": "unet_vanilla", "width": w} for w in (2, 3)]}, 2 * 2 * 2),
        ({"folds": {"k": 3, "run": 3}}, 2 * 2),
    ],
)
def test_an_extended_sweep_keeps_its_results(
    tmp_path: Path, changes: dict[str, Any], new_trials: int
) -> None:
    base: dict[str, Any] = {"folds": {"k": 3, "run": 2}}
    run(tmp_path, **base)
    finished = {e["trial_id"] for e in events(tmp_path / "runs/tiny", "end")}
    outcome = run(tmp_path, **{**base, **changes})
    assert outcome.started == new_trials
    assert outcome.exit_code == 0
    ends = [event["trial_id"] for event in events(outcome.run_directory, "end")]
    assert len(ends) == len(set(ends)) == len(finished) + new_trials


@pytest.mark.parametrize(
    ("override", "key"),
    [
        ("train.epochs=3", "train"),
        ("dataset.image_size=[32, 48]", "dataset"),
        ("folds.k=3", "folds.k"),
        ("seed=1", "seed"),
        ("metric.name=val/dice", "metric.name"),
        ("method=bayes", "method"),
        ("parameters.train.lr.max=0.5", "parameters"),
        ("dataset.holdout=0.5", "dataset"),
    ],
)
def test_what_would_not_compare_is_refused_with_the_reason(
    tmp_path: Path, override: str, key: str
) -> None:
    first = run(tmp_path)
    before = (first.run_directory / "ledger/events.jsonl").read_bytes()
    with pytest.raises(RunError) as caught:
        run(tmp_path, override)
    assert key in {problem.key for problem in caught.value.problems}
    assert "→" in str(caught.value)
    assert (first.run_directory / "ledger/events.jsonl").read_bytes() == before


def test_without_resolved_yaml_the_ledger_still_knows_the_settings(tmp_path: Path) -> None:
    first = run(tmp_path)
    (first.run_directory / "resolved.yaml").unlink()
    with pytest.raises(RunError, match="seed"):
        run(tmp_path, "seed=7")
    assert run(tmp_path).ranking == first.ranking


def test_missing_parquet_files_are_written_again(tmp_path: Path) -> None:
    first = run(tmp_path)
    before = table(first, "trials")
    for path in (first.run_directory / "results").iterdir():
        path.unlink()
    assert run(tmp_path).started == 0
    assert table(first, "trials") == before


def test_a_damaged_champion_is_named_and_the_others_are_scored(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from segsweep import checkpoint

    real = checkpoint.load
    damaged: list[Path] = []

    def load(path: Path) -> Any:
        if not damaged:
            damaged.append(path)
            path.write_bytes(path.read_bytes()[:100])
        return real(path)

    monkeypatch.setattr(checkpoint, "load", load)
    outcome = run(tmp_path)
    assert outcome.exit_code == 3
    assert [error for error in outcome.undecided.values() if "cannot be read" in error]
    assert len(events(outcome.run_directory, "holdout")) == 3
    assert len(table(outcome, "trials")) == 8


def test_a_champion_that_overflows_on_the_holdout_costs_no_other_its_scores(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, seen = closing.model_of, list[str]()

    def overflowing(tensors: Any, facts: Any, *rest: Any) -> Any:
        model = real(tensors, facts, *rest)
        if "bce" in facts["config"]["loss"]:
            seen.append("bce")
            for parameter in model.parameters():
                parameter.data.fill_(torch.inf)
        return model

    with monkeypatch.context() as patch:
        patch.setattr(closing, "model_of", overflowing)
        outcome = run(tmp_path)
    assert seen
    assert outcome.exit_code == 3
    assert len(outcome.undecided) == 2
    assert all("Diverged: the validation loss" in why for why in outcome.undecided.values())
    assert len(events(outcome.run_directory, "holdout")) == 2
    assert len(table(outcome, "trials")) == 8
    assert run(tmp_path).exit_code == 0  # a later launch scores them


def test_what_was_split_before_anything_ran_may_be_split_anew(tmp_path: Path) -> None:
    def at_once(*_: Any) -> None:
        raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("segsweep.launching.Interrupt.check", at_once)
        assert run(tmp_path).exit_code == 130
    outcome = run(tmp_path, folds={"k": 3})
    found = rundir.load(outcome.run_directory)
    assert set(found.split["folds"].values()) == {0, 1, 2}
    assert {event["fold"] for event in events(outcome.run_directory, "start")} == {0, 1, 2}
    assert run(tmp_path, folds={"k": 3}).started == 0
    with pytest.raises(RunError, match=r"folds\.k: has changed"):
        run(tmp_path)


def test_a_process_that_breaks_is_counted_and_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Inline there is no other process: the launch ends, and the trial has one attempt less."""

    def broken(*_: Any, **__: Any) -> None:
        raise RuntimeError("CUDA error: device-side assert triggered")

    path = write_sweep(tmp_path, tiny(max_failures=1))
    with monkeypatch.context() as patch:
        patch.setattr(trial, "train_epoch", broken)
        for _ in range(2):
            with pytest.raises(RuntimeError, match="device-side"):
                launch(path, runner="inline")
    outcome = launch(path, runner="inline")
    assert outcome.exit_code == 3
    assert next(iter(outcome.undecided.values())).startswith("CUDA error")
    assert [row.final for row in outcome.ranking] == [True, True]


def test_evidence_that_is_gone_is_named(tmp_path: Path) -> None:
    outcome = run(tmp_path)
    gone = next((outcome.run_directory / "trials").rglob("evidence.safetensors"))
    gone.unlink()
    found = rundir.load(outcome.run_directory)
    notes = results.write(found.path, found.events, found.metric, "maximize")
    assert notes == [f"{gone} is not there: its images are missing from the results"]


def test_an_official_holdout_that_parts_a_group_is_said(tmp_path: Path) -> None:
    root = make_folder(tmp_path / "data", 12)  # a patient's second image is never a test one
    dataset = {"name": "folder", "root": str(root), "image_size": [32, 32], "holdout": "official"}
    data = tiny(dataset=dataset, folds={"k": 2, "group_by": "patient"})
    notices = check(write_sweep(tmp_path, data)).notices
    assert any("3 of patient are on both sides of the official holdout (p0" in n for n in notices)


def test_a_sweep_by_classes_finds_its_folds_again(tmp_path: Path) -> None:
    first = run(tmp_path, folds={"k": 2, "stratify_by": "classes"})
    (split,) = events(first.run_directory, "split")
    assert (len(split["folds"]), len(split["holdout"])) == (9, 3)
    assert not set(split["folds"]) & set(split["holdout"])
    again = run(tmp_path, folds={"k": 2, "stratify_by": "classes"})
    assert (first.exit_code, again.exit_code, again.started) == (0, 0, 0)
    with pytest.raises(RunError, match=r"folds\.stratify_by"):
        run(tmp_path, folds={"k": 2})


def test_fewer_folds_than_were_begun_end_well(tmp_path: Path) -> None:
    run(tmp_path, folds={"k": 3, "run": 3})
    outcome = run(tmp_path, folds={"k": 3, "run": 2})
    assert outcome.exit_code == 0
    assert all(row.folds == 2 for row in outcome.ranking)


def test_changed_images_are_refused(tmp_path: Path) -> None:
    root = make_folder(tmp_path / "data", 8)
    dataset = {"name": "folder", "root": str(root), "image_size": [32, 32], "holdout": 0}
    run(tmp_path, dataset=dataset)
    images = sorted((root / "images").iterdir())
    save(images[0], picture(99))
    with pytest.raises(RunError, match="images have changed"):
        run(tmp_path, dataset=dataset)


def test_an_interrupted_launch_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    parts = tmp_path / "parts"
    for folder in (tmp_path / "whole", parts):
        folder.mkdir()
    whole = run(tmp_path / "whole")
    seen = 0
    real = engine.evaluate

    def interrupt(*args: Any, **kwargs: Any) -> Any:
        nonlocal seen
        seen += 1
        if seen == 6:
            import os
            import signal

            os.kill(os.getpid(), signal.SIGINT)
        return real(*args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(trial, "evaluate", interrupt)
        first = run(parts)
    assert first.exit_code == 130
    second = run(parts)
    assert second.exit_code == 0

    def key(outcome: Outcome) -> list[tuple[str, float, float | None]]:
        return [(row.config_id, row.mean, row.holdout) for row in outcome.ranking]

    assert key(second) == key(whole)
    epochs = [(e["trial_id"], e["epoch"]) for e in events(parts / "runs/tiny", "epoch")]
    assert len(epochs) == len(set(epochs)) == 16


def test_failing_trials_end_with_3_and_can_be_retried(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise RuntimeError("no such kernel")

    with monkeypatch.context() as patch:
        patch.setattr(trial, "train_epoch", fail)
        outcome = run(tmp_path)
    assert outcome.exit_code == 3
    assert outcome.ranking == []
    assert set(outcome.undecided.values()) == {"RuntimeError: no such kernel"}
    assert run(tmp_path).started == 0
    path = write_sweep(tmp_path, tiny())
    again = launch(path, runner="inline", retry_failed=True)
    assert again.exit_code == 0
    assert len(again.ranking) == 2


def test_a_sweep_in_which_all_diverges_is_decided_without_a_champion(tmp_path: Path) -> None:
    outcome = run(
        tmp_path, train__optimizer="sgd", parameters={"train.lr": {"min": 1e29, "max": 1e30}}
    )
    assert outcome.exit_code == 0
    assert outcome.ranking == []
    assert outcome.without_champion == ["unet_vanilla(width=2)/bce", "unet_vanilla(width=2)/dice"]
    assert {row["status"] for row in table(outcome, "trials")} == {"diverged"}


def test_decodes_over_images_is_one_for_many_trials(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    decoded: list[int] = []
    real = decoding._decode

    def count(*args: Any) -> Any:
        decoded.append(1)
        return real(*args)

    monkeypatch.setattr(decoding, "_decode", count)
    root = make_folder(tmp_path / "data", 9)
    dataset = {"name": "folder", "root": str(root), "image_size": [32, 32], "holdout": 0.25}
    outcome = run(tmp_path, dataset=dataset)
    (split,) = events(outcome.run_directory, "split")
    assert outcome.started == 8
    assert len(decoded) / 9 == 1.0
    assert split["decodes"] / split["images"] == 1.0
    run(tmp_path, dataset=dataset, configs_per_cell=3)
    assert len(decoded) / 9 == 1.0


def test_no_trial_is_given_the_holdout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[set[str]] = []
    real = trial._epochs

    def watch(config: Any, fold: Any, inputs: Any, *rest: Any) -> Any:
        given.append(set(inputs.data.image_ids))
        return real(config, fold, inputs, *rest)

    monkeypatch.setattr(trial, "_epochs", watch)
    outcome = run(tmp_path)
    (split,) = events(outcome.run_directory, "split")
    assert split["holdout"]
    assert all(ids == set(split["folds"]) for ids in given)
    assert len(given) == 8


def test_the_effective_config_of_every_trial_is_the_files(tmp_path: Path) -> None:
    outcome = run(tmp_path, train__weight_decay=0.123, train__grad_clip=2.0)
    assert spec.load(outcome.run_directory / "resolved.yaml") == outcome.spec
    state = SearchState("val_iou", events(outcome.run_directory))
    from segsweep import checkpoint

    for found in state.trials.values():
        config = state.configs[found.config_id]
        place = trial.directory(outcome.run_directory, found.config_id, found.fold)
        used = checkpoint.load(place / "best.safetensors")[1]["config"]
        assert used == config.config
        assert used["train"]["weight_decay"] == 0.123
        assert used["train"]["lr"] == config.params["train.lr"]
        assert used["train"]["precision"] == "fp32"
        assert list(used["loss"]) == [config.levels["loss"]]
    last = [e for e in events(outcome.run_directory, "epoch") if e["epoch"] == 2]
    assert len({e["train_loss"] for e in last}) == len(last) == 8  # no two trials train alike


def test_encoder_weights_are_fetched_once_and_reach_the_trial(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from segsweep import models

    fetched: list[str] = []

    def fetch(config: Any) -> Any:
        fetched.append(config["name"])
        plain = {**config, "encoder_weights": "none"}
        state = models.build(plain, classes=2).encoder.state_dict()  # type: ignore[union-attr]
        return {name: tensor * 0 for name, tensor in state.items()}

    seen: list[float] = []
    real = engine.prepare_model

    def look(model: Any, device: Any) -> Any:
        seen.append(float(next(model.encoder.parameters()).detach().abs().sum()))
        return real(model, device)

    monkeypatch.setattr(models, "fetch_encoder", fetch)
    monkeypatch.setattr(trial, "prepare_model", look)
    outcome = run(tmp_path, factors__model=["unet/resnet18"], configs_per_cell=1, parameters=None)
    assert outcome.undecided == {}
    assert fetched == ["unet/resnet18"]
    assert seen == [0.0] * 4


def test_encoder_weights_that_cannot_be_had_are_an_error_before_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HOME", str(tmp_path / "empty"))
    monkeypatch.setattr(launch_module, "start", lambda *_: pytest.fail("a runner was started"))
    with pytest.raises(WeightsError, match="encoder_weights"):
        run(tmp_path, factors__model=["unet/resnet18"])
    assert not (tmp_path / "runs/tiny").exists()


def test_a_second_launch_at_the_same_time_is_refused(tmp_path: Path) -> None:
    from segsweep.rundir import Lock

    lock = Lock(tmp_path / "runs/tiny")
    with pytest.raises(RunError, match="pid"):
        run(tmp_path)
    lock.release()
    assert run(tmp_path).exit_code == 0


def test_a_sweep_without_holdout_has_none(tmp_path: Path) -> None:
    outcome = run(tmp_path, dataset__holdout=0)
    assert outcome.exit_code == 0
    assert outcome.ranking[0].holdout is None
    assert cache.load(next((tmp_path / "runs/.cache").glob("*.arrow"))).images.shape[0] == 12


def test_more_than_two_classes_run_throughout(tmp_path: Path) -> None:
    classes = {"sky": 0, "road": 1, "car": 2}
    root = make_folder(tmp_path / "data", 8, classes=classes)
    dataset = {
        "name": "folder", "root": str(root), "image_size": [32, 32], "holdout": 0.25,
        "classes": classes,
    }  # fmt: skip
    outcome = run(
        tmp_path,
        dataset=dataset,
        factors__loss=["cross_entropy", "dice"],
        metric={"name": "val/miou"},
    )
    assert outcome.exit_code == 0
    assert {row["class"] for row in table(outcome, "images")} == set(classes)
    assert all(row["val_iou"] is None for row in table(outcome, "trials"))
    assert all(0 <= row["val_miou"] <= 1 for row in table(outcome, "trials"))


def test_a_run_whose_trials_had_other_seeds_is_not_gone_on_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(identity, "IDENTITY_VERSION", 1)
        first = run(tmp_path)
        assert run(tmp_path).started == 0
    before = (first.run_directory / "ledger/events.jsonl").read_bytes()
    for more in ({}, {"configs_per_cell": 3}):
        with pytest.raises(RunError, match="numbers mean something else since") as caught:
            run(tmp_path, **more)
    assert "another name" in caught.value.problems[0].hint
    assert (first.run_directory / "ledger/events.jsonl").read_bytes() == before


def test_classes_with_other_names_are_told_as_that(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = make_folder(tmp_path / "data", 8)
    dataset = {"name": "folder", "root": str(root), "image_size": [32, 32], "holdout": 0}
    with monkeypatch.context() as patch:
        patch.setattr(folder_source, "UNNAMED", ("background", "lesion"))
        run(tmp_path, dataset=dataset)
    with pytest.raises(RunError, match="class names differ: 'lesion', now 'foreground'") as caught:
        run(tmp_path, dataset=dataset)
    assert len(caught.value.problems) == 1


def test_a_notice_with_brackets_is_printed_as_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    notice = f"stratum '[/odd]' {'is small ' * 20}"
    found = replace(check(write_sweep(tmp_path, tiny())), notices=(notice,))
    monkeypatch.setattr(launch_module, "check", lambda *_: found)
    monkeypatch.setattr(launch_module, "earlier", lambda _: pytest.fail("far enough"))
    console = Console(file=io.StringIO(), width=60, record=True)
    with pytest.raises(pytest.fail.Exception):
        launch(tmp_path / "sweep.yaml", runner="inline", console=console)
    assert f"note: {notice}" in console.export_text()


def test_a_launch_that_a_runner_refuses_leaves_nothing_in_the_ledger(tmp_path: Path) -> None:
    class Blind(InlineRunner):
        def require(self, place: Path, spec: Any) -> None:
            raise RunError(f"{place} is not the same folder on node-b")

    with pytest.raises(RunError, match="node-b"):
        launch(write_sweep(tmp_path, tiny()), runner=Blind())
    assert not (tmp_path / "runs/tiny/ledger").exists()


@pytest.mark.parametrize("status", ["failed", "finished"])
def test_a_trial_that_may_be_tried_again_keeps_both_its_checkpoints(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, status: str
) -> None:
    real = engine.train_epoch
    calls: list[int] = []

    def fail(*args: Any, **options: Any) -> Any:
        calls.append(1)
        if len(calls) == 3 and status == "failed":
            raise RuntimeError("no such kernel")
        return real(*args, **options)

    monkeypatch.setattr(trial, "train_epoch", fail)
    outcome = run(tmp_path, configs_per_cell=1, train__epochs=3)
    first = events(outcome.run_directory, "end")[0]
    place = outcome.run_directory / "trials" / first["trial_id"].split("-")[0] / "fold0"
    assert first["status"] == status
    assert (place / "last.previous.safetensors").exists() == (status == "failed")


def test_a_disk_that_is_away_for_a_moment_costs_an_attempt(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = engine.train_epoch
    calls: list[int] = []

    def stale(*args: Any, **options: Any) -> Any:
        calls.append(1)
        if len(calls) == 2:
            raise OSError(116, "Stale file handle")
        return real(*args, **options)

    monkeypatch.setattr(trial, "train_epoch", stale)
    outcome = run(tmp_path)
    assert outcome.exit_code == 0
    assert ["Stale" in event["error"] for event in events(outcome.run_directory, "lost")] == [True]


def test_a_broken_gpu_is_no_matter_of_one_champion(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever runs the task must hear of it: every later item would fail in that process."""

    def broken(*_: Any) -> Any:
        raise RuntimeError("CUDA error: an illegal memory access was encountered")

    monkeypatch.setattr("segsweep.checkpoint.load", broken)
    data: Any = None
    shared = [
        (closing.score_holdout, closing.Shared(data, "", 1, 0.0), ("t", "c", 0, 0)),
        (closing.time_champion, closing.Timing("", 2, 1, 0.0), ("c", 0, 0)),
    ]  # fmt: skip
    for function, given, item in shared:
        with pytest.raises(RuntimeError, match="illegal"):
            function(given, item)  # type: ignore[operator]
        found = InlineRunner().map(function, given, [item, item], None)  # type: ignore[arg-type]
        assert ["illegal" in one["error"] for one in found] == [True, True]
