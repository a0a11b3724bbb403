"""Every command that a message names: found in the code, printed, and run as it was printed."""

from __future__ import annotations

import ast
import importlib
import os
import pkgutil
import re
import shlex
import shutil
import signal
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import wandb
from PIL import Image
from typer.main import get_command
from typer.testing import CliRunner, Result

import segsweep
from segsweep import engine, next_command, rundir, stopping, trial
from segsweep.cli import app
from segsweep.errors import UserError
from segsweep.export import predicting
from segsweep.next_command import relaunch
from segsweep.rundir import Holder, load
from segsweep.tracking import dashboard, wandb_runs, wandb_sync
from tests.compare.runs import make_run
from tests.compare.simulated import Truth
from tests.doubles.wandb_server import WandbServer
from tests.helpers import tiny
from tests.helpers import write_sweep as write

PACKAGE = Path(segsweep.__file__).parent
MAKERS = ("command", "relaunch")
COMMANDS = list(get_command(app).commands)  # type: ignore[attr-defined]
Site = tuple[str, str]  # file and function

SMALL: dict[str, Any] = {
    "configs_per_cell": 1, "dataset__images": 8, "dataset__image_size": [16, 16],
    "train__epochs": 1, "tracking": [], "wandb": {"mode": "disabled"},
}  # fmt: skip
WANDB_FILE = """\
program: train.py
method: random
metric: {name: val_iou, goal: maximize}
parameters: {lr: {min: 0.001, max: 0.01}}
"""


def trees() -> Iterator[tuple[str, ast.Module]]:
    for path in sorted(PACKAGE.rglob("*.py")):
        yield str(path.relative_to(PACKAGE)), ast.parse(path.read_text())


def sites() -> set[Site]:
    """Every function of the package that makes a command."""
    found: set[Site] = set()
    for name, tree in trees():
        makers = {
            alias.name
            for node in ast.walk(tree)
            if isinstance(node, ast.ImportFrom) and node.module == "segsweep.next_command"
            for alias in node.names
        } & set(MAKERS)
        for function in ast.walk(tree):
            if isinstance(function, ast.FunctionDef):
                calls = (node for node in ast.walk(function) if isinstance(node, ast.Call))
                if any(isinstance(c.func, ast.Name) and c.func.id in makers for c in calls):
                    found.add((name, function.name))
    return found


def test_no_command_is_written_by_hand() -> None:
    named = re.compile(rf"(?<!by )\bsegsweep ({'|'.join(COMMANDS)})\b")  # a file says who made it
    for name, tree in trees():
        docs = {
            id(node.body[0].value)
            for node in ast.walk(tree)
            if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef)
            and node.body
            and isinstance(node.body[0], ast.Expr)
        }
        for node in ast.walk(tree):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                assert id(node) in docs or not named.search(node.value), (name, node.lineno)


@dataclass
class Book:
    """What was made, by whom, and what came of it."""

    made: list[tuple[Site, str]] = field(default_factory=list)
    ran: list[tuple[Site, str, Result]] = field(default_factory=list)

    def recording(self, real: Callable[..., str]) -> Callable[..., str]:
        def record(*words: Any, **options: Any) -> str:
            text = real(*words, **options)
            frame = sys._getframe(1)
            file = Path(frame.f_code.co_filename)
            if file.is_relative_to(PACKAGE) and file.name != "next_command.py":
                function = frame.f_code.co_name
                if function.startswith("<"):  # a comprehension of it
                    function = frame.f_back.f_code.co_name if frame.f_back else function
                self.made.append(((str(file.relative_to(PACKAGE)), function), text))
            return text

        return record


@dataclass
class Desk:
    """A working directory, and what is typed there."""

    place: Path
    book: Book
    patch: pytest.MonkeyPatch

    def type(self, *words: object) -> Result:
        return CliRunner().invoke(app, [str(word) for word in words])

    def run(self, line: str, place: str) -> Result:
        words = shlex.split(line)
        assert words[0] == "segsweep", line
        cheaper = ["--runner", "inline"] if words[1] in ("launch", "calibrate") else []
        cheaper = ["--no-onnx"] if words[1] == "export" else cheaper
        with self.patch.context() as patch:
            patch.chdir(place)
            return self.type(*words[1:], *([] if "--runner" in words else cheaper))

    def follow(self, **instead: str) -> None:
        """Run what was made since the last time, as it was printed; placeholders are filled in."""
        made, self.book.made = self.book.made, []
        last = ""
        for site, text in dict.fromkeys(made):
            line = text
            for name, value in instead.items():
                line = line.replace(name, shlex.quote(value))
            there, _, rest = line.partition(" && ")
            if line != last:
                done, last = self.run(rest or line, shlex.split(there)[1] if rest else "."), line
            self.book.ran.append((site, line, done))
        self.book.made = []


@pytest.fixture(scope="module")
def book(tmp_path_factory: pytest.TempPathFactory) -> Book:
    """Everything that is printed in a directory whose runs are not in ``runs``."""
    found = Book()
    for module in pkgutil.walk_packages([str(PACKAGE)], "segsweep."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
    place = tmp_path_factory.mktemp("work") / "my work"
    place.mkdir()
    with pytest.MonkeyPatch.context() as patch, WandbServer() as server:
        for name, value in {**server.environment, "COLUMNS": "300"}.items():
            patch.setenv(name, value)
        for what in ("INIT_S", "FINISH_S"):
            patch.setattr(wandb_runs, what, 2.0)
        wandb.teardown()
        patch.chdir(place)
        for maker in MAKERS:
            real = getattr(next_command, maker)
            recorder = found.recording(real)
            for name, loaded in list(sys.modules.items()):
                if name.startswith("segsweep") and getattr(loaded, maker, None) is real:
                    patch.setattr(loaded, maker, recorder)
        desk = Desk(place, found, patch)
        for scenario in (whole, tracked, interrupted, failing, others):
            scenario(desk)
        wandb.teardown()
    return found


def sweep(name: str = "my sweep.yaml", **changes: Any) -> list[str]:
    """A sweep file whose words need quoting, with its name and place overridden."""
    path = write(Path(), tiny(**{**SMALL, **changes}), name)
    return [str(path), "--set", f"name={Path(name).stem.replace(' ', '_')}",
            "--set", "storage_path=kept here"]  # fmt: skip


def whole(desk: Desk) -> None:
    """From the sweep file to the masks."""
    given = sweep(calibration={"disk_gb": 0.0}, factors__loss=["bce"])
    assert desk.type("validate", *given).exit_code == 0
    desk.follow()
    run = Path("kept here/my_sweep")
    assert "disk_gb 0 is used up" in desk.type("launch", *given, "--runner", "inline").output
    desk.follow()
    assert desk.type("plan", *given).exit_code == 0
    desk.follow()  # which launches it, and finds nothing missing
    assert desk.type("status", run).exit_code == 0
    desk.follow()
    assert desk.type("compare", run).exit_code == 0
    desk.follow(DIR="first export")
    assert desk.type("calibrate", run, "--runner", "inline").exit_code == 0
    desk.follow(DIR="second export")
    photos = desk.place / "photos"
    photos.mkdir()
    Image.fromarray(np.full((16, 16, 3), 90, np.uint8)).save(photos / "one.png")
    assert desk.type("export", run, "--out", "the model", "--no-onnx").exit_code == 0
    (desk.place / "the model").rename("moved")
    shutil.copytree("moved", "the model")
    desk.follow(DIR="the model", IMAGES="photos", OUT="masks")

    real = predicting.predict

    def interrupt(*words: Any, **options: Any) -> Any:
        return replace(real(*words, **options), complete=False)

    with desk.patch.context() as patch:
        patch.setattr(predicting, "predict", interrupt)
        assert desk.type("predict", "the model", photos, "--out", "my masks").exit_code == 130
    desk.follow()
    assert desk.type("report", run).exit_code == 0
    desk.follow()


def tracked(desk: Desk) -> None:
    """What is said about W&B, whose server has nothing yet, and what it is not told of."""
    told = {"tracking": ["wandb"], "wandb": {"mode": "offline"}}
    given = sweep("tracked sweep.yaml", factors__loss=["bce"], folds__run=1, **told)
    run = "kept here/tracked_sweep"
    assert "segsweep sync" in desk.type("launch", *given, "--runner", "inline").output
    desk.type("dashboard", run)
    lost = wandb_sync.Synced([wandb_sync.Sent("a", "b", problem="lost")], 0)
    with desk.patch.context() as patch:
        patch.setattr(wandb_sync, "sync", lambda *_, **__: lost)
        assert desk.type("sync", run).exit_code == 3
    desk.book.made = [one for one in desk.book.made if "sync" in one[1]]
    desk.follow()
    untold = load(Path("kept here/my_sweep"))
    with pytest.raises(UserError, match="so W&B is told nothing of this sweep"):
        wandb_sync.sync(untold.spec, untold.path, untold.events)
    with pytest.raises(UserError, match="W&B has no trial of it to show"):
        dashboard.keys_of(untold)
    desk.follow()


def interrupted(desk: Desk) -> None:
    """A launch that has not come far, and what is said of it: then it goes on, from anywhere."""
    given = sweep("half way.yaml", factors__loss=["bce"])
    run = desk.place / "kept here/half_way"

    def interrupt(*_: Any, **__: Any) -> Any:
        os.kill(os.getpid(), signal.SIGINT)
        return real(*_, **__)

    real = engine.evaluate
    with desk.patch.context() as patch:
        patch.setattr(trial, "evaluate", interrupt)
        assert desk.type("launch", *given, "--runner", "inline").exit_code == 130
    go_on = desk.book.made
    desk.book.made = []
    assert desk.type("compare", run).exit_code == 2
    desk.follow()
    elsewhere = desk.place.parent / "elsewhere"
    elsewhere.mkdir()
    with desk.patch.context() as patch:
        patch.chdir(elsewhere)
        assert desk.type("calibrate", run, "--runner", "inline").exit_code == 2
        again = desk.book.made
        desk.book.made = []
        assert desk.type("replay", run).exit_code == 2
        desk.book.made, replayed = [], desk.book.made
        patch.setattr(stopping, "stop", lambda _: Holder(1, "here", "now", True))
        assert desk.type("stop", run).exit_code == 0
        desk.book.made += again + replayed
        assert all(text.startswith("cd ") for _, text in desk.book.made)
        desk.follow()
        assert not list(elsewhere.iterdir())  # what was begun in one place goes on there
    desk.book.made = go_on
    desk.follow()
    other = Holder(1, "elsewhere", "now", None)
    with desk.patch.context() as patch:
        patch.setattr(rundir, "holder", lambda _: other)
        assert desk.type("stop", run).exit_code == 2
    desk.follow()


def failing(desk: Desk) -> None:
    """The trials of one cell fail once."""
    given = sweep("bad luck.yaml")
    real = engine.train_epoch

    def fail(model: Any, batches: Any, loss: Any, *rest: Any, **options: Any) -> Any:
        if "dice" in loss.terms:
            raise ValueError("by the test")
        return real(model, batches, loss, *rest, **options)

    with desk.patch.context() as patch:
        patch.setattr(trial, "train_epoch", fail)
        assert desk.type("launch", *given, "--runner", "inline").exit_code == 3
        retry = [one for one in desk.book.made if "--retry" in one[1]]
        desk.book.made = []
        assert desk.type("report", "kept here/bad_luck").exit_code == 0
        told = [one for one in desk.book.made if "--retry" in one[1]]
    desk.book.made = [*told, *retry]
    desk.follow()


def others(desk: Desk) -> None:
    """Commands that name another before there is a run."""
    Path("broken sweep.yaml").write_text("name: [x]\n")
    desk.type("doctor", "broken sweep.yaml")
    (_, text), desk.book.made = desk.book.made[-1], []
    assert text == "segsweep validate 'broken sweep.yaml'"
    assert desk.type("validate", "broken sweep.yaml").exit_code == 2  # which is what it is for
    desk.book.ran.append((("doctor/__init__.py", "_read"), text, desk.type("schema")))
    from segsweep.runners.ray import joining

    assert "segsweep doctor" in joining._refused(joining.LOCAL, RuntimeError("no")).hint
    desk.follow()
    Path("of wandb.yaml").write_text(WANDB_FILE)
    data = ("dataset.name=synthetic_lesions", "dataset.images=8", "dataset.image_size=[32, 32]")
    given = [word for one in (*data, "folds.k=2") for word in ("--set", one)]
    done = desk.type("import-wandb", "of wandb.yaml", "--out", "my import.yaml", *given)
    assert done.exit_code == 3
    desk.follow()  # with the examples of models and losses that it names
    assert desk.type("import-wandb", *shlex.split(desk.book.ran[-1][1])[2:]).exit_code == 0
    desk.follow()


def test_each_command_that_is_named_works_as_it_is_printed(book: Book) -> None:
    for site, text, done in book.ran:
        allowed = (0, 2) if text == "segsweep doctor" else (0,)  # 2: this machine lacks something
        assert done.exit_code in allowed, (site, text, done.output)
        assert "Traceback" not in done.output


def test_each_place_that_names_a_command_was_come_to(book: Book) -> None:
    assert {site for site, _, _ in book.ran} == sites()


def test_a_run_is_called_by_its_name_where_that_finds_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def make(path: Path) -> Path:
        (path / "ledger").mkdir(parents=True)
        (path / "ledger/events.jsonl").touch()
        return path

    monkeypatch.chdir(tmp_path)
    assert next_command.called(make(tmp_path / "runs/tiny")) == "tiny"
    assert next_command.called(make(tmp_path / "my runs/tiny")) == "my runs/tiny"
    assert next_command.called(make(tmp_path / "-runs/tiny")) == "./-runs/tiny"
    other = make(tmp_path.parent / f"{tmp_path.name}-other/tiny")
    assert next_command.called(other) == str(other)
    make(tmp_path / "tiny")  # hides the one in runs/
    assert next_command.called(tmp_path / "runs/tiny") == "runs/tiny"
    with pytest.raises(UserError):
        rundir.find("nothing")


def test_a_run_that_was_moved_or_renamed_goes_on_where_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    place = make_run(tmp_path / "runs/simulated", Truth(truths=(0.8, 0.6, 0.7, 0.5))).path
    assert relaunch(load(place)) == "segsweep launch runs/simulated/resolved.yaml"
    assert relaunch(load(place), storage_path="b") == (
        "segsweep launch runs/simulated/resolved.yaml --set storage_path=b"
    )
    other = tmp_path / "elsewhere/renamed"
    other.parent.mkdir()
    place.rename(other)
    assert relaunch(load(other), "--retry", "failed") == (
        f"segsweep launch elsewhere/renamed/resolved.yaml --set storage_path={other.parent} "
        "--set name=renamed --retry failed"
    )


def test_words_are_quoted() -> None:
    assert next_command.command("launch", "a b.yaml", "--set", "x=[1, 2]") == (
        "segsweep launch 'a b.yaml' --set 'x=[1, 2]'"
    )
