"""What a report says, against the Parquet files it was made of."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

import numpy as np
import plotly.graph_objects as go
import pyarrow.parquet as pq
import pytest

from segsweep import report, results
from segsweep.compare import tables
from segsweep.errors import RunError
from segsweep.report import pictures, spent
from segsweep.rundir import Run
from tests.report.reading import Report
from tests.report.synthetic import Made, small, spec_of

HOSTILE = '</script><script>alert("x")</script><img src=x onerror=alert(1)>{{ 7 * 7 }}'


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    return small(tmp_path_factory.mktemp("small"))


@pytest.fixture(scope="module")
def read(made: Made) -> Report:
    path, _ = report.write(made.write())
    assert path == made.path / "report.html"
    return Report(path)


def rows_of(made: Made, name: str = "trials") -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = pq.read_table(
        made.path / "results" / f"{name}.parquet"
    ).to_pylist()
    return rows


def best_configs(made: Made) -> dict[str, str]:
    """The champions by the label of their cell."""
    return {e["cell"]: e["config_id"] for e in made.events if e["event"] == "champion"}


def test_the_ranking_is_that_of_the_parquet_file(made: Made, read: Report) -> None:
    trials = rows_of(made)
    scores: dict[str, list[float]] = {}
    for cell, config in best_configs(made).items():
        scores[cell] = [t["metric"] for t in trials if t["config_id"] == config]
    order = sorted(scores, key=lambda cell: -fmean(scores[cell]))
    head, *table = read.tables["ranking"][0]
    assert [row[1].split()[0] for row in table] == order
    place = {name: i for i, name in enumerate(head)}
    for row, cell in zip(table, order, strict=True):
        assert row[place["IoU"]] == f"{fmean(scores[cell]):.4f}"
        assert row[place["sd of folds"]] == f"{stdev(scores[cell]):.4f}"
        assert row[place["holdout"]] == f"{fmean([0.5, 0.51, 0.52]):.4f}"
        assert row[place["tried"]] == "3 (−2)"
    mean = read.trace("ranking", "mean")
    assert dict(zip(mean["y"], mean["x"], strict=True)) == pytest.approx(
        {cell: fmean(values) for cell, values in scores.items()}
    )
    points = read.trace("ranking", "a fold")
    assert sorted(points["x"]) == pytest.approx(sorted(v for own in scores.values() for v in own))


def test_the_answer_comes_first_in_two_sentences(made: Made, read: Report) -> None:
    answer = read.text[read.text.index("Use ") : read.text.index("cells")].strip()
    assert answer.startswith("Use unet_vanilla/dice with lr=")
    mean = fmean(
        t["metric"]
        for t in rows_of(made)
        if t["config_id"] == best_configs(made)["unet_vanilla/dice"]
    )
    assert f"IoU {mean:.3f} over 3 folds" in answer
    assert "0.510 on the holdout" in answer
    assert len(re.findall(r"[a-z)]\. |[a-z]\.$", answer)) == 2


def test_every_curve_is_drawn_and_what_was_stopped_ends_where_it_was(
    made: Made, read: Report
) -> None:
    epochs: dict[str, list[float]] = {}
    for row in rows_of(made, "epochs"):
        epochs.setdefault(row["trial_id"], []).append(row["val_iou"])
    drawn: list[list[float]] = []
    crosses = 0
    for name, figure in read.figures.items():
        if not name.startswith("curve"):
            continue
        for trace in figure["data"]:
            if trace["mode"] == "lines":
                part: list[float] = []
                for value in trace["y"]:
                    if value is None:
                        drawn.append(part)
                        part = []
                    else:
                        part.append(value)
            else:
                crosses += len(trace["x"])
                assert set(trace["x"]) <= {2, 6}
    expected = [[float(f"{v:.5g}") for v in curve] for curve in epochs.values()]
    assert sorted(drawn) == sorted(expected)
    assert crosses == sum(t["status"] == "stopped" for t in rows_of(made))


def test_runtime_and_the_pareto_front(made: Made, read: Report) -> None:
    # of these cells segnet/dice is the slowest and beaten twice; each other is faster or better
    front = read.trace("runtime", "on the front")
    behind = read.trace("runtime", "behind it")
    assert [text.split("<br>")[0] for text in front["customdata"]] == ["unet_vanilla/dice"]
    assert len(behind["x"]) == 3
    assert 9.0 in behind["x"]


def test_the_heat_map_has_a_mean_for_every_cell(made: Made, read: Report) -> None:
    trace = read.figures["factors"]["data"][0]
    found = {
        f"{model}/{loss}": trace["z"][i][j]
        for i, model in enumerate(trace["y"])
        for j, loss in enumerate(trace["x"])
    }
    mean = read.trace("ranking", "mean")
    assert found == pytest.approx(dict(zip(mean["y"], mean["x"], strict=True)))


def test_classes_and_confusion_are_those_of_the_parquet_file(made: Made, read: Report) -> None:
    config = best_configs(made)["unet_vanilla/dice"]
    pixels = np.zeros((2, 2))
    names = ["background", "lesion"]
    for row in rows_of(made, "confusion"):
        if row["trial_id"].startswith(config) and row["split"] == "holdout":
            pixels[names.index(row["truth"]), names.index(row["predicted"])] += row["pixels"]
    shown = np.asarray(read.figures["confusion0"]["data"][0]["z"])
    np.testing.assert_allclose(shown, pixels / pixels.sum(axis=1, keepdims=True))
    table = read.figures["classes"]["data"][0]
    own = table["z"][table["y"].index("unet_vanilla/dice")]
    lesion = pixels[1, 1] / (pixels[1].sum() + pixels[:, 1].sum() - pixels[1, 1])
    assert own[table["x"].index("lesion")] == pytest.approx(lesion)


def test_images_are_named_with_the_score_of_their_pixels(made: Made, read: Report) -> None:
    config = best_configs(made)["unet_vanilla/dice"]
    scores = {
        row["image_id"]: row["tp"] / (row["tp"] + row["fp"] + row["fn"])
        for row in rows_of(made, "images")
        if row["trial_id"].startswith(config) and row["split"] == "validation"
    }
    shown = re.findall(r"(best|median|worst) (i\d+): IoU ([\d.]+)", read.text)
    assert [title for title, *_ in shown] == ["best"] * 2 + ["median"] * 2 + ["worst"] * 2
    for _, name, score in shown:
        assert float(score) == pytest.approx(scores[name], abs=5e-4)
    assert float(shown[0][2]) == pytest.approx(max(scores.values()), abs=5e-4)
    assert float(shown[-2][2]) == pytest.approx(min(scores.values()), abs=5e-4)
    images = [own["src"] for tag, own in read.tags if tag == "img"]
    assert len(images) == 6 * 4
    assert all(str(source).startswith("data:image/jpeg;base64,") for source in images)


def test_what_was_spent_and_saved_adds_up(made: Made, read: Report) -> None:
    bill = spent.bill(report.gather(made.write()))
    trials = rows_of(made)
    # 4 cells of 3 configs on 3 folds of 6 epochs
    assert bill.planned == 4 * 3 * 3 * 6
    assert bill.run == sum(t["epochs"] for t in trials)
    assert bill.run + bill.saved + bill.trouble + bill.left == bill.planned
    rungs, race = bill.savings
    # a rung ended one trial of each cell after 2 epochs and its config's 2 other folds
    assert (rungs.trials, rungs.epochs) == (4 * 3, 4 * (4 + 12))
    assert (race.trials, race.epochs) == (4 * 2, 4 * 12)
    assert rungs.seconds == pytest.approx(0.5 * rungs.epochs)
    assert f"{bill.run} of {bill.planned} epochs were run" in read.text


def test_settings_hashes_seeds_and_the_command_that_repeats_it(made: Made, read: Report) -> None:
    for text in ("f" * 64, "a" * 16, "segsweep launch made.yaml", "0; each trial has its own"):
        assert text in read.text
    assert f"segsweep launch {made.path}/resolved.yaml --set storage_path=" in read.text
    assert "configs_per_cell: 3" in read.text


def test_the_page_needs_nothing_from_elsewhere(read: Report) -> None:
    for tag, own in read.tags:
        for key in ("src", "href", "srcset", "action", "data"):
            value = own.get(key) or ""
            assert value == "" or value.startswith(("data:", "#")), (tag, value)
    assert "default-src 'none'" in read.source
    assert read.source.count("plotly.js v") == 1  # once, and whole
    assert "@import" not in read.source


def with_real_colours(node: Any) -> Any:
    if isinstance(node, str):
        return "#123456" if node.startswith("--") else node
    if isinstance(node, dict):
        return {key: with_real_colours(value) for key, value in node.items()}
    return [with_real_colours(part) for part in node] if isinstance(node, list) else node


def test_plotly_takes_every_figure_as_it_is(read: Report) -> None:
    # a misspelt key would be passed over by the page in silence; here it is an error
    assert {"ranking", "runtime", "factors", "parallel", "classes", "confusion0", "curve3"} <= set(
        read.figures
    )
    for figure in read.figures.values():
        go.Figure(
            data=with_real_colours(figure["data"]), layout=with_real_colours(figure["layout"])
        )


def test_names_and_errors_are_shown_and_never_obeyed(tmp_path: Path) -> None:
    spec = spec_of(
        factors={"model": [HOSTILE, "segnet"], "loss": ["bce"]}, description=HOSTILE, name="made"
    )
    made = Made(tmp_path, spec, classes=[HOSTILE, "lesion"])
    config = made.config(HOSTILE, "bce", 0)
    for fold in range(3):
        made.trial(config, fold, 0.5)
        made.evidence(config, fold)
    broken = made.config("segnet", "bce", 0)
    made.trial(broken, 0, 0.5, epochs=1, status="failed", error=HOSTILE)
    made.add("lost", trial_id=f"{broken}-f0", error=HOSTILE)
    made.conclude({f"{HOSTILE}/bce": (config, 1.0)})
    path, _ = report.write(made.write())
    read = Report(path)
    assert HOSTILE in read.text
    assert [tag for tag, own in read.tags if tag == "script"] == ["script"] * 3
    assert not any("onerror" in own for _, own in read.tags)
    assert not any(own.get("src") == "x" for _, own in read.tags)
    names = read.figures["ranking"]["data"][1]["y"]
    assert names[0].startswith("&lt;/script&gt;&lt;script&gt;alert")
    assert not any("<" in name for name in names)
    assert "<img" not in json.dumps(read.figures)


@pytest.mark.parametrize(
    ("status", "badge"),
    [(None, "unfinished: not final"), ("interrupted", "interrupted: not final")],
)
def test_an_unfinished_run_does_not_pretend_to_be_final(
    tmp_path: Path, status: str | None, badge: str
) -> None:
    made = Made(tmp_path, spec_of())
    made.events[0]["cells"] = {"segnet/bce": 3}
    config = made.config("segnet", "bce", 0)
    made.trial(config, 0, 0.7)
    made.trial(config, 1, 0.8, epochs=3, status=None)
    if status is not None:
        made.add("close", status=status, undecided=1)
    path, facts = report.write(made.write())
    read = Report(path)
    assert facts.standing in ("killed", "interrupted")
    assert badge in read.text
    assert "So far the best is segnet/bce" in read.text
    assert "1 of 3 folds" in read.text
    # of 3 configs on 3 folds of 6 epochs 9 epochs were run; two configs are not even begun
    assert "This is not final: 45 of 54 epochs are still open" in read.text
    assert "configs 1 of 3" in read.text
    assert "Use segnet" not in read.text
    assert read.tables["ranking"][0][1][2] == "0.7000 (1/3)"
    mean = read.trace("ranking", "mean")
    assert mean["marker"]["color"] == ["--paper"]  # hollow


def test_failures_of_a_decided_run_are_told_as_such(tmp_path: Path) -> None:
    made = Made(tmp_path, spec_of(configs_per_cell=2))
    best, broken = made.config("segnet", "bce", 0), made.config("segnet", "bce", 1)
    for fold in range(3):
        made.trial(best, fold, 0.7)
    made.trial(broken, 0, 0.5, status="failed", error="no")
    made.conclude({"segnet/bce": (best, 1.0)})
    path, facts = report.write(made.write())
    assert facts.standing == "undecided"
    text = Report(path).text
    assert "epochs are still open" not in text
    assert "1 trial failed (below); `segsweep launch" in text
    assert "--retry failed` runs it again" in text


def test_the_tables_are_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run, load = small(tmp_path).write(), tables.load
    seen: list[Run] = []

    def counted(one: Run) -> tables.Tables:
        seen.append(one)
        return load(one)

    monkeypatch.setattr(tables, "load", counted)
    assert report.gather(run).comparison is not None
    assert len(seen) == 1


def test_a_metric_that_is_undefined_on_a_fold_is_told(tmp_path: Path) -> None:
    made = Made(tmp_path, spec_of())
    for model in ("segnet", "unet_vanilla"):
        config = made.config(model, "bce", 0)
        for fold in range(3):
            made.trial(config, fold, 0.7)
    for event in made.events:
        if event["event"] == "epoch" and event["trial_id"].endswith("-f2"):
            event["val_iou"] = None
    made.conclude({})
    read = Report(report.write(made.write())[0])
    assert "How sure that is cannot be said: val/iou is undefined on fold 2" in read.text


def nothing(made: Made) -> None:
    """Only a launch."""


def only_failures(made: Made) -> None:
    config = made.config("segnet", "bce", 0)
    made.trial(config, 0, 0.5, epochs=0, status="failed", error="ValueError: no")
    made.add("close", status="done", undecided=1)


def one_epoch(made: Made) -> None:
    made.trial(made.config("segnet", "bce", 0), 0, 0.5, epochs=1, status=None)


@pytest.mark.parametrize("begin", [nothing, only_failures, one_epoch])
def test_a_run_without_a_finished_config_says_so(
    tmp_path: Path, begin: Callable[[Made], None]
) -> None:
    made = Made(tmp_path, spec_of())
    begin(made)
    path, _ = report.write(made.write())
    read = Report(path)
    assert "There is no answer yet" in read.text
    assert "Use " not in read.text.split("Ranking")[0]
    assert ("ValueError: no" in read.text) == (begin is only_failures)


def test_one_fold_one_image_one_cell(tmp_path: Path) -> None:
    spec = spec_of(factors={"model": ["segnet"], "loss": ["bce"]}, folds={"k": 2, "run": 1})
    made = Made(tmp_path, spec)
    config = made.config("segnet", "bce", 0)
    made.trial(config, 0, 0.7)
    made.evidence(config, 0, images=1)
    made.conclude({"segnet/bce": (config, 1.0)})
    read = Report(report.write(made.write())[0])
    assert "over 1 fold" in read.text
    assert "only cell" in read.text
    assert "The one validation image" in read.text
    assert "–" in read.tables["ranking"][0][1]  # no spread of one fold


def test_where_lower_is_better(tmp_path: Path) -> None:
    made = small(tmp_path, metric={"name": "val/loss", "goal": "minimize"})
    read = Report(report.write(made.write())[0])
    values = [float(row[2]) for row in read.tables["ranking"][0][1:]]
    assert values == sorted(values)
    assert read.figures["factors"]["data"][0]["reversescale"] is True
    lines = read.figures["parallel"]["data"]
    assert lines[-1]["y"][0] == min(line["y"][0] for line in lines)  # the best is drawn last
    assert lines[-1]["line"]["color"] == "--line-4"


@pytest.mark.parametrize("name", ["trials", "epochs", "images", "confusion"])
def test_damaged_parquet_is_rebuilt_from_the_ledger(tmp_path: Path, name: str) -> None:
    made = small(tmp_path)
    run = made.write()
    report.write(run)
    before = rows_of(made, name)
    path = made.path / "results" / f"{name}.parquet"
    raw = bytearray(path.read_bytes())
    raw[: len(raw) // 2] = bytes(len(raw) // 2)
    path.write_bytes(raw)
    written, facts = report.write(run)
    assert rows_of(made, name) == before
    assert f"results/{name}.parquet is damaged" in " ".join(facts.notes)
    assert "rebuilt from the ledger" in Report(written).text


def test_results_of_an_older_schema_are_rebuilt(tmp_path: Path) -> None:
    made = small(tmp_path)
    run = made.write()
    report.write(run)
    path = made.path / "results" / "trials.parquet"
    table = pq.read_table(path).drop_columns(["runtime_ms"])
    pq.write_table(table.replace_schema_metadata({"segsweep_schema": "0"}), path)
    _, facts = report.write(run)
    assert facts.notes == [
        "results/trials.parquet is of schema version 0, this is 1: rebuilt from the ledger"
    ]
    assert "runtime_ms" in pq.read_table(path).column_names


def test_results_older_than_the_ledger_are_written_again(tmp_path: Path) -> None:
    made = small(tmp_path)
    report.write(made.write())
    late = made.config("segnet", "bce", 3)
    made.trial(late, 0, 0.2)
    _, facts = report.write(made.write())
    assert late in {row["config_id"] for row in facts.trials}
    assert facts.notes == []


def test_damaged_evidence_is_named_and_the_rest_is_shown(tmp_path: Path) -> None:
    made = small(tmp_path)
    run = made.write()
    for path in (made.path / "trials").glob("*/fold1/evidence.safetensors"):
        path.write_bytes(path.read_bytes()[:-40])
    written, facts = report.write(run)
    assert sum("is damaged" in note for note in facts.notes) == 4
    assert "Best, median and worst of the 8 validation images" in Report(written).text


@pytest.mark.parametrize("place", ["folder", "missing/report.html"])
def test_a_place_that_cannot_be_written_is_refused_and_nothing_is_left(
    made: Made, tmp_path: Path, place: str
) -> None:
    (tmp_path / "folder").mkdir()
    with pytest.raises(RunError, match=r"is a directory|does not exist"):
        report.write(made.write(), tmp_path / place)
    assert list(tmp_path.rglob("*")) == [tmp_path / "folder"]


def test_an_older_report_stands_until_the_new_one_is_whole(
    made: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out.html"
    out.write_text("old")

    def fail(self: Path, target: Path) -> Path:
        raise PermissionError("no")

    run = made.write()
    results.write(run.path, run.events, run.metric, run.spec.metric.goal)
    monkeypatch.setattr(Path, "replace", fail)
    with pytest.raises(RunError, match="cannot be written"):
        report.write(run, out)
    assert [path.name for path in tmp_path.iterdir()] == ["out.html"]
    assert out.read_text() == "old"


def test_five_hundred_trials_of_nineteen_classes_stay_small(large_report: Path) -> None:
    assert large_report.stat().st_size < 10_000_000
    read = Report(large_report)
    assert "trials 540" in read.text
    assert sum(name.startswith("curve") for name in read.figures) == 9
    assert len(read.figures["parallel"]["data"]) == 180
    trace = read.figures["confusion0"]["data"][0]
    shares = np.asarray(trace["z"], dtype=float)
    assert shares.shape == (19, 19)
    assert np.allclose(shares.sum(axis=1), 1)
    assert math.isclose(trace["zmax"], 1.0)


def test_classes_are_painted_in_the_colours_that_the_run_records(tmp_path: Path) -> None:
    made = small(tmp_path)
    split = next(event for event in made.events if event["event"] == "split")
    split["palette"] = [[0, 0, 0], [1, 2, 3]]
    assert "#010203" in report.write(made.write())[0].read_text()
    assert pictures.colours(2, None)[1] != (1, 2, 3)
