"""``compare`` on run directories: traceable numbers, damaged files, refusals, formats."""

from __future__ import annotations

import csv
import io
import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from segsweep import results, rundir
from segsweep.cli import app
from segsweep.compare import FORMATS, analyse, tables
from segsweep.errors import RunError
from segsweep.rundir import Run
from tests.compare.runs import make_run
from tests.compare.simulated import Truth
from tests.helpers import tiny, write_sweep

TRUTH = Truth(truths=(0.8, 0.6, 0.79, 0.5), folds=5, images=8)


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_run(tmp_path_factory.mktemp("runs") / "simulated", TRUTH).path


@pytest.fixture
def run(original: Path, tmp_path: Path) -> Run:
    """A copy that a test may damage."""
    place = tmp_path / "simulated"
    shutil.copytree(original, place)
    return rundir.load(place)


def call(*arguments: object) -> Any:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def test_every_number_can_be_had_from_the_parquet_files(run: Run) -> None:
    found = analyse([run])
    trials = pq.read_table(run.path / "results/trials.parquet").to_pandas()
    images = pq.read_table(run.path / "results/images.parquet").to_pandas()
    for row in found.standings:
        own = trials[trials.config_id == row.config_id]
        assert row.mean == pytest.approx(own.metric.mean())
        assert row.std == pytest.approx(own.metric.std(ddof=1))
        assert row.holdout == pytest.approx(own.holdout_iou_per_image.mean())
        assert (row.parameters, row.runtime_ms) == (own.parameters.iat[0], own.runtime_ms.iat[0])
        seen = images[images.trial_id.isin(own.trial_id) & (images.split == "validation")]
        assert (seen.tp / (seen.tp + seen.fp + seen.fn)).mean() == pytest.approx(row.mean)
        assert row.interval is not None
        assert row.interval.low < row.mean < row.interval.high
    assert [row.mean for row in found.standings] == sorted(
        (row.mean for row in found.standings), reverse=True
    )


def test_the_tied_the_cheapest_and_the_main_effects(run: Run) -> None:
    found = analyse([run])
    assert set(found.tied) == {"c0", "c2"}  # 0.80 and 0.79; 0.6 and 0.5 are out
    assert (found.fastest, found.smallest) == ("c2", "c0")
    assert found.tests["folds"].noise is not None
    assert 0 < (found.tests["folds"].smallest_gap or 0) < 0.2
    dice = next(row for row in found.effects.rows if row.level == "dice")
    own = {row.cell: row.mean for row in found.standings}
    expected = (own["unet/dice"] + own["segnet/dice"] - own["unet/bce"] - own["segnet/bce"]) / 4
    assert dice.effect == pytest.approx(expected)
    assert found.importances.hidden is not None
    assert "needs 20" in found.importances.hidden
    assert any("On the holdout, which chose nothing" in text for text in found.warnings)


def test_nothing_that_is_printed_hangs_on_the_draws(run: Run) -> None:
    found = [analyse([run], seed=seed) for seed in range(12)]
    plain = [one.as_dict() for one in found]
    assert all(one["tests"] == plain[0]["tests"] for one in plain)
    assert all(one["tied"] == plain[0]["tied"] for one in plain)
    for at in range(len(found[0].standings)):
        for name in ("interval", "holdout_interval"):
            several = [getattr(one.standings[at], name) for one in found]
            for end in (0, 1):
                digits = min(interval.digits for interval in several)
                printed = [float(f"{float(i.text()[end]):.{digits}f}") for i in several]
                assert max(printed) - min(printed) < 1.01 * 10**-digits, (at, name, printed)
            assert several[0].digits >= 2


def test_a_cells_own_noise_makes_its_width(tmp_path: Path) -> None:
    truth = replace(TRUTH, folds=8, seed=0.002, interaction=0.001, rest=0.002)
    quiet = make_run(tmp_path / "quiet", truth)
    # c3's folds scatter by 0.1 more, the others' by what they did
    shaken = {
        f"c3-f{fold}-r0": {"val_iou_per_image": 0.5 + 0.1 * (-1) ** fold} for fold in range(8)
    }
    tests = analyse([changed(quiet, **shaken)]).tests["folds"]
    assert tests.own["c3"].sigma > 5 * tests.own["c0"].sigma
    widths = {(p.better, p.worse): np.diff(p.interval or (0, 0))[0] for p in tests.pairs}
    assert widths["c0", "c3"] > 3 * widths["c0", "c1"]
    assert tests.shared == pytest.approx(1 / 7)


def test_replicates_do_not_shrink_the_luck_that_training_sets_share(tmp_path: Path) -> None:
    """It is in units of one trial's noise, and tests go by the noise of averaged replicates."""
    found = analyse([make_run(tmp_path / "r", replace(TRUTH, folds=5, replicates=3))])
    assert found.tests["folds"].shared == pytest.approx(3 / 4)
    assert "allow for 0.50 of the noise between folds" in found.limits


def test_what_is_not_covered_is_said_everywhere(run: Run) -> None:
    found = analyse([run])
    assert "allow for 0.50 of the noise between folds" in found.limits
    assert "More than that is not covered" in found.limits
    assert found.limits in call("compare", run.path).output
    assert found.limits in FORMATS["markdown"](found)
    assert json.loads(call("compare", run.path, "--json").stdout)["limits"] == found.limits


@pytest.mark.parametrize("name", results.FILES)
@pytest.mark.parametrize("how", ["damaged", "missing", "older"])
def test_a_parquet_file_that_cannot_be_used_is_rebuilt(run: Run, name: str, how: str) -> None:
    before = analyse([run]).as_dict()
    path = run.path / "results" / f"{name}.parquet"
    if how == "damaged":
        path.write_bytes(path.read_bytes()[:-7])
    elif how == "missing":
        path.unlink()
    else:
        table = pq.read_table(path)
        pq.write_table(table.replace_schema_metadata({"segsweep_schema": "0"}), path)
    after = analyse([run])
    assert any(f"{name}.parquet" in note and "rebuilt" in note for note in after.notes)
    assert {**after.as_dict(), "notes": []} == before
    assert not analyse([run]).notes  # it was written back
    assert not list((run.path / "results").glob(".*"))


def test_a_file_that_says_something_else_than_the_ledger_is_rebuilt(run: Run) -> None:
    path = run.path / "results/trials.parquet"
    table = pq.read_table(path)
    place = table.schema.get_field_index("metric")
    pq.write_table(table.set_column(place, table.schema.field(place),
                                    [np.ones(table.num_rows)]), path)  # fmt: skip
    found = analyse([run])
    assert "does not say what the ledger says" in found.notes[0]
    assert found.standings[0].mean < 0.9


def test_images_survive_where_their_evidence_is_gone(run: Run) -> None:
    shutil.rmtree(run.path / "trials")
    (run.path / "results/trials.parquet").unlink()
    found = analyse([run])
    assert found.standings[0].interval is not None
    assert found.standings[0].interval.images == "resampled"


def test_nothing_is_written_while_a_launch_holds_the_run(run: Run) -> None:
    (run.path / "results/trials.parquet").unlink()
    lock = rundir.Lock(run.path)
    try:
        found = analyse([run])
        assert "a launch is writing here" in found.notes[0]
        assert not (run.path / "results/trials.parquet").exists()
    finally:
        lock.release()


def test_a_newer_schema_is_refused(run: Run) -> None:
    path = run.path / "results/epochs.parquet"
    table = pq.read_table(path).replace_schema_metadata({"segsweep_schema": "99"})
    pq.write_table(table, path)
    with pytest.raises(RunError, match="newer"):
        tables.load(run)
    assert call("compare", run.path).exit_code == 2


def test_no_finished_config_is_refused_with_what_to_do(tmp_path: Path) -> None:
    run = make_run(tmp_path / "r", replace(TRUTH, folds=2), finished=False, closed=False)
    done = call("compare", run.path)
    assert done.exit_code == 2
    assert "no config has finished all of its folds yet" in done.output
    assert "segsweep status" in done.output


def test_one_fold_claims_nothing(tmp_path: Path) -> None:
    found = analyse([make_run(tmp_path / "r", replace(TRUTH, folds=1))])
    assert all(row.interval is None and row.std is None for row in found.standings)
    assert "without replicates cannot tell" in found.tests["folds"].claim
    assert all(pair.p is None for test in found.tests.values() for pair in test.pairs)
    assert len(found.tied) == 4
    assert any("There is one fold" in text for text in found.warnings)
    assert call("compare", tmp_path / "r").exit_code == 0


def test_one_image_a_fold_goes_by_the_folds(tmp_path: Path) -> None:
    found = analyse([make_run(tmp_path / "r", replace(TRUTH, images=1))])
    assert all(row.interval and row.interval.images == "folds" for row in found.standings)
    assert any("single image" in text for text in found.warnings)
    assert all(row.holdout_interval is None for row in found.standings)
    assert "too few images" in found.tests["holdout"].claim


def test_groups_are_resampled_as_a_whole(tmp_path: Path) -> None:
    truth = replace(TRUTH, folds=3, images=40, group=8, between_groups=0.2, difficulty=0.02)
    truth = replace(truth, truths=(0.5, 0.5, 0.5, 0.5))
    plain = analyse([make_run(tmp_path / "plain", truth)])
    folds = {"k": 3, "run": 3, "group_by": "patient"}
    grouped = analyse([make_run(tmp_path / "grouped", truth, folds=folds)])
    assert (plain.grouped, grouped.grouped) == (None, "patient")

    def width(found: Any) -> float:
        return float(np.mean([row.interval.high - row.interval.low for row in found.standings]))

    assert width(grouped) > 1.5 * width(plain)


def test_below_four_groups_there_is_no_interval_and_the_reason_is_said(tmp_path: Path) -> None:
    """Two patients a fold and two held out: six on the folds, which is few."""
    truth = replace(TRUTH, folds=3, images=24, group=12, between_groups=0.05)
    folds = {"k": 3, "run": 3, "group_by": "patient"}
    run = make_run(tmp_path / "r", truth, folds=folds)
    found = analyse([run])
    why = "it rests on 2 groups, and an interval needs 4"
    for row in found.standings:
        assert row.holdout is not None
        assert row.holdout_interval is None
        assert row.no_holdout_interval == why
        assert row.interval is not None
        assert row.no_interval is None
    assert f"On the holdout, the score has no interval: {why}." in found.warnings
    assert "On the folds, the score rests on 6 groups: its intervals are rough." in found.warnings
    assert all(pair.p is None for pair in found.tests["holdout"].pairs)
    told = json.loads(call("compare", run.path, "--json").stdout)
    assert {cell["no_holdout_interval"] for cell in told["cells"]} == {why}
    assert f"no interval: {why}" in call("compare", run.path).output
    one = analyse([make_run(tmp_path / "one", replace(truth, images=12), folds=folds)])
    assert {row.no_interval for row in one.standings} == {
        "it rests on 3 groups, and an interval needs 4"
    }


def test_runs_of_the_same_data_are_ranked_together(run: Run, tmp_path: Path) -> None:
    other = make_run(tmp_path / "other", TRUTH, seed=1, name="other")
    # the same config ids are the same configs: give these names of their own
    ledger = other.path / "ledger/events.jsonl"
    text = ledger.read_text()
    for c in range(4):
        text = text.replace(f'"c{c}', f'"d{c}')
        (other.path / f"trials/c{c}").rename(other.path / f"trials/d{c}")
    ledger.write_text(text)
    found = analyse([run, rundir.load(other.path)])
    assert len(found.standings) == 8
    assert {row.label.split(":")[0] for row in found.standings} == {"simulated", "other"}
    assert len(found.tests["folds"].pairs) == 28


def test_runs_of_other_data_are_refused_with_every_reason(run: Run, tmp_path: Path) -> None:
    other = make_run(
        tmp_path / "other", replace(TRUTH, folds=2), fingerprint="elsewhere", name="other"
    )
    done = call("compare", run.path, other.path)
    assert done.exit_code == 2
    for text in ("2 problems", "data hashes", "elsewhere", "numbers of folds"):
        assert text in done.output
    assert call("compare", run.path, run.path).exit_code == 2


def test_the_formats_hold_every_champion(run: Run) -> None:
    found = analyse([run])
    rows = list(csv.DictReader(io.StringIO(call("compare", run.path, "--csv").stdout)))
    assert [float(row["mean"]) for row in rows] == [row.mean for row in found.standings]
    told = json.loads(call("compare", run.path, "--json").stdout)
    assert [cell["mean"] for cell in told["cells"]] == [row.mean for row in found.standings]
    markdown = FORMATS["markdown"](found)
    assert markdown.count("\n| ") == 5  # all but the head of the table
    latex = call("compare", run.path, "--latex").stdout
    for text in (r"\toprule", r"\bottomrule", r"$\pm$", r"95 \%", r"\textbf{unet/dice}"):
        assert text in latex
    assert latex.count(r"\\") == 5
    assert call("compare", run.path, "--csv", "--latex").exit_code == 2


def test_a_launch_records_groups_and_budgets(tmp_path: Path) -> None:
    path = write_sweep(
        tmp_path, tiny(folds__group_by="patient", dataset__images=24, factors__loss=["bce"])
    )
    assert call("launch", path, "--runner", "inline").exit_code == 0
    run = rundir.load(rundir.find(str(path)))
    launched, split = (
        next(event for event in run.events if event["event"] == kind)
        for kind in ("launch", "split")
    )
    assert list(launched["cells"].values()) == [2]
    assert set(split["groups"]) == {*split["folds"], *split["holdout"]}
    folds: dict[str, set[int]] = {}
    for image, fold in split["folds"].items():
        folds.setdefault(split["groups"][image], set()).add(fold)
    assert all(len(own) == 1 for own in folds.values())  # a patient is on one side alone
    assert not {split["groups"][image] for image in split["holdout"]} & folds.keys()
    found = analyse([run])
    assert found.grouped == "patient"
    assert not found.notes
    assert call("status", path).exit_code == 0


def changed(run: Run, **by_trial: dict[str, Any]) -> Run:
    """The run with some fields of some trials' epochs and holdout scores changed."""
    events = [
        {**e, **{k: v for k, v in by_trial.get(e.get("trial_id", ""), {}).items() if k in e}}
        for e in run.events
    ]
    path = run.path / "ledger" / "events.jsonl"
    path.write_text("".join(f"{json.dumps(event)}\n" for event in events))
    return rundir.load(run.path)


def test_a_metric_that_is_undefined_on_a_fold_leaves_no_final_score(run: Run) -> None:
    none = {"val_iou_per_image": None}
    found = analyse([changed(run, **{"c0-f1-r0": none})])
    assert "c0" not in [row.config_id for row in found.standings]
    assert found.unfinished == ["unet/dice"]
    assert "val/iou_per_image is undefined on fold 1" in found.warnings[0]
    shown = call("compare", run.path)
    assert "unet/dice has no champion: none of its configs has a score" in shown.output
    status = call("status", run.path).output
    assert "undefined on fold 1" in status
    assert "1 of 4 configs have no final score" in status
    everywhere = {f"c{c}-f1-r0": none for c in range(4)}
    changed(run, **everywhere)
    for command in ("compare", "calibrate"):
        refused = call(command, run.path)
        assert refused.exit_code == 2, refused.output
        assert "undefined on fold 1" in refused.output
        assert "go on" not in refused.output
        assert "launching again changes nothing" in refused.output


def test_a_holdout_score_of_some_models_alone_is_none_and_told(run: Run) -> None:
    found = analyse([changed(run, **{"c0-f1-r0": {"holdout_iou_per_image": None}})])
    assert found.standing("c0").holdout is None
    assert found.standing("c0").holdout_std is None
    assert found.standing("c2").holdout is not None
    assert any("unet/dice has a holdout score of" in text for text in found.warnings)


def test_runs_that_share_a_champion_both_have_one(run: Run, tmp_path: Path) -> None:
    again = tmp_path / "again" / "simulated"
    shutil.copytree(run.path, again)
    found = analyse([run, rundir.load(again)])
    assert len(found.standings) == 4
    assert found.unfinished == []
